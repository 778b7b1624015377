"""What every way to read a text with a predictor must equal."""

import math
from collections.abc import Iterable

from hfrnn.text.predictors import Predictor, State


def total_bits(predictor: Predictor, state: State, symbols: Iterable[int]) -> tuple[State, float]:
    """(the state after a text, the sum of -log2 p over its symbols)."""
    bits = 0.0
    for symbol in symbols:
        bits -= math.log2(predictor.probs(state)[symbol])
        state = predictor.update(state, int(symbol))
    return state, bits
