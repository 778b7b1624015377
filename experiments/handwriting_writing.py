"""What handwriting prediction and synthesis share once they are trained: writing, looking, and weights to give away.

Graves 2013 (G13), sec. 4.3 and 5.3 to 5.5.
"""

import pathlib

import numpy as np
from absl import flags

from experiments import cli, handwriting
from experiments.cli import say
from experiments.handwriting import Task
from hfrnn import bundle
from hfrnn.errors import SettingsError
from hfrnn.handwriting import dataset, figures, generate, iamondb, primers, render, spelling, synthetic
from hfrnn.optim import weight_noise
from hfrnn.text.alphabet import UNKNOWN
from hfrnn.train import run_folder

FLAGS = flags.FLAGS

WEIGHTS = flags.DEFINE_string(
    'weights',
    None,
    "To write with: a run's folder, a file, or, of synthesis, iamondb (if --workdir names no run) or pens.",
)
TEXT = flags.DEFINE_string('text', None, 'Write this; a new line begins a new line.')

# None of them defines a run.
FREE = (
    WEIGHTS,
    TEXT,
    flags.DEFINE_string('text_file', None, 'Write what this file says.'),
    flags.DEFINE_integer('width', generate.WIDTH, 'Characters in a line, at most.', lower_bound=1, upper_bound=200),
    flags.DEFINE_integer('copies', 1, 'Write it so many times, no two alike.', lower_bound=1),
    flags.DEFINE_float('bias', 0.5, 'Neater than people write: 0 is as they do.', lower_bound=0.0, upper_bound=100.0),
    flags.DEFINE_integer(
        'bias_after',
        generate.BIAS_AFTER,
        'Points before it sets in, without --prime; the paper: 0.',
        lower_bound=0,
        upper_bound=100_000,
    ),
    flags.DEFINE_integer(
        'finish',
        generate.FINISH,
        'synthesis: points more, at most, to finish the stroke in which the rule ends a line; the paper: 0.',
        lower_bound=0,
        upper_bound=1000,
    ),
    flags.DEFINE_string(
        'prime',
        None,
        'In whose hand: a file of the strokes of one line (InkML; JSON, [[[x, y], ...], ...]), or a line of the data '
        'by its name; pen-0-3 is one that was made.',
    ),
    flags.DEFINE_string('prime_text', None, 'What the strokes of --prime say.'),
    flags.DEFINE_integer(
        'points', None, 'The most points of a line; of a prediction net, how many.', lower_bound=1, upper_bound=100_000
    ),
    flags.DEFINE_string(
        'output',
        'handwriting',
        'Where to: a .svg, .png or .json file, or all three, without ending. export: a .npz file. look: what the names '
        'of the figures begin with.',
    ),
    flags.DEFINE_bool('animate', False, 'Let the SVG draw itself.'),
)

ENDINGS = ('.svg', '.png', '.json')
SHIPPED = 'iamondb'  # the weights that came with the package


# -- weights ----------------------------------------------------------------------------------------------------------


def weights_of_run(task: Task, workdir: str) -> bundle.Weights:
    """The weights that a run kept, and its facts, as a file of weights would tell them; see ``kept_of_run``."""
    facts, load = handwriting.kept_of_run(task, workdir)
    return bundle.Weights(facts, bundle.places(weight_noise.mean_params(load())), workdir)


def chosen_weights(task: Task) -> bundle.Weights:
    """Those of --weights, or --workdir, or the package.

    Raises:
      SettingsError: if there are none, or two.
    """
    if FLAGS.workdir and FLAGS.weights:
        raise SettingsError('write with one net: that of --workdir or that of --weights')
    given = FLAGS.workdir or FLAGS.weights or (SHIPPED if task.reads_text else None)
    if not given:
        raise SettingsError('say with which weights: --weights=NAME, a file, or the folder of a run')
    return weights_of_run(task, given) if given == FLAGS.workdir else weights_of(task, given)


def weights_of(task: Task, name: str) -> bundle.Weights:
    """Those of the package, a file, or a run's folder."""
    return cli.read_weights(name) if bundle.names_a_file(name) else weights_of_run(task, name)


def chosen_scribe(task: Task) -> generate.Writer:
    return generate.open_writer(chosen_weights(task), task.name)


def export(task: Task) -> None:
    """Writes the weights of --workdir as one small file, --output, as they ship."""
    if not FLAGS.workdir or not FLAGS['output'].present or not pathlib.Path(FLAGS.output).name:
        raise SettingsError('say from which run, and where to: --workdir=FOLDER --output=FILE.npz')
    kept = weights_of_run(task, FLAGS.workdir)
    writer = generate.open_writer(kept, task.name)
    path = pathlib.Path(FLAGS.output)
    if path.suffix != '.npz':
        path = path.with_name(path.name + '.npz')
    bundle.save(path, writer.params, kept.facts)
    say(f'{path}: {path.stat().st_size / 1e6:.2f} MB, {sum(a.size for a in kept.arrays.values()):,} weights')


# -- lines that are there ---------------------------------------------------------------------------------------------


def line_of_data(name: str) -> tuple[np.ndarray, str]:
    """(offsets, text) of a line by its name: a made one, or one of --data."""
    if made := synthetic.NAME.fullmatch(name):
        _, offsets, said = synthetic.line(int(made[1]), int(made[2]))
        return offsets, said
    if not FLAGS.data:
        raise SettingsError(f'no file {name}; if it is a line of IAM-OnDB, name the folder: --data=FOLDER')
    return primers.from_data(iamondb.load(FLAGS.data, handwriting.cache_folder()), name)


def strangers(writer: generate.Writer, what: str, said: str) -> dict[str, str]:
    """What of a line of data the writer has not learnt: all of it is the unknown symbol, as in training.

    Raises:
      SettingsError: if it has no such symbol.
    """
    unknown = {c: UNKNOWN for c in said if c not in writer.alphabet}
    if unknown and UNKNOWN not in writer.alphabet:
        raise SettingsError(f'{what} says what these weights cannot read, {said!r}')
    return unknown


def chosen_primer(writer: generate.Writer) -> generate.Primer | None:
    """That of --prime and --prime_text, in the writer's characters."""
    if FLAGS.prime is None:
        if FLAGS.prime_text is not None:
            raise SettingsError('--prime_text is what the strokes of --prime say: name them too')
        return None
    said = ' '.join((FLAGS.prime_text or '').split())
    if pathlib.Path(FLAGS.prime).exists():
        if writer.alphabet and not said:
            raise SettingsError('say what the strokes of --prime say: --prime_text')
        offsets = primers.from_file(FLAGS.prime, said)
    else:
        offsets, known = line_of_data(FLAGS.prime)
        said = said or known
        if writer.alphabet and not said:
            raise SettingsError(f'it is not known what {FLAGS.prime} says: give --prime_text')
        if said:
            primers.check(FLAGS.prime, offsets, said)
    if writer.alphabet:
        if FLAGS.prime_text:
            said, replaced = spelling.spell(said, writer.alphabet)
            said = ' '.join(said.split())
            if not said:
                raise SettingsError(f'--prime_text={FLAGS.prime_text} says nothing that these weights could read')
        else:
            replaced = strangers(writer, f'without --prime_text, {FLAGS.prime}', said)
        tell(replaced, 'read')
    return generate.Primer(offsets, said if writer.alphabet else '')


def some_lines(writer: generate.Writer, n: int) -> list[tuple[np.ndarray, str]]:
    """The first validation lines, of --source if that is given, else of where --prime is, or of what a net has learnt.

    Their text is known if the net reads it.
    """
    theirs = writer.source if not FLAGS.prime else 'pens' if synthetic.NAME.fullmatch(FLAGS.prime) else 'iamondb'
    if (FLAGS.source if FLAGS['source'].present else theirs).startswith('pens'):
        return [synthetic.line(0, i)[1:] for i in range(n)]
    if not FLAGS.data:
        raise SettingsError('the lines to look at are those of IAM-OnDB: name the folder, --data, or say --source=pens')
    lines = iamondb.load(FLAGS.data, handwriting.cache_folder()).valid
    if writer.alphabet:
        lines = dataset.with_text(lines)
    if not lines.names:
        raise SettingsError(f'{FLAGS.data} has no validation line whose text is known')
    return [(dataset.offsets_of(lines, i), lines.texts[i]) for i in range(min(n, len(lines.names)))]


# -- modes ------------------------------------------------------------------------------------------------------------


def write(task: Task) -> None:
    """Writes --text, or the text of --text_file, to --output."""
    place = output()
    show(by_hand(task)[2], *place)


def sample(task: Task) -> None:
    """Lets a prediction net write what it likes, to --output."""
    if FLAGS.copies > generate.MOST_LINES:
        raise SettingsError(f'--copies={FLAGS.copies}: at most {generate.MOST_LINES} lines are written at once')
    place, writer = output(), chosen_scribe(task)
    primer = chosen_primer(writer)
    written = generate.sample_unconditional(
        writer, FLAGS.copies, FLAGS.points or 700, seed=FLAGS.seed, primer=primer, **biased()
    )
    show(written.lines, *place)


LOOKED_AT = 6


def look(task: Task) -> None:
    """The paper's figures: --output and _density.png and _window.png, of a line of data, and lines _beside.png it.

    With a text, of its first line as the net writes it, which needs no data.
    """
    (stem, _), real = output(), None
    if task.reads_text and (TEXT.value is not None or FLAGS.text_file is not None):
        if FLAGS.prime:
            raise SettingsError('--mode=look looks at a text or at the line of --prime, not at both')
        writer, (said,), (offsets,) = by_hand(task, first=True)
    else:
        if FLAGS.prime and pathlib.Path(FLAGS.prime).exists():
            raise SettingsError(f'{FLAGS.prime} is a file; --mode=look looks at a line of the data, by its name')
        writer = chosen_scribe(task)
        lines = some_lines(writer, LOOKED_AT)
        offsets, said = line_of_data(FLAGS.prime) if FLAGS.prime else lines[0]
        if writer.alphabet and not said:
            raise SettingsError(f'it is not known what {FLAGS.prime} says; look at another line')
        real, texts = zip(*lines, strict=True)
        for line in (said, *texts) if writer.alphabet else ():
            strangers(writer, 'a line of the data', line)
        if task.reads_text:
            drawn = generate.write(writer, texts, seed=FLAGS.seed, cap=FLAGS.points, **manner()).lines
        else:
            points = FLAGS.points or max(map(len, real))
            drawn = generate.sample_unconditional(writer, len(real), points, seed=FLAGS.seed, **biased()).lines
    if len(offsets) < 3:
        raise SettingsError('a line of fewer than 3 points: there is nothing to look at')
    inspection = generate.inspect(writer, offsets, said)
    drawings = {'density': figures.density_figure(offsets, inspection.mixture, writer.scale)}
    if task.reads_text:
        drawings['window'] = figures.window_figure(offsets, inspection.window, said)
    if real is not None:
        drawings['beside'] = figures.comparison_figure(real, drawn, texts)
    stem.parent.mkdir(parents=True, exist_ok=True)
    for name, figure in drawings.items():
        path = named(stem, f'_{name}.png')
        figure.savefig(path, dpi=120)
        say(path)


# -- what modes share -------------------------------------------------------------------------------------------------


def biased() -> dict:
    return {'bias': FLAGS.bias, 'bias_after': FLAGS.bias_after}


def manner() -> dict:
    """How a text is written."""
    return {**biased(), 'finish': FLAGS.finish}


def by_hand(task: Task, first: bool = False) -> tuple[generate.Writer, list[str], list[np.ndarray]]:
    """Who writes --text, or the text of --text_file; its lines, or the first; and these as strokes, in units."""
    if TEXT.value is not None and FLAGS.text_file is not None:
        raise SettingsError('say what to write by --text or by --text_file, not by both')
    if TEXT.value is None and FLAGS.text_file is None:
        raise SettingsError('say what to write: --text or --text_file')
    said = text_of_file(FLAGS.text_file) if TEXT.value is None else TEXT.value
    writer = chosen_scribe(task)
    lines, replaced = generate.to_lines(said, writer.alphabet, FLAGS.width)
    tell(replaced)
    if len(lines) * FLAGS.copies > generate.MOST_LINES:
        raise SettingsError(
            f'{len(lines)} lines {FLAGS.copies} times: at most {generate.MOST_LINES} are written at once'
        )
    lines = lines[:1] if first else lines * FLAGS.copies
    primer = chosen_primer(writer)
    written = generate.write(writer, lines, seed=FLAGS.seed, primer=primer, cap=FLAGS.points, **manner())
    if primer and not all(map(len, written.lines)):
        raise SettingsError(f'nothing is left to write behind the primer: do its strokes say {primer.text!r}?')
    if primer:
        tell_place(primer.text, generate.place_after(writer, primer, lines[0]))
    for i in np.flatnonzero(~written.stopped):
        why = '--points is no more' if FLAGS.points else 'no end was found; another --seed may help'
        say(f'line {i + 1} was cut off after {len(written.lines[i])} points, as {why}: {lines[i]!r}')
    return writer, lines, written.lines


def text_of_file(path: str) -> str:
    try:
        return pathlib.Path(path).read_text('utf-8-sig')
    except UnicodeDecodeError as e:
        raise SettingsError(f'{path} is not UTF-8 (byte {e.start})') from e


def tell(replaced: dict[str, str], how: str = 'written') -> None:
    """Shows what stands for characters that the net has not learnt."""
    if replaced:
        names = {UNKNOWN: 'some mark', '': 'nothing'}
        pairs = (f'{c!r} as {names.get(new, repr(new))}' for c, new in replaced.items())
        say(f'not in what these weights have learnt, so {how} {", ".join(pairs)}')


def tell_place(said: str, place: int) -> None:
    """Shows where the net is when a primer's strokes end, if it is off the space behind their text by two or more."""
    space = len(said) + 1
    if place < space - 1:
        say(f'where the strokes of --prime end, the net has read {said[:place]!r}: it may write the rest again')
    elif place > space + 1:
        say(f'the strokes of --prime go on for longer than the net takes to read {said!r}: letters may be lost')


def output() -> tuple[pathlib.Path, tuple[str, ...]]:
    """--output without its ending; the ending, or all that there are.

    Raises:
      SettingsError: if it is no name of a file, or that of --prime, which is to name something.
    """
    if FLAGS.prime == '':
        raise SettingsError('--prime names no file and no line')
    path = pathlib.Path(FLAGS.output)
    if path.name in ('', '..') or FLAGS.output.endswith('/'):
        raise SettingsError(f'--output={FLAGS.output} is no name of a file')
    stem, endings = (path.with_suffix(''), (path.suffix,)) if path.suffix in ENDINGS else (path, ENDINGS)
    if FLAGS.prime and pathlib.Path(FLAGS.prime).resolve() in [named(stem, ending).resolve() for ending in endings]:
        raise SettingsError(f'--output={FLAGS.output} would take the place of --prime={FLAGS.prime}')
    return stem, endings


def named(stem, ending):
    return stem.with_name(stem.name + ending)


def show(lines: list[np.ndarray], stem: pathlib.Path, endings: tuple[str, ...]) -> None:
    """Writes lines as files with these endings."""
    if not run_folder.writes():
        return
    stem.parent.mkdir(parents=True, exist_ok=True)
    for ending in endings:
        path = named(stem, ending)
        if ending == '.png':
            figures.strokes_figure(lines).savefig(path, dpi=150)
        else:
            drawn = render.strokes_svg(lines, FLAGS.animate) if ending == '.svg' else render.strokes_json(lines)
            path.write_text(drawn, 'utf-8')
        say(path)
