"""Text as symbols: corpora, alphabets, batches of random substrings, windows that score every symbol once.

Sources: Sutskever, Martens & Hinton 2011 (SMH11), with the alphabet and the windows of the author's code (S11c).
"""

import importlib
import lzma
import pathlib
import random
import sysconfig
import tarfile
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hfrnn.data import Batch, DataError, wikipedia

NAMES = ('pydoc', 'stdlib', 'ptb', 'enwik8', 'wiki')
OF_CHARACTERS = ('ptb', 'wiki')  # and not of bytes
UNKNOWN = '\N{REPLACEMENT CHARACTER}'
LARGEST_ALPHABET = 256
BYTES = bytes(range(256)).decode('latin-1')  # the alphabet of bytes
PAPER_ALPHABET = (
    'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+.,:;?/\\!@#$%&*()"\'\n ' + UNKNOWN
)  # SMH11 sec. 5.1: 85 characters, as in S11c, and the unknown symbol


class Corpus(NamedTuple):
    """A text in three parts, as symbols.

    Attributes:
      name: what it was asked for as.
      alphabet: the character of each symbol; for bytes, the 256 of latin-1; for words (``words.load``) a tuple of them.
      train, valid, test: (N,) uint8 or uint16 symbols.
    """

    name: str
    alphabet: str | tuple[str, ...]
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


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


# -- corpora ----------------------------------------------------------------------------------------------------------


def load(name: str, folder: str | None = None, unit: str = 'characters') -> Corpus:
    """A corpus by its name, or by the path of a text file.

    * 'pydoc': Python's language reference, which every Python carries (0.5 MB), each paragraph once;
      'stdlib': the source of its library (11 MB);
    * 'ptb': Penn Treebank characters, Mikolov's form and split;
    * 'enwik8': bytes, 92, 4 and 4 million for training, validation and test; Graves 2013 (sec. 3.2) trains on the first
      96: ``nets.with_held_out`` of the experiments;
    * 'wiki': enwik8 made into the kind of Wikipedia that SMH11 used, its last 1 + 10 million characters for validation
      and test;
    * a path: any text file, the last tenth of it for the test, the twentieth before that for validation.

    The alphabet of a text file is that of the whole file, so that any of it can be coded, but for characters beyond the
    commonest 255, which become the unknown symbol.

    Args:
      folder: where the files of ptb and enwik8 are, as distributed or in their archives.
      unit: 'characters' or 'bytes', of all but ptb and wiki, which are of characters, and enwik8, which is of bytes.

    Raises:
      DataError: if there is no such file, or it is empty, too short, or undecodable; for bytes of ptb or wiki.
    """
    if name in OF_CHARACTERS and unit == 'bytes':
        raise DataError(f'{name} is of characters, and not of bytes')
    if name == 'ptb':
        return _ptb(folder)
    if name in ('enwik8', 'wiki'):
        data = _enwik8(folder)
        if name == 'enwik8':
            return Corpus(name, BYTES, *_split(np.frombuffer(data, np.uint8), 92_000_000, 4_000_000))
        symbols = encode(wikipedia.clean(data.decode(errors='replace')), PAPER_ALPHABET, strict=False)
        return Corpus(name, PAPER_ALPHABET, *_split(symbols, len(symbols) - 11_000_000, 1_000_000))
    if name == 'pydoc':
        text = _pydoc()
    elif name == 'stdlib':
        text = _stdlib()
    elif not pathlib.Path(name).exists():
        raise DataError(f'no file {name}, and no corpus of that name; the names are {", ".join(NAMES)}')
    else:
        text = read(name, unit)
    if unit == 'bytes':
        alphabet = BYTES
        text = text if name not in NAMES else text.encode().decode('latin-1')
    else:
        alphabet = alphabet_of(text)
    if len(text) < 1000:
        raise DataError(f'{name} has {len(text)} symbols; that is too short to train and test on, take at least 1000')
    if len(alphabet) < 2:
        raise DataError(f'{name} holds one character only, over and over: there is nothing to learn')
    symbols = encode(text, alphabet, strict=False)
    test, valid = len(symbols) // 10, len(symbols) // 20
    return Corpus(name, alphabet, *_split(symbols, len(symbols) - test - valid, valid))


def _split(symbols, train, valid):
    return symbols[:train], symbols[train : train + valid], symbols[train + valid :]


def read(name: str, unit: str = 'characters') -> str:
    """A file's text; of bytes, one latin-1 character for each.

    Raises:
      DataError: if there is no such file, or it is empty or undecodable.
    """
    path = pathlib.Path(name)
    if not path.is_file():
        raise DataError(f'no file {name}')
    data = path.read_bytes()
    if not data:
        raise DataError(f'{name} is empty')
    try:
        return data.decode('latin-1' if unit == 'bytes' else 'utf-8')
    except UnicodeDecodeError as e:
        raise DataError(f'{name} is not UTF-8 (byte {e.start}); convert it, or read it with --unit=bytes') from e


def _pydoc():
    topics = [topic for _, topic in sorted(importlib.import_module('pydoc_data.topics').topics.items())]
    random.Random(0).shuffle(topics)  # as SMH11 did with articles
    paragraphs = dict.fromkeys(p for topic in topics for p in topic.split('\n\n'))
    return '\n\n'.join(paragraphs)  # a fifth stands twice or more, and what was trained on is no test


def _stdlib():
    root = pathlib.Path(sysconfig.get_path('stdlib'))
    leave = {'site-packages', 'dist-packages', 'test', 'tests', 'idlelib', '__pycache__'}
    paths = sorted(p for p in root.rglob('*.py') if not leave & set(p.relative_to(root).parts))
    return '\n'.join(p.read_text('utf-8', errors='replace') for p in paths)


def find(folder: str | None, archive: str, *names: str) -> list[bytes]:
    """The bytes of the named files in a folder, or in an archive there.

    Raises:
      DataError: if there is no folder, or it holds neither.
    """
    if not folder:
        raise DataError(f'this corpus is read from a folder: name it with --data, or in HFRNN_DATA ({archive})')
    root = pathlib.Path(folder)
    if all((root / n).is_file() for n in names):
        return [(root / n).read_bytes() for n in names]
    path = root / archive
    if not path.is_file():
        raise DataError(f'{folder} holds neither {", ".join(names)} nor {archive}')
    try:
        if archive.endswith('.tar.xz'):
            with tarfile.open(path) as tar:
                members = {pathlib.PurePath(m.name).name: m for m in tar.getmembers() if m.isfile()}
                return [tar.extractfile(members[n]).read() for n in names]
        return [lzma.decompress(path.read_bytes())]
    except (tarfile.TarError, lzma.LZMAError, EOFError, KeyError) as e:
        raise DataError(f'{path} is damaged, or lacks one of {", ".join(names)}: {e}') from e


def _ptb(folder):
    parts = ('train', 'valid', 'test')
    files = find(folder, 'ptb.tar.xz', *(f'ptb.char.{part}.txt' for part in parts))

    def plain(data):  # ' a e r _ b a n k \n' is 'aer bank\n'
        lines = [line.replace(' ', '').replace('_', ' ') for line in data.decode().splitlines()]
        return ''.join(line + '\n' for line in lines if line)

    try:
        texts = [plain(data) for data in files]
    except UnicodeDecodeError as e:
        raise DataError(f'a file of ptb in {folder} is not UTF-8') from e
    if not all(texts):
        raise DataError(f'a file of ptb in {folder} is empty')
    alphabet = alphabet_of(''.join(texts))
    return Corpus('ptb', alphabet, *(encode(text, alphabet) for text in texts))


def _enwik8(folder):
    (data,) = find(folder, 'enwik8.xz', 'enwik8')
    if len(data) != 100_000_000:
        raise DataError(f'enwik8 has 100,000,000 bytes; {folder} has a file of {len(data):,}')
    return data


# -- batches ----------------------------------------------------------------------------------------------------------


def random_substrings(
    symbols: np.ndarray, rng: np.random.Generator, sequences: int, length: int, unscored: int
) -> Batch:
    """Uniformly random substrings, the first ``unscored`` predictions of each not counted (SMH11 sec. 5.1).

    Args:
      symbols: (N,) of a training text.
      sequences: B.
      length: T; T + 1 symbols are read.

    Raises:
      DataError: if the text is shorter than one substring.
    """
    if len(symbols) <= length:
        raise DataError(f'{len(symbols)} training symbols are too few for sequences of {length}')
    starts = rng.integers(0, len(symbols) - length, sequences)
    chosen = symbols[starts[:, None] + np.arange(length + 1)]
    weights = np.broadcast_to((np.arange(length) >= unscored).astype(np.float32), (sequences, length))
    return Batch(chosen[:, :-1], chosen[:, 1:], weights)


def windows(before: np.ndarray, symbols: np.ndarray, context: int = 50, stride: int = 200) -> Batch:
    """Cuts a text into windows that together score every symbol exactly once, each after some left context (S11c).

    Args:
      before: what precedes the text, at least one symbol; its end is the first window's context.
      symbols: (N,) the text to be scored.
      context: how many symbols a window reads before the first that it scores (fewer where there are no more), at least
        one.
      stride: how many it scores; the last one the rest.

    Returns:
      ceil(N / stride) sequences of context + stride - 1 predictions, the surplus with weight 0.

    Raises:
      ValueError: without a context.
    """
    if context < 1 or not len(before):
        raise ValueError('the first symbol of a window is scored after one before it: give a context')
    before = before[-context:]
    text = np.concatenate([before, symbols])
    n = -(-len(symbols) // stride)
    ends = len(before) + np.minimum((np.arange(n) + 1) * stride, len(symbols))
    firsts = len(before) + np.arange(n) * stride  # the first symbol that each window scores
    starts = np.maximum(firsts - context, 0)
    where = starts[:, None] + np.arange(context + stride)
    chosen = text[np.minimum(where, len(text) - 1)]
    scored = (where >= firsts[:, None]) & (where < ends[:, None])
    return Batch(chosen[:, :-1], chosen[:, 1:], scored[:, 1:].astype(np.float32))
