"""Generating text with recurrent nets: Sutskever, Martens & Hinton 2011 (SMH11).

    python -m experiments.text_mrnn --flagfile=experiments/flags/quickstart.flags
    python -m experiments.text_mrnn --workdir=runs/quickstart --mode=sample --prompt="The " --sample_length=500

--mode=train trains, goes on if --workdir holds the same run, and ends by evaluating and sampling; evaluate, sample,
score and analyse read a finished or unfinished run, and take from it the flags that define it.
"""

import functools
import os
import sys
import time

import jax
import numpy as np
import optax
from absl import flags

from experiments import asking, cli, knowledge
from experiments.cli import clock, say
from hfrnn import plots
from hfrnn.errors import RunError, SettingsError
from hfrnn.nets import model
from hfrnn.optim import hessian_free
from hfrnn.rivals import compressors
from hfrnn.text import corpora, models, scoring
from hfrnn.text.alphabet import UNKNOWN, as_bytes, unit_of
from hfrnn.text.batches import random_substrings
from hfrnn.text.metrics import BITS
from hfrnn.train import run_folder
from hfrnn.train.devices import spread
from hfrnn.train.loop import fit
from hfrnn.train.steps import HessianFreeBatches, first_order_step, hessian_free_step, init_state

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(cli)
flags.adopt_module_key_flags(asking)

CLOCKS = {'wall': time.monotonic, 'processor': time.process_time}  # the second is the fair one on a busy machine

MODE = flags.DEFINE_enum('mode', 'train', ['train', 'evaluate', 'sample', 'score', 'analyse'], 'What to do.')
WORKDIR = flags.DEFINE_string('workdir', None, "The run's folder.")

# These define a run: it goes on only where they are the same.
flags.DEFINE_string('corpus', 'pydoc', f'One of {", ".join(corpora.NAMES)}, or the path of a text file.')
flags.DEFINE_enum('unit', 'characters', ['characters', 'bytes'], 'What a symbol of a text file is.')
flags.DEFINE_enum('cell', 'mrnn', ['rnn', 'tensor_rnn', 'mrnn'], 'The recurrent layer.')
flags.DEFINE_enum('gain', 'linear', ['linear', 'tanh'], "The MRNN's gain: the paper's, or that of its author's code.")
flags.DEFINE_integer('hidden', 350, 'Hidden units, H.', lower_bound=1)
flags.DEFINE_integer('factors', 350, 'Factors of the MRNN, F.', lower_bound=1)
flags.DEFINE_integer('seed', 0, 'Of everything random: initial weights, batches.', lower_bound=0, upper_bound=2**31 - 1)
flags.DEFINE_integer('length', 250, 'Symbols that a training sequence predicts, T.', lower_bound=1)
flags.DEFINE_integer('unscored', 50, 'How many of them are not scored, at its beginning.', lower_bound=0)
flags.DEFINE_integer('batch', 48_000, 'Sequences for a gradient, of all devices.', lower_bound=1)
flags.DEFINE_enum('optimizer', 'hf', ['hf', 'adam', 'rmsprop'], 'Hessian-Free, or a first-order method.')
flags.DEFINE_enum(
    'preset',
    'martens2010',
    list(hessian_free.PRESETS),
    "The variant of HF: its CG, rho, backtracking, line search. Batches, mu and preconditioner are the flags' below.",
)
flags.DEFINE_integer('curvature_batch', 2_400, 'HF: sequences for the curvature; the first of --batch.', lower_bound=1)
flags.DEFINE_bool('own_batches', False, 'HF: backtrack and search on batches of their own, of --curvature_batch.')
flags.DEFINE_float('damping', None, "HF: lambda at the start; the preset's if not given.", lower_bound=1e-30)
flags.DEFINE_float('mu', 0.1, 'HF: the weight of structural damping.', lower_bound=0.0)
flags.DEFINE_integer(
    'cg_iterations', None, "HF: the most CG iterations in a step; the preset's if not given.", lower_bound=1
)
flags.DEFINE_float('cg_tolerance', None, "HF: CG's tolerance; the preset's if not given.", lower_bound=0.0)
flags.DEFINE_bool('preconditioned', False, 'HF: precondition CG by squared gradients.')
flags.DEFINE_float('learning_rate', 1e-3, 'Adam, RMSProp: at the start.', lower_bound=0.0)
flags.DEFINE_integer('decay_steps', 0, 'Adam, RMSProp: cosine decay to 0 at this step; 0 for none.', lower_bound=0)
flags.DEFINE_float('clip', 1.0, 'Adam, RMSProp: the largest norm of a gradient.', lower_bound=1e-30)
flags.DEFINE_enum(
    'clock',
    'wall',
    list(CLOCKS),
    "What minutes and seconds are of: 'processor' is this process's own time, of all cores.",
)

# These do not.
FREE = (
    flags.DEFINE_integer('chunk', 300, 'Sequences in memory at once for a gradient, on each device.', lower_bound=1),
    flags.DEFINE_integer('steps', 160, 'Train for so many steps in all.', lower_bound=0),
    flags.DEFINE_float('minutes', float('inf'), 'Train for so many minutes in all.', lower_bound=0.0),
    flags.DEFINE_float('save_minutes', 5.0, 'Save a checkpoint every so many minutes.', lower_bound=0.0),
    flags.DEFINE_integer('evaluate_every', 10, 'Evaluate on validation text every so many steps.', lower_bound=1),
    flags.DEFINE_integer(
        'evaluate_symbols', 100_000, 'How much validation text to evaluate on while it trains.', lower_bound=1
    ),
    flags.DEFINE_integer(
        'context', 50, 'Symbols that a test window reads before the first it scores.', lower_bound=1, upper_bound=10**6
    ),
    flags.DEFINE_integer('stride', 200, 'Symbols that a test window scores.', lower_bound=1, upper_bound=10**6),
    flags.DEFINE_bool('compressors', True, 'Measure gzip, bzip2 and xz on the same text.'),
    flags.DEFINE_integer('bags', 500, 'analyse: bags of words to put in order.', lower_bound=1),
    flags.DEFINE_integer('passages', 200, 'analyse: passages for each pair of brackets or quotes.', lower_bound=1),
    flags.DEFINE_integer('sampled', 50_000, 'analyse: symbols to sample, to count new words in.', lower_bound=1),
    flags.DEFINE_integer(
        'rival_symbols', 10_000_000, 'analyse: training symbols for the rivals, the last ones.', lower_bound=1000
    ),
    *asking.FREE,
    flags.DEFINE_string('data', os.environ.get('HFRNN_DATA'), 'The folder of ptb and enwik8 (or $HFRNN_DATA).'),
)


def main(argv):
    cli.main(
        argv, {'train': train, 'evaluate': evaluate, 'sample': sample, 'score': score, 'analyse': analyse}[MODE.value]
    )


# -- what the flags mean ----------------------------------------------------------------------------------------------


def defining_flags():
    return cli.defining_flags(sys.modules[__name__], (MODE, WORKDIR, *FREE))


def check_sizes():
    if FLAGS.unscored >= FLAGS.length:
        raise SettingsError(f'--unscored={FLAGS.unscored} leaves nothing to score of --length={FLAGS.length}')
    cli.check_batches('batch', *(['curvature_batch'] if FLAGS.optimizer == 'hf' else []))


def numbers_at_once(n_symbols):
    """What a device holds for the symbols of a part of a batch: a little less than experiments.benchmark measures."""
    devices = cli.n_devices()
    H, F, V = FLAGS.hidden, FLAGS.factors if FLAGS.cell == 'mrnn' else 0, n_symbols
    gradient = min(FLAGS.chunk, FLAGS.batch // devices) * (4 * H + 3 * F + 3 * V)
    curvature = FLAGS.curvature_batch // devices * (6 * H + 4 * F + 3 * V) if FLAGS.optimizer == 'hf' else 0
    return FLAGS.length * max(gradient, curvature)


def make_model(n_symbols):
    return models.recurrent(n_symbols, **{name: FLAGS[name].value for name in models.RECURRENT})


def make_optimizer():
    if FLAGS.optimizer == 'hf':
        given = {'damping': FLAGS.damping, 'cg_iterations': FLAGS.cg_iterations, 'tolerance': FLAGS.cg_tolerance}
        return hessian_free.PRESETS[FLAGS.preset](**{name: value for name, value in given.items() if value is not None})
    rate = FLAGS.learning_rate
    if FLAGS.decay_steps:
        rate = optax.cosine_decay_schedule(rate, FLAGS.decay_steps)
    rule = {'adam': optax.adam, 'rmsprop': optax.rmsprop}[FLAGS.optimizer](rate)
    return optax.chain(optax.clip_by_global_norm(FLAGS.clip), rule)


def make_step(net, optimizer):
    if FLAGS.optimizer == 'hf':
        step = hessian_free_step(net, optimizer, FLAGS.chunk, FLAGS.mu, FLAGS.preconditioned)
    else:
        step = first_order_step(net, optimizer, FLAGS.chunk)
    return spread(step, FLAGS.devices)


def draw_batches(symbols, i):
    """The batches of step i: of nothing but the seed and i."""

    def draw(stream, sequences):
        rng = np.random.default_rng((FLAGS.seed, i, stream))
        return random_substrings(symbols, rng, sequences, FLAGS.length, FLAGS.unscored)

    gradient = draw(0, FLAGS.batch)
    if FLAGS.optimizer != 'hf':
        return gradient
    n = FLAGS.curvature_batch
    own = (draw(1, n), draw(2, n)) if FLAGS.own_batches else (None, None)
    return HessianFreeBatches(gradient, jax.tree.map(lambda leaf: leaf[:n], gradient), *own)


# -- modes ------------------------------------------------------------------------------------------------------------


def train():
    folder = cli.workdir('where to keep the run')
    check_sizes()
    corpus = corpora.load(FLAGS.corpus, FLAGS.data, FLAGS.unit)
    random_substrings(corpus.train, np.random.default_rng(0), 1, FLAGS.length, FLAGS.unscored)  # long enough?
    asking.check()
    asking.prompt(corpus.alphabet)  # now, and not after the training
    net, optimizer = make_model(len(corpus.alphabet)), make_optimizer()
    init = functools.partial(init_state, net, optimizer)
    shapes = jax.eval_shape(init, jax.random.key(0))
    copies = cli.copies(FLAGS.optimizer, FLAGS.preset, FLAGS.cg_iterations)
    cli.check_memory(model.size(shapes.params), copies, numbers_at_once(len(corpus.alphabet)))

    run = cli.train_in(folder, defining_flags(), corpora.fingerprint(corpus))
    say(
        f'{FLAGS.cell} of {model.size(shapes.params):,} weights by {FLAGS.optimizer} on {corpus.name}: '
        f'{len(corpus.train):,} / {len(corpus.valid):,} / {len(corpus.test):,} symbols of {len(corpus.alphabet)}'
    )
    state, elapsed = cli.restore_or_begin(run, shapes, lambda: init(jax.random.key(FLAGS.seed)))
    run_folder.history(run, step=int(state.step))

    valid = corpus.valid[: FLAGS.evaluate_symbols]
    measure, unit = evaluator(net), unit_of(corpus.alphabet)[:-1]

    def on_step(state, metrics, seconds):
        i = int(state.step)
        row = {'step': i, 'seconds': round(seconds, 2), 'characters': i * FLAGS.batch * FLAGS.length}
        row['bits_per_char'] = float(metrics['nats']) * BITS
        line = f'step {i:4d}  {row["bits_per_char"]:6.3f} bits/{unit}'
        if FLAGS.optimizer == 'hf':
            happened = cli.hessian_free_row(state.opt_state)
            row |= happened
            line += cli.hessian_free_line(happened)
        if i % FLAGS.evaluate_every == 0:
            row['valid_bits_per_char'] = measure(state.params, valid, corpus.train)
            row['valid_symbols'] = len(valid)
            line += f'  valid {row["valid_bits_per_char"]:.3f}'
        run_folder.log(run, row)
        if FLAGS.optimizer == 'hf' or i % FLAGS.evaluate_every == 0:
            say(f'{line}  {cli.progress(i, FLAGS.steps, seconds)}')

    state, elapsed = fit(
        make_step(net, optimizer),
        state,
        lambda i: draw_batches(corpus.train, i),
        steps=FLAGS.steps,
        seconds=FLAGS.minutes * 60,
        elapsed=elapsed,
        save=lambda state, seconds: run_folder.save(run, state, int(state.step), seconds),
        save_every=FLAGS.save_minutes * 60,
        on_step=on_step,
        clock=CLOCKS[FLAGS.clock],
    )
    finish(run, corpus, net, state, elapsed, measure)


def evaluate():
    asking.check()
    run, net, state, elapsed = reopen()
    corpus = corpora.load(FLAGS.corpus, FLAGS.data, FLAGS.unit)
    run_folder.check(WORKDIR.value, 'about.json', corpora.fingerprint(corpus))
    asking.prompt(corpus.alphabet)
    finish(run, corpus, net, state, elapsed, evaluator(net))


def sample():
    asking.check()
    say(asking.sample(*reopened_net()))


def score():
    asking.check()
    asking.score(*reopened_net())


def analyse():
    """Of any net of text: also of an LSTM's run, of penn_treebank or wikipedia."""
    folder = cli.workdir()
    net = models.open_net(folder)
    path = run_folder.open_run(folder).path
    cli.check_flags(folder, {name: value for name, value in defining_flags().items() if FLAGS[name].present})
    corpus = corpora.with_held_out(
        corpora.load(net.flags['corpus'], FLAGS.data, net.flags['unit']), net.flags.get('held_out', 0)
    )
    run_folder.check(folder, 'about.json', corpora.fingerprint(corpus))
    knowers = {net.flags.get('cell', 'lstm'): knowledge.net(net.model, net.params)}
    knowers |= knowledge.rivals(corpus.train[-FLAGS.rival_symbols :], len(corpus.alphabet))
    sizes = FLAGS.bags, FLAGS.passages, FLAGS.sampled
    knowledge.analyse(path, knowers, corpus, asking.prompt(corpus.alphabet), *sizes, FLAGS.sample_seed)


def reopen():
    """(run, model, state, seconds) of --workdir, whose flags hold wherever the command line says nothing else."""
    folder = cli.workdir()
    told, about = (run_folder.read_json(folder, name) for name in ('flags.json', 'about.json'))
    if not (told.keys() >= set(models.RECURRENT) - {'gain'} and 'alphabet' in about):  # the first runs tell no gain
        raise RunError(f'{folder} holds a run of another experiment')
    cli.take_flags(told)
    run = run_folder.open_run(folder)
    cli.check_flags(folder, defining_flags())
    alphabet = about['alphabet']
    net, optimizer = make_model(len(alphabet)), make_optimizer()
    shapes = jax.eval_shape(functools.partial(init_state, net, optimizer), jax.random.key(0))
    return run, net, *run_folder.restore(run, shapes)


def reopened_net():
    """(model, params, alphabet) of --workdir."""
    run, net, state, _ = reopen()
    return net, state.params, run_folder.read_json(run.path, 'about.json')['alphabet']


# -- what modes share -------------------------------------------------------------------------------------------------


def evaluator(net):
    read = scoring.static_reader(net)

    def measure(params, symbols, before):
        reading = read(jax.device_get(params), symbols, before, stride=FLAGS.stride, context=FLAGS.context)
        return float(reading.nll.mean()) * BITS

    return measure


def finish(run, corpus, net, state, seconds, measure):
    """Evaluates and samples: results.json, sample.txt, learning_curve.png, and a table."""
    unit = unit_of(corpus.alphabet)
    before_test = np.concatenate([corpus.train[-FLAGS.context :], corpus.valid])
    test = measure(state.params, corpus.test, before_test)
    valid = measure(state.params, corpus.valid, corpus.train)
    end = min(len(corpus.test), len(corpus.train) - 1)
    train = measure(state.params, corpus.train[-end:], corpus.train[:-end])
    results = {
        'experiment': 'text_mrnn',
        'corpus': corpus.name,
        'unit': unit,  # of which the figures below are, too
        'cell': FLAGS.cell,
        'optimizer': FLAGS.optimizer,
        'parameters': model.size(state.params),
        'steps': int(state.step),
        'seconds': round(seconds, 1),
        'clock': FLAGS.clock,
        'train_bits_per_char': train,
        'valid_bits_per_char': valid,
        'test_bits_per_char': test,
        'test_symbols': len(corpus.test),
        'context': FLAGS.context,
        'stride': FLAGS.stride,
        **cli.here(),
    }
    if UNKNOWN in corpus.alphabet:
        results['test_unknown_symbols'] = int(np.sum(corpus.test == corpus.alphabet.index(UNKNOWN)))
    rows = [(f'{FLAGS.cell} by {FLAGS.optimizer}', test)]
    if FLAGS.compressors:
        known, unseen = (as_bytes(part, corpus.alphabet) for part in (corpus.train, corpus.test))
        results['compressors'] = {
            name: compressors.conditional_bits(compress, known, unseen) / len(corpus.test)
            for name, compress in compressors.COMPRESSORS.items()
        }
    elif (run.path / 'results.json').exists():
        before = run_folder.read_json(run.path, 'results.json')
        if 'compressors' in before and before.get('test_symbols') == len(corpus.test):
            results['compressors'] = before['compressors']
    rows += results.get('compressors', {}).items()
    sampled = asking.sample(net, state.params, corpus.alphabet)
    if run_folder.writes():
        run_folder.write_json(run.path / 'results.json', results)
        (run.path / 'sample.txt').write_text(sampled, 'utf-8')
        history = run_folder.history(run)
        if history:
            figure = plots.learning_curve({FLAGS.cell: history}, label=f'bits per {unit[:-1]}')
            plots.save(run.path / 'learning_curve.png', figure)
    say(f'\nA sample:\n\n{sampled}\n')
    what = f'bits per {unit[:-1]} on the test text'
    say(f'{what:40s} {len(corpus.test):,} symbols')
    for name, bits in rows:
        say(f'  {name:38s} {bits:.3f}')
    say(f'  (on as much training text: {train:.3f}; {clock(seconds)} of training; {run.path})')


if __name__ == '__main__':
    cli.run(main)
