"""How well and how fast a synthesis net writes, and how fast one learns: stop rule, words that can be read, time.

    python -m experiments.handwriting_sampling --weights=iamondb --workdir=runs/sampling
    python -m experiments.handwriting_sampling --mode=speed
    python -m experiments.handwriting_sampling --mode=pages --weights=iamondb --bias=1 --workdir=runs/pages
    python -m experiments.handwriting_sampling --mode=legible --read=READ.txt --workdir=runs/pages

The rule is that of Graves 2013 (G13), sec. 5.3; a line that comes to the cap instead has lost its place in the text.
The sentences are those of sentences.txt.  With no weights named, --mode=speed is of the paper's net, 3 x 400 (or
--layers, --hidden, --mixtures), as it begins, and also tells how fast that learns.  --mode=pages writes the sentences
as pictures, for someone to read who has not seen them; what he reads, a line for each, is READ.txt, and --mode=legible
counts its words.
"""

import functools
import pathlib
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

from experiments import cli, handwriting, handwriting_writing
from experiments.cli import say
from hfrnn.errors import SettingsError
from hfrnn.handwriting import figures, generate, sampling, synthetic
from hfrnn.handwriting.metrics import word_recall
from hfrnn.handwriting.models import synthesis_net
from hfrnn.nets import model
from hfrnn.train import run_folder
from hfrnn.train.devices import spread
from hfrnn.train.loss import Batch
from hfrnn.train.steps import first_order_step, state_of

FLAGS = flags.FLAGS
for name in ('workdir', 'weights', 'seed', 'points', 'bias', 'bias_after', 'finish'):
    flags.declare_key_flag(name)
for name in ('layers', 'hidden', 'mixtures', 'batch', 'chunk_points', 'cpu_devices'):  # of speed
    flags.declare_key_flag(name)

MODE = flags.DEFINE_enum(
    'mode', 'both', ['stops', 'speed', 'both', 'pages', 'legible'], 'What to do; both: stops and speed.'
)
BIASES = flags.DEFINE_list('biases', ['0', '0.5', '1'], 'stops: the biases, with commas between.')
SENTENCES = flags.DEFINE_integer('sentences', 100, 'How many sentences.', lower_bound=1, upper_bound=100)
BATCHES = flags.DEFINE_list('batches', ['1', '8'], 'speed: of how many lines each, with commas between.')
SPEED_POINTS = flags.DEFINE_integer('speed_points', 1000, 'speed: points of each line.', lower_bound=1)
LEARN_POINTS = flags.DEFINE_integer(
    'learn_points', 200, 'speed: points of each of --batch lines to learn.', lower_bound=1
)
REPEATS = flags.DEFINE_integer('repeats', 5, 'speed: the best of so many.', lower_bound=1)
READ = flags.DEFINE_string('read', None, 'legible: the file of what was read on the pages.')

TASK = handwriting.Task('handwriting_synthesis', sys.modules[__name__], (), None, reads_text=True)


def main(argv):
    cli.main(argv, {'pages': pages, 'legible': legible}.get(MODE.value, measure))


def measure():
    biases, batches = numbers(BIASES, float), numbers(BATCHES, int)
    path, results = cli.results_so_far(FLAGS.workdir, EXPERIMENT)
    writer = chosen_scribe()
    as_it_begins = FLAGS.weights is None
    if results.get('weights', FLAGS.weights) != FLAGS.weights:
        raise SettingsError(f'{path.parent} holds what other weights were measured at; name another --workdir')
    say(f'{writer.source}, {model.size(writer.params):,} weights; {cli.machine()}, JAX {jax.__version__}')
    results |= {'weights': FLAGS.weights, 'source': writer.source}
    if MODE.value != 'speed':
        results['stops'] = stops(writer, biases)
    if MODE.value != 'stops':
        results['speed'] = speeds(writer, batches)
        if as_it_begins:
            results['learning'] = learning_speeds(writer)
    keep(path, results)


def keep(path, results):
    if path:
        run_folder.write_json(path, results)
        say(path)


EXPERIMENT = 'handwriting_sampling'
ADAM = optax.adam(1e-3)
ALPHABET = synthetic.PRINTABLE[:73]  # of a net at random


def numbers(flag, kind):
    values = []
    for text in flag.value or ['']:
        try:
            values.append(kind(text))
        except ValueError:
            values.append(-1)
        if not (kind is int) <= values[-1] <= 100:
            raise SettingsError(f'--{flag.name}: {text!r} is none')
    return values


def chosen_scribe():
    """With the weights of --weights; a net at random, which has only a speed, if there are none."""
    cli.check_weights(MODE.value)
    if FLAGS.weights is None and MODE.value == 'speed':
        net = net_of_flags()
        return generate.Writer(net, jax.jit(net.init)(jax.random.key(0)), ALPHABET, None, 'a net at random')
    FLAGS.weights = FLAGS.weights or handwriting_writing.SHIPPED
    return generate.open_writer(handwriting_writing.weights_of(TASK, FLAGS.weights), TASK.name)


def net_of_flags(dtype=None):
    return synthesis_net(len(ALPHABET), FLAGS.layers, FLAGS.hidden, FLAGS.mixtures, dtype=dtype)


def sentences():
    return (pathlib.Path(__file__).parent / 'sentences.txt').read_text('utf-8').splitlines()[: SENTENCES.value]


def stops(writer, biases):
    """The share of sentences that ended by the rule, and the points of a character of those, for each bias."""
    lines = [line for sentence in sentences() for line in generate.to_lines(sentence, writer.alphabet)[0]]
    rows = []
    say(f'\n{"bias":>6s} {"stopped":>9s} {"points a character":>20s}      of {len(lines)} lines')
    for bias in biases:
        how = handwriting_writing.manner() | {'bias': bias}
        parts = [
            generate.write(writer, lines[first : first + 50], seed=FLAGS.seed + first, cap=FLAGS.points, **how)
            for first in range(0, len(lines), 50)
        ]
        stopped = np.concatenate([part.stopped for part in parts])
        drawn = [line for part in parts for line in part.lines]
        points = [len(d) / len(line) for d, line, ok in zip(drawn, lines, stopped, strict=True) if ok]
        row = {**how, 'lines': len(lines), 'stopped': int(stopped.sum())}
        row['points_per_character'] = float(np.mean(points)) if points else None
        row['cut_off'] = [line for line, ok in zip(lines, stopped, strict=True) if not ok]
        rows.append(row)
        say(f'{bias:6g} {stopped.mean():9.1%} {np.mean(points) if points else np.nan:20.1f}')
    return rows


def speeds(writer, batches):
    """CPU-milliseconds, and milliseconds, of a point of a line, and of compiling, for so many lines together."""
    rows = []
    say(f'\n{"lines":>6s} {"CPU-ms a point":>15s} {"ms a point":>12s} {"compile, s":>12s}')
    for n in batches:
        texts = jax.tree.map(jnp.asarray, generate.encode_lines([writer.alphabet[:1] * 30] * n, writer.alphabet))
        keys = jax.random.split(jax.random.key(0), n)
        begun, n_begun = jnp.zeros((n, 1, 3)), jnp.ones(n, jnp.int32)

        def draw(params, keys, begun, n_begun, texts):
            return sampling.sample_lines(
                writer.model, params, keys, begun, n_begun, texts, cap=SPEED_POINTS.value, bias=0.5
            ).points

        given = jax.device_put((writer.params, keys, begun, n_begun, texts))
        begin = time.perf_counter()
        compiled = jax.jit(draw).lower(*given).compile()
        compiling = time.perf_counter() - begin
        spent = cli.best_times({n: functools.partial(compiled, *given)}, REPEATS.value)[n]
        wall, cpu = (1e3 * seconds / (n * SPEED_POINTS.value) for seconds in spent)
        rows.append(
            {'lines': n, 'cpu_ms_per_point': cpu, 'ms_per_point': wall, 'compile_seconds': compiling} | cli.here()
        )
        say(f'{n:6d} {cpu:15.3f} {wall:12.3f} {compiling:12.2f}')
    return rows


def learning_speeds(writer):
    """Points that it learns from in a CPU-second, and in a second: steps of Adam on --batch lines of --learn_points."""
    rows = []
    B, T = FLAGS.batch, LEARN_POINTS.value
    texts = generate.encode_lines([writer.alphabet[:1] * 30] * B, writer.alphabet)
    points = np.random.default_rng(0).normal(size=(2, B, T, 3)).astype(np.float32)
    points[..., 2] = points[..., 2] > 1
    batch = Batch(model.Conditioned(points[0], texts), points[1], np.ones((B, T), np.float32))
    state = state_of(ADAM, writer.params)
    steps = {}
    for products in ('float32', 'bfloat16'):
        net = net_of_flags(jnp.bfloat16 if products == 'bfloat16' else None)
        chunk = max(1, FLAGS.chunk_points // T)
        step = spread(first_order_step(net, ADAM, chunk, per='sequence'), 1)
        steps[products] = functools.partial(step, state, batch)
    say(f'\n{"products":>10s} {"points a CPU-second":>20s} {"points a second":>16s}      {B} lines of {T} points')
    for products, spent in cli.best_times(steps, REPEATS.value).items():
        by_wall, by_cpu = (B * T / seconds for seconds in spent)
        rows.append({'products': products, 'points_per_cpu_second': by_cpu, 'points_per_second': by_wall} | cli.here())
        say(f'{products:>10s} {by_cpu:20,.0f} {by_wall:16,.0f}')
    return rows


# -- whether it can be read -------------------------------------------------------------------------------------------

PAGE = 10  # sentences on a page


def pages():
    """Writes the sentences at --bias, a line each: page0.png, ... in --workdir, and what they say in results.json."""
    path, results = cli.results_so_far(cli.workdir('where to put the pages'), EXPERIMENT)
    if list(path.parent.glob('page*.png')):
        raise SettingsError(f'{path.parent} holds pages already; name another --workdir')
    writer = chosen_scribe()
    broken = [generate.to_lines(sentence, writer.alphabet, width=200) for sentence in sentences()]
    said = [lines[0] for lines, _ in broken]
    handwriting_writing.tell({c: new for _, replaced in broken for c, new in replaced.items()})
    how = handwriting_writing.manner()
    for first in range(0, len(said), PAGE):
        lines = said[first : first + PAGE]
        drawn = generate.write(writer, lines, seed=FLAGS.seed + first, cap=FLAGS.points, **how).lines
        page = path.parent / f'page{first // PAGE}.png'
        figures.strokes_figure(drawn).savefig(page, dpi=150)
        say(page)
    about = {'weights': FLAGS.weights, 'source': writer.source, **how, 'seed': FLAGS.seed, 'said': said}
    results.pop('legible', None)  # of pages that are no more
    keep(path, results | {'pages': about})


def legible():
    """Counts what --read has of the words on the pages in --workdir."""
    path, results = cli.results_so_far(FLAGS.workdir, EXPERIMENT)
    if not path or 'pages' not in results:
        raise SettingsError('say where the pages are: --workdir=FOLDER, as --mode=pages left it')
    if not READ.value:
        raise SettingsError('say what was read: --read=FILE, a line for each line of the pages')
    said, read = results['pages']['said'], handwriting_writing.text_of_file(READ.value).splitlines()
    if len(read) != len(said):
        raise SettingsError(f'{READ.value} has {len(read)} lines, and not one for each of the {len(said)} on the pages')
    counts = np.array([word_recall(*pair) for pair in zip(said, read, strict=True)])
    words, words_read, found = map(int, counts.sum(axis=0))
    whole = int((counts == counts[:, :1]).all(axis=1).sum())
    others = words_read - found
    say(f'{found} of {words} words, {found / words:.1%}, and {others} others; {whole} of {len(said)} lines whole')
    row = {'words': words, 'found': found, 'others': others, 'lines': len(said), 'whole': whole}
    keep(path, results | {'legible': row})


if __name__ == '__main__':
    cli.run(main)
