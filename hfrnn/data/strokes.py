"""Handwriting as pen offsets: lines of any length, their scale, their characters, and batches of them.

A line is (T, 3) numbers, one row for each point of the pen: dx and dy from the point before, and 1 at the last point of
a stroke, else 0 (Graves 2013, G13, sec. 4: x_t).  Units are those of IAM-OnDB's whiteboard, whole numbers, in which a
written line is a few hundred high; x grows to the right and y **downward**, as in the recordings and in SVG.

The first point has no predecessor: its row is (0, 0, e), its place the origin.  Normalised, dx and dy of that row are 0
too, so that the row is the null vector that a net starts from; it is read, and never scored, as a target that is always
the same would be worth any number of nats.  A line of T points so has T - 1 targets.
"""

import json
import pathlib
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from hfrnn.data import DataError
from hfrnn.data.text import UNKNOWN, encode

RARE = 10  # a character that the training lines hold less often cannot be learnt


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


# -- characters -------------------------------------------------------------------------------------------------------

LOOK_ALIKES = {
    '#': ['H'], '$': ['S'], '%': [' per cent'], '&': ['and'], '*': ['x'], '+': ['t'], '/': ['l'], '<': ['('],
    '=': ['-'], '>': [')'], '@': [' at '], '[': ['('], '\\': ['/', 'l'], ']': [')'], '^': ["'"], '_': ['-'],
    '`': ["'"], '{': ['('], '|': ['l'], '}': [')'], '~': ['-'], ';': [','], ':': ['.'], '!': ['.'], '?': ['.'],
    '"': ["''"], '(': ['-'], ')': ['-'], '-': ["'"], '0': ['O', 'o'], '1': ['I', 'l'], '\N{EM DASH}': [' - '],
    '\N{EN DASH}': ['-'], '\N{LEFT SINGLE QUOTATION MARK}': ["'"], '\N{RIGHT SINGLE QUOTATION MARK}': ["'"],
    '\N{LEFT DOUBLE QUOTATION MARK}': ['"'], '\N{RIGHT DOUBLE QUOTATION MARK}': ['"'], '\N{POUND SIGN}': ['L'],
    '\N{EURO SIGN}': ['E'], '\N{LATIN SMALL LETTER SHARP S}': ['ss'], '\N{LATIN SMALL LETTER O WITH STROKE}': ['o'],
    '\N{LATIN SMALL LETTER AE}': ['ae'], '\N{LATIN CAPITAL LETTER AE}': ['AE'],
}  # fmt: skip


def alphabet_of(texts: Iterable[str], rare: int = RARE) -> str:
    """The characters that texts hold at least ``rare`` times, in order, and the unknown symbol if any is rarer.

    In training, a rare character is the unknown symbol: it says 'some mark'.  For writing, see ``spell``.
    """
    counts = Counter(c for text in texts for c in text)
    common = ''.join(sorted(c for c, n in counts.items() if n >= rare and c != UNKNOWN))
    return common + UNKNOWN * (len(common) < len(counts))


def spell(text: str, alphabet: str) -> tuple[str, dict[str, str]]:
    """A text in the characters that an alphabet has, so that a net can write it.

    A character that is not in the alphabet is replaced by the first of these that is: a look-alike, itself in the other
    case, itself without accents; if there is none, a printable ASCII character by the unknown symbol.

    Returns:
      The text, and what stands in it for each character that was replaced: for the user to see.

    Raises:
      DataError: for any other character.
    """
    known = set(alphabet) - {UNKNOWN}

    def stand_in(c):
        plain = ''.join(p for p in unicodedata.normalize('NFKD', c) if not unicodedata.combining(p))
        for candidate in (*LOOK_ALIKES.get(c, ()), c.swapcase(), plain, plain.swapcase()):
            if candidate and set(candidate) <= known:
                return candidate
        return UNKNOWN if UNKNOWN in alphabet and ' ' <= c <= '~' else None

    replaced = {c: stand_in(c) for c in dict.fromkeys(text) if c not in known}
    strangers = [c for c, other in replaced.items() if other is None]
    if strangers:
        raise DataError(f'cannot be written with this alphabet: {" ".join(map(repr, strangers[:10]))}')
    return ''.join(replaced.get(c, c) for c in text), replaced


# -- batches ----------------------------------------------------------------------------------------------------------


class LineBatch(NamedTuple):
    """Lines padded to one length, as ``training.Batch`` has them, and what they say.

    Attributes:
      xs: (B, T, 3) float32, the points that are read: the null vector first, the last point not.
      targets: (B, T, 3) float32, the point after each.
      weights: (B, T) float32, 1 for a target, 0 for padding; a row of a batch that was not filled is all padding.
      characters: (B, U) symbols, 0 where padded.
      n_characters: (B,) int32, how many of them are the line's.
    """

    xs: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    characters: np.ndarray
    n_characters: np.ndarray


def bounds(lines: Lines, buckets: int = 8, multiple: int = 16) -> np.ndarray:
    """The lengths T, ascending, that leave the least padding if each line is padded to the next of them.

    By dynamic programming: least(k, j) = min_i least(k - 1, i) + (lines of length i to j) * j.

    Args:
      buckets: how many, at most: a net is compiled once for each.
      multiple: each is a multiple of it.
    """
    rounded = -(-np.maximum(lengths(lines) - 1, 1) // multiple)
    up_to = np.cumsum(np.bincount(rounded))  # lines of at most so many multiples
    ends = np.arange(len(up_to))
    cost = np.where(ends[:, None] <= ends, (up_to - up_to[:, None]) * ends, np.inf)  # [i, j]: from i to j, padded to j
    least, cuts = cost[0], []
    for _ in range(buckets - 1):
        through = least[:, None] + cost
        cuts.append(np.argmin(through, axis=0))
        least = np.min(through, axis=0)
    found = [len(ends) - 1]
    for cut in reversed(cuts):
        found.append(cut[found[-1]])
    return np.unique([end for end in found if end]) * multiple


class Choice(NamedTuple):
    """The lines of one batch.

    Attributes:
      length: T to pad to.
      which: (B,) indices of lines, -1 where there is none.
    """

    length: int
    which: np.ndarray


def epoch(lines: Lines, bounds: np.ndarray, batch: int, rng: np.random.Generator | None = None) -> list[Choice]:
    """Batches of lines of like length that together hold every line once: in random order, or in order if no ``rng``.

    Their number is the same in every epoch; the last of each bucket may not be full.

    Raises:
      DataError: if a line is longer than the last bound.
    """
    targets = lengths(lines) - 1
    if len(targets) and targets.max() > bounds[-1]:
        raise DataError(f'{lines.names[targets.argmax()]} has {targets.max()} steps; the batches take {bounds[-1]}')
    bucket = np.searchsorted(bounds, targets)
    choices = []
    for b, length in enumerate(bounds):
        mine = np.flatnonzero(bucket == b)
        if rng is not None:
            mine = rng.permutation(mine)
        for first in range(0, len(mine), batch):
            which = np.full(batch, -1)
            part = mine[first : first + batch]
            which[: len(part)] = part
            choices.append(Choice(int(length), which))
    if rng is not None:
        choices = [choices[i] for i in rng.permutation(len(choices))]
    return choices


def padded(lines: Lines, choice: Choice, scale: Scale, alphabet: str = '', longest_text: int = 0) -> LineBatch:
    """The batch of a choice, normalised.

    Args:
      alphabet: the symbols of the texts; characters that it lacks become its unknown symbol.
      longest_text: U to pad texts to; 0 leaves them out.

    Raises:
      DataError: if a line or a text does not fit: nothing is cut off.
    """
    B, T, U = len(choice.which), choice.length, longest_text
    xs, targets = np.zeros((2, B, T, 3), np.float32)
    weights = np.zeros((B, T), np.float32)
    characters, n_characters = np.zeros((B, U), np.uint8), np.zeros(B, np.int32)
    for b, i in enumerate(choice.which):
        if i < 0:
            continue
        points = normalise(line(lines, i), scale)
        n, text = len(points) - 1, lines.texts[i]
        if n > T or (U and len(text) > U):
            raise DataError(f'{lines.names[i]} has {n} steps and {len(text)} characters; the batch takes {T} and {U}')
        xs[b, :n], targets[b, :n], weights[b, :n] = points[:-1], points[1:], 1
        if U:
            characters[b, : len(text)] = encode(text, alphabet, strict=False)
            n_characters[b] = len(text)
    return LineBatch(xs, targets, weights, characters, n_characters)


# -- one small file ---------------------------------------------------------------------------------------------------

FORMAT = 1


def save(path: str | pathlib.Path, data: Handwriting) -> None:
    """Packs a data set into one file (.npz), whole or not at all."""
    path = pathlib.Path(path)
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
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + '.new')
    with new.open('wb') as f:
        np.savez_compressed(f, **arrays)
    new.replace(path)


def read(path: str | pathlib.Path) -> Handwriting:
    """The data set that ``save`` packed.

    Raises:
      DataError: if the file is not there, damaged, or of another format.
    """
    try:
        with open(path, 'rb') as f, np.load(f, allow_pickle=False) as arrays:
            about = json.loads(arrays['about'].tobytes())
            if about['format'] != FORMAT:
                raise DataError(
                    f'{path} is handwriting packed in format {about["format"]}; this program reads {FORMAT}'
                )

            def lines(part):
                dx, dy, starts = (arrays[f'{part}_{name}'] for name in ('dx', 'dy', 'starts'))
                ends = np.unpackbits(arrays[f'{part}_end'], count=len(dx))
                texts, names = (tuple(about[part][name]) for name in ('texts', 'names'))
                return Lines(np.column_stack([dx, dy, ends]).astype(np.int16), starts, texts, names)

            parts, rules = about['report']
            report = Report(
                tuple(Part(*part) for part in parts), tuple(Rule(what, n, tuple(where)) for what, n, where in rules)
            )
            return Handwriting(
                about['name'], about['alphabet'], lines('train'), lines('valid'), Scale(*arrays['scale']), report
            )
    except FileNotFoundError as e:
        raise DataError(f'no file {path}') from e
    except (OSError, AttributeError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as e:
        if isinstance(e, DataError):
            raise
        raise DataError(f'{path} is no packed handwriting, or damaged') from e


def describe(report: Report) -> str:
    """The report as a table."""
    rows = [f'{"":24s} {"forms":>7s} {"lines":>7s} {"strokes":>9s} {"points":>10s}']
    rows += [f'{p.name:24s} {p.forms:7,d} {p.lines:7,d} {p.strokes:9,d} {p.points:10,d}' for p in report.parts]
    for rule in report.rules:
        named = ' '.join(rule.where[:5]) + ' ...' * (len(rule.where) > 5)
        rows.append(f'{rule.count:7,d}  {rule.what}' + f': {named}' * bool(named))
    return '\n'.join(rows)
