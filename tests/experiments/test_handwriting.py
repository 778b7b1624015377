"""Handwriting: the nets, what trains and measures them, and both scripts through their real command lines."""

import functools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl import flags
from absl.testing import flagsaver
from numpy.testing import assert_allclose, assert_array_equal

import experiments.handwriting
from hfrnn.handwriting import batches, dataset, generate, models, strokes, synthetic
from hfrnn.handwriting.metrics import pen_sums
from hfrnn.nets import attention, cells, model, outputs
from hfrnn.optim import weight_noise
from hfrnn.train import run_folder
from hfrnn.train.devices import AXIS
from hfrnn.train.loss import Batch, eval_step, loss_and_weight, predict_batch, sum_nll
from hfrnn.train.steps import TrainState, first_order_step, noisy_loss, state_of
from tests.scripts import assert_refused, assert_same_run, kill_between, newest, read

FLAGS = flags.FLAGS
SCRIPT = 'experiments.handwriting_synthesis'
SMALL = ['--flagfile=experiments/flags/handwriting_ci.flags']


@pytest.mark.parametrize(
    'net, weights',
    [
        (models.prediction_net(1, 900), 3_366_121),
        (models.prediction_net(), 3_368_121),
        (models.synthesis_net(57), 3_653_751),
    ],
    ids=['1x900', '3x400', 'synthesis'],
)
def test_nets_are_as_large_as_the_papers(net, weights):
    """G13 sec. 4.2 and 5.2: about 3.4 and 3.7 million, counted here with peepholes and every skip connection."""
    assert model.size(jax.eval_shape(net.init, jax.random.key(0))) == weights


@pytest.mark.parametrize('C, layers, hidden', [(0, 3, 5), (5, 3, 5), (5, 2, 5), (5, 3, 3)])
def test_a_larger_net_begins_where_a_smaller_one_was(C, layers, hidden, x64):
    """It predicts the same, and learns in all its parts: what nothing listens to yet is listened to after a step."""
    rng = np.random.default_rng(0)

    def net(layers, hidden):
        if C:
            return models.synthesis_net(C, layers, hidden, mixtures=2, gaussians=3, clip=None, output_clip=None)
        return models.prediction_net(layers, hidden, mixtures=2, clip=None, output_clip=None)

    small, large = net(2, 3), net(layers, hidden)
    xs, targets, weights = rng.normal(size=(2, 9, 3)), rng.normal(size=(2, 9, 3)) > 0, np.ones((2, 9))
    if C:
        xs = model.Conditioned(xs, attention.Text(rng.integers(0, C, (2, 4)), np.array([4, 3])))
    batch, params = Batch(xs, targets, weights), params_of(small)
    grown = models.widen(params, params_of(large))
    assert jax.tree.map(np.shape, grown) == jax.tree.map(np.shape, params_of(large))
    loss, grads = jax.jit(jax.value_and_grad(lambda p: loss_and_weight(large, p, batch)[0]))(grown)
    assert_allclose(loss, loss_and_weight(small, params, batch)[0])
    stepped = jax.tree.map(lambda p, g: p - 1e-3 * g, grown, grads)
    grads = jax.jit(jax.grad(lambda p: loss_and_weight(large, p, batch)[0]))(stepped)
    assert all(np.all(g) for g in jax.tree.leaves(grads))


@pytest.mark.parametrize('C', [0, 5], ids=['prediction', 'synthesis'])
def test_derivatives_are_clipped_line_by_line(C, x64):
    """The outputs' are those of a line's nats, before the mean over lines."""
    limit, rng = 0.01, np.random.default_rng(0)

    def net(**clips):
        kind = {'layers': 2, 'hidden': 4, 'mixtures': 2, 'clip': None, 'output_clip': None} | clips
        return models.synthesis_net(C, gaussians=3, **kind) if C else models.prediction_net(**kind)

    xs, targets, weights = rng.normal(size=(3, 7, 3)), rng.normal(size=(3, 7, 3)) > 0, np.ones((3, 7))
    if C:
        xs = model.Conditioned(xs, attention.Text(rng.integers(0, C, (3, 4)), np.array([4, 3, 4])))
    batch, params = Batch(xs, targets, weights), params_of(net())

    def gradients(net):
        step = first_order_step(net, optax.sgd(1.0), 2, per='sequence')
        state = state_of(optax.sgd(1.0), params)
        return jax.tree.map(jnp.subtract, params, alone(step)(state, batch)[0].params)

    z = predict_batch(net(), params, batch).z
    dz = jax.grad(lambda z: sum_nll(net(), z, batch))(z)
    clipped = gradients(net(output_clip=limit))['readout']['b_o']
    assert_allclose(clipped, jnp.clip(dz, -limit, limit).sum((0, 1)) / 3, rtol=1e-9)
    assert_allclose(gradients(net())['readout']['b_o'], dz.sum((0, 1)) / 3, rtol=1e-9)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def clip_back(a, limit):
    return a


clip_back.defvjp(lambda a, _: (a, None), lambda limit, _, d: (jnp.clip(d, -limit, limit),))


def nats_by_hand(params, xs, targets, characters, limit, output_limit):
    """Graves 2013 eq. 7-11, 17-26 and, where there are characters, 46-51, point by point."""
    p, (K, C) = params['cell'], (3, 0 if characters is None else 5)
    layers = p if characters is None else p['layers']
    h, c, w, kappa, total = [jnp.zeros(4)] * 2, [jnp.zeros(4)] * 2, jnp.zeros(C), jnp.zeros(K), 0.0
    for x, target in zip(xs, targets, strict=True):
        for n, q in enumerate(layers):
            read = jnp.concatenate([*h[:n], w, h[n]])
            a_i, a_f, a_o, a_c = jnp.split(q['W_x'] @ x + q['W_h'] @ read + q['b'], 4)
            w_ci, w_cf, w_co = q['w_c']
            i, f = (jax.nn.sigmoid(clip_back(a + v * c[n], limit)) for a, v in ((a_i, w_ci), (a_f, w_cf)))
            c[n] = f * c[n] + i * jnp.tanh(clip_back(a_c, limit))
            h[n] = jax.nn.sigmoid(clip_back(a_o + w_co * c[n], limit)) * jnp.tanh(c[n])
            if C and not n:
                alpha, beta, change = jnp.split(jnp.exp(p['W_hp'] @ h[0] + p['b_p']), 3)
                kappa = kappa + change
                u = jnp.arange(1, 1 + len(characters))
                near = jnp.exp(-beta[:, None] * (kappa[:, None] - u[None]) ** 2)
                w = alpha @ near @ jnp.eye(C)[characters]
        z = params['readout']['W_oh'] @ jnp.concatenate(h) + params['readout']['b_o']
        total += outputs.pen(2).nll(clip_back(z, output_limit), target)
    return total


@pytest.mark.parametrize('limits', [(None, None), (0.01, 0.03)], ids=['none', 'both'])
@pytest.mark.parametrize('C', [0, 5], ids=['prediction', 'synthesis'])
def test_derivatives_are_clipped_at_the_sums_and_the_outputs_and_nowhere_else(C, limits, x64):
    rng = np.random.default_rng(1)
    kind = dict(zip(('clip', 'output_clip'), limits, strict=True)) | {'layers': 2, 'hidden': 4, 'mixtures': 2}
    net = models.synthesis_net(C, gaussians=3, **kind) if C else models.prediction_net(**kind)
    params = jax.tree.map(lambda w: w + 0.3 * rng.normal(size=w.shape), params_of(net))
    xs, targets, characters = rng.normal(size=(4, 3)), rng.normal(size=(4, 3)) > 0, rng.integers(0, C, 4) if C else None
    on = model.Conditioned(xs, attention.Text(characters, np.array(4))) if C else xs
    line = jax.tree.map(lambda leaf: leaf[None], Batch(on, targets, np.ones(4)))
    grads = jax.jit(jax.grad(lambda p: loss_and_weight(net, p, line)[0]))(params)
    told = [limit or np.inf for limit in limits]
    by_hand = jax.jit(jax.grad(lambda p: nats_by_hand(p, xs, targets, characters, *told)))(params)
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-9, atol=1e-12), grads, by_hand)


def test_dropout_is_drawn_for_each_line_and_by_a_key_alone(x64):
    share, both = 0.5, {'layers': 2, 'hidden': 4, 'mixtures': 2}
    net, bare = models.prediction_net(**both, dropout=share), models.prediction_net(**both)
    params, line = params_of(net), lines(lengths=(6,))
    batch = jax.tree.map(lambda leaf: jnp.concatenate([leaf] * 3), line)
    assert_array_equal(predict_batch(net, params, batch).z, predict_batch(bare, params, batch).z)
    noise = weight_noise.noise('none')
    drawn = [noisy_loss(net, noise, 3)(params, jax.random.key(seed), batch)[0] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    z = predict_batch(net, params, batch, jax.random.key(0)).z
    assert np.ptp(z[:, -1], axis=0).min() > 0
    assert not np.isclose(drawn[0], loss_and_weight(bare, params, batch)[0])


# -- training and measuring -------------------------------------------------------------------------------------------

NET = model.sequence_model(cells.lstm(3, 4, clip=10.0, reverse=True), outputs.pen(2), cells.gaussian)


def lines(seed=0, lengths=(6, 3, 5, 0)):
    """Lines of these lengths in one batch; the last row of it is not filled."""
    rng = np.random.default_rng(seed)
    xs, targets = rng.normal(size=(2, len(lengths), max(lengths), 3))
    xs[..., 2], targets[..., 2] = xs[..., 2] > 1, targets[..., 2] > 1
    weights = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(float)
    return Batch(xs * weights[..., None], targets * weights[..., None], weights)


def one_by_one(batch):
    for x, target, weight in zip(*batch, strict=True):
        n = int(weight.sum())
        if n:
            yield Batch(x[None, :n], target[None, :n], weight[None, :n])


def params_of(net=NET):
    return jax.tree.map(lambda p: p.astype(float), net.init(jax.random.key(0)))


def alone(step):
    """A step as on one device."""
    return lambda state, batch: jax.tree.map(
        lambda leaf: leaf[0],
        jax.jit(jax.vmap(step, (None, 0), axis_name=AXIS))(state, jax.tree.map(lambda b: b[None], batch)),
    )


def test_lines_are_measured_as_by_hand(x64):
    """Nats of a line, at rest and in all, and squared error of a point, whatever fills the batch up."""
    params, batch = params_of(), lines()
    rest = np.array([-0.3, 0.2])
    batch.targets[0, :2, :2] = rest
    batch.targets[1, 0, 0] = rest[0]  # moves in y
    batch.targets[batch.weights == 0, :2] = rest
    found = alone(eval_step(NET, **pen_sums(NET, rest)))(params, batch)
    assert (found['targets'], found['targets_at_rest'], found['sequences']) == (14, 2, 3)
    total, resting, errors = 0.0, 0.0, 0.0
    for line in one_by_one(batch):
        for z, target in zip(NET.predict(params, line.xs[0]).z, line.targets[0], strict=True):
            m = outputs.mixture(z)
            total += NET.output.nll(z, target)
            resting += NET.output.nll(z, target) * (target[:2] == rest).all()
            errors += sum((float(jnp.exp(m.log_pi) @ m.mu[axis]) - target[axis]) ** 2 for axis in (0, 1))
    assert_allclose((found['nats'], found['nats_at_rest'], found['squared']), (total, resting, errors))


def test_validation_is_its_lines_by_hand():
    """From the pen's units to the numbers of results.json, by the means of noisy weights."""
    rng = np.random.default_rng(0)

    def some(lengths):  # of small steps, many of them none
        offsets = (np.column_stack([rng.integers(-1, 2, (n, 2)), rng.random(n) < 0.2]) for n in lengths)
        return dataset.pack((f'{len(o)}', o.astype(np.int16), 'ab'[: 1 + len(o) % 2]) for o in offsets)

    train, valid = some([30, 20]), some([25, 7, 18, 2, 9])
    lines = dataset.Handwriting('', 'ab', train, valid, dataset.scale_of(train), dataset.Report((), ()))
    net = models.synthesis_net(2, 2, 4, mixtures=2, gaussians=3)
    means = net.init(jax.random.key(0))
    FLAGS.mark_as_parsed()
    with flagsaver.flagsaver(batch=3, devices=1):
        measure = experiments.handwriting.evaluator(
            net, experiments.handwriting.Data(lines, batches.choose_padding(lines, 2, True))
        )
        found = measure(weight_noise.posterior(means, 0.3))
    nats, at_rest, squared, resting = 0.0, 0.0, 0.0, []
    for i, said in enumerate(valid.texts):
        offsets = dataset.offsets_of(valid, i)
        xs = strokes.normalise(offsets, lines.scale)
        z = net.predict(means, model.Conditioned(xs[:-1], generate.encode_line(said, 'ab'))).z
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
    }
    assert found == pytest.approx(expected, rel=1e-4)


@functools.cache
def grads_one_by_one():
    return [
        jax.grad(lambda p, line=line: loss_and_weight(NET, p, line)[0])(params_of()) for line in one_by_one(lines())
    ]


@pytest.mark.parametrize('per, chunk', [('target', 3), ('sequence', 1), ('sequence', 4)])
def test_a_gradient_is_per_target_or_per_line(per, chunk, x64):
    optimizer, batch = optax.sgd(1.0), lines()
    params = params_of()
    state = state_of(optimizer, params)
    new, metrics = alone(first_order_step(NET, optimizer, chunk, per=per))(state, batch)
    scale = 14 if per == 'target' else 3
    mean = jax.tree.map(lambda *g: sum(g) / scale, *grads_one_by_one())
    jax.tree.map(lambda a, b, g: assert_allclose(a - b, g, atol=1e-12), params, new.params, mean)
    assert (metrics['targets'], metrics['sequences']) == (14, 3)
    assert_allclose(metrics['gradient'], optax.tree.norm(mean))
    with pytest.raises(ValueError, match='letter'):
        first_order_step(NET, optimizer, chunk, per='letter')


def test_noise_is_another_for_each_step_device_and_chunk_and_the_same_again(x64):
    """With a loss that is nothing but its key's number, sgd shows what was drawn."""
    optimizer, batch = optax.sgd(1.0), lines(lengths=(4, 4, 4, 4))

    def noisy(params, key, part):
        return params * jax.random.uniform(key), (jnp.sum(part.weights), jnp.sum(part.weights))

    def drawn(step, chunk, seed, devices=1):
        state = TrainState(jnp.zeros(()), optimizer.init(jnp.zeros(())), jnp.int32(step))
        take = first_order_step(NET, optimizer, chunk, per='sequence', noisy=noisy, seed=seed)
        parts = jax.tree.map(lambda b: b.reshape(devices, -1, *b.shape[1:]), batch)
        return -4 * float(jax.vmap(take, (None, 0), axis_name=AXIS)(state, parts)[0].params[0])

    seen = [drawn(0, 4, 0), drawn(1, 4, 0), drawn(0, 4, 1), drawn(0, 2, 0), drawn(0, 1, 0), drawn(0, 2, 0, 2)]
    assert len(set(seen)) == len(seen)
    assert drawn(0, 2, 0) == seen[3]
    assert seen[3] != 2 * seen[0]  # two chunks drew two numbers
    assert seen[5] != 2 * seen[0]  # and so did two devices


def test_batches_have_room_for_every_line_and_text():
    """Where the longest line, and the longest text of its length, are for validation."""
    rng = np.random.default_rng(0)

    def some(lengths, texts):
        return dataset.pack(
            (str(n), rng.integers(-9, 9, (n, 3)).astype(np.int16), t) for n, t in zip(lengths, texts, strict=True)
        )

    train, valid = some([10, 30, 31, 90], ['a', 'bb', 'c', 'd']), some([20, 200], ['e' * 17, 'f' * 70])
    data = dataset.Handwriting('', 'abcdef', train, valid, dataset.scale_of(train), dataset.Report((), ()))
    padding = batches.choose_padding(data, 3, with_texts=True)
    for part in (train, valid):
        held = 0
        for selection in batches.epoch(part, padding.lengths, 2):
            batch = batches.pad(part, selection, data.scale, data.alphabet, padding.text_lengths[selection.length])
            held += batch.n_characters.sum()
        assert held == sum(map(len, part.texts))
    assert batches.choose_padding(data, 3).text_lengths == {}


def test_a_training_batch_is_of_nothing_but_the_flags_and_its_step():
    """Two copies of a line are distorted each by itself, anew in every step, and by the seed."""
    line = np.column_stack([np.random.default_rng(0).integers(-99, 99, (20, 2)), np.zeros(20)]).astype(np.int16)
    lines = dataset.pack([('one', line, 'a'), ('two', line, 'a')])
    data = dataset.Handwriting('', 'a', lines, lines, dataset.scale_of(lines), dataset.Report((), ()))
    data = experiments.handwriting.Data(data, batches.choose_padding(data, 1))
    FLAGS.mark_as_parsed()

    def targets(i, **flags):
        with flagsaver.flagsaver(batch=2, **flags):
            return experiments.handwriting.training_batch(data, i).targets

    plain, once = targets(3, distort=0.0), targets(3, distort=0.1)
    assert_array_equal(plain[0], plain[1])
    assert_array_equal(once, targets(3, distort=0.1))
    others = plain[:1], once[1:], targets(4, distort=0.1), targets(3, distort=0.1, seed=1), targets(3, distort=0.2)
    assert np.abs(once[0] - np.concatenate(others)).max(axis=(1, 2)).min() > 0.01


# -- scripts ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
    return f'--cache={tmp_path_factory.mktemp("lines")}'


@pytest.fixture(scope='module')
def plain(tmp_path_factory, call, cache):
    """The folder of a run of two steps, not to be changed."""
    workdir = tmp_path_factory.mktemp('plain') / 'run'
    status, _, err = call(*SMALL, cache, '--steps=2', f'--workdir={workdir}')
    assert status == 0, err
    return workdir


def test_noise_is_of_so_many_lines_and_variances_learn_at_their_own_rate(call, tmp_path, cache):
    found = []
    for name, flag in (('plain', '--variance_rate=1'), ('still', '--variance_rate=0'), ('alone', '--noise_lines=1')):
        workdir = tmp_path / name
        flags = [*SMALL, cache, f'--workdir={workdir}', '--noise=adaptive', '--steps=1', '--evaluate_every=1', flag]
        status, _, err = call(*flags)
        assert (status, err) == (0, '')
        with np.load(workdir / 'best.npz') as best:
            moved = any(np.ptp(best[place]) > 0 for place in best.files if 'log_variance' in place)
        found.append((moved, run_folder.read_metrics(workdir)[0]['nats_per_line']))
    assert [moved for moved, _ in found] == [True, False, True]
    assert found[0][1] == found[1][1] != found[2][1]


def test_muon_with_an_average_and_a_schedule_goes_on_bit_for_bit(call, tmp_path, cache):
    flags = [*SMALL, cache, '--optimizer=muon', '--average=0.9', '--warmup_steps=1', '--decay_steps=9', '--seed=1']
    for workdir, steps in (('whole', 4), ('cut', 2), ('cut', 4)):
        status, _, err = call(*flags, f'--workdir={tmp_path}/{workdir}', f'--steps={steps}')
        assert (status, err) == (0, '')
    rows = {name: run_folder.read_metrics(tmp_path / name) for name in ('whole', 'cut')}
    assert [row['nats_per_line'] for row in rows['whole']] == [
        row['nats_per_line'] for row in rows['cut'] if 'gradient' in row
    ]
    assert (tmp_path / 'whole' / 'best.npz').read_bytes() == (tmp_path / 'cut' / 'best.npz').read_bytes()


def test_weights_that_a_kill_has_kept_from_being_written_are_written(call, tmp_path, cache):
    """Behind the checkpoint of the step that is best, and before best.npz."""
    workdir = tmp_path / 'run'
    flags = [*SMALL, cache, f'--workdir={workdir}', '--evaluate_every=2', '--steps=2']
    assert call(*flags)[::2] == (0, '')
    best = (workdir / 'best.npz').read_bytes()
    (workdir / 'best.npz').write_bytes(b'of an earlier step')
    assert call(*flags)[::2] == (0, '')
    assert (workdir / 'best.npz').read_bytes() == best


def test_killed_it_goes_on_bit_for_bit_and_leaves_what_it_promises(start, call, plain, tmp_path, cache):
    """With everything that has a state or is drawn: adaptive noise, an average, a schedule, dropout, distortion."""
    shutil.copytree(plain, tmp_path / 'plain')
    rest = [
        '--noise=adaptive',
        '--average=0.9',
        '--decay_steps=9',
        '--save_minutes=0',
        '--clip_norm=9',
        '--dropout=0.2',
        '--distort=0.2',
    ]
    flags = [*SMALL, cache, *rest, f'--init_from={tmp_path}/plain', '--noise_lines=2', '--variance_rate=9']
    status, out, err = call(*flags, f'--workdir={tmp_path}/whole')
    assert (status, err) == (0, '')
    kill_between(start, flags, tmp_path / 'cut', 2, newest(tmp_path / 'whole'))
    status, again, err = call(*flags, f'--workdir={tmp_path}/cut')
    assert status == 0, err
    assert 'goes on from step' in again
    shutil.rmtree(tmp_path / 'plain')  # what a run has begun with, it needs no more
    assert call(*flags, f'--workdir={tmp_path}/cut')[0] == 0
    assert_same_run(tmp_path / 'whole', tmp_path / 'cut')
    assert (tmp_path / 'whole' / 'best.npz').read_bytes() == (tmp_path / 'cut' / 'best.npz').read_bytes()

    results = read(tmp_path / 'whole' / 'results.json')
    timing = {'seconds': 0, 'points_per_second': 0}
    assert results | timing == read(tmp_path / 'cut' / 'results.json') | timing
    assert results['experiment'] == 'handwriting_synthesis'
    assert (results['source'], results['lines'], results['steps'], results['epochs']) == ('pens-0', 5, 4, 1.333)
    assert results['complexity_nats'] > 0
    assert results['begun_from']['epochs'] == 0.67
    rows = run_folder.read_metrics(tmp_path / 'whole')
    assert [row['step'] for row in rows] == [1, 2, 3, 4]
    assert results['nats_per_line'] == min(row['valid_nats_per_line'] for row in rows if row['step'] % 2 == 0)
    assert all(row['points_per_second'] > 0 for row in rows)
    assert f'{results["nats_per_line"]:.1f}' in out
    about = read(tmp_path / 'whole' / 'about.json')
    assert len(about['scale']['mean']) == 2
    assert len(about['alphabet']) == 95
    assert (tmp_path / 'whole' / 'learning_curve.png').read_bytes().startswith(b'\x89PNG')


def test_a_run_begins_with_a_file_of_weights(call, plain, tmp_path, cache):
    """What it took to make them is not forgotten; a file of another net is refused."""
    small = f'{tmp_path}/small.npz'
    assert call('--mode=export', f'--workdir={plain}', f'--output={small}')[0] == 0
    still = ['--learning_rate=0', '--steps=1', f'--init_from={small}']
    status, _, err = call(*SMALL, cache, *still, f'--workdir={tmp_path}/on')
    assert (status, err) == (0, '')
    before, after = (read(folder / 'results.json') for folder in (plain, tmp_path / 'on'))
    assert_allclose(after['nats_per_line'], before['nats_per_line'], rtol=1e-3)
    assert after['begun_from']['epochs'] == round(before['epochs'], 2)
    assert call(*SMALL, cache, *still, '--hidden=9', '--layers=3', f'--workdir={tmp_path}/larger')[0] == 0
    assert_allclose(read(tmp_path / 'larger' / 'results.json')['nats_per_line'], before['nats_per_line'], rtol=1e-3)
    status, _, err = call(*SMALL, cache, *still, '--hidden=7', f'--workdir={tmp_path}/no')
    assert status == 1 and 'holds another net (hidden=8)' in err
    status, _, err = call(*SMALL, cache, *still, '--hidden=9', '--mixtures=9', f'--workdir={tmp_path}/no')
    assert status == 1 and 'holds another net (hidden=8, mixtures=3)' in err

    (tmp_path / 'on' / 'best.npz').unlink()  # as if it had been stopped before it was first evaluated
    (tmp_path / 'on' / 'metrics.jsonl').write_text('')
    status, _, err = call('--mode=evaluate', cache, f'--workdir={tmp_path}/on')
    assert (status, err) == (0, '')
    assert_allclose(read(tmp_path / 'on' / 'results.json')['nats_per_line'], after['nats_per_line'], rtol=1e-5)
    assert not (tmp_path / 'on' / 'best.npz').exists() and not (tmp_path / 'on' / 'metrics.jsonl').read_text()


def test_what_is_done_to_training_is_not_done_to_validation(call, tmp_path, cache):
    still = [*SMALL, cache, '--learning_rate=0', '--steps=1']
    valid, taught = [], []
    for dropout, distort in ((0, 0), (0.5, 0.25)):
        workdir = tmp_path / str(dropout)
        status, out, err = call(*still, f'--dropout={dropout}', f'--distort={distort}', f'--workdir={workdir}')
        assert (status, err) == (0, '')
        assert ('dropout of 0.5' in out and '(distorted by 0.25)' in out) == bool(dropout)
        results = read(workdir / 'results.json')
        assert (results['dropout'], results['distort']) == (dropout, distort)
        valid.append(results['nats_per_line'])
        taught.append(run_folder.read_metrics(workdir)[0]['nats_per_line'])
    assert valid[0] == valid[1]
    assert abs(taught[0] - taught[1]) > 1e-3


def test_patience_ends_a_run_and_a_run_of_before_a_flag_goes_on(call, tmp_path, cache):
    """With a rate of 0 no evaluation is better than the first."""
    here = [*SMALL, cache, f'--workdir={tmp_path}', '--learning_rate=0', '--evaluate_every=2', '--patience=1']
    status, out, err = call(*here, '--steps=3')
    assert (status, err) == (0, '') and '--patience' not in out  # it has been evaluated on the way only once
    told = read(tmp_path / 'flags.json')
    assert told.pop('distort') == 0
    (tmp_path / 'flags.json').write_text(json.dumps(told))
    about = read(tmp_path / 'about.json')
    texts = about.pop('texts_crc32')
    (tmp_path / 'about.json').write_text(json.dumps(about))
    status, out, err = call(*here, '--steps=9')
    assert (status, err) == (0, '') and 'ends at step 4: nothing better in 1 evaluations (--patience)' in out
    assert read(tmp_path / 'results.json')['steps'] == 4
    assert call('--mode=evaluate', cache, f'--workdir={tmp_path}')[0] == 0
    status, _, err = call(*here, '--steps=9', '--distort=0.5')
    assert status == 1 and 'other distort (0.0, not 0.5)' in err
    (tmp_path / 'about.json').write_text(json.dumps(about | {'texts_crc32': texts + 1}))
    for command in ((*here, '--steps=9'), ('--mode=evaluate', cache, f'--workdir={tmp_path}')):
        status, _, err = call(*command)
        assert status == 1 and 'other texts_crc32' in err


def test_prediction_and_its_devices(call, tmp_path, cache):
    """One device or two; the best weights are measured again by --mode=evaluate."""
    call = functools.partial(call, script='experiments.handwriting_prediction')
    found = []
    for n in (1, 2):
        status, _, err = call(*SMALL, cache, f'--workdir={tmp_path}/{n}', f'--cpu_devices={n}', '--noise=fixed')
        assert (status, err) == (0, '')
        found.append(read(tmp_path / str(n) / 'results.json'))
    assert found[0]['experiment'] == 'handwriting_prediction'
    assert found[0]['nats_per_line'] != found[1]['nats_per_line']  # each device draws noise of its own
    assert_allclose(found[0]['nats_per_line'], found[1]['nats_per_line'], rtol=0.05)
    status, _, err = call('--mode=evaluate', cache, f'--workdir={tmp_path}/2', '--cpu_devices=1')
    assert (status, err) == (0, '')
    again = read(tmp_path / '2' / 'results.json')
    assert_allclose(again['nats_per_line'], found[1]['nats_per_line'], rtol=1e-5)
    status, _, err = call('--mode=evaluate', cache, f'--workdir={tmp_path}/2', '--cpu_devices=3')
    assert status == 1 and 'does not divide among 3 devices' in err


def test_two_processes_are_one_run(start_two, call, tmp_path, cache):
    """Both wait for the weights that the last step left, the best of all, before they measure them again."""
    flags = [*SMALL, cache, '--steps=2']
    status, _, err = call(*flags, '--cpu_devices=2', f'--workdir={tmp_path}/one')
    assert status == 0, err
    both = start_two(*flags, f'--workdir={tmp_path}/two')
    ends = [(*process.communicate(timeout=300), process.returncode) for process in both]
    assert [end[2] for end in ends] == [0, 0], ends
    one, two = (read(tmp_path / name / 'results.json') for name in ('one', 'two'))
    assert_allclose(two['nats_per_line'], one['nats_per_line'], rtol=1e-4)
    assert two['best_step'] == 2


@pytest.fixture(scope='module')
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp('places')
    (root / 'empty').mkdir()
    about = {'alphabet': 'ab', 'scale': {'mean': [0, 0], 'sd': [1, 1]}, 'source': 'nobody'}
    sizes = {'layers': 7, 'hidden': 8, 'mixtures': 3, 'gaussians': 10, 'noise': 'none'}
    same, turned = sizes | {'layers': 2}, about | {'alphabet': synthetic.PRINTABLE[::-1]}
    for name, told, what in (
        ('other', sizes, about),
        ('nameless', sizes, {}),
        ('text', {'layers': 7}, about),
        ('turned', same, turned),
    ):
        (root / name).mkdir()
        (root / name / 'flags.json').write_text(json.dumps(told))
        (root / name / 'about.json').write_text(json.dumps(what))
    for name in ('lineStrokes/a01', 'splits'):
        (root / 'halved' / name).mkdir(parents=True)
    return {name: root / name for name in ('empty', 'other', 'nameless', 'text', 'turned', 'halved', 'nowhere')}


@pytest.mark.parametrize(
    'flags, said',
    [
        (['--source=iamondb'], '--data=FOLDER'),
        (['--source=iamondb', '--data={empty}'], 'is no IAM-OnDB'),
        (['--source=iamondb', '--data={halved}'], 'lacks the list of forms trainset.txt'),
        (['--init_from={other}'], 'holds another net (layers=7, another alphabet)'),
        (['--init_from={turned}'], 'holds another net (another alphabet)'),
        (['--init_from={nameless}'], 'holds no run of handwriting_synthesis'),
        (['--init_from={text}'], 'holds no run of handwriting_synthesis'),
        (['--init_from=iamondb'], 'iamondb holds another net (hidden=400, layers=3, mixtures=20, another alphabet)'),
        (['--init_from={nowhere}'], 'it holds no run, and there are no weights of that name'),
        (['--batch=3', '--cpu_devices=2'], 'does not divide'),
        (['--decay_steps=5', '--warmup_steps=5'], 'leaves nothing'),
        (['--optimizer=muon', '--noise=adaptive'], 'log variances'),
        (['--mode=evaluate'], 'holds no run'),
        (['--weights=iamondb'], 'leave out --weights, or begin with them: --init_from'),
        (['--mode=export', '--weights=iamondb'], 'leave out --weights'),
        (['--text=a', '--weights=iamondb'], 'write with one net'),
        (['--text=a', '--weights='], '--weights names nothing'),
    ],
    ids=lambda v: v[-1] if isinstance(v, list) else '',
)
def test_bad_input_is_one_clear_line(flags, said, call, tmp_path, cache, places):
    called = call(*SMALL, cache, f'--workdir={tmp_path}/run', *(flag.format(**places) for flag in flags))
    assert_refused(called, said)
    assert not (tmp_path / 'run').exists()
