"""Laws of files of weights: what was saved comes back, and nothing else is taken for it."""

import json

import jax
import numpy as np
import pytest

from hfrnn import bundle
from hfrnn.errors import DataError
from hfrnn.handwriting import models

NET = models.synthesis_net(5, layers=2, hidden=4, mixtures=2, gaussians=2)
LIKE = jax.eval_shape(NET.init, jax.random.key(0))
FACTS = {'experiment': 'handwriting_synthesis', 'alphabet': 'ab\N{REPLACEMENT CHARACTER}"', 'sizes': {'layers': 2}}


def some(seed=0, like=LIKE):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda s: rng.normal(size=s.shape).astype(np.float32), like)


@pytest.fixture
def saved(tmp_path):
    bundle.save(tmp_path / 'a.npz', some(), FACTS)
    return tmp_path / 'a.npz'


def test_a_round_trip_gives_the_rounded_weights_and_the_same_bytes(saved, tmp_path):
    weights = bundle.read(str(saved))
    assert weights.facts == FACTS
    params = bundle.restore(weights, LIKE)
    assert jax.tree.structure(params) == jax.tree.structure(LIKE)
    for mine, theirs in zip(jax.tree.leaves(params), jax.tree.leaves(some()), strict=True):
        assert mine.dtype == np.float32
        np.testing.assert_array_equal(mine, theirs.astype(np.float16).astype(np.float32))
    bundle.save(tmp_path / 'b.npz', params, FACTS)
    assert (tmp_path / 'b.npz').read_bytes() == saved.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ['a.npz', 'b.npz']
    bundle.save(tmp_path / 'c.npz', some(), FACTS, np.float32)
    exact = bundle.restore(bundle.read(str(tmp_path / 'c.npz')), LIKE)
    assert jax.tree.all(jax.tree.map(np.array_equal, exact, some()))


def test_weights_of_another_net_are_refused(saved):
    weights = bundle.read(str(saved))
    for other in (
        models.synthesis_net(6, layers=2, hidden=4, mixtures=2, gaussians=2),
        models.synthesis_net(5, layers=3, hidden=4, mixtures=2, gaussians=2),
        models.prediction_net(layers=2, hidden=4, mixtures=2),
    ):
        with pytest.raises(DataError, match='weights of another net: at ') as caught:
            bundle.restore(weights, jax.eval_shape(other.init, jax.random.key(0)))
        assert '\n' not in str(caught.value)
    bundle.check(weights, experiment='handwriting_synthesis', alphabet=FACTS['alphabet'])
    with pytest.raises(DataError, match='another alphabet'):
        bundle.check(weights, alphabet='abc')


def rewritten(path, about=None, **arrays):
    with np.load(path) as file:
        content = {name: file[name] for name in file.files} | arrays
    if about:
        content['about'] = np.frombuffer(json.dumps(json.loads(content['about'].tobytes()) | about).encode(), np.uint8)
    np.savez_compressed(path, **content)


def test_a_file_that_is_damaged_or_something_else_is_refused_in_one_line(saved, tmp_path):
    whole = saved.read_bytes()
    path = tmp_path / 'x.npz'

    def refused(said):
        with pytest.raises(DataError, match=said) as caught:
            bundle.read(str(path))
        assert '\n' not in str(caught.value)

    refused('no file .*x.npz')
    for content in (b'', b'hello', whole[: len(whole) // 2], whole[:-30]):
        path.write_bytes(content)
        refused('no weights, or is damaged')
    rng = np.random.default_rng(0)
    for _ in range(20):
        broken = bytearray(whole)
        broken[rng.integers(len(whole) - 200)] ^= 1 << rng.integers(8)
        path.write_bytes(bytes(broken))
        try:
            assert bundle.read(str(path)).facts == FACTS  # the bit said nothing: a zip holds some things twice
        except DataError as e:
            assert '\n' not in str(e)
    for change in (
        {'about': {'facts': FACTS | {'alphabet': 'abcd'}}},
        {'readout/b_o': np.zeros(13, np.float16)},
        {'more': np.zeros(1)},
    ):
        path.write_bytes(whole)
        rewritten(path, **change)
        refused('its sum is not')
    path.write_bytes(whole)
    rewritten(path, about={'format': 99})
    refused('in format 99')
    np.savez(path, about=np.array([{'a': 1}], dtype=object))
    refused('no weights, or is damaged')
    locked = bytearray(whole)
    locked[whole.index(b'PK\x01\x02') + 8] |= 1  # the zip's directory says that a part is encrypted
    path.write_bytes(bytes(locked))
    refused('no weights, or is damaged')
    np.save(tmp_path / 'x.npy', np.zeros(3))
    (tmp_path / 'x.npy').replace(path)
    refused('no weights, or is damaged')


@pytest.mark.parametrize('value', [np.array([0.0, np.nan]), np.array(['a', 'b']), np.array([1, 2])])
def test_what_is_no_weight_is_not_taken_for_one(value):
    """Whoever writes a file can write its sum."""
    made_up = bundle.Weights({}, {'a': value}, 'theirs')
    with pytest.raises(DataError, match='theirs holds what is no weight: at a '):
        bundle.restore(made_up, {'a': np.zeros(2)})


@pytest.mark.parametrize('value', [np.nan, np.inf, 1e6])
def test_what_half_precision_cannot_hold_is_not_written(tmp_path, value):
    params = jax.tree.map(np.copy, some())
    params['readout']['b_o'][1] = value
    with pytest.raises(DataError, match='readout/b_o holds what float16 cannot'):
        bundle.save(tmp_path / 'a.npz', params, FACTS)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / 'a.npz').mkdir()
    with pytest.raises(DataError, match='cannot write'):
        bundle.save(tmp_path / 'a.npz', some(), FACTS)
    (tmp_path / 'file').write_text('')
    with pytest.raises(DataError, match='cannot write'):
        bundle.save(tmp_path / 'file' / 'a.npz', some(), FACTS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a.npz', 'file']


def test_what_ships_can_be_read(tmp_path, monkeypatch):
    """Also where a folder is called like it, a run's as well as a data set's."""
    monkeypatch.chdir(tmp_path)
    for name in bundle.shipped():
        (tmp_path / name).mkdir()
        assert bundle.names_a_file(name) and not bundle.names_a_file(str(tmp_path / name))
    for name in bundle.shipped():
        assert bundle.read(name).facts['alphabet']
        assert (bundle.FOLDER / f'{name}.md').is_file()
