"""Bouncing balls, an RNN by Hessian-Free against an LSTM by gradient descent: Martens & Sutskever 2011, natural data.

    python -m experiments.bouncing_balls --flagfile=experiments/flags/balls_rnn_hf.flags --workdir=runs/balls/rnn_hf
    python -m experiments.bouncing_balls --flagfile=experiments/flags/balls_lstm_adam.flags --workdir=runs/balls/lstm
    python -m experiments.bouncing_balls --mode=compare --runs=runs/balls/rnn_hf,runs/balls/lstm --workdir=runs/balls

--mode=train trains a net to predict the next frame of videos that are made as it goes, goes on if --workdir holds the
same run, and ends by measuring it on videos it has not seen, beside predictors that learn nothing, and by drawing what
it predicts and what it dreams: frames.png.  --mode=compare puts finished runs side by side.
"""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

from experiments import cli
from experiments.cli import clock, say
from hfrnn import plots
from hfrnn.errors import RunError, SettingsError
from hfrnn.nets import cells, model, outputs
from hfrnn.optim import hessian_free
from hfrnn.toys import balls
from hfrnn.train import run_folder
from hfrnn.train.devices import spread
from hfrnn.train.loop import fit
from hfrnn.train.loss import eval_step, padded_batches, sum_metrics
from hfrnn.train.steps import HessianFreeBatches, first_order_step, hessian_free_step, init_state

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(cli)

COMPARED = 'bouncing_balls, compared'  # what the results.json of --mode=compare says that it is of

MODE = flags.DEFINE_enum('mode', 'train', ['train', 'compare'], 'What to do.')
WORKDIR = flags.DEFINE_string('workdir', None, "The run's folder, or where to keep a comparison.")

# These define a run: it goes on only where they are the same.
flags.DEFINE_integer('size', 15, 'Pixels of a side of a frame.', lower_bound=2, upper_bound=200)
flags.DEFINE_integer('balls', 3, 'Balls in the box.', lower_bound=1, upper_bound=20)
flags.DEFINE_float('radius', 0.12, 'Of a ball, in sides of the box.')
flags.DEFINE_float('speed', 0.05, 'Root mean square, in sides of the box a frame.')
flags.DEFINE_integer('length', 50, 'Frames that a training video predicts, T.', lower_bound=1)
flags.DEFINE_enum('cell', 'rnn', ['rnn', 'lstm'], 'The recurrent layer.')
flags.DEFINE_integer('hidden', 300, 'Hidden units, or cells, H.', lower_bound=1)
flags.DEFINE_integer(
    'seed',
    0,
    'Of initial weights and videos; those of the test are always the same.',
    lower_bound=0,
    upper_bound=2**31 - 1,
)
flags.DEFINE_enum('optimizer', 'hf', ['hf', 'adam', 'sgd'], 'Hessian-Free, Adam, or gradient descent with momentum.')
flags.DEFINE_enum('preset', 'martens2010', list(hessian_free.PRESETS), 'The variant of HF.')
flags.DEFINE_integer('batch', 500, 'Videos for a gradient, of all devices.', lower_bound=1)
flags.DEFINE_integer('curvature_batch', 100, 'HF: videos for the curvature; the first of --batch.', lower_bound=1)
flags.DEFINE_float('mu', 0.03, 'HF: the weight of structural damping; 0 for none.', lower_bound=0.0)
flags.DEFINE_float('damping', 10.0, 'HF: lambda at the start.', lower_bound=1e-30)
flags.DEFINE_integer('cg_iterations', 80, 'HF: the most CG iterations in a step.', lower_bound=1)
flags.DEFINE_float('cg_tolerance', None, "HF: CG's tolerance; the preset's if not given.", lower_bound=0.0)
flags.DEFINE_float('learning_rate', 1e-3, 'Adam, SGD.', lower_bound=0.0)
flags.DEFINE_float('momentum', 0.9, 'SGD.', lower_bound=0.0)
flags.DEFINE_float('clip', 1.0, 'Adam, SGD: the largest norm of a gradient.', lower_bound=1e-30)
flags.DEFINE_integer('test_videos', 200, 'Videos that measure a net.', lower_bound=1)

# These do not.
FREE = (
    flags.DEFINE_integer('steps', 200, 'Train for so many steps in all.', lower_bound=0),
    flags.DEFINE_float('minutes', float('inf'), 'Train for so many minutes in all.', lower_bound=0.0),
    flags.DEFINE_float('save_minutes', 5.0, 'Save a checkpoint every so many minutes.', lower_bound=0.0),
    flags.DEFINE_integer('evaluate_every', 5, 'Measure the net every so many steps.', lower_bound=1),
    flags.DEFINE_integer('chunk', 100, 'Videos in memory at once for a gradient, on each device.', lower_bound=1),
    flags.DEFINE_integer('shown', 20, 'How many frames to draw of a prediction and of a dream.', lower_bound=1),
    flags.DEFINE_list('runs', [], 'compare: the folders of the runs.'),
)


def main(argv):
    cli.main(argv, {'train': train, 'compare': compare}[MODE.value])


def draw(stream, n, T=None):
    """n videos; those of one stream, a tuple of numbers, are the same in every run with the same box."""
    box = {'balls': FLAGS.balls, 'radius': FLAGS.radius, 'speed': FLAGS.speed}
    return balls.draw(np.random.default_rng(stream), n, T or FLAGS.length, FLAGS.size, **box)


def draw_batches(i):
    """The batches of step i: of nothing but the seed and i."""
    gradient = draw((FLAGS.seed, i, 0), FLAGS.batch)
    if FLAGS.optimizer != 'hf':
        return gradient
    return HessianFreeBatches(gradient, jax.tree.map(lambda leaf: leaf[: FLAGS.curvature_batch], gradient))


def make_net():
    D, H = FLAGS.size**2, FLAGS.hidden
    cell = cells.rnn(D, H) if FLAGS.cell == 'rnn' else cells.lstm(D, H, reverse=FLAGS.optimizer != 'hf')
    return model.sequence_model(cell, outputs.bernoulli(D))


def make_step(net):
    if FLAGS.optimizer == 'hf':
        if FLAGS.cell == 'lstm' and FLAGS.mu:
            raise SettingsError(f'--mu={FLAGS.mu}: structural damping is of tanh units; take --mu=0 with --cell=lstm')
        given = {} if FLAGS.cg_tolerance is None else {'tolerance': FLAGS.cg_tolerance}
        optimizer = hessian_free.PRESETS[FLAGS.preset](FLAGS.damping, FLAGS.cg_iterations, **given)
        return optimizer, hessian_free_step(net, optimizer, FLAGS.chunk, FLAGS.mu)
    adam = FLAGS.optimizer == 'adam'
    rule = optax.adam(FLAGS.learning_rate) if adam else optax.sgd(FLAGS.learning_rate, FLAGS.momentum)
    optimizer = optax.chain(optax.clip_by_global_norm(FLAGS.clip), rule)
    return optimizer, first_order_step(net, optimizer, FLAGS.chunk)


def squared_errors(z, batch):
    """The sum over pixels of (P(1) - target)^2."""
    return jnp.sum(jnp.sum((jax.nn.sigmoid(z) - batch.targets) ** 2, -1) * batch.weights)


def without_learning(test, train):
    """Squared errors a frame of predictors that learn nothing: the last frame again, its motion again, the mean."""
    xs, targets = test.xs, test.targets
    again = xs + np.diff(xs, axis=1, prepend=xs[:, :1])
    guesses = {'the last frame': xs, 'the last change': np.clip(again, 0, 1), 'the mean frame': train.xs.mean((0, 1))}
    return {name: float(np.mean(np.sum((guess - targets) ** 2, -1))) for name, guess in guesses.items()}


def train():
    cli.check_batches(*(('batch', 'curvature_batch') if FLAGS.optimizer == 'hf' else ('batch',)))
    folder, net = cli.workdir('where to keep the run'), make_net()
    optimizer, step = make_step(net)
    test = draw((0, 0, 1), FLAGS.test_videos)  # a stream that no step has
    init = functools.partial(init_state, net, optimizer)
    shapes = jax.eval_shape(init, jax.random.key(0))
    cli.check_memory(model.size(shapes.params), cli.copies(FLAGS.optimizer, FLAGS.preset, FLAGS.cg_iterations))

    run = cli.train_in(folder, cli.defining_flags(sys.modules[__name__], (MODE, WORKDIR, *FREE)), {})
    say(f'{FLAGS.cell} of {model.size(shapes.params):,} weights by {FLAGS.optimizer}')
    state, elapsed = cli.restore_or_begin(run, shapes, lambda: init(jax.random.key(FLAGS.seed)))
    run_folder.history(run, step=int(state.step))

    errors = spread(eval_step(net, squared=squared_errors), FLAGS.devices)
    devices = cli.n_devices()
    rows_at_once = devices * min(FLAGS.chunk, -(-FLAGS.test_videos // devices))

    def measure(params):
        sums = sum_metrics(errors, params, padded_batches(test, rows_at_once))
        return {'test_nats': sums['nats'] / sums['targets'], 'test_error': sums['squared'] / sums['targets']}

    def on_step(state, metrics, seconds):
        i = int(state.step)
        measured = i % FLAGS.evaluate_every == 0
        if FLAGS.optimizer != 'hf' and not measured:
            return
        row = {'step': i, 'seconds': round(seconds, 2), 'nats': float(metrics['nats'])}
        line = f'step {i:4d}  {row["nats"]:8.3f} nats/frame'
        if FLAGS.optimizer == 'hf':
            happened = cli.hessian_free_row(state.opt_state)
            row |= happened
            line += cli.hessian_free_line(happened)
        if measured:
            row |= measure(state.params)
            line += f'  error {row["test_error"]:.3f}'
        run_folder.log(run, row)
        say(f'{line}  {cli.progress(i, FLAGS.steps, seconds)}')

    state, elapsed = fit(
        spread(step, FLAGS.devices),
        state,
        draw_batches,
        steps=FLAGS.steps,
        seconds=FLAGS.minutes * 60,
        elapsed=elapsed,
        save=lambda state, seconds: run_folder.save(run, state, int(state.step), seconds),
        save_every=FLAGS.save_minutes * 60,
        on_step=on_step,
    )
    result = {
        'experiment': 'bouncing_balls',
        'cell': FLAGS.cell,
        'optimizer': FLAGS.optimizer,
        **measure(state.params),
        'without_learning': without_learning(test, draw((0, 0, 2), FLAGS.test_videos)),
        'steps': int(state.step),
        'seconds': round(elapsed, 1),
        'parameters': model.size(state.params),
        **cli.here(),
    }
    if run_folder.writes():
        run_folder.write_json(run.path / 'results.json', result)
        show(run.path / 'frames.png', net, state.params)
    table([result])


def show(path, net, params):
    """Draws one video that no net has seen, its prediction, and how the net goes on without it."""
    n = FLAGS.shown
    video = draw((0, 0, 3), 1, 2 * n)
    frames, size = np.concatenate([video.xs[0], video.targets[0, -1:]]), FLAGS.size
    predicted = jax.nn.sigmoid(net.predict(params, video.xs[0]).z)
    rows = {'video': frames[1 : n + 1], 'predicted': predicted[:n], 'goes on': frames[n : 2 * n]}
    for name, draw_next in (
        ('alone, by P', lambda key, z: jax.nn.sigmoid(z)),
        ('alone, by samples', net.output.sample),
    ):
        go_on = jax.jit(functools.partial(model.continue_sequence, net, length=n, draw=draw_next))
        rows[name] = go_on(params, jax.random.key(0), frames[:n])
    plots.save(path, plots.frames(rows, size))


# -- several runs -----------------------------------------------------------------------------------------------------


def compare():
    """results.json, error.png and a table, of finished runs."""
    if not FLAGS.runs:
        raise SettingsError('say which runs: --runs=FOLDER,FOLDER')
    folder = cli.workdir('where to keep the comparison')
    results, boxes = [], []
    for name in FLAGS.runs:
        results.append(run_folder.read_json(name, 'results.json'))
        there = run_folder.read_json(name, 'flags.json')
        if results[-1].get('experiment') != 'bouncing_balls':
            raise RunError(f'{name} holds no run of bouncing balls')
        boxes.append({k: there[k] for k in ('size', 'balls', 'radius', 'speed', 'length', 'test_videos')})
        if boxes[-1] != boxes[0]:
            raise RunError(f'{FLAGS.runs[0]} and {name} have other videos: {boxes[0]}, {boxes[-1]}')
    path, _ = cli.results_so_far(folder, COMPARED)
    run_folder.write_json(path, {'experiment': COMPARED, 'runs': results})
    curves = {
        f'{result["cell"]} by {result["optimizer"]}, {name}': [
            (row['seconds'] / 60, row['test_error'])
            for row in run_folder.history(run_folder.open_run(name))
            if 'test_error' in row
        ]
        for name, result in zip(FLAGS.runs, results, strict=True)
    }
    figure = plots.curves(curves, 'minutes of training', 'squared error a frame')
    plots.save(path.with_name('error.png'), figure)
    table(results)


def table(results):
    say(f'\n{"on videos not seen":28s} {"error":>8s} {"nats":>8s}   a frame of the next one')
    for r in results:
        how = f'{r["parameters"]:,} weights, {r["steps"]} steps, {clock(r["seconds"])}'
        error, nats = ('-' if r[name] is None else f'{r[name]:.3f}' for name in ('test_error', 'test_nats'))
        say(f'{r["cell"] + " by " + r["optimizer"]:28s} {error:>8s} {nats:>8s}   {how}')
    for name, error in results[0]['without_learning'].items():
        say(f'{name:28s} {error:8.3f}')


if __name__ == '__main__':
    cli.run(main)
