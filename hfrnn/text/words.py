"""Text as words: a vocabulary, the end of a line as a word of its own (Graves 2013 sec. 3.1)."""

import pathlib
from collections import Counter
from itertools import chain, pairwise

import numpy as np

from hfrnn.errors import DataError
from hfrnn.text import alphabet as letters
from hfrnn.text import corpora
from hfrnn.text.corpora import Corpus

END = '<eos>'  # of a line
UNKNOWN = '<unk>'
LARGEST_VOCABULARY = 10_000


def split(content: str) -> list[str]:
    """The words of a text, and END at the end of each line that has any."""
    return list(chain.from_iterable(_lines(content)))


def _lines(content):
    return [[*line.split(), END] for line in content.splitlines() if line.split()]


def join(words: list[str]) -> str:
    """What a user reads of words."""
    lines = ' '.join(words).split(END)
    return '\n'.join(line.strip() for line in lines)


def vocabulary_of(words: list[str]) -> tuple[str, ...]:
    """The words of a text in order; where they are more than 10,000, END, UNKNOWN and the commonest others."""
    counts = Counter(words)
    if len(counts) > LARGEST_VOCABULARY:
        del counts[END], counts[UNKNOWN]
        return tuple(sorted([END, UNKNOWN, *(word for word, _ in counts.most_common(LARGEST_VOCABULARY - 2))]))
    return tuple(sorted(counts))


def encode(words: list[str], vocabulary: tuple[str, ...], *, strict: bool = True) -> np.ndarray:
    """The symbols of words, (N,) uint16.

    Raises:
      DataError: for a word outside the vocabulary, if strict or if there is no unknown one to stand for it.
    """
    index = {word: i for i, word in enumerate(vocabulary)}
    unknown = index.get(UNKNOWN)
    strangers = sorted(set(words) - set(index))
    if strangers and (strict or unknown is None):
        instead = f'; write {UNKNOWN} for them' if unknown is not None else ''
        raise DataError(f'not in the vocabulary of this model: {" ".join(map(repr, strangers[:10]))}{instead}')
    return np.array([index.get(word, unknown) for word in words], np.uint16)


def symbols_of(content: str, alphabet: str | tuple[str, ...]) -> np.ndarray:
    """The symbols of what a user writes: characters, bytes, or words, without an end of line that is not written.

    Raises:
      DataError: for what the alphabet lacks.
    """
    if isinstance(alphabet, str):
        return letters.symbols_of(content, alphabet)
    found = split(content) or [END] * ('\n' in content)
    ends_in_a_line = content.rpartition('\n')[2].split() == []
    return encode(found if ends_in_a_line else found[:-1], alphabet)


def prompt_symbols(prompt: str | None, alphabet: str | tuple[str, ...]) -> np.ndarray:
    """The symbols (P,) of a prompt; of none, the end of a line, or the first symbol where the alphabet has no end.

    Raises:
      DataError: if it is empty, or for what the alphabet lacks.
    """
    if prompt is None:
        end = '\n' if isinstance(alphabet, str) else END
        return np.array([alphabet.index(end) if end in alphabet else 0], np.int32)
    symbols = symbols_of(prompt, alphabet)
    if not len(symbols):
        raise DataError('the prompt is empty; give at least one symbol')
    return symbols.astype(np.int32)


def text_of(symbols: np.ndarray, alphabet: str | tuple[str, ...]) -> str:
    """What a user reads of symbols: characters, bytes or words."""
    if isinstance(alphabet, str):
        return letters.text_of(symbols, alphabet)
    return join([alphabet[x] for x in symbols])


def load(name: str, folder: str | None = None) -> Corpus:
    """A corpus of words, its vocabulary as the alphabet: 'ptb', or the path of a text file.

    Penn Treebank's 10,000 words are Mikolov's, of the training text.  A file is divided as by ``corpora.load``, at the
    ends of lines, and its vocabulary is that of its training part and UNKNOWN.

    Raises:
      DataError: if there is no such file, or it has no lines, or is too short, or has END written in it.
    """
    if name == 'ptb':
        files = corpora.find(folder, 'ptb.tar.xz', *(f'ptb.{part}.txt' for part in ('train', 'valid', 'test')))
        of_ptb = f'a file of ptb in {folder}'
        try:
            parts = [list(chain.from_iterable(_lines_of_file(of_ptb, data.decode()))) for data in files]
        except UnicodeDecodeError as e:
            raise DataError(f'{of_ptb} is not UTF-8') from e
        if not all(parts):
            raise DataError(f'{of_ptb} is empty')
        vocabulary = vocabulary_of(parts[0])
    elif not pathlib.Path(name).exists():
        raise DataError(f'no file {name}, and no corpus of words of that name; there is ptb')
    else:
        lines = _lines_of_file(name, corpora.read(name))
        if len(lines) < 20:
            raise DataError(f'{name} has {len(lines)} lines; words are read line by line, and it takes at least 20')
        n = len(lines)
        edges = [0, n - n // 10 - n // 20, n - n // 10, n]
        parts = [list(chain.from_iterable(lines[a:b])) for a, b in pairwise(edges)]
        vocabulary = vocabulary_of([*parts[0], UNKNOWN])
    return Corpus(f'{name} words', vocabulary, *(encode(part, vocabulary, strict=False) for part in parts))


def _lines_of_file(name, content):
    lines = _lines(content)
    if any(END in line[:-1] for line in lines):
        raise DataError(f'{name} has {END} written in it, the word that stands for the end of a line: take it out')
    return lines
