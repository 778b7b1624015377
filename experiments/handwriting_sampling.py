"""How well and how fast a synthesis net writes, and how fast one learns: stop rule, legible words, time.

    python -m experiments.handwriting_sampling --weights=iamondb --workdir=runs/sampling
    python -m experiments.handwriting_sampling --mode=speed
    python -m experiments.handwriting_sampling --mode=pages --weights=iamondb --bias=1 --workdir=runs/pages
    python -m experiments.handwriting_sampling --mode=legible --read=READ.txt --workdir=runs/pages

--mode=stops counts the lines that end by the stop rule of Graves 2013 (G13), sec. 5.3; a line that reaches the cap
instead has lost its place in the text.  The sentences are those of sentences.txt.  --mode=speed without --weights times
a random net, the paper's 3 x 400 (or --layers, --hidden, --mixtures), and also measures how fast it learns.
--mode=pages writes the sentences as pictures, for a reader who has not seen them; his transcription, a line for each
line of the pages, is READ.txt, and --mode=legible counts its words.
"""

import dataclasses
import functools
import pathlib
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import cli, handwriting
from experiments.benchmark import best_times
from experiments.cli import Mode, say
from hfrnn import io, plots
from hfrnn.errors import SettingsError
from hfrnn.handwriting import figures, generate, models, sampling, synthetic
from hfrnn.handwriting.metrics import word_recall
from hfrnn.handwriting.models import SYNTHESIS, Net
from hfrnn.nets import model
from hfrnn.train.devices import describe_machine, spread
from hfrnn.train.loss import Batch
from hfrnn.train.settings import SEEDS, setting
from hfrnn.train.steps import first_order_step, state_of

EXPERIMENT = 'handwriting_sampling'
ALPHABET = synthetic.PRINTABLE[:73]  # of a random net
PAGE = 10  # sentences on a page
AT_ONCE = 50  # lines


@dataclasses.dataclass(frozen=True)
class Common:
    """Net and results"""

    workdir: str | None = setting(None, 'The folder of the results.')
    weights: str | None = setting(None, 'The net: the folder of a run, a file, or a shipped name.')


@dataclasses.dataclass(frozen=True)
class Sentences:
    """--mode=stops and --mode=pages"""

    sentences: int = setting(100, 'How many sentences.', low=1, high=100)
    biases: tuple[float, ...] = setting((0.0, 0.5, 1.0), 'stops: each of these biases.', low=0.0, high=100.0)
    finish: int = setting(generate.FINISH, 'Points to add, at most, until a stroke is finished.', low=0, high=1000)
    seed: int = setting(0, 'Seed of the lines.', low=0, high=SEEDS - 1)


@dataclasses.dataclass(frozen=True)
class Speed:
    """--mode=speed"""

    batches: tuple[int, ...] = setting((1, 8), 'Numbers of lines to write at once.', low=1, high=100)
    speed_points: int = setting(1000, 'Points in each line.', low=1)
    batch: int = setting(32, 'Learning: lines in a step.', low=1)
    learn_points: int = setting(200, 'Learning: points in each line.', low=1)
    chunk_points: int = setting(40_000, 'Learning: points in memory at once.', low=1)
    repeats: int = setting(5, 'The best of so many repeats counts.', low=1)


@dataclasses.dataclass(frozen=True)
class Legible:
    """--mode=legible"""

    read: str | None = setting(None, 'The file with the transcription of the pages.')


GROUPS = {
    'common': Common(),
    'sentences': Sentences(),
    'bias': handwriting.Bias(),
    'speed': Speed(),
    'net': Net(),
    'legible': Legible(),
    'machine': cli.Machine(),
}


def measure(o, *parts):
    path, results = cli.results_so_far(o.common.workdir, EXPERIMENT)
    weights = o.common.weights or (None if parts == ('speed',) else handwriting.SHIPPED)
    if results.get('weights', weights) != weights:
        raise SettingsError(f'{path.parent} holds the measurements of another net; name another --workdir')
    writer = writer_of(weights, o.net)
    machine = describe_machine()
    say(f'{writer.source}, {model.size(writer.params):,} weights; {machine["machine"]}, JAX {machine["jax"]}')
    results |= {'weights': weights, 'source': writer.source}
    if 'stops' in parts:
        results['stops'] = stops(o, writer)
    if 'speed' in parts:
        results['speed'] = speeds(o.speed, writer)
    if weights is None:
        results['learning'] = learning_speeds(o.speed, o.net, writer)
    save(path, results)


def save(path, results):
    if path:
        io.write_json(path, results)
        say(path)


def writer_of(weights, net):
    """The writer of a net's name; a random net, which has only a speed, for None."""
    if weights is not None:
        return generate.open_writer(handwriting.load(weights, SYNTHESIS))
    random = models.make(SYNTHESIS, net, len(ALPHABET))
    return generate.Writer(random, jax.jit(random.init)(jax.random.key(0)), ALPHABET, None, 'a random net')


def sentences(o):
    path = pathlib.Path(__file__).parent / 'sentences.txt'
    return path.read_text('utf-8').splitlines()[: o.sentences.sentences]


def stops(o, writer):
    """For each bias, the share of lines that ended by the rule, and their points per character."""
    lines = [line for sentence in sentences(o) for line in generate.to_lines(sentence, writer.alphabet)[0]]
    rows = []
    say(f'\n{"bias":>6s} {"stopped":>9s} {"points a character":>20s}      of {len(lines)} lines')
    for bias in o.sentences.biases:
        options = {'bias': bias, 'bias_after': o.bias.bias_after, 'finish': o.sentences.finish}
        parts = [
            generate.write(writer, lines[i : i + AT_ONCE], seed=o.sentences.seed + i, cap=o.bias.points, **options)
            for i in range(0, len(lines), AT_ONCE)
        ]
        stopped = np.concatenate([part.stopped for part in parts])
        written = [line for part in parts for line in part.lines]
        points = [len(w) / len(line) for w, line, ok in zip(written, lines, stopped, strict=True) if ok]
        row = {**options, 'lines': len(lines), 'stopped': int(stopped.sum())}
        row['points_per_character'] = float(np.mean(points)) if points else None
        row['cut_off'] = [line for line, ok in zip(lines, stopped, strict=True) if not ok]
        rows.append(row)
        say(f'{bias:6g} {stopped.mean():9.1%} {np.mean(points) if points else np.nan:20.1f}')
    return rows


def speeds(s, writer):
    """CPU-milliseconds and milliseconds for a point of a line, and seconds of compilation, by lines at once."""
    rows = []
    say(f'\n{"lines":>6s} {"CPU-ms a point":>15s} {"ms a point":>12s} {"compile, s":>12s}')
    for n in s.batches:
        texts = jax.tree.map(jnp.asarray, generate.encode_lines([writer.alphabet[:1] * 30] * n, writer.alphabet))
        keys = jax.random.split(jax.random.key(0), n)
        prefix, n_prefix = jnp.zeros((n, 1, 3)), jnp.ones(n, jnp.int32)

        def draw(*arguments):
            return sampling.sample_lines(writer.model, *arguments, cap=s.speed_points, bias=0.5).points

        arguments = jax.device_put((writer.params, keys, prefix, n_prefix, texts))
        begin = time.perf_counter()
        compiled = jax.jit(draw).lower(*arguments).compile()
        compile_seconds = time.perf_counter() - begin
        spent = best_times({n: functools.partial(compiled, *arguments)}, s.repeats)[n]
        wall, cpu = (1e3 * seconds / (n * s.speed_points) for seconds in spent)
        row = {'lines': n, 'cpu_ms_per_point': cpu, 'ms_per_point': wall, 'compile_seconds': compile_seconds}
        rows.append(row | describe_machine())
        say(f'{n:6d} {cpu:15.3f} {wall:12.3f} {compile_seconds:12.2f}')
    return rows


def learning_speeds(s, net, writer):
    """Points that a step of Adam learns from in a CPU-second, and in a second."""
    rows = []
    B, T = s.batch, s.learn_points
    texts = generate.encode_lines([writer.alphabet[:1] * 30] * B, writer.alphabet)
    points = np.random.default_rng(0).normal(size=(2, B, T, 3)).astype(np.float32)
    points[..., 2] = points[..., 2] > 1
    batch = Batch(model.Conditioned(points[0], texts), points[1], np.ones((B, T), np.float32))
    adam = optax.adam(1e-3)
    state, steps = state_of(adam, writer.params), {}
    for products in ('float32', 'bfloat16'):
        dtype = jnp.bfloat16 if products == 'bfloat16' else None
        learner = models.make(SYNTHESIS, net, len(ALPHABET), dtype=dtype)
        step = first_order_step(learner, adam, max(1, s.chunk_points // T), per='sequence')
        steps[products] = functools.partial(spread(step, 1), state, batch)
    say(f'\n{"products":>10s} {"points a CPU-second":>20s} {"points a second":>16s}      {B} lines of {T} points')
    for products, spent in best_times(steps, s.repeats).items():
        by_wall, by_cpu = (B * T / seconds for seconds in spent)
        row = {'products': products, 'points_per_cpu_second': by_cpu, 'points_per_second': by_wall}
        rows.append(row | describe_machine())
        say(f'{products:>10s} {by_cpu:20,.0f} {by_wall:16,.0f}')
    return rows


# -- legibility -------------------------------------------------------------------------------------------------------


def pages(o):
    """Writes the sentences at --bias, a line each: page0.png, ... in --workdir, and the lines in results.json."""
    path, results = cli.results_so_far(cli.folder_of(o.common.workdir, 'where to put the pages'), EXPERIMENT)
    if list(path.parent.glob('page*.png')):
        raise SettingsError(f'{path.parent} holds pages already; name another --workdir')
    weights = o.common.weights or handwriting.SHIPPED
    writer = writer_of(weights, o.net)
    broken = [generate.to_lines(sentence, writer.alphabet, width=200) for sentence in sentences(o)]
    lines = [first for (first, *_), _ in broken]
    handwriting.say_replaced({c: new for _, replaced in broken for c, new in replaced.items()})
    seed = o.sentences.seed
    options = {'bias': o.bias.bias, 'bias_after': o.bias.bias_after, 'finish': o.sentences.finish}
    for i in range(0, len(lines), PAGE):
        written = generate.write(writer, lines[i : i + PAGE], seed=seed + i, cap=o.bias.points, **options)
        page = path.parent / f'page{i // PAGE}.png'
        plots.save(page, figures.strokes_figure(written.lines), dpi=150)
        say(page)
    results.pop('legible', None)  # of other pages
    results['pages'] = {'weights': weights, 'source': writer.source, **options, 'seed': seed, 'lines': lines}
    save(path, results)


def legible(o):
    """Counts the words of the pages in --workdir that the transcription has."""
    path, results = cli.results_so_far(o.common.workdir, EXPERIMENT)
    if not path or 'pages' not in results:
        raise SettingsError('say where the pages are: --workdir=FOLDER, as --mode=pages left it')
    if not o.legible.read:
        raise SettingsError('say where the transcription is: --read=FILE, a line for each line of the pages')
    lines, transcription = results['pages']['lines'], io.read_text(o.legible.read).splitlines()
    if len(transcription) != len(lines):
        raise SettingsError(f'{o.legible.read} has {len(transcription)} lines, not the {len(lines)} of the pages')
    counts = np.array([word_recall(*pair) for pair in zip(lines, transcription, strict=True)])
    words, transcribed, found = map(int, counts.sum(axis=0))
    whole = int((counts == counts[:, :1]).all(axis=1).sum())
    others = transcribed - found
    say(f'{found} of {words} words, {found / words:.1%}, and {others} others; {whole} of {len(lines)} lines whole')
    row = {'words': words, 'found': found, 'others': others, 'lines': len(lines), 'whole': whole}
    save(path, results | {'legible': row})


WRITING = ('sentences', 'bias')
MODES = {
    'both': Mode(lambda o: measure(o, 'stops', 'speed'), (*WRITING, 'speed')),
    'stops': Mode(lambda o: measure(o, 'stops'), WRITING),
    'speed': Mode(lambda o: measure(o, 'speed'), ('speed', 'net')),
    'pages': Mode(pages, WRITING),
    'legible': Mode(legible, ('legible',)),
}


def main(argv):
    cli.main(argv, __doc__, MODES, **GROUPS)


if __name__ == '__main__':
    main(sys.argv)
