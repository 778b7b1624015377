"""Data sets of handwriting: lines of any length, their texts and scale, packed in one file."""

import contextlib
import json
import pathlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from hfrnn import io
from hfrnn.errors import DataError
from hfrnn.handwriting.strokes import Scale


class Lines(NamedTuple):
    """Lines one after another.

    Attributes:
      offsets: (N, 3) int16, the rows of all lines.
      starts: (L + 1,) int64, where each line begins, and the end.
      texts: what each line says; '' where that is not known.
      names: of the lines.
    """

    offsets: np.ndarray
    starts: np.ndarray
    texts: tuple[str, ...]
    names: tuple[str, ...]


class Part(NamedTuple):
    """What one part of a data set was read from."""

    name: str
    forms: int
    lines: int
    strokes: int
    points: int


class Rule(NamedTuple):
    """What was done to the data, how often, and where; of rules that nothing fell under too."""

    what: str
    count: int
    where: tuple[str, ...]


class Report(NamedTuple):
    """How the data came about."""

    parts: tuple[Part, ...]
    rules: tuple[Rule, ...]


class Handwriting(NamedTuple):
    """A data set.

    Attributes:
      name: where it is from.
      alphabet: the character of each symbol, in order; the unknown symbol among them if there is need of it.
      train, valid: its lines.
      scale: of the training lines.
      report: what was left out and changed.
    """

    name: str
    alphabet: str
    train: Lines
    valid: Lines
    scale: Scale
    report: Report


def pack(lines: Iterable[tuple[str, np.ndarray, str]]) -> Lines:
    """Lines from (name, (T, 3) offsets, text) of each."""
    names, offsets, texts = zip(*lines, strict=True) if (lines := list(lines)) else ((), (), ())
    starts = np.cumsum([0, *map(len, offsets)])
    return Lines(np.concatenate([np.zeros((0, 3), np.int16), *offsets]), starts, texts, names)


def line(lines: Lines, i: int) -> np.ndarray:
    """(T, 3) offsets of line i."""
    return lines.offsets[lines.starts[i] : lines.starts[i + 1]]


def take(lines: Lines, which: Iterable[int]) -> Lines:
    """The lines of these numbers, in this order."""
    return pack((lines.names[i], line(lines, i), lines.texts[i]) for i in which)


def with_text(lines: Lines) -> Lines:
    """The lines of which it is known what they say: what synthesis can learn from."""
    return take(lines, [i for i, text in enumerate(lines.texts) if text])


def lengths(lines: Lines) -> np.ndarray:
    """(L,) the number of points of each line."""
    return np.diff(lines.starts)


# -- scale ------------------------------------------------------------------------------------------------------------


def scale_of(lines: Lines) -> Scale:
    """Over all offsets but the lines' first, which are none.

    Raises:
      DataError: if dx or dy never changes.
    """
    mine = np.ones(len(lines.offsets), bool)
    mine[lines.starts[:-1]] = False
    steps = lines.offsets[mine, :2].astype(np.float64)
    if not len(steps) or not np.all(np.ptp(steps, axis=0)):
        raise DataError(f'{len(lines.names)} training lines with too few points to tell the scale of the handwriting')
    return Scale(steps.mean(0), steps.std(0))


# -- one small file ---------------------------------------------------------------------------------------------------

FORMAT = 1  # another does not read this one's files, nor use what it cached


def save(path: str | pathlib.Path, data: Handwriting) -> None:
    """Packs a data set into one file (.npz), whole or not at all.

    Raises:
      DataError: if it cannot be written there.
    """
    about = {
        'format': FORMAT,
        'name': data.name,
        'alphabet': data.alphabet,
        'report': data.report,
        **{
            part: {'texts': lines.texts, 'names': lines.names}
            for part, lines in (('train', data.train), ('valid', data.valid))
        },
    }
    arrays = {'about': np.frombuffer(json.dumps(about).encode(), np.uint8), 'scale': np.array(data.scale)}
    for part, lines in (('train', data.train), ('valid', data.valid)):
        arrays[f'{part}_dx'], arrays[f'{part}_dy'] = np.ascontiguousarray(lines.offsets[:, :2].T)
        arrays[f'{part}_end'] = np.packbits(lines.offsets[:, 2] > 0)
        arrays[f'{part}_starts'] = lines.starts
    io.save_npz(path, **arrays)


def read(path: str | pathlib.Path) -> Handwriting:
    """The data set that ``save`` packed.

    Raises:
      DataError: if the file is not there, damaged, or of another format.
    """
    try:
        arrays = io.read_npz(path)
        about = json.loads(arrays['about'].tobytes())
        if about['format'] != FORMAT:
            raise DataError(f'{path} is handwriting packed in format {about["format"]}; this program reads {FORMAT}')

        def lines(part):
            dx, dy, starts = (arrays[f'{part}_{name}'] for name in ('dx', 'dy', 'starts'))
            ends = np.unpackbits(arrays[f'{part}_end'], count=len(dx))
            texts, names = (tuple(about[part][name]) for name in ('texts', 'names'))
            if not len(texts) == len(names) == len(starts) - 1 or starts[-1] != len(dx):
                raise ValueError('its parts do not fit')
            return Lines(np.column_stack([dx, dy, ends]).astype(np.int16), starts, texts, names)

        parts, rules = about['report']
        report = Report(
            tuple(Part(*part) for part in parts), tuple(Rule(what, n, tuple(where)) for what, n, where in rules)
        )
        return Handwriting(
            about['name'], about['alphabet'], lines('train'), lines('valid'), Scale(*arrays['scale']), report
        )
    except DataError:
        raise
    except FileNotFoundError as e:
        raise DataError(f'no file {path}') from e
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as e:
        raise DataError(f'{path} is no packed handwriting, or damaged') from e


def cached(path: str | pathlib.Path | None, make: Callable[[], Handwriting]) -> Handwriting:
    """The data set that this file holds; where there is none, or a damaged one, what is made, and kept there.

    Raises:
      DataError: if it cannot be written there.
    """
    if path is None:
        return make()
    with contextlib.suppress(DataError):
        return read(path)
    data = make()
    save(path, data)
    return data


def describe(report: Report) -> str:
    """The report as a table."""
    rows = [f'{"":24s} {"forms":>7s} {"lines":>7s} {"strokes":>9s} {"points":>10s}']
    rows += [f'{p.name:24s} {p.forms:7,d} {p.lines:7,d} {p.strokes:9,d} {p.points:10,d}' for p in report.parts]
    for rule in report.rules:
        named = ' '.join(rule.where[:5]) + ' ...' * (len(rule.where) > 5)
        rows.append(f'{rule.count:7,d}  {rule.what}' + f': {named}' * bool(named))
    return '\n'.join(rows)
