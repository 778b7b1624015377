"""Problems with long-term dependencies: Martens & Sutskever 2011, and chapter 4 of Sutskever's thesis of 2013 (S13).

    python -m experiments.long_term --flagfile=experiments/flags/long_term.flags \\
        --task=memorisation_5 --T=50 --workdir=runs/memorisation
    python -m experiments.long_term --flagfile=experiments/flags/long_term.flags --mode=grid --workdir=runs/grid \\
        --tasks=addition,memorisation_20 --lengths=30,100 --seeds=0,1,2 --methods=hf,hf_undamped,adam

--mode=train trains one net until it solves its task, or until --steps or --minutes are spent; a task is solved when
less than 1 % of 10,000 test sequences are wrong.  --mode=grid does that for problems x lengths x seeds x methods, each
in a folder of its own below --workdir, and draws the share solved against the length; --mode=draw draws what is there.
Every mode goes on where it was stopped.
"""

import functools
import pathlib
import sys
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from absl import flags

from experiments import cli
from experiments.cli import clock, say
from hfrnn import plots
from hfrnn.errors import RunError, SettingsError
from hfrnn.nets import cells, model
from hfrnn.nets.cells import SCALE
from hfrnn.optim import hessian_free
from hfrnn.toys import tasks
from hfrnn.train import run_folder
from hfrnn.train.devices import spread
from hfrnn.train.loop import NotFinite, fit
from hfrnn.train.loss import eval_step, padded_batches, sum_metrics
from hfrnn.train.steps import HessianFreeBatches, first_order_step, hessian_free_step, init_state

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(cli)

MODE = flags.DEFINE_enum('mode', 'train', ['train', 'grid', 'draw'], 'What to do.')
WORKDIR = flags.DEFINE_string('workdir', None, "The run's folder, or the grid's.")

# These define a run: it goes on only where they are the same.
flags.DEFINE_enum('task', 'addition', list(tasks.TASKS), 'The problem.')
flags.DEFINE_integer('T', 30, "The problem's minimum lag, in time steps.", lower_bound=1)
flags.DEFINE_enum('form', 'thesis', tasks.FORMS, 'As the thesis or as the released code has it.')
flags.DEFINE_integer('hidden', 100, 'Hidden units, H.', lower_bound=1)
flags.DEFINE_float('input_scale', 1.0, 'The standard deviation of W_hx at the start.', lower_bound=0.0)
flags.DEFINE_float('bias_scale', SCALE, 'The standard deviation of the biases at the start.', lower_bound=0.0)
flags.DEFINE_integer(
    'seed',
    0,
    'Of initial weights and batches; the test sequences are always the same.',
    lower_bound=0,
    upper_bound=2**31 - 1,
)
flags.DEFINE_enum('optimizer', 'hf', ['hf', 'adam', 'sgd'], 'Hessian-Free, Adam, or gradient descent with momentum.')
flags.DEFINE_enum('preset', 'martens2010', list(hessian_free.PRESETS), 'The variant of HF.')
flags.DEFINE_integer('batch', 10_000, 'HF: sequences for a gradient.', lower_bound=1)
flags.DEFINE_integer('curvature_batch', 1_000, 'HF: sequences for the curvature; the first of --batch.', lower_bound=1)
flags.DEFINE_float('mu', 1 / 30, 'HF: the weight of structural damping; 0 for none.', lower_bound=0.0)
flags.DEFINE_float(
    'damping',
    None,
    'HF: lambda at the start; if not given, 0.1, without structural damping 0.3, for permutation 0.1 T.',
    lower_bound=1e-30,
)
flags.DEFINE_integer('cg_iterations', 300, 'HF: the most CG iterations in a step.', lower_bound=1)
flags.DEFINE_float('cg_tolerance', None, "HF: CG's tolerance; the preset's if not given.", lower_bound=0.0)
flags.DEFINE_integer('first_order_batch', 100, 'Adam, SGD: sequences for a gradient.', lower_bound=1)
flags.DEFINE_float('learning_rate', None, 'Adam, SGD; if not given, 0.001 for Adam, 0.01 for SGD.', lower_bound=0.0)
flags.DEFINE_float('momentum', 0.9, 'SGD.', lower_bound=0.0)
flags.DEFINE_float('clip', 1.0, 'Adam, SGD: the largest norm of a gradient.', lower_bound=1e-30)
flags.DEFINE_integer('test_sequences', 10_000, 'How many sequences say whether a task is solved.', lower_bound=1)
flags.DEFINE_float('solved_below', 0.01, 'It is solved when a smaller share of them is wrong.', lower_bound=0.0)
flags.DEFINE_integer('evaluate_every', 5, 'HF: look for that every so many steps.', lower_bound=1)
flags.DEFINE_integer('first_order_evaluate_every', 500, 'Adam, SGD: look for that every so many steps.', lower_bound=1)

# These do not.
FREE = (
    flags.DEFINE_integer('chunk', 1_000, 'Sequences in memory at once for a gradient, on each device.', lower_bound=1),
    flags.DEFINE_integer('steps', 500, 'HF: train for at most so many steps in all.', lower_bound=0),
    flags.DEFINE_integer(
        'first_order_steps', 50_000, 'Adam, SGD: train for at most so many steps in all.', lower_bound=0
    ),
    flags.DEFINE_float('minutes', float('inf'), 'Train a net for at most so many minutes in all.', lower_bound=0.0),
    flags.DEFINE_float('save_minutes', 5.0, 'Save a checkpoint every so many minutes.', lower_bound=0.0),
    flags.DEFINE_list('tasks', list(tasks.TASKS), 'grid: the problems.'),
    flags.DEFINE_list('lengths', ['30', '50', '100', '150', '200'], 'grid: the lags T.'),
    flags.DEFINE_list('seeds', ['0', '1', '2'], 'grid: the seeds.'),
    flags.DEFINE_list('methods', ['hf', 'hf_undamped'], 'grid: of hf, hf_undamped (--mu=0), adam and sgd.'),
)

GRID = 'long_term, a grid'  # what its results.json says that it is of
METHODS = {
    'hf': {'optimizer': 'hf'},
    'hf_undamped': {'optimizer': 'hf', 'mu': 0.0},
    'adam': {'optimizer': 'adam'},
    'sgd': {'optimizer': 'sgd'},
}


def main(argv):
    cli.main(argv, {'train': train_one, 'grid': grid, 'draw': draw}[MODE.value])


# -- what the flags mean ----------------------------------------------------------------------------------------------


def settings(**changes) -> SimpleNamespace:
    """The flags that define a run, with what depends on others of them filled in."""
    s = SimpleNamespace(**cli.defining_flags(sys.modules[__name__], (MODE, WORKDIR, *FREE)) | changes)
    if s.damping is None:
        s.damping = 0.1 * s.T if s.task == 'permutation' else 0.1 if s.mu else 0.3
    if s.learning_rate is None:
        s.learning_rate = 0.01 if s.optimizer == 'sgd' else 0.001
    return s


def method(s):
    return s.optimizer if s.optimizer != 'hf' or s.mu else 'hf_undamped'


class Parts(NamedTuple):
    """What the seeds of a task and a method share."""

    task: tasks.Task
    net: model.Model
    optimizer: Any
    step: Any  # spread over devices
    measure: Any  # params -> {'wrong': share of the test sequences, 'test_nats': per target}


def make_parts(s) -> Parts:
    task = tasks.make(s.task, s.T, s.form)
    cell = cells.rnn(task.inputs, s.hidden, input_scale=s.input_scale, bias_scale=s.bias_scale)
    net = model.sequence_model(cell, task.output, bias_scale=s.bias_scale)
    weights = model.size(jax.eval_shape(net.init, jax.random.key(0)))
    cli.check_memory(weights, cli.copies(s.optimizer, s.preset, s.cg_iterations))
    if s.optimizer == 'hf':
        given = {} if s.cg_tolerance is None else {'tolerance': s.cg_tolerance}
        optimizer = hessian_free.PRESETS[s.preset](s.damping, s.cg_iterations, **given)
        step = hessian_free_step(net, optimizer, FLAGS.chunk, s.mu)
    else:
        rule = optax.adam(s.learning_rate) if s.optimizer == 'adam' else optax.sgd(s.learning_rate, s.momentum)
        optimizer = optax.chain(optax.clip_by_global_norm(s.clip), rule)
        step = first_order_step(net, optimizer, FLAGS.chunk)

    answers = spread(eval_step(net, wrong=tasks.wrong_sequences(task.wrong)), FLAGS.devices)
    test = task.draw(np.random.default_rng((0, 0, 1)), s.test_sequences)  # a stream that no step has
    devices = cli.n_devices()
    chunk = devices * min(FLAGS.chunk, -(-s.test_sequences // devices))

    def measure(params):
        sums = sum_metrics(answers, params, padded_batches(test, chunk))
        return {'wrong': sums['wrong'] / sums['sequences'], 'test_nats': sums['nats'] / sums['targets']}

    return Parts(task, net, optimizer, spread(step, FLAGS.devices), measure)


def draw_batches(s, task, i):
    """The batches of step i: of nothing but the seed and i."""
    rng = np.random.default_rng((s.seed, i, 0))
    if s.optimizer != 'hf':
        return task.draw(rng, s.first_order_batch)
    gradient = task.draw(rng, s.batch)
    return HessianFreeBatches(gradient, jax.tree.map(lambda leaf: leaf[: s.curvature_batch], gradient))


def limit(s):
    return FLAGS.steps if s.optimizer == 'hf' else FLAGS.first_order_steps


def check(s):
    tasks.make(s.task, s.T, s.form)
    cli.check_batches(*(('batch', 'curvature_batch') if s.optimizer == 'hf' else ('first_order_batch',)))


# -- one net ----------------------------------------------------------------------------------------------------------


def train_one():
    s = settings()
    check(s)
    result = train(s, cli.workdir('where to keep the run'), make_parts(s))
    say(
        f'{"solved" if result["solved"] else "not solved"}: {result["wrong"]:.2%} of {s.test_sequences:,} test '
        f'sequences wrong after {result["steps"]} steps, {clock(result["seconds"])}'
    )


def train(s, folder, parts) -> dict:
    """Trains a net until it solves its task or its time is up; what results.json then holds."""
    run = cli.train_in(folder, vars(s), {})
    init = functools.partial(init_state, parts.net, parts.optimizer)
    shapes = jax.eval_shape(init, jax.random.key(0))
    say(f'{s.task}, T = {s.T}, seed {s.seed}: {model.size(shapes.params):,} weights by {method(s)}')
    state, elapsed = cli.restore_or_begin(run, shapes, lambda: init(jax.random.key(s.seed)))
    rows = run_folder.history(run, step=int(state.step))
    solved = bool(rows) and rows[-1]['step'] == int(state.step) and rows[-1].get('wrong', 1.0) < s.solved_below
    steps, every = limit(s), s.evaluate_every if s.optimizer == 'hf' else s.first_order_evaluate_every

    def on_step(state, metrics, seconds):
        i = int(state.step)
        measured = i % every == 0
        if s.optimizer != 'hf' and not measured:
            return False
        row = {'step': i, 'seconds': round(seconds, 2), 'nats': float(metrics['nats'])}
        line = f'step {i:4d}  {row["nats"]:8.5f} nats/target'
        if s.optimizer == 'hf':
            happened = cli.hessian_free_row(state.opt_state)
            row |= happened
            line += cli.hessian_free_line(happened)
        if measured:
            row |= parts.measure(state.params)
            line += f'  wrong {row["wrong"]:6.2%}'
        run_folder.log(run, row)
        say(f'{line}  {cli.progress(i, steps, seconds)}')
        return measured and row['wrong'] < s.solved_below

    finite = True
    if not solved:
        try:
            state, elapsed = fit(
                parts.step,
                state,
                lambda i: draw_batches(s, parts.task, i),
                steps=steps,
                seconds=FLAGS.minutes * 60,
                elapsed=elapsed,
                save=lambda state, seconds: run_folder.save(run, state, int(state.step), seconds),
                save_every=FLAGS.save_minutes * 60,
                on_step=on_step,
            )
        except NotFinite as e:  # an answer too: the task is not solved
            say(f'warning: {e}')
            state, elapsed, finite = e.state, e.seconds, False
    measured = parts.measure(state.params)
    result = {
        'experiment': 'long_term',
        **{name: getattr(s, name) for name in ('task', 'T', 'form', 'seed')},
        'method': method(s),
        'solved': measured['wrong'] < s.solved_below,
        **measured,
        'steps': int(state.step),
        'finite': finite,
        'seconds': round(elapsed, 1),
        'parameters': model.size(state.params),
        **cli.here(),
    }
    if run_folder.writes():
        run_folder.write_json(run.path / 'results.json', result)
    run_folder.close(run)
    return result


# -- the grid ---------------------------------------------------------------------------------------------------------


def numbers(name):
    try:
        found = [int(word) for word in FLAGS[name].value]
    except ValueError:
        raise SettingsError(f'--{name}={",".join(FLAGS[name].value)}: whole numbers with commas between') from None
    if not found or min(found) < 0 or max(found) >= 2**31:
        raise SettingsError(f'--{name} needs whole numbers from 0 to {2**31 - 1}')
    return found


def grid():
    """Every net of the grid that is not finished; results.json and the figure after each.

    Several of these may share a folder, each with nets of its own.
    """
    if FLAGS.processes > 1:
        raise SettingsError('a grid is of one process; start several, each with --tasks of its own, in one --workdir')
    lengths, seeds = numbers('lengths'), numbers('seeds')
    for name, there in (('tasks', tasks.TASKS), ('methods', METHODS)):
        if not FLAGS[name].value:
            raise SettingsError(f'--{name} names none of {", ".join(there)}')
        for word in FLAGS[name].value:
            if word not in there:
                raise SettingsError(f'--{name}: {word!r} is none of {", ".join(there)}')
    places = [
        settings(task=task, T=T, **METHODS[name])
        for T in lengths  # the short ones first: they are solved soonest
        for task in FLAGS.tasks
        for name in FLAGS.methods
    ]
    for s in places:
        check(s)
    folder = cli.workdir('where to keep the grid')
    cli.results_so_far(folder, GRID)  # now, and not after the first net
    left = []
    for s in places:
        seeded = ((SimpleNamespace(**vars(s) | {'seed': seed}), f'{s.task}-{s.T}-{method(s)}-{seed}') for seed in seeds)
        left.append([(mine, name) for mine, name in seeded if not finished(mine, f'{folder}/{name}')])
    for s, nets in zip(places, left, strict=True):
        parts = make_parts(s) if nets else None
        for mine, name in nets:
            train(mine, f'{folder}/{name}', parts)
            collect()
        jax.clear_caches()
    draw()


def finished(s, folder):
    """Whether this net has solved its task, or has spent all that it may."""
    try:
        result = run_folder.read_json(folder, 'results.json')
    except RunError:
        return False
    if result.get('experiment') != 'long_term':
        raise RunError(f'{folder} holds the results of something else')
    cli.check_flags(folder, vars(s))
    return (
        result['solved']
        or not result['finite']
        or result['steps'] >= limit(s)
        or result['seconds'] >= FLAGS.minutes * 60
    )


def collect():
    """results.json and solved.png, of all nets below --workdir that have a result; returns the shares solved.

    Nets of one task, method and T count together, whatever their other flags.
    """
    folder = pathlib.Path(cli.workdir('which grid'))
    found = [run_folder.read_json(path.parent, path.name) for path in sorted(folder.glob('*/results.json'))]
    rows = [row for row in found if row.get('experiment') == 'long_term']
    if not rows:
        raise RunError(f'{folder} holds no results yet')
    cli.results_so_far(folder, GRID)
    shares = [
        {'task': task, 'method': name, 'T': T, 'nets': len(group), 'solved': sum(row['solved'] for row in group)}
        for task in tasks.TASKS
        for name in METHODS
        for T in sorted({row['T'] for row in rows})
        if (group := [row for row in rows if (row['task'], row['method'], row['T']) == (task, name, T)])
    ]
    run_folder.write_json(folder / 'results.json', {'experiment': GRID, 'shares': shares, 'runs': rows})
    plots.save(folder / 'solved.png', plots.solved(shares))
    return shares


def draw():
    """What ``collect`` does, and the shares as a table."""
    shares = collect()
    lengths = sorted({row['T'] for row in shares})
    table = {}
    for row in shares:
        table.setdefault((row['task'], row['method']), {})[row['T']] = f'{row["solved"]}/{row["nets"]}'
    say(f'\n{"solved":17s} {"by":12s}' + ''.join(f' {f"T={T}":>6s}' for T in lengths))
    for (task, name), row in table.items():
        say(f'{task:17s} {name:12s}' + ''.join(f' {row.get(T, ""):>6s}' for T in lengths))


if __name__ == '__main__':
    cli.run(main)
