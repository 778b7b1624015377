"""Metrics of text: bits per character, perplexity, error rate."""

from collections.abc import Sequence

import numpy as np

from hfrnn.text import words
from hfrnn.text.scoring import BITS, Reading

__all__ = ['BITS', 'count_units', 'text_metrics']


def count_units(alphabet: Sequence[str], symbols: np.ndarray) -> tuple[int, int]:
    """(characters, words) of a text (N,); at least one word.

    In a text of characters, a word is a run of other characters before a space or the end of a line.  In a text of
    words, every word counts its letters and the space after it; END, the end of a line, is a word and counts none, as
    it takes the place of that space.

    Args:
      alphabet: the character of each symbol, or a tuple of words.
    """
    if not isinstance(alphabet, str):
        lengths = np.array([0 if word == words.END else len(word) + 1 for word in alphabet])
        return int(lengths[symbols].sum()), len(symbols)
    blank = np.isin(symbols, [i for i, c in enumerate(alphabet) if c in ' \n'])
    return len(symbols), max(1, int(np.sum(blank & ~np.append(True, blank[:-1]))))


def text_metrics(reading: Reading, alphabet: Sequence[str], symbols: np.ndarray) -> dict[str, float]:
    """Bits per character, perplexity per word, and the rate of wrong symbols (Graves 2013 sec. 3 gives all three).

    Args:
      reading: of the text.
      symbols: (N,) the text.
    """
    bits = float(reading.nll.sum()) * BITS
    characters, n_words = count_units(alphabet, symbols)
    return {
        'bits_per_char': bits / characters,
        'perplexity': 2 ** min(bits / n_words, 1000.0),
        'error': float(reading.wrong.mean()),
    }
