"""Lines to take a hand from: one's own strokes in a file, or a line of a data set."""

import numpy as np

from hfrnn.errors import DataError
from hfrnn.handwriting import dataset, ink, synthetic

BODY = 0.62  # of people's x-height, for their capitals, against that of the font; fitted to the words of IAM-OnDB
TYPICAL = 18.2  # Hershey units: the median of a text's height in that font, over IAM-OnDB's 10,741 training texts
MOST_CHARACTERS = 200  # characters that tell the size of a hand
POINTS_A_CHARACTER = (4, 150)  # of a character, at least and at most; IAM-OnDB's lines have 9 to 109


def expected_height(text: str) -> float:
    """How high the ink of a text should be, in units of the pen, in a hand of average size.

    'noon' has no letters that go up or down, and so half the ink height of most lines.  The text in a plain font, with
    letters as low as people write them, has that height in proportion: over 6,268 words of IAM-OnDB, 466 of them
    without such letters, it is off by a factor of 1.2 on average, of 1.3 for those; one height for all by 1.3 and 1.8.
    """
    glyphs, x, drawn = synthetic.font(synthetic.PRINT), 0.0, []
    for c in text:
        glyph = glyphs.get(c, glyphs['n'])
        drawn += [np.add(_as_people_do(path, c.islower()), (x, 0)) for path in glyph.paths]
        x += glyph.width
    return ink.HEIGHT * float(np.clip(ink.height(drawn) / TYPICAL if drawn else 1.0, 0.4, 1.3))


def _as_people_do(path, lower):
    if not lower:
        return path
    top, x_height = -21.0, -14.0  # of the font; y grows downward
    x, y = path.T
    return np.column_stack([x, np.interp(y, (top, x_height, 0, 100), (top, x_height * BODY, 0, 100))])


def from_file(path: str, text: str) -> np.ndarray:
    """(P, 3) offsets of one's own strokes, JSON or InkML (``ink.read``), as large as their text says they should be.

    Args:
      text: what they say; '' if it is not known, for nets that read none.

    Raises:
      DataError: if there are no strokes in it, or too few or too many for the text.
    """
    offsets = ink.read(path, expected_height(text[:MOST_CHARACTERS]) if text else ink.HEIGHT)
    if text:
        check(path, offsets, text)
    return offsets


def check(name: str, offsets: np.ndarray, text: str) -> None:
    """That strokes can be those of a text.

    Raises:
      DataError: if they have too few or too many points for it.
    """
    if not POINTS_A_CHARACTER[0] <= len(offsets) / max(len(text), 1) <= POINTS_A_CHARACTER[1]:
        said = repr(text) if len(text) <= MOST_CHARACTERS else f'{len(text):,} characters'
        raise DataError(f'{name} has {len(offsets):,} points for {said}: strokes and text do not match')


def from_data(data: dataset.Handwriting, name: str) -> tuple[np.ndarray, str]:
    """(P, 3) offsets of a line of a data set, and what it says.

    Raises:
      DataError: if there is no such line.
    """
    for lines in (data.train, data.valid):
        if name in lines.names:
            i = lines.names.index(name)
            return dataset.offsets_of(lines, i), lines.texts[i]
    some = ', '.join(data.valid.names[:3])
    raise DataError(f'no file {name}, and no line of {data.name}; its lines have names such as {some}')
