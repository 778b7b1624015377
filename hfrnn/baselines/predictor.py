"""The one interface of everything that foretells the next symbol: nets, memoizers, n-grams."""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

State = Any


class Predictor(NamedTuple):
    """A distribution of the next symbol, symbol by symbol.

    ``update`` consumes the state that it is given, as a donated buffer is consumed: go on with the one that it returns.

    Attributes:
      init: ``init() -> state``, before the first symbol.
      probs: ``probs(state) -> p`` (V,) float64, that sums to one.
      update: ``update(state, symbol) -> state``, once the symbol is known.
    """

    init: Callable[[], State]
    probs: Callable[[State], np.ndarray]
    update: Callable[[State, int], State]


def total_bits(predictor: Predictor, state: State, symbols: Iterable[int]) -> tuple[State, float]:
    """(the state after a text, the sum of -log2 p over its symbols): what the bulk paths must equal."""
    bits = 0.0
    for symbol in symbols:
        bits -= math.log2(predictor.probs(state)[symbol])
        state = predictor.update(state, int(symbol))
    return state, bits
