"""The modes of handwriting prediction and synthesis: train, evaluate, write, sample, inspect, export.

Graves 2013 (G13), sec. 4 and 5.
"""

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments import cli
from experiments.cli import Machine, Mode, say
from hfrnn import bundle, io, plots
from hfrnn.bundle import Bundle
from hfrnn.errors import SettingsError
from hfrnn.handwriting import dataset, figures, generate, iamondb, primers, render, spelling, synthetic
from hfrnn.handwriting.experiment import Handwriting, handwriting
from hfrnn.handwriting.generate import Primer, Writer
from hfrnn.handwriting.models import KIND, SYNTHESIS
from hfrnn.text.alphabet import UNKNOWN
from hfrnn.train import experiment, run_folder
from hfrnn.train.settings import flatten, setting

SHIPPED = 'iamondb'  # the net that writes if none is named
ENDINGS = ('.svg', '.png', '.json')
PREDICTED_POINTS = 700  # in a line of a prediction net, as in G13
INSPECTED = 6  # lines of data, each drawn next to one of the net


@dataclasses.dataclass(frozen=True)
class Common:
    """Folders"""

    workdir: str | None = setting(None, 'The folder of the run to train or to read.')
    data: str | None = setting(os.environ.get('HFRNN_DATA'), 'The folder of IAM-OnDB (or $HFRNN_DATA).')
    cache: str = setting('~/.cache/hfrnn', 'Keep data sets, once read or made, in this folder; empty for nowhere.')


@dataclasses.dataclass(frozen=True)
class ChosenNet:
    """The net that writes"""

    weights: str | None = setting(
        None, 'The folder of a run, a file, or the name of a shipped net: iamondb or pens, for synthesis.'
    )


@dataclasses.dataclass(frozen=True)
class Output:
    """Output"""

    output: str = setting(
        'handwriting',
        'Write this .svg, .png or .json file; without an ending, all three. export: a .npz file. inspect: the start '
        "of the figures' names.",
    )


@dataclasses.dataclass(frozen=True)
class Text:
    """The text"""

    text: str | None = setting(None, 'Write this; a new line starts a new line.')
    text_file: str | None = setting(None, 'Write the text of this file.')
    width: int = setting(generate.WIDTH, 'Characters in a line, at most.', low=1, high=200)
    finish: int = setting(
        generate.FINISH,
        'Once the stop rule has ended a line, add at most so many points to finish its stroke; 0 in the paper.',
        low=0,
        high=1000,
    )


@dataclasses.dataclass(frozen=True)
class Bias:
    """Bias and length"""

    bias: float = setting(0.5, '0 writes as people do; more is neater, and less varied.', low=0.0, high=100.0)
    bias_after: int = setting(
        generate.BIAS_AFTER,
        'Without --prime: points drawn before the bias sets in; 0 in the paper.',
        low=0,
        high=100_000,
    )
    points: int | None = setting(
        None, 'synthesis: the most points in a line. prediction: the number of points in each.', low=1, high=100_000
    )


@dataclasses.dataclass(frozen=True)
class Style:
    """Style, copies and animation"""

    prime: str | None = setting(
        None,
        'Imitate this hand: a file with the strokes of one line (InkML; JSON, [[[x, y], ...], ...]), or the name of a '
        'line of the data; pen-0-3 is a synthetic one.',
    )
    prime_text: str | None = setting(None, 'The text of the strokes of --prime.')
    copies: int = setting(1, 'Write the lines so many times, no two alike.', low=1)
    animate: bool = setting(False, 'Let the SVG draw itself.')


def main(argv: Sequence[str], doc: str, default: Handwriting) -> None:
    """Runs the script of one task.

    Args:
      default: the settings of its runs, whose task no flag changes.
    """
    writing = ('net', 'output', 'bias', 'style', 'run')
    groups = {'net': ChosenNet(), 'output': Output(), 'text': Text(), 'bias': Bias(), 'style': Style()}
    modes = {'train': Mode(train, ('run', 'limits')), 'evaluate': Mode(evaluate, ('run', 'limits'))}
    if default.task == SYNTHESIS:
        modes |= {'write': Mode(write, (*writing, 'text')), 'inspect': Mode(inspect, (*writing, 'text'))}
    else:
        del groups['text']
        modes |= {'sample': Mode(sample, writing), 'inspect': Mode(inspect, writing)}
    modes['export'] = Mode(export, ('output',))
    limits = experiment.Limits(patience=10, save_minutes=10.0)
    groups = {'common': Common(), 'limits': limits, **groups, 'run': default, 'machine': Machine()}
    cli.main(argv, doc, modes, choose=lambda o: 'write' if has_text(o) else 'train', **groups)


def has_text(o: Any) -> bool:
    return 'text' in vars(o) and (o.text.text is not None or o.text.text_file is not None)


# -- runs -------------------------------------------------------------------------------------------------------------


def make(o, settings):
    return handwriting(settings, data=o.common.data, cache=cache_folder(o), devices=o.machine.devices)


def cache_folder(o: Any) -> str | None:
    return os.path.expanduser(o.common.cache) if o.common.cache else None  # unchanged where there is no such home


def train(o):
    folder = cli.folder_of(o.common.workdir, 'where to keep the run')
    run = make(o, o.run)
    if o.run.init_from in bundle.shipped():
        cli.load_net(o.run.init_from)  # names its terms
    experiment.run(run, folder, o.limits, devices=o.machine.devices, say=say)


def evaluate(o):
    folder = cli.folder_of(o.common.workdir)
    settings = cli.settings_of_run(o, folder, f'handwriting_{o.run.task}')
    experiment.evaluate(make(o, settings), folder, say=say)


def export(o):
    """Writes the best weights of --workdir as one small file, --output, in half precision, as they ship."""
    if not o.common.workdir or 'output' not in o.given or not pathlib.Path(o.output.output).name:
        raise SettingsError('say from which run, and where to: --workdir=FOLDER --output=FILE.npz')
    net = bundle.without_noise(load(bundle.run_name(o.common.workdir), o.run.task))
    path = pathlib.Path(o.output.output)
    path = path if path.suffix == '.npz' else path.with_name(path.name + '.npz')
    if run_folder.writes():
        bundle.save(path, net, np.float16)
        weights = sum(leaf.size for leaf in bundle.places(net.params).values())
        say(f'{path}: {path.stat().st_size / 1e6:.2f} MB, {weights:,} weights')


# -- the net ----------------------------------------------------------------------------------------------------------


def load(name: str, task: str) -> Bundle:
    """A handwriting net of this task, by anything that ``bundle.load`` takes."""
    net = cli.load_net(name)
    bundle.check_kind(net, KIND, task=task)
    return net


def chosen_writer(o: Any) -> Writer:
    """The net of --weights, or --workdir, or the package.

    Raises:
      SettingsError: if none is named, or two; for a flag of training.
    """
    unread = [name for name in flatten(o.run) if name in o.given and name not in ('seed', 'source')]
    if unread:
        raise SettingsError(f'--{unread[0]} is of a run that trains; a net that writes has settings of its own')
    workdir, weights = o.common.workdir, o.net.weights
    if workdir and weights is not None:
        raise SettingsError('write with one net: that of --workdir or that of --weights')
    if weights == '':
        raise SettingsError('--weights names nothing')
    name = (bundle.run_name(workdir) if workdir else weights) or (SHIPPED if o.run.task == SYNTHESIS else None)
    if not name:
        raise SettingsError('say with which net: --weights=NAME, a file, or the folder of a run')
    return generate.open_writer(load(name, o.run.task))


# -- lines of data ----------------------------------------------------------------------------------------------------


def chosen_primer(o: Any, writer: Writer) -> Primer | None:
    """That of --prime and --prime_text, in the writer's characters."""
    prime, prime_text = o.style.prime, o.style.prime_text
    if prime is None:
        if prime_text is not None:
            raise SettingsError('--prime_text is the text of the strokes of --prime: name them too')
        return None
    text = ' '.join((prime_text or '').split())
    if pathlib.Path(prime).exists():
        if writer.alphabet and not text:
            raise SettingsError('say what the strokes of --prime say: --prime_text')
        offsets = primers.from_file(prime, text)
    else:
        offsets, known = primers.read_line(prime, o.common.data, cache_folder(o))
        text = text or known
        if writer.alphabet and not text:
            raise SettingsError(f'the text of {prime} is unknown: give --prime_text')
        if text:
            primers.check(prime, offsets, text)
    if not writer.alphabet:
        return Primer(offsets, '')
    if prime_text:
        text, replaced = spelling.spell(text, writer.alphabet)
        text = ' '.join(text.split())
        if not text:
            raise SettingsError(f'--prime_text={prime_text} has nothing that this net can read')
    else:
        replaced = spelling.unread(text, writer.alphabet, f'without --prime_text, {prime}')
    say_replaced(replaced, 'read')
    return Primer(offsets, text)


def lines_to_look_at(o: Any, writer: Writer, n: int) -> list[tuple[np.ndarray, str]]:
    """The first validation lines of --source if it is given, else of the data of --prime, or of the net's own.

    Their text is known if the net reads it.
    """
    if 'source' in o.given:
        source = o.run.source
    elif o.style.prime:
        source = 'pens' if synthetic.NAME.fullmatch(o.style.prime) else 'iamondb'
    else:
        source = writer.source
    if source.startswith('pens'):
        return [synthetic.line(0, i)[1:] for i in range(n)]
    if not o.common.data:
        raise SettingsError('the lines to look at are those of IAM-OnDB: name the folder, --data, or say --source=pens')
    lines = iamondb.load(o.common.data, cache_folder(o)).valid
    if writer.alphabet:
        lines = dataset.with_text(lines)
    if not lines.names:
        raise SettingsError(f'{o.common.data} has no validation line with a known text')
    return [(dataset.offsets_of(lines, i), lines.texts[i]) for i in range(min(n, len(lines.names)))]


# -- writing ----------------------------------------------------------------------------------------------------------


def write(o):
    """Writes --text, or the text of --text_file, to --output."""
    stem, endings = output_files(o)
    save_lines(o, write_text(o)[2], stem, endings)


def sample(o):
    """Lets a prediction net write what it likes, to --output."""
    copies = o.style.copies
    if copies > generate.MOST_LINES:
        raise SettingsError(f'--copies={copies}: at most {generate.MOST_LINES} lines are written at once')
    (stem, endings), writer = output_files(o), chosen_writer(o)
    primer = chosen_primer(o, writer)
    points = o.bias.points or PREDICTED_POINTS
    written = generate.sample_unconditional(writer, copies, points, seed=o.run.seed, primer=primer, **bias_of(o))
    save_lines(o, written.lines, stem, endings)


def inspect(o):
    """The paper's figures, --output_density.png and _window.png of a line of data, and _comparison.png of several.

    With a text they are of its first line, as the net writes it, which needs no data.
    """
    (stem, _), real = output_files(o), None
    if has_text(o):
        if o.style.prime:
            raise SettingsError('--mode=inspect looks at a text or at the line of --prime, not at both')
        writer, (text,), (offsets,) = write_text(o, only_first=True)
    else:
        if o.style.prime and pathlib.Path(o.style.prime).exists():
            raise SettingsError(f'{o.style.prime} is a file; --mode=inspect looks at a line of the data, by its name')
        writer = chosen_writer(o)
        lines = lines_to_look_at(o, writer, INSPECTED)
        offsets, text = lines[0]
        if o.style.prime:
            offsets, text = primers.read_line(o.style.prime, o.common.data, cache_folder(o))
        if writer.alphabet and not text:
            raise SettingsError(f'the text of {o.style.prime} is unknown; look at another line')
        real, texts = zip(*lines, strict=True)
        for line in (text, *texts) if writer.alphabet else ():
            spelling.unread(line, writer.alphabet, 'a line of the data')
        if writer.alphabet:
            sampled = generate.write(writer, texts, seed=o.run.seed, cap=o.bias.points, **bias_of(o)).lines
        else:
            points = o.bias.points or max(map(len, real))
            sampled = generate.sample_unconditional(writer, len(real), points, seed=o.run.seed, **bias_of(o)).lines
    if len(offsets) < 3:
        raise SettingsError('a line of fewer than 3 points: there is nothing to look at')
    inspection = generate.inspect(writer, offsets, text)
    drawings = {'density': figures.density_figure(offsets, inspection.mixture, writer.scale)}
    if writer.alphabet:
        drawings['window'] = figures.window_figure(offsets, inspection.window, text)
    if real is not None:
        drawings['comparison'] = figures.comparison_figure(real, sampled, texts)
    if run_folder.writes():
        stem.parent.mkdir(parents=True, exist_ok=True)
        for name, figure in drawings.items():
            path = pathlib.Path(f'{stem}_{name}.png')
            plots.save(path, figure)
            say(path)


def bias_of(o: Any) -> dict:
    """The flags of bias and ending, as arguments of ``generate``."""
    finish = {'finish': o.text.finish} if 'text' in vars(o) else {}
    return {'bias': o.bias.bias, 'bias_after': o.bias.bias_after, **finish}


def write_text(o: Any, only_first: bool = False) -> tuple[Writer, list[str], list[np.ndarray]]:
    """The writer; the lines of --text or --text_file, or the first of them; and their strokes, in units."""
    if not has_text(o):
        raise SettingsError('say what to write: --text or --text_file')
    if o.text.text is not None and o.text.text_file is not None:
        raise SettingsError('say what to write by --text or by --text_file, not by both')
    text = io.read_text(o.text.text_file) if o.text.text is None else o.text.text
    writer = chosen_writer(o)
    lines, replaced = generate.to_lines(text, writer.alphabet, o.text.width)
    say_replaced(replaced)
    if len(lines) * o.style.copies > generate.MOST_LINES:
        raise SettingsError(
            f'{len(lines)} lines {o.style.copies} times: at most {generate.MOST_LINES} are written at once'
        )
    lines = lines[:1] if only_first else lines * o.style.copies
    primer = chosen_primer(o, writer)
    written = generate.write(writer, lines, seed=o.run.seed, primer=primer, cap=o.bias.points, **bias_of(o))
    if primer and not all(map(len, written.lines)):
        raise SettingsError(f'nothing is left to write after the primer: do its strokes say {primer.text!r}?')
    if primer:
        say_place(primer.text, generate.place_after(writer, primer, lines[0]))
    for i in np.flatnonzero(~written.stopped):
        reason = '--points is no more' if o.bias.points else 'no end was found; another --seed may help'
        say(f'line {i + 1} was cut off after {len(written.lines[i])} points, as {reason}: {lines[i]!r}')
    return writer, lines, written.lines


def say_replaced(replaced: dict[str, str], verb: str = 'written') -> None:
    """Says what replaces characters that the net has not learnt."""
    if replaced:
        names = {UNKNOWN: 'some mark', '': 'nothing'}
        pairs = (f'{c!r} as {names.get(new, repr(new))}' for c, new in replaced.items())
        say(f'not known to this net, so {verb} {", ".join(pairs)}')


def say_place(text: str, place: int) -> None:
    """Says where the net is after a primer, if it is off the space after its text by two characters or more."""
    space = len(text) + 1
    if place < space - 1:
        say(f'at the end of the strokes of --prime the net has read {text[:place]!r}: it may write the rest again')
    elif place > space + 1:
        say(f'the strokes of --prime go on for longer than the net takes to read {text!r}: letters may be lost')


# -- files ------------------------------------------------------------------------------------------------------------


def output_files(o: Any) -> tuple[pathlib.Path, tuple[str, ...]]:
    """--output without its ending; the ending, or all of ENDINGS.

    Raises:
      SettingsError: if it cannot name a file, or is the file of --prime; or if --prime is empty.
    """
    output, prime = o.output.output, o.style.prime
    if prime == '':
        raise SettingsError('--prime names no file and no line')
    path = pathlib.Path(output)
    if path.name in ('', '..') or output.endswith('/'):
        raise SettingsError(f'--output={output} is no name of a file')
    stem, endings = (path.with_suffix(''), (path.suffix,)) if path.suffix in ENDINGS else (path, ENDINGS)
    if prime and pathlib.Path(prime).resolve() in [pathlib.Path(f'{stem}{ending}').resolve() for ending in endings]:
        raise SettingsError(f'--output={output} would replace --prime={prime}')
    return stem, endings


def save_lines(o: Any, lines: list[np.ndarray], stem: pathlib.Path, endings: tuple[str, ...]) -> None:
    """Writes lines as files with these endings."""
    if not run_folder.writes():
        return
    stem.parent.mkdir(parents=True, exist_ok=True)
    for ending in endings:
        path = pathlib.Path(f'{stem}{ending}')
        if ending == '.png':
            plots.save(path, figures.strokes_figure(lines), dpi=150)
        else:
            text = render.strokes_svg(lines, o.style.animate) if ending == '.svg' else render.strokes_json(lines)
            io.write_bytes(path, text.encode())
        say(path)
