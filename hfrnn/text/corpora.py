"""Corpora: texts in three parts, training, validation and test, by name or from a file.

Source: Sutskever, Martens & Hinton 2011 (SMH11); Graves 2013 (G13).
"""

import importlib
import lzma
import pathlib
import random
import sysconfig
import tarfile
import zlib
from typing import NamedTuple

import numpy as np

from hfrnn.errors import DataError
from hfrnn.text import wikipedia
from hfrnn.text.alphabet import BYTES, PAPER_ALPHABET, alphabet_of, encode, symbols_of, text_of, unit_of


class Corpus(NamedTuple):
    """A text in three parts, as symbols.

    Attributes:
      name: as it was asked for.
      alphabet: the character of each symbol; for bytes, the 256 of latin-1; for words (``words.load``) a tuple of them.
      train, valid, test: (N,) uint8 or uint16 symbols.
    """

    name: str
    alphabet: str | tuple[str, ...]
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


# -- corpora ----------------------------------------------------------------------------------------------------------


def load(name: str, folder: str | None = None, unit: str = 'characters') -> Corpus:
    """A corpus by its name, or by the path of a text file.

    * 'pydoc': Python's language reference, which comes with every Python (0.5 MB), each paragraph once;
      'stdlib': the source of its library (11 MB);
    * 'ptb': Penn Treebank characters, Mikolov's form and split;
    * 'enwik8': bytes, 92, 4 and 4 million for training, validation and test; Graves 2013 (sec. 3.2) trains on the first
      96: see ``with_held_out``;
    * 'wiki': enwik8 made into the kind of Wikipedia that SMH11 used, its last 1 + 10 million characters for validation
      and test;
    * a path: any text file, the last tenth of it for the test, the twentieth before that for validation.

    The alphabet of a text file is that of the whole file, so that all of it can be coded; of more than 256 characters
    the commonest 255 are kept, and the others become the unknown symbol.

    Args:
      folder: where the files of ptb and enwik8 are, as distributed or in their archives.
      unit: 'characters' or 'bytes', of all but ptb and wiki, which are of characters, and enwik8, which is of bytes.

    Raises:
      DataError: if there is no such file, or it is empty, too short, or undecodable; for bytes of ptb or wiki.
    """
    if name in CORPORA:
        return CORPORA[name](name, folder, unit)
    if not pathlib.Path(name).exists():
        raise DataError(f'no file {name}, and no corpus of that name; the names are {", ".join(CORPORA)}')
    return divided(name, read(name, unit), unit)


def divided(name: str, text: str, unit: str) -> Corpus:
    """A text in three parts: the last tenth for the test, the twentieth before that for validation.

    Args:
      text: of bytes, one latin-1 character for each.

    Raises:
      DataError: if it is too short, or one character over and over.
    """
    alphabet = BYTES if unit == 'bytes' else alphabet_of(text)
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


def _of_python(text):
    """A corpus of a text that every Python has."""

    def load(name, folder, unit):
        content = text()
        return divided(name, content.encode().decode('latin-1') if unit == 'bytes' else content, unit)

    return load


def _pydoc():
    topics = [topic for _, topic in sorted(importlib.import_module('pydoc_data.topics').topics.items())]
    random.Random(0).shuffle(topics)  # as SMH11 did with articles
    paragraphs = dict.fromkeys(p for topic in topics for p in topic.split('\n\n'))
    return '\n\n'.join(paragraphs)  # a fifth occurs twice or more, and training text is no test


def _stdlib():
    root = pathlib.Path(sysconfig.get_path('stdlib'))
    leave = {'site-packages', 'dist-packages', 'test', 'tests', 'idlelib', '__pycache__'}
    paths = sorted(p for p in root.rglob('*.py') if not leave & set(p.relative_to(root).parts))
    return '\n'.join(p.read_text('utf-8', errors='replace') for p in paths)


def find(folder: str | None, archive: str, *names: str) -> list[bytes]:
    """The bytes of the named files of a folder, or of an archive in it.

    Raises:
      DataError: if there is no folder, or neither files nor archive in it.
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


def _ptb(name, folder, unit):
    _refuse_bytes(name, unit)
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
    return Corpus(name, alphabet, *(encode(text, alphabet) for text in texts))


def _read_enwik8(folder):
    (data,) = find(folder, 'enwik8.xz', 'enwik8')
    if len(data) != 100_000_000:
        raise DataError(f'enwik8 has 100,000,000 bytes; {folder} has a file of {len(data):,}')
    return data


def _enwik8(name, folder, unit):
    data = np.frombuffer(_read_enwik8(folder), np.uint8)
    return Corpus(name, BYTES, *_split(data, 92_000_000, 4_000_000))


def _wiki(name, folder, unit):
    _refuse_bytes(name, unit)
    text = wikipedia.clean(_read_enwik8(folder).decode(errors='replace'))
    symbols = encode(text, PAPER_ALPHABET, strict=False)
    return Corpus(name, PAPER_ALPHABET, *_split(symbols, len(symbols) - 11_000_000, 1_000_000))


def _refuse_bytes(name, unit):
    if unit == 'bytes':
        raise DataError(f'{name} is of characters, and not of bytes')


# A corpus is ``load(name, folder, unit) -> Corpus``; see ``load``.
CORPORA = {
    'pydoc': _of_python(_pydoc),
    'stdlib': _of_python(_stdlib),
    'ptb': _ptb,
    'enwik8': _enwik8,
    'wiki': _wiki,
}
OF_CHARACTERS = ('ptb', 'wiki')  # and not of bytes


def read_symbols(name: str, alphabet: str, folder: str | None = None) -> np.ndarray:
    """The symbols of a file, or of the training text of a corpus, in a given alphabet.

    Args:
      name, folder: see ``load``.

    Raises:
      DataError: as in ``load``; or for a character that the alphabet lacks.
    """
    unit = unit_of(alphabet)
    if name not in CORPORA:
        return encode(read(name, unit), alphabet)
    corpus = load(name, folder, 'characters' if name in OF_CHARACTERS else unit)
    if corpus.alphabet == alphabet:
        return corpus.train
    return symbols_of(text_of(corpus.train, corpus.alphabet), alphabet)


# -- of a corpus ------------------------------------------------------------------------------------------------------


def with_held_out(corpus: Corpus, n: int) -> Corpus:
    """The corpus with the last n validation symbols kept for validation, and the others trained on; 0 keeps all.

    Raises:
      DataError: if the validation text has fewer.
    """
    if n > len(corpus.valid):
        raise DataError(f'{n:,} symbols cannot be held out: {corpus.name} has {len(corpus.valid):,} for validation')
    if not n:
        return corpus
    more, valid = np.split(corpus.valid, [-n])
    return corpus._replace(train=np.concatenate([corpus.train, more]), valid=valid)


def fingerprint(corpus: Corpus) -> dict:
    """What identifies a corpus, as JSON can hold it: alphabet, and length and checksum of each part."""
    sizes = {part: len(getattr(corpus, part)) for part in ('train', 'valid', 'test')}
    checks = {f'{part}_crc32': zlib.crc32(getattr(corpus, part).tobytes()) for part in sizes}
    alphabet = corpus.alphabet if isinstance(corpus.alphabet, str) else list(corpus.alphabet)
    return {'alphabet': alphabet, **sizes, **checks}
