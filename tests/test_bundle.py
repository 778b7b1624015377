"""Laws of bundles: what was saved comes back, and nothing else is taken for it."""

import json

import jax
import numpy as np
import pytest

from hfrnn import bundle
from hfrnn.bundle import Bundle
from hfrnn.errors import DataError, RunError
from hfrnn.nets import cells, model, outputs
from hfrnn.optim import weight_noise

NET = model.sequence_model(cells.stack(cells.lstm(3, 4), cells.lstm(3, 4, 4)), outputs.pen(2))
LIKE = jax.eval_shape(NET.init, jax.random.key(0))
MODEL, DATA, HISTORY = {'kind': 'handwriting', 'layers': 2}, {'alphabet': 'ab\N{REPLACEMENT CHARACTER}"'}, {'step': 7}


def some(seed=0, like=LIKE):
    rng = np.random.default_rng(seed)
    params = jax.tree.map(lambda s: rng.normal(size=s.shape).astype(np.float32), like)
    return Bundle(MODEL, DATA, HISTORY, params)


@pytest.fixture
def saved(tmp_path):
    bundle.save(tmp_path / 'a.npz', some(), np.float16)
    return tmp_path / 'a.npz'


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_round_trip_gives_the_rounded_weights_and_the_same_bytes(saved, tmp_path):
    found = bundle.load(saved)
    assert (found.model, found.data, found.history, found.name) == (MODEL, DATA, HISTORY, str(saved))
    rounded = jax.tree.map(lambda w: w.astype(np.float16).astype(np.float32), some().params)
    assert_same(found.params, rounded)  # the tree as it was: of dicts and tuples
    assert_same(bundle.fit(found, LIKE), rounded)
    bundle.save(tmp_path / 'b.npz', found, np.float16)
    assert (tmp_path / 'b.npz').read_bytes() == saved.read_bytes()
    bundle.save(tmp_path / 'c.npz', some())
    assert_same(bundle.load(tmp_path / 'c.npz').params, some().params)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['a.npz', 'b.npz', 'c.npz']


def test_a_posterior_comes_back_and_its_means_are_a_net(tmp_path):
    posterior = weight_noise.posterior(some().params)
    bundle.save(tmp_path / 'q.npz', some()._replace(params=posterior))
    found = bundle.load(tmp_path / 'q.npz')
    assert_same(bundle.fit(found, posterior), posterior)
    with pytest.raises(DataError, match='another net'):
        bundle.fit(found, LIKE)
    assert_same(bundle.fit(bundle.without_noise(found), LIKE), some().params)
    assert_same(bundle.without_noise(some()._replace(params=posterior)).params, some().params)


def test_weights_of_another_net_are_refused(saved):
    found = bundle.load(saved)
    for other in (
        model.sequence_model(cells.stack(cells.lstm(3, 5), cells.lstm(3, 5, 5)), outputs.pen(2)),
        model.sequence_model(cells.lstm(3, 4), outputs.pen(2)),
        model.sequence_model(cells.stack(*[cells.lstm(3, 4, 4 * (n > 0)) for n in range(3)]), outputs.pen(2)),
    ):
        with pytest.raises(DataError, match='weights of another net: ') as caught:
            bundle.fit(found, jax.eval_shape(other.init, jax.random.key(0)))
        assert '\n' not in str(caught.value)
    bundle.check_kind(found, 'handwriting', layers=2)
    with pytest.raises(DataError, match='its kind is handwriting, not language_model'):
        bundle.check_kind(found, 'language_model')
    with pytest.raises(DataError, match='its layers is 2, not 3'):
        bundle.check_kind(found, 'handwriting', layers=3)


def rewritten(path, header=None, **arrays):
    with np.load(path) as file:
        content = {name: file[name] for name in file.files} | arrays
    if header:
        new = json.dumps(json.loads(content['bundle'].tobytes()) | header).encode()
        content['bundle'] = np.frombuffer(new, np.uint8)
    np.savez_compressed(path, **content)


def test_a_file_that_is_damaged_or_something_else_is_refused_in_one_line(saved, tmp_path):
    whole = saved.read_bytes()
    path = tmp_path / 'x.npz'

    def refused(said):
        with pytest.raises(DataError, match=said) as caught:
            bundle.load(path)
        assert '\n' not in str(caught.value)

    refused('no file or run .*x.npz')
    for content in (b'', b'hello', whole[: len(whole) // 2], whole[:-30]):
        path.write_bytes(content)
        refused('no net, or is damaged')
    rng = np.random.default_rng(0)
    for _ in range(20):
        broken = bytearray(whole)
        broken[rng.integers(len(whole) - 200)] ^= 1 << rng.integers(8)
        path.write_bytes(bytes(broken))
        try:
            assert bundle.load(path).data == DATA  # the bit said nothing: a zip holds some things twice
        except DataError as e:
            assert '\n' not in str(e)
    for change in (
        {'header': {'data': DATA | {'alphabet': 'abcd'}}},
        {'header': {'model': 3}},
        {'readout/b_o': np.zeros(13, np.float16)},
        {'more': np.zeros(1)},
    ):
        path.write_bytes(whole)
        rewritten(path, **change)
        refused('its checksum differs')
    path.write_bytes(whole)
    rewritten(path, header={'format': 99})
    refused('in format 99; this version reads format 2')
    np.savez(path, bundle=np.array([{'a': 1}], dtype=object))
    refused('no net, or is damaged')
    np.savez(path, about=np.zeros(3, np.uint8))
    refused('a file of hfrnn 0.1')
    np.save(tmp_path / 'x.npy', np.zeros(3))
    (tmp_path / 'x.npy').replace(path)
    refused('no net, or is damaged')


@pytest.mark.parametrize('value', [np.array([0.0, np.nan]), np.array(['a', 'b']), np.array([1, 2])])
def test_what_is_no_weight_is_not_taken_for_one(value, tmp_path):
    """Whoever writes a file can write its checksum."""
    content = {'model': {}, 'data': {}, 'history': {}}
    header = {'format': 2, **content, 'sha256': bundle._checksum(content, {'a': value})}
    np.savez(tmp_path / 'a.npz', bundle=np.frombuffer(json.dumps(header).encode(), np.uint8), a=value)
    with pytest.raises(DataError, match='damaged: a is not all finite numbers'):
        bundle.load(tmp_path / 'a.npz')


@pytest.mark.parametrize('value', [np.nan, np.inf, 1e6])
def test_what_half_precision_cannot_hold_is_not_written(tmp_path, value):
    params = jax.tree.map(np.copy, some().params)
    params['readout']['b_o'][1] = value
    with pytest.raises(DataError, match='readout/b_o is not finite in float16'):
        bundle.save(tmp_path / 'a.npz', some()._replace(params=params), np.float16)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / 'a.npz').mkdir()
    with pytest.raises(DataError, match='cannot write'):
        bundle.save(tmp_path / 'a.npz', some())
    (tmp_path / 'file').write_text('')
    with pytest.raises(DataError, match='cannot write'):
        bundle.save(tmp_path / 'file' / 'a.npz', some())
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a.npz', 'file']


def test_the_folder_of_a_run_stands_for_its_best_weights(tmp_path):
    with pytest.raises(RunError, match='holds no run'):
        bundle.load(tmp_path)
    (tmp_path / 'run.json').write_text('{}')
    with pytest.raises(RunError, match='kept no weights yet'):
        bundle.load(tmp_path)
    bundle.save(tmp_path / 'best.npz', some())
    assert_same(bundle.load(tmp_path).params, some().params)
    (tmp_path / 'flags.json').write_text('{}')
    with pytest.raises(RunError, match=r'a run of hfrnn 0\.1'):
        bundle.load(tmp_path)


def test_what_ships_can_be_loaded(tmp_path, monkeypatch):
    """Also where a folder is called like it, a run's as well as a data set's."""
    monkeypatch.chdir(tmp_path)
    for name in bundle.shipped():
        (tmp_path / name).mkdir()
        assert bundle.load(name).data['alphabet'] and bundle.card(name).is_file()
        with pytest.raises(RunError, match='holds no run'):
            bundle.load(f'./{name}')
    assert {'iamondb', 'penn_treebank', 'pens'} <= set(bundle.shipped())
