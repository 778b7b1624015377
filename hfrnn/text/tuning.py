"""The rule of dynamic evaluation that serves a net best on validation text."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hfrnn.errors import DataError
from hfrnn.nets.model import Model
from hfrnn.text.metrics import text_metrics
from hfrnn.text.scoring import Rule, dynamic_reader, root_mean_squares

RULES = ('sgd', 'rms')  # gradient descent; that of Krause et al. 2018, see ``scoring.learn``
SHORTEST = 1_000  # a validation text, in symbols, that a rate can be chosen on


def check_tuning_text(symbols: np.ndarray) -> None:
    """Checks that there is enough validation text to choose a learning rate on.

    Raises:
      DataError: if not.
    """
    if len(symbols) < SHORTEST:
        raise DataError(
            f'{len(symbols):,} validation symbols are too few to tune dynamic evaluation on ({SHORTEST:,} are needed)'
        )


def tuned_rule(
    name: str,
    model: Model,
    params: Any,
    alphabet: Sequence[str],
    train: np.ndarray,
    valid: np.ndarray,
    *,
    segment: int,
    clip: float = math.inf,
    read: Callable | None = None,
    on_trial: Callable[[float, float, float], None] = lambda rate, decay, bits: None,
) -> Rule:
    """The rule with the fewest bits on validation text, its rate and decay chosen by ``tuned``.

    Args:
      name: one of RULES.
      train: (N,) training text, for the root mean squares of 'rms'.
      valid: (N,) validation text.
      segment: symbols between two changes of the weights.
      clip: of the rule.
      read: ``scoring.dynamic_reader(model, segment)``, if there is one already.
      on_trial: is called with the rate, the decay and the bits per character of every trial.

    Raises:
      DataError: if the weights diverge at every rate.
    """
    start = [len(alphabet)]
    read = read or dynamic_reader(model, segment)
    rms = root_mean_squares(model, params, train, start, segment) if name == 'rms' else None

    def bits(rate, decay):
        reading = read(params, valid, start, Rule(rate, decay, rms, clip))
        found = text_metrics(reading, alphabet, valid)['bits_per_char']
        on_trial(rate, decay, found)
        return found

    return Rule(*tuned(bits, name == 'rms'), rms, clip)


def tuned(bits: Callable[[float, float], float], with_rms: bool, gain: float = 2e-4) -> tuple[float, float]:
    """(rate, decay) with the fewest ``bits(rate, decay)`` of validation text; gradient descent has no decay.

    Args:
      gain: what is worth another step of the search, in bits per character.

    Raises:
      DataError: if the weights diverge at every rate.
    """
    rate, without = tune(lambda rate: bits(rate, 0.0), 3e-4 if with_rms else 1e-3, gain=gain)
    if math.isinf(without):
        raise DataError(f'the weights diverge on validation text, down to a rate of {rate:.2g}')
    if not with_rms:
        return rate, 0.0
    decay, value = tune(lambda decay: bits(rate, decay), 1e-3, gain=gain)
    return rate, decay if value < without else 0.0


def tune(measure: Callable[[float], float], start: float, factor: float = 3.0, most: int = 12, gain: float = 0.0):
    """The argument > 0 with the least value that a walk finds, as (argument, value).

    The walk goes from ``start`` by ``factor`` up or down as long as that gains more than ``gain``, and at last by the
    root of the factor to both sides.  A value that is not finite counts as infinite.
    """
    seen = {}

    def value(k):
        if k not in seen:
            found = measure(start * factor**k)
            seen[k] = found if math.isfinite(found) else math.inf
        return seen[k]

    best = min((0, 1, -1), key=value)
    while math.isinf(value(best)) and len(seen) < most:  # nothing but divergence so far
        best = min(seen) - 1
    step = math.copysign(1, best)
    while best and len(seen) < most and value(best + step) < value(best) - gain:
        best += step
    best = min((best, best - 0.5, best + 0.5), key=value)
    return start * factor**best, seen[best]
