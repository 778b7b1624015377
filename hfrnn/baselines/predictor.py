"""The one interface of everything that foretells the next symbol: nets, memoizers, n-grams, mixtures of them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

State = Any


class Predictor(NamedTuple):
    """A distribution of the next symbol, symbol by symbol.

    ``update`` and ``read`` consume the state that they are given, as a donated buffer is consumed: go on with the one
    that they return.

    Attributes:
      init: ``init() -> state``, before the first symbol.
      probs: ``probs(state) -> p`` (V,) float64, that sums to one.
      update: ``update(state, symbol) -> state``, once the symbol is known.
      read: ``read(state, symbols) -> (state, P)``, of predictors that have a faster way through a known text (N,); else
        None.  P (N, V) is what ``probs`` says before each symbol, to the last bit: a text is encoded by this one and
        decoded by the two above.
    """

    init: Callable[[], State]
    probs: Callable[[State], np.ndarray]
    update: Callable[[State, int], State]
    read: Callable[[State, np.ndarray], tuple[State, np.ndarray]] | None = None


def read(predictor: Predictor, state: State, symbols: np.ndarray) -> tuple[State, np.ndarray]:
    """(the state after a text (N,), N > 0, the distributions P (N, V) before each of its symbols)."""
    if predictor.read is not None:
        return predictor.read(state, symbols)
    P = []
    for symbol in symbols:
        P.append(predictor.probs(state))
        state = predictor.update(state, int(symbol))
    return state, np.stack(P)


def read_bits(predictor: Predictor, state: State, symbols: np.ndarray, piece: int = 4096) -> tuple[State, float]:
    """(the state after a text, the sum of -log2 p over its symbols), in pieces: memory does not grow with the text."""
    bits = 0.0
    for first in range(0, len(symbols), piece):
        part = symbols[first : first + piece]
        state, P = read(predictor, state, part)
        bits -= float(np.sum(np.log2(P[np.arange(len(part)), part])))
    return state, bits
