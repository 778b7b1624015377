"""Laws of the experiment: validation by hand, training by the settings and the step alone, warm starts."""

import functools
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from hfrnn import bundle
from hfrnn.errors import DataError, RunError, SettingsError
from hfrnn.handwriting import dataset, generate, models, strokes, synthetic
from hfrnn.handwriting.experiment import Handwriting, handwriting
from hfrnn.nets import model, outputs
from hfrnn.optim import weight_noise
from hfrnn.train import experiment, run_folder
from hfrnn.train.experiment import Limits
from hfrnn.train.settings import replace
from tests.scripts import read
from tests.trees import assert_trees_close

SMALL = replace(Handwriting(), lines=12, valid_lines=5, layers=2, hidden=8, mixtures=3, batch=4, buckets=1)
TIMING = {'seconds': 0, 'points_per_second': 0}


@functools.cache
def data():
    return synthetic.load(0, SMALL.lines, SMALL.valid_lines)


def train(folder, steps=2, *, devices=1, limits=None, **changes):
    """Trains a small net, and gives the lines that it printed."""
    out = []
    limits = limits or Limits(steps=steps, evaluate_every=2, log_every=1)
    made = handwriting(replace(SMALL, **changes), data=data(), devices=devices)
    experiment.run(made, folder, limits, devices=devices, say=out.append)
    return out


@pytest.fixture(scope='module')
def plain(tmp_path_factory):
    """The folder of a run of two steps, not to be changed."""
    folder = tmp_path_factory.mktemp('plain') / 'run'
    train(folder)
    return folder


def results(folder):
    return read(folder / 'results.json')


def assert_same_run(a, b):
    rows = [[row | TIMING for row in run_folder.read_metrics(folder)] for folder in (a, b)]
    assert rows[0] == rows[1]
    assert results(a) | TIMING == results(b) | TIMING
    left, right = (bundle.load(folder) for folder in (a, b))
    jax.tree.map(assert_array_equal, left.params, right.params)


# -- what is measured -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_validation_is_its_lines_by_hand():
    """From the pen's units to the numbers of results.json, by the means of noisy weights."""
    rng = np.random.default_rng(0)

    def some(lengths):  # of small steps, many of them none
        offsets = (np.column_stack([rng.integers(-1, 2, (n, 2)), rng.random(n) < 0.2]) for n in lengths)
        return dataset.pack((f'{len(o)}', o.astype(np.int16), 'ab'[: 1 + len(o) % 2]) for o in offsets)

    train, valid = some([30, 20]), some([25, 7, 18, 2, 9])
    lines = dataset.Dataset('', 'ab', train, valid, dataset.scale_of(train), dataset.Report((), ()))
    s = replace(SMALL, hidden=4, mixtures=2, gaussians=3, batch=3, buckets=2, noise='adaptive')
    net = models.make('synthesis', s.net, 2)
    means = net.init(jax.random.key(0))
    posterior = weight_noise.posterior(means, 0.3)
    found = handwriting(s, data=lines, devices=1).evaluate(posterior)
    nats, at_rest, squared, resting = 0.0, 0.0, 0.0, []
    for i, text in enumerate(valid.texts):
        offsets = dataset.offsets_of(valid, i)
        xs = strokes.normalise(offsets, lines.scale)
        z = net.predict(means, model.Conditioned(xs[:-1], generate.encode_line(text, 'ab'))).z
        loss = np.array(jax.vmap(net.output.nll)(z, xs[1:]))
        rests = (offsets[1:, :2] == 0).all(1)
        nats, at_rest = nats + loss.sum(), at_rest + loss[rests].sum()
        squared += float(jnp.sum((jax.vmap(outputs.pen_mean)(z) - xs[1:, :2]) ** 2))
        resting += [*rests]
    assert any(resting)
    expected = {
        'nats_per_line': nats / 5,
        'nats_at_rest': at_rest / 5,
        'sse': squared / len(resting),
        'points_at_rest': np.mean(resting),
        'complexity_nats': float(weight_noise.complexity(posterior)),
    }
    assert found == pytest.approx(expected, rel=1e-4)
    assert next(iter(found)) == 'nats_per_line'  # which chooses the weights


def test_results_and_rows_say_what_was_trained_on_what_and_how_well(tmp_path):
    out = train(tmp_path, 4, task='prediction')
    r = results(tmp_path)
    names = ('experiment', 'source', 'net', 'optimizer', 'noise', 'lines', 'steps', 'epochs')
    told = ['handwriting_prediction', 'pens-0', '2x8', 'adam', 'none', 5, 4, 1.333]
    assert [r[name] for name in names] == told
    rows = run_folder.read_metrics(tmp_path)
    assert [row['step'] for row in rows] == [1, 2, 3, 4]
    assert r['nats_per_line'] == pytest.approx(min(row['valid_nats_per_line'] for row in rows if row['step'] % 2 == 0))
    assert all(row['points_per_second'] > 0 and row['gradient'] > 0 for row in rows)
    assert f'{r["nats_per_line"]:.1f}' in '\n'.join(out)
    assert (tmp_path / 'learning_curve.png').read_bytes().startswith(b'\x89PNG')
    saved = run_folder.read_identity(tmp_path)['data']
    assert len(saved['scale']['mean']) == 2 and len(saved['alphabet']) == 95 and 'texts_crc32' not in saved


# -- training ---------------------------------------------------------------------------------------------------------


def test_a_training_batch_is_a_function_of_the_settings_and_its_step():
    """Two copies of a line are distorted each by itself, anew in every step, and by the seed."""
    line = np.column_stack([np.random.default_rng(0).integers(-99, 99, (20, 2)), np.zeros(20)]).astype(np.int16)
    lines = dataset.pack([('one', line, 'a'), ('two', line, 'a')])
    both = dataset.Dataset('', 'a', lines, lines, dataset.scale_of(lines), dataset.Report((), ()))

    def targets(i, **changes):
        return handwriting(replace(SMALL, batch=2, **changes), data=both, devices=1).batch(i).targets

    plain, once = targets(3, distort=0.0), targets(3, distort=0.1)
    assert_array_equal(plain[0], plain[1])
    assert_array_equal(once, targets(3, distort=0.1))
    others = plain[:1], once[1:], targets(4, distort=0.1), targets(3, distort=0.1, seed=1), targets(3, distort=0.2)
    assert np.abs(once[0] - np.concatenate(others)).max(axis=(1, 2)).min() > 0.01


@pytest.mark.slow
def test_noise_is_of_so_many_lines_and_variances_learn_at_their_own_rate(tmp_path):
    found = []
    changes = {'plain': {'variance_rate': 1.0}, 'still': {'variance_rate': 0.0}, 'alone': {'noise_lines': 1}}
    for name, change in changes.items():
        train(tmp_path / name, limits=Limits(steps=1, evaluate_every=1), noise='adaptive', **change)
        log_variances = jax.tree.leaves(bundle.load(tmp_path / name).params['log_variance'])
        moved = any(np.ptp(v) > 0 for v in log_variances)
        found.append((moved, run_folder.read_metrics(tmp_path / name)[0]['nats_per_line']))
    assert [moved for moved, _ in found] == [True, False, True]
    assert found[0][1] == found[1][1] != found[2][1]


@pytest.mark.slow
@pytest.mark.parametrize(
    'changes',
    [
        {'optimizer': 'muon', 'warmup_steps': 1},
        {'noise': 'adaptive', 'clip_norm': 9.0, 'dropout': 0.2, 'distort': 0.2, 'noise_lines': 2, 'variance_rate': 9.0},
    ],
    ids=['muon', 'everything that is random'],
)
def test_stopped_it_goes_on_bit_for_bit(changes, plain, tmp_path):
    """With an average, a schedule and a warm start; what a run began with, it needs no more."""
    shutil.copytree(plain, tmp_path / 'plain')
    changes |= {'average': 0.9, 'decay_steps': 9, 'init_from': f'{tmp_path}/plain', 'seed': 1}
    train(tmp_path / 'whole', 4, **changes)
    train(tmp_path / 'cut', 2, **changes)
    shutil.rmtree(tmp_path / 'plain')
    assert any('goes on from step 2' in line for line in train(tmp_path / 'cut', 4, **changes))
    assert_same_run(tmp_path / 'whole', tmp_path / 'cut')
    assert results(tmp_path / 'whole')['begun_from']['epochs'] == 0.67
    assert results(tmp_path / 'whole').get('complexity_nats', 1) > 0


def test_what_is_done_to_training_is_not_done_to_validation(tmp_path):
    valid, taught = [], []
    for dropout, distort in ((0.0, 0.0), (0.5, 0.25)):
        folder = tmp_path / str(dropout)
        out = train(folder, 1, learning_rate=0.0, dropout=dropout, distort=distort)
        assert ('dropout of 0.5' in out[0] and '(distorted by 0.25)' in out[0]) == bool(dropout)
        found = results(folder)
        assert (found['dropout'], found['distort']) == (dropout, distort)
        valid.append(found['nats_per_line'])
        taught.append(run_folder.read_metrics(folder)[0]['nats_per_line'])
    assert valid[0] == valid[1]
    assert abs(taught[0] - taught[1]) > 1e-3


@pytest.mark.slow
@pytest.mark.four_devices
def test_each_device_draws_noise_of_its_own(tmp_path):
    found = []
    for n in (1, 2):
        train(tmp_path / str(n), 4, devices=n, noise='fixed')
        found.append(results(tmp_path / str(n))['nats_per_line'])
    assert found[0] != found[1]
    assert found[0] == pytest.approx(found[1], rel=0.05)


def test_a_run_goes_on_with_its_own_lines_alone(tmp_path):
    train(tmp_path)
    lines = data()
    other = lines._replace(train=lines.train._replace(texts=lines.train.texts[::-1]))
    with pytest.raises(RunError, match='other texts_crc32'):
        experiment.run(handwriting(SMALL, data=other, devices=1), tmp_path, devices=1, say=print)


# -- warm starts ------------------------------------------------------------------------------------------------------


def begin(**changes):
    """(state, origin) of a run's warm start."""
    made = handwriting(replace(SMALL, **changes), data=data(), devices=1)
    return made.warm_start(made.init(jax.random.key(0)))


def test_a_run_begins_with_a_net_or_a_smaller_one(plain):
    """It predicts the same at first, and what the net took to train is added up."""
    before = results(plain)
    for change in ({}, {'hidden': 9, 'layers': 3}, {'noise': 'adaptive'}):
        made = handwriting(replace(SMALL, init_from=str(plain), **change), data=data(), devices=1)
        state, origin = made.warm_start(made.init(jax.random.key(0)))
        assert made.evaluate(state.params)['nats_per_line'] == pytest.approx(before['nats_per_line'], rel=1e-5)
        assert int(state.step) == 0 and origin['epochs'] == round(before['epochs'], 2) and 'weights' not in origin


def test_a_posterior_goes_on_where_the_noise_is_adaptive(tmp_path, plain):
    train(tmp_path / 'noisy', noise='adaptive', noise_sd=0.05, init_from=str(plain))
    kept = bundle.load(tmp_path / 'noisy')
    state, origin = begin(noise='adaptive', noise_sd=0.5, init_from=str(tmp_path / 'noisy'))
    assert_trees_close(state.params, bundle.fit(kept, state.params), rtol=0)
    assert origin['epochs'] == pytest.approx(2 * results(plain)['epochs'], abs=0.01)
    for changes in ({}, {'noise': 'fixed'}):
        state, _ = begin(init_from=str(tmp_path / 'noisy'), **changes)
        assert_trees_close(state.params, bundle.fit(bundle.without_noise(kept), state.params), rtol=0)
    state, _ = begin(noise='adaptive', noise_sd=0.5, hidden=9, init_from=str(tmp_path / 'noisy'))
    assert np.ptp([np.ptp(v) for v in jax.tree.leaves(state.params.log_variance)]) == 0


def test_the_terms_of_a_shipped_net_go_on(tmp_path):
    sizes = {'layers': 2, 'hidden': 256, 'mixtures': 20, 'gaussians': 10}
    _, origin = begin(init_from='pens', **sizes)
    history = bundle.load('pens').history
    assert origin['weights'] == 'pens'
    assert origin['epochs'] == round(history['epochs'] + history['begun_from']['epochs'], 2)
    net = bundle.Bundle(
        {'kind': 'handwriting', 'task': 'synthesis', **sizes},
        bundle.load('pens').data,
        history | {'begun_from': origin},
        bundle.load('pens').params,
    )
    bundle.save(tmp_path / 'later.npz', net)
    assert begin(init_from=str(tmp_path / 'later.npz'), **sizes)[1]['weights'] == 'pens'


@pytest.mark.parametrize(
    ('changes', 'error'),
    [
        ({'hidden': 7}, 'holds another net (hidden=8)'),
        ({'hidden': 9, 'mixtures': 9}, 'holds another net (hidden=8, mixtures=3)'),
        ({'task': 'prediction'}, 'is another net: its task is synthesis, not prediction'),
        ({'init_from': 'iamondb'}, 'holds another net (hidden=400, layers=3, mixtures=20, another alphabet)'),
        ({'init_from': 'penn_treebank'}, 'is another net'),
        ({'init_from': '/nowhere'}, 'no file or run /nowhere'),
    ],
)
def test_another_net_is_no_beginning(changes, error, plain, tmp_path):
    with pytest.raises(DataError) as e:
        train(tmp_path / 'no', **{'init_from': str(plain)} | changes)
    assert error in str(e.value) and not (tmp_path / 'no').exists()


@pytest.mark.parametrize(
    ('changes', 'error'),
    [
        ({'source': 'iamondb'}, 'source=iamondb needs the folder'),
        ({'batch': 3}, 'batch=3 does not divide among 2 devices'),
        ({'decay_steps': 5, 'warmup_steps': 5}, 'warmup_steps=5 leaves nothing'),
        ({'optimizer': 'muon', 'noise': 'adaptive'}, 'log variances'),
        ({'optimizer': 'hf'}, 'optimizer=hf: the density'),
        ({'task': 'prediction', 'gaussians': 3}, 'gaussians=3: a prediction net'),
        ({'average': 1.0}, 'average=1.0 never forgets'),
        ({'hidden': 10**6, 'layers': 9}, 'GiB'),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes, error):
    with pytest.raises(SettingsError) as e:
        handwriting(replace(SMALL, **changes), data=None if 'source' in changes else data(), devices=2)
    assert error in str(e.value)


def test_lines_without_texts_are_not_for_synthesis():
    silent = data().valid._replace(texts=('',) * 5)
    with pytest.raises(DataError, match='12 lines for training and 0 for validation'):
        handwriting(SMALL, data=data()._replace(valid=silent), devices=1)
    s = replace(SMALL, task='prediction')
    assert handwriting(s, data=data()._replace(valid=silent), devices=1).steps_per_epoch == 3
