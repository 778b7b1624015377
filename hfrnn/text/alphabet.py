"""Text as symbols: the characters of an alphabet, or bytes.

Source: Sutskever, Martens & Hinton 2011 (SMH11), and the code of its author (S11c).
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from hfrnn.errors import DataError

UNKNOWN = '\N{REPLACEMENT CHARACTER}'
LARGEST_ALPHABET = 256
BYTES = bytes(range(256)).decode('latin-1')  # the alphabet of bytes
PAPER_ALPHABET = (
    'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+.,:;?/\\!@#$%&*()"\'\n ' + UNKNOWN
)  # SMH11 sec. 5.1: 85 characters, as in S11c, and the unknown symbol


# -- symbols ----------------------------------------------------------------------------------------------------------


def encode(text: str, alphabet: str, *, strict: bool = True) -> np.ndarray:
    """The symbols of a text.

    Raises:
      DataError: for a character outside the alphabet, if strict or if there is no unknown symbol to stand for it.
    """
    index = {c: i for i, c in enumerate(alphabet)}
    unknown = index.get(UNKNOWN)
    strangers = sorted(set(text) - set(index))
    if strangers and (strict or unknown is None):
        raise DataError(f'not in the alphabet of this model: {" ".join(map(repr, strangers[:10]))}')
    table = np.full(max(map(ord, text), default=0) + 1, unknown or 0, np.uint16)
    for c, i in index.items():
        if ord(c) < len(table):
            table[ord(c)] = i
    symbols = table[np.frombuffer(text.encode('utf-32-le', 'surrogatepass'), np.uint32)]
    return symbols.astype(np.uint8 if len(alphabet) <= 256 else np.uint16)


def decode(symbols: np.ndarray, alphabet: str) -> str:
    """The text of symbols (N,), each the place of its character in the alphabet."""
    return ''.join(alphabet[s] for s in symbols)


def symbols_of(text: str, alphabet: str) -> np.ndarray:
    """The symbols of what a user writes: of its UTF-8 bytes, where the alphabet is that of bytes."""
    if alphabet == BYTES:
        return np.frombuffer(text.encode('utf-8', 'surrogateescape'), np.uint8)
    return encode(text, alphabet)


def text_of(symbols: np.ndarray, alphabet: str) -> str:
    """What a user reads of symbols; bytes that are not UTF-8 are shown as the replacement character."""
    if alphabet == BYTES:
        return np.asarray(symbols, np.uint8).tobytes().decode('utf-8', 'replace')
    return decode(symbols, alphabet)


def as_bytes(symbols: np.ndarray, alphabet: str) -> bytes:
    """A file of symbols (N,): its bytes, where the symbols are bytes; UTF-8 otherwise."""
    if alphabet == BYTES:
        return symbols.astype(np.uint8).tobytes()
    return decode(symbols, alphabet).encode()


def unit_of(alphabet: Sequence[str]) -> str:
    """What its symbols are called: bytes, characters or words."""
    if not isinstance(alphabet, str):
        return 'words'
    return 'bytes' if alphabet == BYTES else 'characters'


def letter_of(alphabet: Sequence[str]) -> str:
    """What bits are counted by: byte where the symbols are bytes, character otherwise, for words too."""
    return 'byte' if unit_of(alphabet) == 'bytes' else 'character'


def alphabet_of(text: str) -> str:
    """The characters of a text in order; where there are more than 256, the commonest 255 and the unknown symbol."""
    counts = Counter(text)
    if len(counts) <= LARGEST_ALPHABET:
        return ''.join(sorted(counts))
    del counts[UNKNOWN]
    return ''.join(sorted(c for c, _ in counts.most_common(LARGEST_ALPHABET - 1))) + UNKNOWN
