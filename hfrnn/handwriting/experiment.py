"""A net learns handwriting: prediction and synthesis of Graves 2013 (G13), sec. 4 and 5."""

import dataclasses
import functools
import zlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hfrnn import bundle as bundles
from hfrnn import plots
from hfrnn.bundle import Bundle
from hfrnn.errors import DataError, SettingsError
from hfrnn.handwriting import batches, dataset, generate, iamondb, metrics, models, spelling, strokes, synthetic
from hfrnn.handwriting.models import KIND, SYNTHESIS, TASKS, Net, widen
from hfrnn.nets import attention, model
from hfrnn.optim import weight_noise
from hfrnn.text.alphabet import UNKNOWN
from hfrnn.train import optimizers
from hfrnn.train.devices import check_batches, check_memory, count
from hfrnn.train.experiment import Experiment, History, summary
from hfrnn.train.loss import Batch
from hfrnn.train.optimizers import FIRST_ORDER, Optimization, WeightNoise
from hfrnn.train.run_folder import best_row
from hfrnn.train.settings import SEEDS, check, flatten, setting
from hfrnn.train.steps import TrainState, first_order_step, noisy_loss, state_of

PENS, IAMONDB = SOURCES = ('pens', 'iamondb')
VALID = 'valid_nats_per_line'  # in metrics.jsonl, by which the best weights are chosen


@dataclasses.dataclass(frozen=True)
class Handwriting:
    """Lines, net and training, which define a run."""

    task: str = setting(
        SYNTHESIS, 'prediction: the net writes what it likes. synthesis: it writes a text.', choices=TASKS, flag=False
    )
    source: str = setting(PENS, 'pens: synthetic lines. iamondb: the lines of --data.', choices=SOURCES)
    lines: int = setting(2000, 'pens: lines for training.', low=1, high=10**6)
    valid_lines: int = setting(200, 'pens: lines for validation.', low=1, high=10**6)
    net: Net = Net()  # noqa: RUF009
    seed: int = setting(
        0, 'Seed of everything random: weights, batches, distortion, noise, dropout.', low=0, high=SEEDS - 1
    )
    batch: int = setting(32, 'Lines in a step, on all devices together.', low=1)
    buckets: int = setting(8, 'Pad lines to so many different lengths; a step is compiled for each.', low=1)
    optimization: Optimization = Optimization()  # noqa: RUF009
    weight_noise: WeightNoise = WeightNoise()  # noqa: RUF009
    noise_lines: int = setting(8, 'How many lines, at most, share a draw of the noise.', low=1)
    variance_rate: float = setting(1.0, 'adaptive: learning rate of log variances, relative to the means.', low=0.0)
    matmul_dtype: str = setting(
        'float32', 'What the factors of matrix products in the LSTM are rounded to.', choices=('float32', 'bfloat16')
    )
    dropout: float = setting(0.0, 'The share of input to the cells that training drops.', low=0.0, high=0.99)
    distort: float = setting(
        0.0,
        'The standard deviation of the log size, log width and slant of each training line; 0 in Graves 2013.',
        low=0.0,
        high=1.0,
    )
    chunk_points: int = setting(
        40_000, 'Points in memory at once for a gradient, on each device; dropout and noise depend on it.', low=1
    )
    init_from: str | None = setting(
        None, 'Begin with this net, which may be smaller: the folder of a run, a file, or a shipped name.'
    )


def check_settings(s: Handwriting, devices: int | None = None) -> None:
    """Checks that the settings go together, and the devices divide the batch.

    Raises:
      SettingsError: if not.
    """
    check(s)
    if s.init_from == '':
        raise SettingsError('init_from= names nothing')
    check_batches(devices, batch=s.batch)
    optimizer = s.optimization.optimizer
    if optimizer not in FIRST_ORDER:
        raise SettingsError(f'optimizer={optimizer}: the density of a pen is not convex; choose a first-order method')
    if optimizer == 'muon' and s.weight_noise.noise == 'adaptive':
        raise SettingsError('noise=adaptive: Muon would mix log variances; choose optimizer=adam or graves_rmsprop')
    if s.task != SYNTHESIS and s.net.gaussians != Net().gaussians:
        raise SettingsError(f'gaussians={s.net.gaussians}: a prediction net has no window')


# -- lines ------------------------------------------------------------------------------------------------------------


class _Lines(NamedTuple):
    """Lines, with their texts if the net reads them, and how they are padded."""

    data: dataset.Dataset
    padding: batches.Padding


def _load(s, data, cache):
    if isinstance(data, dataset.Dataset):
        lines = data
    elif s.source == PENS:
        lines = synthetic.load(0, s.lines, s.valid_lines, cache)
    elif data:
        lines = iamondb.load(data, cache)
    else:
        raise SettingsError('source=iamondb needs the folder of IAM-OnDB: data=FOLDER')
    if s.task == SYNTHESIS:
        lines = lines._replace(train=dataset.with_text(lines.train), valid=dataset.with_text(lines.valid))
    n_train, n_valid = len(lines.train.names), len(lines.valid.names)
    if not (n_train and n_valid):
        raise DataError(f'{lines.name} has {n_train} lines for training and {n_valid} for validation')
    return _Lines(lines, batches.choose_padding(lines, s.buckets, s.task == SYNTHESIS))


def _make_batch(lines: _Lines, part: dataset.Lines, selection: batches.Selection, distort=None) -> Batch:
    U = lines.padding.text_lengths.get(selection.length, 0)
    padded = batches.pad(part, selection, lines.data.scale, lines.data.alphabet, U, distort)
    text = attention.Text(padded.characters, padded.n_characters)
    return Batch(model.Conditioned(padded.xs, text) if U else padded.xs, padded.targets, padded.weights)


def _training_batch(s: Handwriting, lines: _Lines, i: int) -> Batch:
    """What step i (from 0) sees: a function of the settings and i alone."""
    part = lines.data.train
    selection = batches.at_step(part, lines.padding.lengths, s.batch, s.seed, i)
    rng = np.random.default_rng((s.seed, i, 1))
    distort = functools.partial(strokes.distort, rng=rng, sd=s.distort) if s.distort else None
    return _make_batch(lines, part, selection, distort)


def _fingerprint(s, lines):
    """What the net reads and writes, and what identifies the lines, which must be the same when the run goes on."""
    data = lines.data
    parts = {'train': data.train, 'valid': data.valid}
    content = {
        'source': data.name,
        'alphabet': data.alphabet,
        'scale': {'mean': data.scale.mean.tolist(), 'sd': data.scale.sd.tolist()},
        'spelling': {'unknown': UNKNOWN, 'rare': spelling.RARE if s.source == IAMONDB else 0},
        **{name: len(part.names) for name, part in parts.items()},
        **{f'{name}_crc32': zlib.crc32(part.offsets.tobytes()) for name, part in parts.items()},
    }
    if s.task == SYNTHESIS:
        content['texts_crc32'] = zlib.crc32('\n'.join([*data.train.texts, *data.valid.texts]).encode())
    return content


# -- training ---------------------------------------------------------------------------------------------------------


def _make_optimizer(s, steps_per_epoch):
    def scale_log_variances(updates, _):
        return updates._replace(log_variance=optax.tree.scale(s.variance_rate, updates.log_variance))

    last = optax.stateless(scale_log_variances) if s.weight_noise.noise == 'adaptive' else None
    return optimizers.first_order(s.optimization, steps_per_epoch, last)


def _make_step(s, lines, noise, optimizer):
    """``step(state, batch)``: the gradient of a line's nats, with as many lines in memory as chunk_points allows."""
    dtype = jnp.bfloat16 if s.matmul_dtype == 'bfloat16' else None
    net = models.make(s.task, s.net, len(lines.data.alphabet), dtype=dtype, dropout=s.dropout)
    noisy = noisy_loss(net, noise, len(lines.data.train.names))

    def step(state, batch):
        chunk = max(1, s.chunk_points // batch.weights.shape[1])
        if s.weight_noise.noise != 'none':
            chunk = min(chunk, s.noise_lines)
        step_in_chunks = first_order_step(net, optimizer, chunk, per='sequence', noisy=noisy, seed=s.seed)
        return step_in_chunks(state, batch)

    return step


def _numbers_at_once(s, lines, devices):
    """How many numbers a device holds for the lines in memory at once, at least."""
    longest = int(lines.padding.lengths[-1])
    rows = min(s.batch // count(devices), max(1, s.chunk_points // longest))
    if s.weight_noise.noise != 'none':
        rows = min(rows, s.noise_lines)
    return rows * longest * 8 * s.net.hidden * s.net.layers


def _validation_batches(s, lines):
    for selection in batches.epoch(lines.data.valid, lines.padding.lengths, s.batch):
        yield _make_batch(lines, lines.data.valid, selection)


# -- a warm start -----------------------------------------------------------------------------------------------------


def _warm_params(s: Handwriting, alphabet: str, noise: weight_noise.Noise, random: Any) -> tuple[Any, dict]:
    """The params of ``init_from`` as this run begins with them, and where they are from.

    A smaller net is widened, from the means of its weights.  A posterior goes on where the noise is adaptive.

    Args:
      random: params of this run, whose weights are those of the cells that a smaller net lacks.

    Raises:
      DataError: if there is no such net, or it is one that this run cannot begin with.
    """
    net = bundles.load(s.init_from)
    bundles.check_kind(net, KIND, task=s.task)
    writer = generate.open_writer(net)
    sizes = {name: n for name, n in net.model.items() if name not in ('kind', 'task')}
    current = flatten(s.net)
    differing = {name: n for name, n in sizes.items() if n != current[name]}
    is_smaller = all(name in ('layers', 'hidden') and n < current[name] for name, n in differing.items())
    problems = [] if is_smaller else [f'{name}={n}' for name, n in differing.items()]
    if s.task == SYNTHESIS and writer.alphabet != alphabet:
        problems.append('another alphabet')
    if problems:
        raise DataError(f'{net.name} holds another net ({", ".join(problems)}); this run cannot begin with it')
    params, has_posterior = writer.params, bundles.without_noise(net).params is not net.params
    if differing:
        params = noise.init(widen(params, weight_noise.mean_params(random)))
    elif isinstance(random, weight_noise.Posterior) and has_posterior:
        params = bundles.fit(net, random)
    else:
        params = noise.init(params)
    return jax.tree.map(jnp.asarray, params), _origin(net)


def _origin(net: Bundle) -> dict:
    """The epochs and seconds of all training of a net, and the shipped net, if any, whose terms it inherits."""
    before = net.history.get('begun_from', {})
    spent = {name: round(net.history.get(name, 0) + before.get(name, 0), 2) for name in ('epochs', 'seconds')}
    weights = net.name if net.name in bundles.shipped() else before.get('weights')
    return spent | ({'weights': weights} if weights else {})


# -- the experiment ---------------------------------------------------------------------------------------------------


def handwriting(
    s: Handwriting = Handwriting(),
    *,
    data: str | dataset.Dataset | None = None,
    cache: str | None = None,
    devices: int | None = None,
) -> Experiment:
    """The experiment of these settings.

    Args:
      data: the folder of IAM-OnDB; or lines that are used in place of those of ``source``.
      cache: a folder for packed data sets; None caches nothing.
      devices: how many it will run on; all if None.

    Raises:
      SettingsError: for settings that do not go together, or a net that does not fit into memory.
      DataError: if the data are missing, damaged, or without lines to learn from.
    """
    check_settings(s, devices)
    lines = _load(s, data, cache)
    train, valid, n_symbols = lines.data.train, lines.data.valid, len(lines.data.alphabet)
    epoch = len(batches.epoch(train, lines.padding.lengths, s.batch))
    n_points = len(train.offsets) - len(train.names)  # to predict, in training
    net = models.make(s.task, s.net, n_symbols)
    noise = weight_noise.noise(s.weight_noise.noise, s.weight_noise.noise_sd, s.weight_noise.variance)
    optimizer = _make_optimizer(s, epoch)
    rest = strokes.at_rest(lines.data.scale)
    evaluate = metrics.evaluator(net, rest, functools.partial(_validation_batches, s, lines), devices)
    name, fingerprint = f'handwriting_{s.task}', _fingerprint(s, lines)

    def init(key):
        return state_of(optimizer, noise.init(net.init(key)))

    shapes = jax.eval_shape(init, jax.random.key(0))
    check_memory(model.size(shapes), 3, _numbers_at_once(s, lines, devices), devices)

    def warm_start(state: TrainState):
        params, origin = _warm_params(s, lines.data.alphabet, noise, state.params)
        return state_of(optimizer, params), origin

    def describe(i, logged):
        if not logged:
            return {}
        targets, seconds = float(logged['targets']), float(logged['seconds'])
        return {
            'nats_per_line': float(logged['nats']) * n_points / len(train.names),  # per line of mean length
            'gradient': logged['gradient'],
            'points_per_second': round(targets / max(seconds, 1e-6)),
        }

    def bundle(params, history):
        sizes = {size: getattr(s.net, size) for size in ('layers', 'hidden', 'mixtures')}
        if s.task == SYNTHESIS:
            sizes['gaussians'] = s.net.gaussians
        return Bundle({'kind': KIND, 'task': s.task, **sizes}, fingerprint, summary(name, s, history), params)

    def report(kept: Bundle, history: History):
        found = evaluate(bundles.fit(kept, shapes.params))
        steps, seconds = history[-1]['step'], history[-1]['seconds']
        results = {
            'source': lines.data.name,
            'net': f'{s.net.layers}x{s.net.hidden}',
            'optimizer': s.optimization.optimizer,
            'noise': s.weight_noise.noise,
            'dropout': s.dropout,
            'distort': s.distort,
            **found,
            'lines': len(valid.names),
            'epochs': round(steps / epoch, 3),
            'points_per_second': round(steps / epoch * n_points / seconds) if seconds else 0,
        }
        step = best_row(history, VALID)['step']
        return {
            'results.json': results,
            'report.txt': _report_text(lines.data, found, step, results['epochs']),
            'learning_curve.png': plots.learning_curve({'': history}, 'epochs', 'nats_per_line', 'nats per line'),
        }

    dropout = f' and dropout of {s.dropout}' if s.dropout else ''
    distorted = f' (distorted by {s.distort})' if s.distort else ''
    title = (
        f'{dataset.describe(lines.data.report)}\n'
        f'{name}: {s.net.layers} x {s.net.hidden} by {s.optimization.optimizer}{dropout} on {lines.data.name}: '
        f'{len(train.names):,} lines{distorted}, {n_points:,} points, {epoch} steps an epoch; '
        f'{len(valid.names):,} lines for validation'
    )
    return Experiment(
        name=name,
        settings=s,
        init=init,
        step=_make_step(s, lines, noise, optimizer),
        batch=functools.partial(_training_batch, s, lines),
        evaluate=evaluate,
        bundle=bundle,
        report=report,
        describe=describe,
        warm_start=warm_start if s.init_from else None,
        steps_per_epoch=epoch,
        log_every=10,
        title=title,
    )


def _report_text(data, found, step, epochs):
    lines = [
        '',
        f'on {len(data.valid.names):,} validation lines of {data.name}, weights of step {step}',
        f'  nats per line        {found["nats_per_line"]:10.1f}',
        f'  of them at rest      {found["nats_at_rest"]:10.1f} at {found["points_at_rest"]:.1%} of the points',
        f'  squared error        {found["sse"]:10.3f} per point',
    ]
    if 'complexity_nats' in found:
        lines.append(f'  complexity, nats     {found["complexity_nats"]:10.0f}')
    return '\n'.join([*lines, f'  epochs               {epochs:10.3f}', ''])
