"""Handwriting as pen offsets: lines of any length, their scale, and data sets of them, packed in one file.

A line is (T, 3) numbers, one row for each point of the pen: dx and dy from the point before, and 1 at the last point of
a stroke, else 0 (Graves 2013, G13, sec. 4: x_t).  Units are those of IAM-OnDB's whiteboard, whole numbers, in which a
written line is a few hundred high; x grows to the right and y **downward**, as in the recordings and in SVG.

The first point has no predecessor: its row is (0, 0, e), its place the origin.  Normalised, dx and dy of that row are 0
too, so that the row is the null vector that a net starts from; it is read, and never scored, as a target that is always
the same would be worth any number of nats.  A line of T points so has T - 1 targets.
"""

import contextlib
import json
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from hfrnn import files
from hfrnn.data import DataError


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


class Scale(NamedTuple):
    """Mean and standard deviation of dx and of dy, (2,) float64 each."""

    mean: np.ndarray
    sd: np.ndarray


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


# -- strokes and lines ------------------------------------------------------------------------------------------------


def from_strokes(strokes: Sequence[np.ndarray]) -> np.ndarray:
    """(T, 3) int16 offsets of strokes, each (n, 2) points; places are rounded, not offsets, so nothing drifts.

    Raises:
      DataError: if there is no point, or an offset passes 16 bits.
    """
    strokes = [np.asarray(stroke).reshape(-1, 2) for stroke in strokes if len(stroke)]
    if not strokes:
        raise DataError('no strokes')
    points = np.rint(np.concatenate(strokes)).astype(np.int64)
    ends = np.zeros(len(points), np.int64)
    ends[np.cumsum([len(stroke) for stroke in strokes]) - 1] = 1
    offsets = np.column_stack([np.diff(points, axis=0, prepend=points[:1]), ends])
    if np.abs(offsets).max() > np.iinfo(np.int16).max:
        raise DataError(f'a step of {np.abs(offsets).max()} units; no pen does that')
    return offsets.astype(np.int16)


def to_strokes(offsets: np.ndarray) -> list[np.ndarray]:
    """The (n, 2) points of each stroke, the first point of all at the origin; a stroke never ended ends at the end."""
    points = np.cumsum(offsets[:, :2], axis=0, dtype=np.float64)
    cuts = np.flatnonzero(offsets[:-1, 2] > 0.5) + 1
    return np.split(points - points[:1], cuts) if len(points) else []


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


def distorted(offsets: np.ndarray, rng: np.random.Generator, sd: float) -> np.ndarray:
    """(T, 3) float64 offsets of a line as if it had been written larger, wider, and leaning more, or less, at random.

    (x, y) becomes s (w x + a y, y).  Places are rounded, not offsets, so that steps stay whole numbers and a pen that
    rests still does; of a line that shrinks, points may fall together.

    Args:
      offsets: (T, 3), in units.
      sd: the standard deviation of log s, log w and a, whose means are 0.
    """
    size, width, slant = rng.normal(0, sd, 3)
    shape = np.exp(size) * np.array([[np.exp(width), slant], [0, 1]])
    places = np.rint(np.cumsum(offsets[:, :2], axis=0, dtype=np.float64) @ shape.T)
    return np.column_stack([np.diff(places, axis=0, prepend=places[:1]), offsets[:, 2]])


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


def at_rest(scale: Scale) -> np.ndarray:
    """(2,) float32: the normalised offset of a pen that does not move."""
    return normalise(np.zeros((2, 3)), scale)[1, :2]


def normalise(offsets: np.ndarray, scale: Scale) -> np.ndarray:
    """(T, 3) float32: mean 0 and standard deviation 1 on each axis, the first row null (G13 sec. 4.2)."""
    xs = np.array(offsets, np.float32)
    xs[:, :2] = (offsets[:, :2] - scale.mean) / scale.sd
    xs[:1, :2] = 0
    return xs


def denormalise(xs: np.ndarray, scale: Scale) -> np.ndarray:
    """(T, 3) float64 offsets, the inverse of ``normalise``; the first row is the null vector, whatever it holds."""
    offsets = np.array(xs, np.float64)
    offsets[:, :2] = offsets[:, :2] * scale.sd + scale.mean
    offsets[:1, :2] = 0
    return offsets


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
    files.save_npz(path, **arrays)


def read(path: str | pathlib.Path) -> Handwriting:
    """The data set that ``save`` packed.

    Raises:
      DataError: if the file is not there, damaged, or of another format.
    """
    try:
        arrays = files.read_npz(path)
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
