"""Metrics of text: bits per character, perplexity, error rate."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from hfrnn.text import words
from hfrnn.text.scoring import Reading
from hfrnn.train.loss import Batch, sum_metrics

BITS = 1 / math.log(2)  # bits in a nat


def bits_per_char(step: Callable, params: Any, batches: Iterable[Batch]) -> float:
    """The mean of -log2 P over the weighted targets of batches; see ``totals``."""
    sums = sum_metrics(step, params, batches)
    return sums['nats'] / sums['targets'] * BITS


def count_units(alphabet: str | tuple[str, ...], symbols: np.ndarray) -> tuple[int, int]:
    """(characters, words) of a text of symbols (N,), by its alphabet, which is a tuple if they are words.

    Of characters, a word is what has no space or end of a line in it and one behind it, and there is one at least.  Of
    words, each is followed by a character, and the ``words.END`` of a line is a word that takes the place of its last
    one.
    """
    if not isinstance(alphabet, str):
        lengths = np.array([0 if word == words.END else len(word) + 1 for word in alphabet])
        return int(lengths[symbols].sum()), len(symbols)
    blank = np.isin(symbols, [i for i, c in enumerate(alphabet) if c in ' \n'])
    return len(symbols), max(1, int(np.sum(blank & ~np.append(True, blank[:-1]))))


def text_metrics(reading: Reading, alphabet: str | tuple[str, ...], symbols: np.ndarray) -> dict[str, float]:
    """Bits per character, perplexity (of a word) and error rate (of symbols) of a text (N,) that a net has read.

    Graves 2013 sec. 3 gives all three.
    """
    bits = float(reading.nats.sum()) * BITS
    characters, n_words = count_units(alphabet, symbols)
    return {
        'bits_per_char': bits / characters,
        'perplexity': 2 ** min(bits / n_words, 1000.0),
        'error': float(reading.wrong.mean()),
    }
