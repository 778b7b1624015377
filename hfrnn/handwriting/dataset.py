"""A data set of handwriting: lines of any length with their texts, in two parts, and one small file that holds it."""

import contextlib
import json
import pathlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from hfrnn import io
from hfrnn.errors import DataError
from hfrnn.handwriting.strokes import Scale

# -- lines ------------------------------------------------------------------------------------------------------------


class Lines(NamedTuple):
    """L lines, stored one after another.

    Attributes:
      offsets: (N, 3) int16, the rows of all lines.
      starts: (L + 1,) int64, the first row of each line, and N.
      texts: the text of each line; '' where it is unknown.
      names: the name of each line.
    """

    offsets: np.ndarray
    starts: np.ndarray
    texts: tuple[str, ...]
    names: tuple[str, ...]


def pack(lines: Iterable[tuple[str, np.ndarray, str]]) -> Lines:
    """Lines from the (name, (T, 3) offsets, text) of each."""
    names, offsets, texts = zip(*lines, strict=True) if (lines := list(lines)) else ((), (), ())
    starts = np.cumsum([0, *map(len, offsets)])
    return Lines(np.concatenate([np.zeros((0, 3), np.int16), *offsets]), starts, texts, names)


def offsets_of(lines: Lines, i: int) -> np.ndarray:
    """(T, 3) offsets of line i."""
    return lines.offsets[lines.starts[i] : lines.starts[i + 1]]


def points_per_line(lines: Lines) -> np.ndarray:
    """(L,) the number of points of each line."""
    return np.diff(lines.starts)


def select(lines: Lines, indices: Iterable[int]) -> Lines:
    """The lines with these indices, in this order."""
    return pack((lines.names[i], offsets_of(lines, i), lines.texts[i]) for i in indices)


def with_text(lines: Lines) -> Lines:
    """The lines whose text is known: those that synthesis can learn from."""
    return select(lines, [i for i, text in enumerate(lines.texts) if text])


def scale_of(lines: Lines) -> Scale:
    """Mean and standard deviation of all offsets but each line's first, which is always 0.

    Raises:
      DataError: if dx or dy never changes.
    """
    has_predecessor = np.ones(len(lines.offsets), bool)
    has_predecessor[lines.starts[:-1]] = False
    steps = lines.offsets[has_predecessor, :2].astype(np.float64)
    if not len(steps) or not np.all(np.ptp(steps, axis=0)):
        raise DataError(f'{len(lines.names)} training lines with too few points to measure the scale of handwriting')
    return Scale(steps.mean(0), steps.std(0))


# -- data sets --------------------------------------------------------------------------------------------------------


class PartCounts(NamedTuple):
    """The size of one part of a data set, as it was read."""

    name: str
    forms: int
    lines: int
    strokes: int
    points: int


class Correction(NamedTuple):
    """Something left out, changed or noticed: what, how often (perhaps never), and where."""

    what: str
    count: int
    where: tuple[str, ...]


class Report(NamedTuple):
    """How a data set came about."""

    parts: tuple[PartCounts, ...]
    corrections: tuple[Correction, ...]


class Dataset(NamedTuple):
    """A data set.

    Attributes:
      name: the name of its source.
      alphabet: the character of each symbol, in order, with the unknown symbol if there are characters besides these.
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


def describe(report: Report) -> str:
    """The report as two tables: the sizes of the parts, and the corrections with the first places of each."""
    rows = [f'{"part":24s} {"forms":>7s} {"lines":>7s} {"strokes":>9s} {"points":>10s}']
    rows += [f'{p.name:24s} {p.forms:7,d} {p.lines:7,d} {p.strokes:9,d} {p.points:10,d}' for p in report.parts]
    if report.corrections:
        rows.append(f'{"count":>7s}  left out, changed or noticed')
    for correction in report.corrections:
        places = ' '.join(correction.where[:5]) + ' ...' * (len(correction.where) > 5)
        rows.append(f'{correction.count:7,d}  {correction.what}' + f': {places}' * bool(places))
    return '\n'.join(rows)


# -- the packed file --------------------------------------------------------------------------------------------------

FORMAT = 1  # files and caches of another format are not read


def save(path: str | pathlib.Path, data: Dataset) -> None:
    """Packs a data set into one file (.npz), written whole or not at all.

    Raises:
      DataError: if the file cannot be written.
    """
    parts = {'train': data.train, 'valid': data.valid}
    about = {
        'format': FORMAT,
        'name': data.name,
        'alphabet': data.alphabet,
        'report': data.report,
        **{part: {'texts': lines.texts, 'names': lines.names} for part, lines in parts.items()},
    }
    arrays = {'about': np.frombuffer(json.dumps(about).encode(), np.uint8), 'scale': np.array(data.scale)}
    for part, lines in parts.items():
        arrays[f'{part}_dx'], arrays[f'{part}_dy'] = np.ascontiguousarray(lines.offsets[:, :2].T)
        arrays[f'{part}_end'] = np.packbits(lines.offsets[:, 2] > 0)
        arrays[f'{part}_starts'] = lines.starts
    io.save_npz(path, **arrays)


def load(path: str | pathlib.Path) -> Dataset:
    """The data set that ``save`` packed.

    Raises:
      DataError: if the file is missing, damaged, or of another format.
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
                raise ValueError('its arrays do not fit together')
            return Lines(np.column_stack([dx, dy, ends]).astype(np.int16), starts, texts, names)

        parts, corrections = about['report']
        report = Report(
            tuple(PartCounts(*part) for part in parts),
            tuple(Correction(what, count, tuple(where)) for what, count, where in corrections),
        )
        scale = Scale(*arrays['scale'])
        return Dataset(about['name'], about['alphabet'], lines('train'), lines('valid'), scale, report)
    except DataError:
        raise
    except FileNotFoundError as e:
        raise DataError(f'no file {path}') from e
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as e:
        raise DataError(f'{path} is not packed handwriting, or is damaged') from e


def cached(path: str | pathlib.Path | None, make: Callable[[], Dataset]) -> Dataset:
    """The data set in this file; if the file is missing or damaged, ``make()``, which is saved there.

    Args:
      path: None caches nothing.

    Raises:
      DataError: if the file cannot be written.
    """
    if path is None:
        return make()
    with contextlib.suppress(DataError):
        return load(path)
    data = make()
    save(path, data)
    return data
