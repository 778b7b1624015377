"""Lines whose hand is imitated: a user's own strokes in a file, or a line of a data set."""

import numpy as np

from hfrnn.errors import DataError
from hfrnn.handwriting import dataset, iamondb, ink, synthetic

X_HEIGHT = 0.62  # people's ratio of x-height to capitals, over that of the font; fitted to the words of IAM-OnDB
TYPICAL = 18.2  # Hershey units: the median height of IAM-OnDB's 10,741 training texts in that font
MOST_CHARACTERS = 200  # characters that the size of a hand is estimated from
POINTS_PER_CHARACTER = (4, 150)  # the least and the most; IAM-OnDB's lines have 9 to 109


def expected_height(text: str) -> float:
    """How high the ink of a text should be, in units of the pen, in a hand of average size.

    'noon' has no ascenders or descenders, and so half the ink height of most lines.  The height here is proportional to
    that of the text in a plain font whose small letters are as low as people write them.  Over 6,268 words of IAM-OnDB
    it is wrong by a factor of 1.2 on average, and of 1.3 for the 466 words without ascenders or descenders; one height
    for all words is wrong by 1.3 and 1.8.
    """
    glyphs, x, drawn = synthetic.font(synthetic.PRINT), 0.0, []
    for c in text:
        glyph = glyphs.get(c, glyphs['n'])
        drawn += [np.add(_lower(path, c.islower()), (x, 0)) for path in glyph.paths]
        x += glyph.width
    return ink.HEIGHT * float(np.clip(ink.height(drawn) / TYPICAL if drawn else 1.0, 0.4, 1.3))


def _lower(path, is_small):
    if not is_small:
        return path
    top, x_height = -21.0, -14.0  # of the font; y grows downward
    x, y = path.T
    return np.column_stack([x, np.interp(y, (top, x_height, 0, 100), (top, x_height * X_HEIGHT, 0, 100))])


def from_file(path: str, text: str) -> np.ndarray:
    """(P, 3) offsets of the strokes in a JSON or InkML file (``ink.read``), scaled to the expected height of its text.

    Args:
      text: of the strokes; '' if unknown, for nets that read none.

    Raises:
      DataError: if the file has no strokes, or too few or too many for the text.
    """
    offsets = ink.read(path, expected_height(text[:MOST_CHARACTERS]) if text else ink.HEIGHT)
    if text:
        check(path, offsets, text)
    return offsets


def check(name: str, offsets: np.ndarray, text: str) -> None:
    """Checks that strokes can be those of a text.

    Raises:
      DataError: if they have too few or too many points for it.
    """
    least, most = POINTS_PER_CHARACTER
    if not least <= len(offsets) / max(len(text), 1) <= most:
        shown = repr(text) if len(text) <= MOST_CHARACTERS else f'{len(text):,} characters'
        raise DataError(f'{name} has {len(offsets):,} points for {shown}: strokes and text do not match')


def from_data(data: dataset.Dataset, name: str) -> tuple[np.ndarray, str]:
    """(P, 3) offsets of a line of a data set, and its text.

    Raises:
      DataError: if there is no such line.
    """
    for lines in (data.train, data.valid):
        if name in lines.names:
            i = lines.names.index(name)
            return dataset.offsets_of(lines, i), lines.texts[i]
    examples = ', '.join(data.valid.names[:3])
    raise DataError(f'no line {name} in {data.name}; its lines have names such as {examples}')


def read_line(name: str, folder: str | None, cache: str | None = None) -> tuple[np.ndarray, str]:
    """(P, 3) offsets of a line by its name, and its text: a synthetic line, or one of IAM-OnDB.

    Args:
      folder, cache: of IAM-OnDB, as ``iamondb.load`` takes them.

    Raises:
      DataError: if there is no such line, or it is one of IAM-OnDB and there is no folder.
    """
    if found := synthetic.NAME.fullmatch(name):
        return synthetic.line(int(found[1]), int(found[2]))[1:]
    if not folder:
        raise DataError(f'no file {name}; if it is a line of IAM-OnDB, name the folder: --data=FOLDER')
    return from_data(iamondb.load(folder, cache), name)
