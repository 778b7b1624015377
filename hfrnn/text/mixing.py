"""Predictors mixed into one, with weights that are learnt online.

    p(s) ~ prod_m p_m(s)^(w_m)

is a softmax of the predictors' logarithms: -log p(symbol) is convex in w, and its gradient is the expectation of
log p_m under the mixture minus log p_m(symbol) (a product of experts, Hinton 2002; Mahoney 2005's mixing in PAQ is the
same for bits).  The weight that a predictor deserves depends on its confidence, so w is a sum: weights that always
hold, and for each predictor those of the bucket of its present entropy.
"""

from typing import Any, NamedTuple

import numpy as np

from hfrnn.text.predictors import Predictor, read

LEAST = 1e-30  # probabilities of predictors are at least that, for the sake of their logarithms
BUCKETS = np.array([0.25, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0])  # bits of entropy


class Mixed(NamedTuple):
    """The state of a mixture of M predictors.

    Attributes:
      states: of the predictors.
      w: (1 + M, buckets, M) weights, of which one bucket for each of the first axis is in use at a time.
      used: (1 + M, buckets) how often each has been used.
      log_p: (M, V) the logarithms of the predictors' probabilities of the next symbol.
      chosen: (1 + M,) the buckets in use for it.
      p: (V,) the mixture.
    """

    states: tuple[Any, ...]
    w: np.ndarray
    used: np.ndarray
    log_p: np.ndarray
    chosen: np.ndarray
    p: np.ndarray


def mix(*predictors: Predictor, rate: float = 0.05, least_rate: float = 5e-4) -> Predictor:
    """The mixture of predictors of one alphabet.

    Args:
      rate: of the gradient steps: a weight's n-th step goes by rate / sqrt(n).
      least_rate: but by no less than this, so that it follows a changing text.  On Penn Treebank's validation text
        rates from 0.01 to 0.1, and least ones from 1e-4 to 2e-3, differ by 0.003 bits a character at the most.
    """
    groups = np.arange(1 + len(predictors))

    def ready(states, w, used, P):
        """The state before a symbol, for which the predictors give the distributions P (M, V)."""
        P = np.maximum(P, LEAST)
        log_p = np.log(P)
        entropies = -np.sum(P * log_p, 1) / np.log(2)
        chosen = np.append(0, np.searchsorted(BUCKETS, entropies))
        z = w[groups, chosen].sum(0) @ log_p
        p = np.exp(z - z.max())
        return Mixed(states, w, used, log_p, chosen, p / p.sum())

    def learn(state, symbol):
        """(w, used) after a symbol."""
        w, used = state.w, state.used
        at = groups, state.chosen
        used[at] += 1
        rates = np.maximum(rate / np.sqrt(used[at]), least_rate)
        w[at] += rates[:, None] * (state.log_p[:, symbol] - state.log_p @ state.p)[None]
        return w, used

    def init():
        states = tuple(predictor.init() for predictor in predictors)
        w = np.zeros((len(groups), len(BUCKETS) + 1, len(predictors)))
        w[0] = 1 / len(predictors)
        return ready(states, w, np.zeros(w.shape[:2]), probabilities(states))

    def probabilities(states):
        return np.stack([predictor.probs(state) for predictor, state in zip(predictors, states, strict=True)])

    def update(state, symbol):
        w, used = learn(state, symbol)
        pairs = zip(predictors, state.states, strict=True)
        states = tuple(predictor.update(one, symbol) for predictor, one in pairs)
        return ready(states, w, used, probabilities(states))

    def bulk(state, symbols):
        pairs = [read(predictor, one, symbols) for predictor, one in zip(predictors, state.states, strict=True)]
        states = tuple(one for one, _ in pairs)
        predicted = np.stack([P for _, P in pairs], 1)  # (N, M, V)
        mixed = np.empty_like(predicted[:, 0])
        for i, symbol in enumerate(symbols):
            mixed[i] = state.p
            following = predicted[i + 1] if i + 1 < len(symbols) else probabilities(states)
            state = ready(states, *learn(state, symbol), following)
        return state, mixed

    return Predictor(init, lambda state: state.p, update, bulk)
