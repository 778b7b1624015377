"""The alphabet of a data set, and any text spelt in the characters of an alphabet, so that a net can write it."""

import unicodedata
from collections import Counter
from collections.abc import Iterable

from hfrnn.errors import DataError
from hfrnn.text.alphabet import UNKNOWN

RARE = 10  # a character that occurs less often in the training lines cannot be learnt

LOOK_ALIKES = {
    '#': ['H'], '$': ['S'], '%': [' per cent'], '&': ['and'], '*': ['x'], '+': ['t'], '/': ['l'], '0': ['O', 'o'],
    '1': ['I', 'l'], ';': [','], '<': ['('], '=': ['-'], '>': [')'], '@': [' at '], '[': ['('], '\\': ['/', 'l'],
    ']': [')'], '^': ["'"], '_': ['-'], '`': ["'"], '{': ['('], '|': ['l'], '}': [')'], '~': ['-'], '"': ["''"],
    '\N{EM DASH}': [' - '], '\N{EN DASH}': ['-'], '\N{LEFT SINGLE QUOTATION MARK}': ["'"],
    '\N{RIGHT SINGLE QUOTATION MARK}': ["'"], '\N{LEFT DOUBLE QUOTATION MARK}': ['"'],
    '\N{RIGHT DOUBLE QUOTATION MARK}': ['"'], '\N{POUND SIGN}': ['L'], '\N{EURO SIGN}': ['E'],
    '\N{LATIN SMALL LETTER SHARP S}': ['ss'], '\N{LATIN SMALL LETTER O WITH STROKE}': ['o'],
    '\N{LATIN CAPITAL LETTER O WITH STROKE}': ['O'], '\N{LATIN SMALL LETTER AE}': ['ae'],
    '\N{LATIN CAPITAL LETTER AE}': ['AE'],
}  # fmt: skip


def alphabet_of(texts: Iterable[str], rare: int = RARE, others: Iterable[str] = ()) -> str:
    """The characters that occur at least ``rare`` times in texts, in order, and the unknown symbol if there are others.

    In training, a rare character, or one that only occurs in ``others``, is the unknown symbol: it means 'some mark'.
    For writing, see ``spell``.
    """
    found = Counter(c for text in texts for c in text)
    common = ''.join(sorted(c for c, n in found.items() if n >= rare and c != UNKNOWN))
    return common + UNKNOWN * bool(set(found).union(*others) - set(common))


def spell(text: str, alphabet: str) -> tuple[str, dict[str, str]]:
    """A text in the characters of an alphabet, so that a net can write it.

    A character outside the alphabet is replaced by the first of these within it: a look-alike; the character without
    accents or as several letters; that in the other case.  If there is none, a printable ASCII character becomes the
    unknown symbol.  An accent without a letter is left out.

    Returns:
      The text, and the replacement of each character of its composed form (NFC) that was replaced, to be shown to the
      user.

    Raises:
      DataError: for any other character.
    """
    known, text = set(alphabet) - {UNKNOWN}, unicodedata.normalize('NFC', text)

    def replacement(c):
        if unicodedata.combining(c):
            return ''
        plain = ''.join(p for p in unicodedata.normalize('NFKD', c) if not unicodedata.combining(p))
        for candidate in (*LOOK_ALIKES.get(c, ()), plain, plain.swapcase()):
            if candidate and set(candidate) <= known:
                return candidate
        return UNKNOWN if UNKNOWN in alphabet and ' ' <= c <= '~' else None

    replaced = {c: replacement(c) for c in dict.fromkeys(text) if c not in known}
    unwritable = [c for c, other in replaced.items() if other is None]
    if unwritable:
        raise DataError(f'cannot be written with this alphabet: {" ".join(map(repr, unwritable[:10]))}')
    return ''.join(replaced.get(c, c) for c in text), replaced


def unread(text: str, alphabet: str, what: str) -> dict[str, str]:
    """The characters of a line of data that a net has not learnt; each is the unknown symbol, as in training.

    Args:
      what: has the text, for the error.

    Raises:
      DataError: if the alphabet lacks a character and has no unknown symbol.
    """
    unknown = {c: UNKNOWN for c in text if c not in alphabet}
    if unknown and UNKNOWN not in alphabet:
        raise DataError(f'{what} has a text that this net cannot read, {text!r}')
    return unknown
