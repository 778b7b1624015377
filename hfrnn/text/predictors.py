"""One interface to everything that predicts the next symbol: nets, memoizers, n-grams, mixtures of them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hfrnn.nets.model import Model
from hfrnn.text.scoring import Rule, learn, segment_gradient

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
        None.  P (N, V) is what ``probs`` gives before each symbol, to the last bit: a text is encoded by this one and
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


PIECE = 64  # the most steps of one call; each call makes room for so many distributions
LEAST = 1e-30  # the least probability of a symbol: in float32 it may be 0, which cannot be coded


class Frozen(NamedTuple):
    """The state of a net that does not learn.

    Attributes:
      carry: the state of its cell.
      p: (V,) the distribution of the next symbol.
    """

    carry: Any
    p: np.ndarray


class Learning(NamedTuple):
    """The state of a net that learns as it reads.

    Attributes:
      params: of the net now.
      carry, p: as in ``Frozen``.
      start: the cell's state before ``inputs``.
      inputs: (n,) int32, what has been read since the last learning step, the newest last.
    """

    params: Any
    carry: Any
    p: np.ndarray
    start: Any
    inputs: np.ndarray


def _steps(net):
    """``steps(params, carry, xs) -> (carry, P (N, V))`` of N <= PIECE symbols."""

    @jax.jit
    def loop(params, carry, xs, n):
        def body(i, carry_and_P):
            carry, z = net.step(params, carry_and_P[0], xs[i])
            return carry, carry_and_P[1].at[i].set(jnp.maximum(jax.nn.softmax(z), LEAST))

        return jax.lax.fori_loop(0, n, body, (carry, jnp.zeros((PIECE, net.output.size), jnp.float32)))

    padded = np.zeros(PIECE, np.int32)

    def steps(params, carry, xs):
        padded[: len(xs)] = xs
        carry, P = loop(params, carry, padded.copy(), np.int32(len(xs)))
        P = np.asarray(P)[: len(xs)].astype(np.float64)
        return carry, P / P.sum(1, keepdims=True)

    return steps


def static(net: Model, params: Any, prompt: np.ndarray) -> Predictor:
    """A net with its weights as they are.

    Args:
      prompt: (K,) the symbols that it has read before the first; K >= 1.
    """
    steps = _steps(net)
    params = jax.device_put(params)

    def read(state, symbols):
        carry, p = state
        P = np.empty((len(symbols), net.output.size))
        for first in range(0, len(symbols), PIECE):
            part = symbols[first : first + PIECE]
            carry, after = steps(params, carry, part)
            P[first] = p
            P[first + 1 : first + len(part)] = after[:-1]
            p = after[-1].copy()
        return Frozen(carry, p), P

    def init():
        return read(Frozen(net.initial_state(params), np.zeros(net.output.size)), np.asarray(prompt))[0]

    def update(state, symbol):
        carry, after = steps(params, state.carry, [symbol])
        return Frozen(carry, after[0])

    return Predictor(init, lambda state: state.p, update, read)


def online(net: Model, params: Any, prompt: np.ndarray, rule: Rule, segment: int = PIECE) -> Predictor:
    """A net that learns each ``segment`` of symbols once it has read it: dynamic evaluation, see ``scoring.learn``.

    Args:
      prompt: (K,) the symbols that it reads before the first, K >= 1; it learns from them, too.
    """
    steps = _steps(net)

    @jax.jit
    def step(trained, rule, params, start, xs, targets):
        _, grads = segment_gradient(net, params, start, xs, targets, jnp.ones(len(xs)))
        return learn(rule, trained, params, grads)

    def learn_segment(state, symbol):
        """The state once the net has learnt to predict its inputs, each from those before, and then this symbol."""
        targets = np.append(state.inputs[1:], symbol).astype(np.int32)
        learned = step(params, rule, state.params, state.start, state.inputs, targets)
        return state._replace(params=learned, start=state.carry, inputs=state.inputs[:0])

    def forward(state, symbols):
        """Reads at most a piece and at most what is left of the segment: (state, P after each)."""
        carry, after = steps(state.params, state.carry, symbols)
        inputs = np.append(state.inputs, symbols).astype(np.int32)
        return state._replace(carry=carry, p=after[-1].copy(), inputs=inputs), after

    def read(state, symbols):
        P = np.empty((len(symbols), net.output.size))
        first = 0
        while first < len(symbols):
            if len(state.inputs) == segment:
                state = learn_segment(state, symbols[first])
            part = symbols[first : first + min(PIECE, segment - len(state.inputs))]
            P[first] = state.p
            state, after = forward(state, part)
            P[first + 1 : first + len(part)] = after[:-1]
            first += len(part)
        return state, P

    def init():
        begun = jax.device_put(params)
        carry = net.initial_state(begun)
        state = Learning(begun, carry, np.zeros(net.output.size), carry, np.zeros(0, np.int32))
        return read(state, np.asarray(prompt))[0]

    def update(state, symbol):
        if len(state.inputs) == segment:
            state = learn_segment(state, symbol)
        return forward(state, [symbol])[0]

    return Predictor(init, lambda state: state.p, update, read)
