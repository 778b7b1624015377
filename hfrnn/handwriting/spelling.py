"""What lines say, in characters that a net has learnt: the alphabet of a data set, and other texts put into it."""

import unicodedata
from collections import Counter
from collections.abc import Iterable

from hfrnn.errors import DataError
from hfrnn.text.alphabet import UNKNOWN

RARE = 10  # a character that the training lines hold less often cannot be learnt

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
    """The characters that texts hold at least ``rare`` times, in order, and the unknown symbol if any is rarer.

    And if one stands in ``others`` alone.

    In training, a rare character is the unknown symbol: it says 'some mark'.  For writing, see ``spell``.
    """
    found = Counter(c for text in texts for c in text)
    common = ''.join(sorted(c for c, n in found.items() if n >= rare and c != UNKNOWN))
    return common + UNKNOWN * bool(set(found).union(*others) - set(common))


def spell(text: str, alphabet: str) -> tuple[str, dict[str, str]]:
    """A text in the characters that an alphabet has, so that a net can write it.

    A character that is not in the alphabet is replaced by the first of these that is: a look-alike, itself without
    accents or as several letters, that in the other case; if there is none, a printable ASCII character by the unknown
    symbol.  An accent that belongs to no letter is left out.

    Returns:
      The text, and what stands in it for each character of its composed form (NFC) that was replaced: for the user to
      see.

    Raises:
      DataError: for any other character.
    """
    known, text = set(alphabet) - {UNKNOWN}, unicodedata.normalize('NFC', text)

    def stand_in(c):
        if unicodedata.combining(c):
            return ''
        plain = ''.join(p for p in unicodedata.normalize('NFKD', c) if not unicodedata.combining(p))
        for candidate in (*LOOK_ALIKES.get(c, ()), plain, plain.swapcase()):
            if candidate and set(candidate) <= known:
                return candidate
        return UNKNOWN if UNKNOWN in alphabet and ' ' <= c <= '~' else None

    replaced = {c: stand_in(c) for c in dict.fromkeys(text) if c not in known}
    strangers = [c for c, other in replaced.items() if other is None]
    if strangers:
        raise DataError(f'cannot be written with this alphabet: {" ".join(map(repr, strangers[:10]))}')
    return ''.join(replaced.get(c, c) for c in text), replaced
