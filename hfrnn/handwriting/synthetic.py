"""Synthetic handwriting, free of terms: the single-stroke Hershey fonts, written in random hands.

Line i is a function of the seed and i alone.  The fonts come with the package Hershey-Fonts; the texts are made here.
The data set is called 'pens', as are the shipped weights that were trained on it.
"""

import functools
import pathlib
import re
from typing import NamedTuple

import numpy as np

from hfrnn.errors import DataError
from hfrnn.handwriting import dataset, ink, strokes

VERSION = 1  # another version makes other lines from the same seed
PRINTABLE = ''.join(map(chr, range(32, 127)))
UNIT = 12.0  # units of the whiteboard in a Hershey unit; the capitals of the fonts are 21 Hershey units high
FINE = 0.3  # Hershey units between the points of a path before it is travelled
TOUCH = 2.5  # Hershey units: a stroke that begins so close to the end of the last one is joined to it


class Glyph(NamedTuple):
    """A character of a font; x from its left edge, y downward from the baseline, in Hershey units."""

    paths: tuple[np.ndarray, ...]
    width: float


class Hand(NamedTuple):
    """A style of writing; lengths in Hershey units, before ``size`` is applied.

    Attributes:
      letters, others: the fonts of lower-case letters, and of all other characters.
      size: the factor of all lengths.
      narrow: the factor of x.
      slant: the horizontal shift of a letter's top, relative to its height.
      spacing, space: additional room between letters, and between words.
      slope: of the baseline.
      drift: slow deviations from the baseline.
      wobble: random distortions of each letter, relative to its size.
      tremor: the standard deviation of the pen's noise.
      corner: the radius at which corners are rounded.
      speed: of the pen: the mean step between two of its points, in units of the whiteboard.
      late: whether dots and bars are written at the end of the word.
    """

    letters: str
    others: str
    size: float
    narrow: float
    slant: float
    spacing: float
    space: float
    slope: float
    drift: float
    wobble: float
    tremor: float
    corner: float
    speed: float
    late: bool


# -- fonts ------------------------------------------------------------------------------------------------------------

PRINT, SCRIPT = 'futural', 'cursive'  # of the 32 in the package, plain capitals and joined letters of one line each


@functools.cache
def font(name: str) -> dict[str, Glyph]:
    """The glyphs of all printable ASCII characters.

    Raises:
      DataError: if the package Hershey-Fonts is not installed.
    """
    try:
        from HersheyFonts import HersheyFonts
    except ImportError as e:
        raise DataError('synthetic handwriting needs its fonts: pip install Hershey-Fonts') from e
    hershey = HersheyFonts()
    hershey.load_default_font(name)
    base = hershey.render_options['base_line']
    return {c: _glyph(hershey.all_glyphs[c], base) for c in PRINTABLE}


def _glyph(glyph, base):
    paths = (np.array(list(stroke), float) - (glyph.left_offset, base) for stroke in glyph.strokes)
    return Glyph(tuple(paths), float(glyph.char_width))


# -- hands ------------------------------------------------------------------------------------------------------------


def random_hand(rng: np.random.Generator) -> Hand:
    """A random hand: print, joined, or joined with plain capitals."""
    letters, others = [(PRINT, PRINT), (SCRIPT, SCRIPT), (SCRIPT, PRINT)][rng.choice(3, p=[0.4, 0.3, 0.3])]
    return Hand(
        letters=letters,
        others=others,
        size=float(np.exp(rng.normal(0.08, 0.18))),
        narrow=float(np.exp(rng.normal(-0.15, 0.12))),
        slant=float(np.clip(rng.normal(0.08 if letters == PRINT else -0.1, 0.2), -0.4, 0.6)),
        spacing=float(rng.normal(0, 1.0) if letters == PRINT else abs(rng.normal(0, 1.0))),
        space=float(rng.normal(0, 2.5)),
        slope=float(rng.normal(0, 0.03)),
        drift=float(np.exp(rng.normal(-0.2, 0.5))),
        wobble=float(np.exp(rng.normal(-2.7, 0.4))),
        tremor=float(np.exp(rng.normal(-2.5, 0.5))),
        corner=float(np.exp(rng.normal(-0.6, 0.4))),
        speed=float(np.clip(np.exp(rng.normal(3.1, 0.2)), 12, 36)),
        late=bool(rng.random() < 0.7) and letters == SCRIPT,
    )


def write(text: str, hand: Hand, rng: np.random.Generator) -> np.ndarray:
    """(T, 3) offsets of a text in a hand; through ``rng`` no two letters are the same.

    Raises:
      DataError: for a text that is empty, blank, or not of printable ASCII characters.
    """
    if not text.strip():
        raise DataError('empty text')
    if unprintable := set(text) - set(PRINTABLE):
        raise DataError(f'not printable: {" ".join(map(repr, sorted(unprintable)[:10]))}')
    small, other = font(hand.letters), font(hand.others)
    joined = hand.letters == SCRIPT
    paths, waiting, x = [], [], 0.0
    for c in text:
        glyph = small[c] if c.islower() else other[c]
        if c == ' ':
            paths, waiting = paths + waiting, []
            x += max(glyph.width + hand.space + rng.normal(0, 1.0), 6.0)
            continue
        grown = 1.3 if joined and c.islower() else 1.0  # script letters are small beside their capitals
        bent = np.eye(2) * grown + rng.normal(0, hand.wobble, (2, 2))
        moved = np.add(rng.normal(0, 4 * hand.wobble, 2), (x, 0))
        for path in glyph.paths:
            placed = path @ bent.T + moved
            if hand.late and c.islower() and len(glyph.paths) > 1 and _is_mark(path):
                waiting.append(placed)
            elif paths and joined and np.hypot(*(placed[0] - paths[-1][-1])) < TOUCH + abs(hand.spacing):
                paths[-1] = np.concatenate([paths[-1], placed])
            else:
                paths.append(placed)
        x += glyph.width * grown + hand.spacing
    stray = _stray(hand, rng)
    scale = UNIT * hand.size
    drawn = []
    for path in paths + waiting:
        dense = ink.evenly(path, FINE)
        drawn.append(ink.travel(scale * stray(dense + _tremor(hand, rng, len(dense))), hand.speed, hand.corner * scale))
    return strokes.from_strokes(drawn)


def _is_mark(path):
    """A dot or a bar."""
    wide, high = np.ptp(path, axis=0)
    return high < 3 and wide < 12


def _tremor(hand, rng, n):
    """(n, 2) the noise of the pen along a path, smooth over 2 Hershey units."""
    sd = 2 / FINE
    more = int(4 * sd)
    noise = ink.smoothed(rng.normal(0, 1, (n + 2 * more, 2)), sd)[more : more + n]
    return noise * hand.tremor * np.sqrt(2 * np.sqrt(np.pi) * sd)  # smoothing divides white noise by that


def _stray(hand, rng):
    """A function that narrows and slants the points of a line, on a baseline that slopes and drifts."""
    lengths, phases = rng.uniform(40, 300, 3), rng.uniform(0, 2 * np.pi, (2, 3))

    def place(points):
        x, y = points.T
        up, over = (hand.drift * np.sin(2 * np.pi * x[:, None] / lengths + phase).sum(axis=1) / 2 for phase in phases)
        return np.column_stack([(x + over - (y - up) * hand.slant) * hand.narrow, y + up + hand.slope * x])

    return place


# -- texts ------------------------------------------------------------------------------------------------------------

_WORDS = """
a about after again all also always am amaze an and any are as ask at away back bad bag be because bed been before
best big bird black blue boat book both box boy bread bring brown but buy by call came can car carry cat chair child
city clean close cloud cold come cook could cup cut dark day deep did dinner do dog door down dream drink each ear
earth east easy eat egg eight end enough even ever every exact extra eye face fall far farm fast feel few field find
fire first fish five flower fly food foot for forest found four fox free friend from full game garden gave get girl
give glass go gold good grass gray great green ground had half hand happy hard has hat have he head hear heart help
her here high hill him his home hope horse hot hour house how hundred ice idea if in inch into is island it its jazz
join joke journey judge juice jump just keep kettle key kind king kitchen knee knife know lake lamp land large last
late laugh lazy leaf learn leave left less letter light like line lion little long look loud love low made make many
map me measure meet milk mind money month moon more morning most mother mountain mouse move much music must my name
near neck need never new next night nine no noise north not now number ocean of off often oil old on once one only
open or orange order other our out over own oxen page paint paper park part pen people piano picture place plain
play point pond poor puzzle quality quarter queen question quick quiet quite quiz rain ran reach read ready red rest
rice ride right ring river road room round run salt same sand saw say school sea second see seven shall she ship
shoe short should show side silver simple sing sister six size sky sleep slow small snow so some song soon south
spring square star start step still stone stop story street strong such summer sun sure swim table take talk tall
taxi tea tell ten than that the their them then there these they thing think this those three time to today together
too took top town travel tree true try turn two under until up upon us use valley van very visit voice wait walk
wall want warm was watch water way we week well went were west wet what wheel when where which white who why wide
wild will wind window winter wish with woman wonder wood word work world would write year yellow yes yet you young
zero zigzag zone zoo
"""
WORDS = tuple(_WORDS.split())
NUMBERS = ('{}', '{}', '{}.5', '${}', '{}%', '+{}', '#{}', '{}:30', '{}/2')
MARKED = ('{}.', '{},', '{}?', '{}!', '{};', '{}:', '"{}"', '({})', "{}'s", '{} -', '{}-{}')


def random_text(rng: np.random.Generator, length: int = 32) -> str:
    """Words, numbers, marks, and now and then any printable characters, at most ``length`` characters in all."""
    text = _token(rng)[:length].strip()
    while len(longer := f'{text} {_token(rng)}') <= length:
        text = longer
    return text


def _token(rng):
    kind = rng.random()
    if kind < 0.08:
        return ''.join(rng.choice(list(PRINTABLE[1:]), rng.integers(1, 7)))
    if kind < 0.16:
        number = str(rng.integers(0, 10 ** int(rng.integers(1, 6))))
        return str(rng.choice(NUMBERS)).format(number)
    word = str(rng.choice(WORDS))
    if kind < 0.21:
        return word.upper()
    if kind < 0.36:
        word = word.capitalize()
    return str(rng.choice(MARKED)).format(word, rng.choice(WORDS)) if rng.random() < 0.25 else word


# -- data sets --------------------------------------------------------------------------------------------------------

NAME = re.compile(r'pen-(\d{1,9})-(\d{1,9})')  # the name of a line: its seed and i


def line(seed: int, i: int) -> tuple[str, np.ndarray, str]:
    """(name, offsets, text) of line i."""
    rng = np.random.default_rng((seed, i))
    text = random_text(rng, int(rng.integers(12, 41)))
    return f'pen-{seed}-{i}', write(text, random_hand(rng), rng), text


def load(seed: int = 0, train: int = 2000, valid: int = 200, cache: str | None = None) -> dataset.Dataset:
    """A data set: the first ``valid`` lines are for validation, the ``train`` after them for training.

    Args:
      cache: a folder for the packed data set (100 lines take about a second to make); None caches nothing.

    Raises:
      DataError: if there are no training lines, or the fonts are missing.
    """
    path = cache and pathlib.Path(cache) / f'pens-{VERSION}-{seed}-{train}-{valid}.npz'
    return dataset.cached(path, lambda: make(seed, train, valid))


def make(seed: int, train: int, valid: int) -> dataset.Dataset:
    """The data set of ``load``, made anew."""
    parts = {
        'train': dataset.pack(line(seed, i) for i in range(valid, valid + train)),
        'valid': dataset.pack(line(seed, i) for i in range(valid)),
    }
    counts = tuple(
        dataset.PartCounts(name, 0, len(lines.names), int(lines.offsets[:, 2].sum()), len(lines.offsets))
        for name, lines in parts.items()
    )
    scale = dataset.scale_of(parts['train'])
    return dataset.Dataset(f'pens-{seed}', PRINTABLE, *parts.values(), scale, dataset.Report(counts, ()))
