"""What handwriting prediction and synthesis share: flags, data, training, evaluation.  Graves 2013 (G13), sec. 4, 5."""

import functools
import os
import zlib
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

from experiments import cli
from experiments.cli import clock, say
from hfrnn import bundle, plots
from hfrnn.errors import RunError, SettingsError
from hfrnn.handwriting import batches, dataset, generate, iamondb, spelling, strokes, synthetic
from hfrnn.handwriting.metrics import pen_sums
from hfrnn.handwriting.models import widen
from hfrnn.nets import attention, model
from hfrnn.optim import first_order, weight_noise
from hfrnn.text.alphabet import UNKNOWN
from hfrnn.train import run_folder
from hfrnn.train.devices import spread
from hfrnn.train.loop import fit
from hfrnn.train.loss import Batch, eval_step, sum_metrics
from hfrnn.train.steps import TrainState, first_order_step, noisy_loss, state_of

FLAGS = flags.FLAGS

RULES = {  # of optimisation, and the learning rate of each if none is given
    'adam': (optax.adam, 1e-3),
    'rmsprop': (first_order.graves_rmsprop, 1e-4),
    'muon': (first_order.muon, 1e-3),
}

WORKDIR = flags.DEFINE_string('workdir', None, 'The folder of the run, or of what is measured.')

# These define a run: it goes on only where they are the same.
flags.DEFINE_enum('source', 'pens', ['iamondb', 'pens'], 'Whose lines: those of --data, or made ones.')
flags.DEFINE_integer('lines', 2000, 'pens: lines for training.', lower_bound=1)
flags.DEFINE_integer('valid_lines', 200, 'pens: lines for validation.', lower_bound=1)
flags.DEFINE_integer('layers', 3, 'LSTM layers.', lower_bound=1)
flags.DEFINE_integer('hidden', 400, 'Cells in each, H.', lower_bound=1)
flags.DEFINE_integer('mixtures', 20, 'Components of the mixture, M.', lower_bound=1)
flags.DEFINE_integer(
    'seed',
    0,
    'Of everything random: weights, batches, distortion, noise, dropout.',
    lower_bound=0,
    upper_bound=2**31 - 1,
)
flags.DEFINE_integer('batch', 32, 'Lines for a step, of all devices.', lower_bound=1)
flags.DEFINE_integer('buckets', 8, 'To how many lengths lines are padded; a step is compiled for each.', lower_bound=1)
flags.DEFINE_enum('optimizer', 'adam', list(RULES), "Adam, G13's rmsprop, or Muon.")
flags.DEFINE_float('learning_rate', None, '1e-3 for Adam and Muon, 1e-4 for rmsprop if not given.', lower_bound=0.0)
flags.DEFINE_integer('warmup_steps', 0, 'The learning rate rises from 0 over so many steps; 0 for none.', lower_bound=0)
flags.DEFINE_integer('decay_steps', 0, 'Cosine decay to 0 at this step; 0 for none.', lower_bound=0)
flags.DEFINE_float('clip_norm', 0.0, "The largest norm of a gradient, of a line's nats; 0 for any.", lower_bound=0.0)
flags.DEFINE_float('clip', 10.0, "Of the derivatives in the LSTM, of a line's nats; 0 for none.", lower_bound=0.0)
flags.DEFINE_float(
    'output_clip', 100.0, "Of the derivatives by the outputs, of a line's nats; 0 for none.", lower_bound=0.0
)
flags.DEFINE_enum('products', 'float32', ['float32', 'bfloat16'], 'What the LSTM multiplies while it is trained.')
flags.DEFINE_float('average', 0.0, 'Evaluate and keep an average of the weights with this decay.', lower_bound=0.0)
flags.DEFINE_enum('noise', 'none', ['none', 'fixed', 'adaptive'], 'On the weights, while training.')
flags.DEFINE_float(
    'noise_sd', 0.075, "The noise's standard deviation; of adaptive noise at the start.", lower_bound=1e-30
)
flags.DEFINE_float('dropout', 0.0, 'Of what enters the cells, in training.', lower_bound=0.0, upper_bound=0.99)
flags.DEFINE_float(
    'distort',
    0.0,
    "Of the log size, log width and slant of each training line: a standard deviation; not G13's.",
    lower_bound=0.0,
    upper_bound=1.0,
)
flags.DEFINE_integer('noise_lines', 8, 'How many lines, at most, share a draw of the noise.', lower_bound=1)
flags.DEFINE_float('variance_rate', 1.0, 'Learning rate of log variances, relative to the means.', lower_bound=0.0)
flags.DEFINE_enum('variance', 'squared', ['squared', 'reparameterised'], 'How adaptive noise learns its size.')
flags.DEFINE_string(
    'init_from',
    None,
    "The weights to begin with, a smaller net's grown: a run's folder, a file, or, of synthesis, iamondb or pens.",
)

# These do not.
FREE = (
    flags.DEFINE_integer('steps', 10**7, 'Train for so many steps in all.', lower_bound=0),
    flags.DEFINE_float('minutes', float('inf'), 'Train for so many minutes in all.', lower_bound=0.0),
    flags.DEFINE_integer('patience', 10, 'Stop after so many evaluations that found nothing better.', lower_bound=1),
    flags.DEFINE_integer('evaluate_every', 0, 'Evaluate every so many steps; 0 for every epoch.', lower_bound=0),
    flags.DEFINE_integer('say_every', 10, 'Say how it goes every so many steps.', lower_bound=1),
    flags.DEFINE_float('save_minutes', 10.0, 'Save a checkpoint every so many minutes.', lower_bound=0.0),
    flags.DEFINE_integer(
        'chunk_points',
        40_000,
        'Points in memory at once, on each device, while it learns; with another number, dropout and noise are others.',
        lower_bound=1,
    ),
    flags.DEFINE_string('data', os.environ.get('HFRNN_DATA'), 'The folder of IAM-OnDB (or $HFRNN_DATA).'),
    flags.DEFINE_string('cache', '~/.cache/hfrnn', 'A folder for what was read or made of data; empty for none.'),
)


VALID = 'valid_nats_per_line'  # in metrics.jsonl, by which the best weights are chosen
SIZES = ('layers', 'hidden', 'mixtures', 'gaussians')  # of a net; gaussians where it reads text
GROW = ('layers', 'hidden')  # those that may be larger than where --init_from leads


class Task(NamedTuple):
    """What one of the two experiments is.

    Attributes:
      name: of the experiment.
      script: its module, whose flags define a run.
      free: those of them that do not, besides those above.
      make_net: ``make_net(n_symbols, **while_training) -> Model``, from flags; more as in ``cells.lstm``.
      reads_text: whether its inputs come with their texts.
    """

    name: str
    script: ModuleType
    free: tuple
    make_net: Callable[..., model.Model]
    reads_text: bool


# -- data -------------------------------------------------------------------------------------------------------------


class Data(NamedTuple):
    """Lines, of known text if the task reads it, and the sizes of their batches."""

    lines: dataset.Handwriting
    padding: batches.Padding


def points_of(data: Data) -> int:
    """To predict, of the training lines."""
    return len(data.lines.train.offsets) - len(data.lines.train.names)


def steps_per_epoch(data: Data) -> int:
    return len(batches.epoch(data.lines.train, data.padding.lengths, FLAGS.batch))


def cache_folder() -> str | None:
    return os.path.expanduser(FLAGS.cache) if FLAGS.cache else None  # as it stands where there is no such home


def load(task: Task) -> Data:
    """The lines of --source."""
    cache = cache_folder()
    if FLAGS.source == 'pens':
        lines = synthetic.load(0, FLAGS.lines, FLAGS.valid_lines, cache)
    elif not FLAGS.data:
        raise SettingsError('--source=iamondb needs --data=FOLDER (or $HFRNN_DATA), the folder of IAM-OnDB')
    else:
        lines = iamondb.load(FLAGS.data, cache)
    if task.reads_text:
        lines = lines._replace(train=dataset.with_text(lines.train), valid=dataset.with_text(lines.valid))
    if not (lines.train.names and lines.valid.names):
        raise SettingsError(
            f'{lines.name} has {len(lines.train.names)} lines to train on, {len(lines.valid.names)} to test'
        )
    return Data(lines, batches.choose_padding(lines, FLAGS.buckets, task.reads_text))


def make_batch(
    data: Data, lines: dataset.Lines, selection: batches.Selection, rng: np.random.Generator | None = None
) -> Batch:
    """The batch of a selection of lines; with their texts if the task reads them; distorted, with an ``rng``."""
    U = data.padding.text_lengths.get(selection.length, 0)
    distort = None if rng is None else functools.partial(strokes.distort, rng=rng, sd=FLAGS.distort)
    on = batches.pad(lines, selection, data.lines.scale, data.lines.alphabet, U, distort)
    xs = model.Conditioned(on.xs, attention.Text(on.characters, on.n_characters)) if U else on.xs
    return Batch(xs, on.targets, on.weights)


def training_batch(data: Data, i: int) -> Batch:
    """The batch of step i (from 0): of nothing but the flags and i."""
    lines = data.lines.train
    selection = batches.at_step(lines, data.padding.lengths, FLAGS.batch, FLAGS.seed, i)
    return make_batch(data, lines, selection, np.random.default_rng((FLAGS.seed, i, 1)) if FLAGS.distort else None)


def about(data: Data) -> dict:
    """What the data must be for a run to go on, and what its weights are to be used with."""
    lines = data.lines
    sizes = {name: len(part.names) for name, part in (('train', lines.train), ('valid', lines.valid))}
    crc = {f'{name}_crc32': zlib.crc32(getattr(lines, name).offsets.tobytes()) for name in sizes}
    if data.padding.text_lengths:
        crc['texts_crc32'] = zlib.crc32('\n'.join([*lines.train.texts, *lines.valid.texts]).encode())
    return {
        'source': lines.name,
        'alphabet': lines.alphabet,
        'scale': {'mean': lines.scale.mean.tolist(), 'sd': lines.scale.sd.tolist()},
        'spelling': {'unknown': UNKNOWN, 'rare': spelling.RARE if FLAGS.source == 'iamondb' else 0},
        **sizes,
        **crc,
    }


def untold(what: dict) -> dict:
    """What of ``about`` a run of an earlier version does not tell."""
    return {name: value for name, value in what.items() if name == 'texts_crc32'}


# -- what the flags mean ----------------------------------------------------------------------------------------------


def defining_flags(task: Task) -> dict:
    return cli.defining_flags(task.script, (*task.free, WORKDIR, *FREE))


def make_optimizer() -> optax.GradientTransformation:
    rule, rate = RULES[FLAGS.optimizer]
    if FLAGS.learning_rate is not None:
        rate = FLAGS.learning_rate
    if FLAGS.decay_steps > FLAGS.warmup_steps:
        rate = optax.warmup_cosine_decay_schedule(0.0, rate, FLAGS.warmup_steps, FLAGS.decay_steps)
    elif FLAGS.decay_steps:
        raise SettingsError(f'--warmup_steps={FLAGS.warmup_steps} leaves nothing of --decay_steps={FLAGS.decay_steps}')
    elif FLAGS.warmup_steps:
        rate = optax.linear_schedule(0.0, rate, FLAGS.warmup_steps)
    rule = rule(rate)
    clip = [optax.clip_by_global_norm(FLAGS.clip_norm)] if FLAGS.clip_norm else []
    if FLAGS.average >= 1:
        raise SettingsError(f'--average={FLAGS.average}: the decay of an average is below 1')
    if FLAGS.noise == 'adaptive':
        if FLAGS.optimizer == 'muon':
            raise SettingsError(
                '--noise=adaptive needs --optimizer=adam or rmsprop: Muon steps would mix log variances'
            )
        rule = optax.chain(rule, optax.stateless(_faster_variances))
    return optax.chain(*clip, rule, *([first_order.averaged(FLAGS.average)] if FLAGS.average else []))


def _faster_variances(updates, _):
    return updates._replace(log_variance=optax.tree.scale(FLAGS.variance_rate, updates.log_variance))


def numbers_at_once(data: Data) -> int:
    """What a device holds for the lines in memory at once, at the least."""
    longest = int(data.padding.lengths[-1])
    lines = min(FLAGS.batch // cli.n_devices(), max(1, FLAGS.chunk_points // longest))
    if FLAGS.noise != 'none':
        lines = min(lines, FLAGS.noise_lines)
    return lines * longest * 8 * FLAGS.hidden * FLAGS.layers


def make_noise() -> weight_noise.Noise:
    return weight_noise.noise(FLAGS.noise, FLAGS.noise_sd, FLAGS.variance)


def make_step(task: Task, data: Data, optimizer: optax.GradientTransformation) -> Callable:
    """``step(state, batch)``: the gradient of a line's nats, as many lines in memory as --chunk_points allows."""
    dtype = jnp.bfloat16 if FLAGS.products == 'bfloat16' else None
    net = task.make_net(len(data.lines.alphabet), dtype=dtype, dropout=FLAGS.dropout)
    noisy = noisy_loss(net, make_noise(), len(data.lines.train.names))

    def step(state, batch):
        chunk = max(1, FLAGS.chunk_points // batch.weights.shape[1])
        if FLAGS.noise != 'none':
            chunk = min(chunk, FLAGS.noise_lines)
        take = first_order_step(net, optimizer, chunk, per='sequence', noisy=noisy, seed=FLAGS.seed)
        return take(state, batch)

    return spread(step, FLAGS.devices)


def first_params(net: model.Model, key: jax.Array) -> Any:
    """Weights to begin with: at random; with adaptive noise, the posterior around them."""
    return make_noise().init(net.init(key))


def state_shapes(net: model.Model, optimizer: optax.GradientTransformation) -> TrainState:
    return jax.eval_shape(lambda key: state_of(optimizer, first_params(net, key)), jax.random.key(0))


def weights(state: TrainState) -> Any:
    """What is evaluated and kept of a state: the average if there is one."""
    return optax.tree.get(state.opt_state, 'average') if FLAGS.average else state.params


def kept_of_run(task: Task, workdir: str) -> tuple[dict, Callable[[], Any]]:
    """(facts, ``load()``) of a run: what its file of weights would tell, and what it kept, the posterior if it is one.

    Raises:
      RunError: if the folder holds no run, or one of something else; by ``load``, if it has kept nothing yet.
    """
    settings, data = (run_folder.read_json(workdir, name) for name in ('flags.json', 'about.json'))
    known = 'mixtures' in settings and {'alphabet', 'scale', 'source'} <= data.keys()
    if not known or ('gaussians' in settings) != task.reads_text:
        raise RunError(f'{workdir} holds no run of {task.name}')
    sizes = {name: settings[name] for name in SIZES if name in settings}
    best = run_folder.best_row(run_folder.read_metrics(workdir), VALID)
    took = {name: number for name, number in best.items() if name in ('step', 'epochs', 'seconds') or 'valid' in name}
    if 'begun_from' in data:
        took['begun_from'] = data['begun_from']
    facts = generate.facts(task.name, sizes, data['alphabet'], data['scale'], data['source'], training=took)
    shapes = jax.eval_shape(generate.net(facts).init, jax.random.key(0))
    if settings['noise'] == 'adaptive':
        shapes = jax.eval_shape(weight_noise.posterior, shapes)
    return facts, functools.partial(run_folder.load_best, workdir, shapes)


def params_to_begin_with(task: Task, data: Data, net: model.Model) -> tuple[Any, dict]:
    """The weights of --init_from as this run begins with them, and what they have behind them.

    Those of a smaller net are grown, and if it has a posterior, its means.
    """
    if bundle.names_a_file(FLAGS.init_from):
        kept = cli.read_weights(FLAGS.init_from)
        hand = generate.open_writer(kept, task.name)
        facts, load = kept.facts, lambda: hand.params
    else:
        facts, load = kept_of_run(task, FLAGS.init_from)
    theirs = facts['sizes']
    differing = {name: n for name, n in theirs.items() if n != FLAGS[name].value}
    grows = all(name in GROW and n < FLAGS[name].value for name, n in differing.items())
    another = [] if grows else [f'{name}={n}' for name, n in differing.items()]
    if task.reads_text and facts['alphabet'] != data.lines.alphabet:
        another.append('another alphabet')
    if another:
        raise RunError(f'{FLAGS.init_from} holds another net ({", ".join(another)}); nothing begins from it here')
    params = load()
    if differing:
        random = jax.jit(net.init)(jax.random.key(FLAGS.seed))
        params = make_noise().init(widen(weight_noise.mean_params(params), random))
    elif FLAGS.noise != 'adaptive' or not isinstance(params, weight_noise.Posterior):
        params = make_noise().init(weight_noise.mean_params(params))
    took = facts.get('training', {})
    before = took.get('begun_from', {})
    behind = {name: round(took.get(name, 0) + before.get(name, 0), 2) for name in ('epochs', 'seconds')}
    weights = FLAGS.init_from if FLAGS.init_from in bundle.shipped() else before.get('weights')
    return params, behind | ({'weights': weights} if weights else {})  # whose terms go on


# -- modes ------------------------------------------------------------------------------------------------------------


def train(task: Task) -> None:
    """Trains the run in --workdir, or goes on; evaluates it at the end."""
    folder = cli.workdir('where to keep the run')
    cli.check_batches('batch')
    data = load(task)
    net, optimizer = task.make_net(len(data.lines.alphabet)), make_optimizer()
    shapes = state_shapes(net, optimizer)
    cli.check_memory(sum(leaf.size for leaf in jax.tree.leaves(shapes)), 3, numbers_at_once(data))
    what, first = about(data), None
    if FLAGS.init_from and not run_folder.has_begun(folder):
        first, what['begun_from'] = params_to_begin_with(task, data, net)

    run = cli.train_in(folder, defining_flags(task), what, untold(what))
    epoch = steps_per_epoch(data)
    dropout = f' and dropout of {FLAGS.dropout}' if FLAGS.dropout else ''
    distorted = f' (distorted by {FLAGS.distort})' if FLAGS.distort else ''
    weights_in_net = model.size(weight_noise.mean_params(shapes.params))
    say(
        f'{task.name}: {FLAGS.layers} x {FLAGS.hidden}, {weights_in_net:,} weights '
        f'by {FLAGS.optimizer}{dropout} on {data.lines.name}: {len(data.lines.train.names):,} lines{distorted}, '
        f'{points_of(data):,} points, {epoch} steps an epoch; {len(data.lines.valid.names):,} for validation'
    )
    say(dataset.describe(data.lines.report))
    state, elapsed = cli.restore_or_begin(
        run,
        shapes,
        lambda: state_of(optimizer, first_params(net, jax.random.key(FLAGS.seed)) if first is None else first),
    )
    history = run_folder.history_and_best(run, int(state.step), VALID, weights(state))
    measure = evaluator(net, data)
    every = FLAGS.evaluate_every or epoch

    def on_step(state, metrics, seconds):
        i, nats, targets = int(state.step), float(metrics['nats']), float(metrics['targets'])
        row = {'step': i, 'seconds': round(seconds, 2), 'epochs': round(i / epoch, 4)}
        row['nats_per_line'] = nats * points_of(data) / len(data.lines.train.names)  # as if of lines as long as all
        row['gradient'] = float(metrics['gradient'])
        row['points_per_second'] = round(targets / max(float(metrics['seconds']), 1e-6))
        line = f'step {i:6d}  epoch {i / epoch:7.2f}  {row["nats_per_line"]:9.1f} nats/line'
        kept = weights(state)
        if i % every == 0:
            row |= {f'valid_{name}': value for name, value in measure(kept).items()}
            row |= complexity(kept)
            line += f'  valid {row[VALID]:.1f}'
        run_folder.log_and_keep(run, history, row, VALID, state, kept, seconds)
        if i % every == 0 or i % FLAGS.say_every == 0:
            say(f'{line}  {row["points_per_second"]} points/s  {cli.progress(i, FLAGS.steps, seconds)}')
        return impatient(history)

    state, elapsed = fit(
        make_step(task, data, optimizer),
        state,
        functools.partial(training_batch, data),
        steps=0 if impatient(history) else FLAGS.steps,
        seconds=FLAGS.minutes * 60,
        elapsed=elapsed,
        save=lambda state, seconds: run_folder.save(run, state, int(state.step), seconds),
        save_every=FLAGS.save_minutes * 60,
        on_step=on_step,
    )
    if impatient(history):
        say(f'ends at step {int(state.step)}: nothing better in {FLAGS.patience} evaluations (--patience)')
    finish(task, run, data, state, elapsed, measure)


def evaluate(task: Task) -> None:
    """Evaluates the weights that the run in --workdir kept."""
    run, data, net, state, seconds = reopen(task)
    cli.check_batches('batch')
    finish(task, run, data, state, seconds, evaluator(net, data))


def reopen(task: Task) -> tuple[run_folder.Run, Data, model.Model, TrainState, float]:
    """The run in --workdir, whose flags hold wherever the command line says nothing else."""
    folder = cli.workdir()
    cli.take_flags(run_folder.read_json(folder, 'flags.json'))
    run = run_folder.open_run(folder)
    cli.check_flags(folder, defining_flags(task))
    data = load(task)
    what = about(data)
    run_folder.check(folder, 'about.json', what, untold(what))
    net, optimizer = task.make_net(len(data.lines.alphabet)), make_optimizer()
    return run, data, net, *run_folder.restore(run, state_shapes(net, optimizer))


# -- what modes share -------------------------------------------------------------------------------------------------


def evaluator(net: model.Model, data: Data) -> Callable[[Any], dict]:
    """``measure(params)``, of the validation lines.

    Nats per line, and those of them where the pen rests; squared error per point, and the share of them where it does.
    """
    rest = strokes.at_rest(data.lines.scale)
    step = spread(eval_step(net, **pen_sums(net, rest)), FLAGS.devices)
    lines = data.lines.valid

    def measure(params):
        chosen = (
            make_batch(data, lines, selection) for selection in batches.epoch(lines, data.padding.lengths, FLAGS.batch)
        )
        sums = sum_metrics(step, weight_noise.mean_params(params), chosen)
        return {
            'nats_per_line': sums['nats'] / sums['sequences'],
            'nats_at_rest': sums['nats_at_rest'] / sums['sequences'],
            'sse': sums['squared'] / sums['targets'],
            'points_at_rest': sums['targets_at_rest'] / sums['targets'],
        }

    return measure


def complexity(params: Any) -> dict:
    """L_C in nats, of all the weights, where the noise is adaptive."""
    if not isinstance(params, weight_noise.Posterior):
        return {}
    return {'complexity_nats': float(jax.jit(weight_noise.complexity)(params))}


def impatient(rows: list[dict]) -> bool:
    """Whether --patience is at its end.

    The evaluation that a run ended with, before it went on, is not counted: it had no step of its own.
    """
    found = [row[VALID] for row in run_folder.measured(rows, VALID) if 'gradient' in row]
    return bool(found) and len(found) - 1 - int(np.argmin(found)) >= FLAGS.patience


def finish(task, run, data, state, seconds, measure):
    """Evaluates the best weights: results.json, learning_curve.png, and a table."""
    run_folder.wait('the training is written down')
    history, kept, measured, epoch = run_folder.history(run), None, None, steps_per_epoch(data)
    if not history or history[-1]['step'] != int(state.step) or not run_folder.measured(history[-1:], VALID):
        row = {'step': int(state.step), 'seconds': round(seconds, 2), 'epochs': round(int(state.step) / epoch, 4)}
        last = weights(state)
        found = measure(last)
        row |= {f'valid_{name}': value for name, value in found.items()}
        if run.lock is not None:  # so that a run that goes on from here knows what it has to better
            run_folder.log_and_keep(run, history, row, VALID, state, last, seconds)
        else:  # --mode=evaluate adds nothing to what was trained
            history.append(row)
        if run_folder.best_row(history, VALID) is row:
            kept, measured = last, found
    best = run_folder.best_row(history, VALID).get('step')
    if best is None:
        raise RunError(f'no weights of {run.path} give validation lines a finite likelihood; none are kept')
    if kept is None:
        kept = run_folder.load_best(run.path, jax.eval_shape(weights, state))
        measured = measure(kept)
    begun = run_folder.read_json(run.path, 'about.json').get('begun_from')
    results = {
        'experiment': task.name,
        'source': data.lines.name,
        'net': f'{FLAGS.layers}x{FLAGS.hidden}',
        'optimizer': FLAGS.optimizer,
        'noise': FLAGS.noise,
        'dropout': FLAGS.dropout,
        'distort': FLAGS.distort,
        'parameters': model.size(weight_noise.mean_params(state.params)),
        **measured,
        **complexity(kept),
        'lines': len(data.lines.valid.names),
        'steps': int(state.step),
        'best_step': best,
        'epochs': round(int(state.step) / epoch, 3),
        'seconds': round(seconds, 1),
        'points_per_second': round(int(state.step) / epoch * points_of(data) / seconds) if seconds else 0,
        **({'begun_from': begun} if begun else {}),
        **cli.here(),
    }
    if run_folder.writes():
        run_folder.write_json(run.path / 'results.json', results)
        label = 'nats per line'
        figure = plots.learning_curve({'': history}, 'epochs', 'nats_per_line', label)
        plots.save(run.path / 'learning_curve.png', figure)
    say(f'\non {len(data.lines.valid.names):,} validation lines of {data.lines.name}, weights of step {best}')
    say(f'  nats per line        {measured["nats_per_line"]:10.1f}')
    say(f'  of them at rest      {measured["nats_at_rest"]:10.1f} at {measured["points_at_rest"]:.1%} of the points')
    say(f'  squared error        {measured["sse"]:10.3f} per point')
    for name, nats in complexity(kept).items():
        say(f'  {name:20s} {nats:10.0f}')
    say(f'  ({results["epochs"]} epochs, {clock(seconds)} of training; {run.path})')
