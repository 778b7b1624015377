"""The one interface of everything that foretells the next symbol: nets, memoizers, n-grams, mixtures of them."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hfrnn.nets.model import Model

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


PIECE = 64  # the most steps of one call; each call makes room for so many distributions
RATES = (0.01, 0.03, 0.1, 0.3)  # to be tried for a net that learns
LEAST = 1e-30  # the least probability of a symbol: float32 would say 0, and nobody could be told of it


class Frozen(NamedTuple):
    """Where a net stands that learns nothing.

    Attributes:
      carry: the state of its cell.
      p: (V,) the distribution of the next symbol.
    """

    carry: Any
    p: np.ndarray


class Learning(NamedTuple):
    """Where a net stands that learns as it goes.

    Attributes:
      params, opt_state: the net now, and its optimiser.
      carry, p: as of ``Frozen``.
      start: the cell's state before ``inputs``.
      inputs: (n,) int32, what has been read since the last learning step, the newest last.
    """

    params: Any
    opt_state: Any
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


def online(
    net: Model, params: Any, prompt: np.ndarray, optimizer: optax.GradientTransformation, segment: int = PIECE
) -> Predictor:
    """A net that learns from each ``segment`` of symbols once it has read it: dynamic evaluation (Mikolov et al. 2010).

    A step takes the gradient of the segment's mean nats, back to its beginning and no farther.

    Args:
      prompt: (K,) the symbols that it has read before the first, from which it learns too; K >= 1.
    """
    steps = _steps(net)

    @jax.jit
    def step(params, opt_state, start, xs, targets):
        def nats(params):
            def body(carry, x_and_target):
                carry, z = net.step(params, carry, x_and_target[0])
                return carry, net.output.nll(z, x_and_target[1])

            return jnp.sum(jax.lax.scan(body, start, (xs, targets))[1])

        grads = optax.tree.scale(1 / len(xs), jax.grad(nats)(params))  # the net itself clips derivatives of a sum
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    def learnt(state, symbol):
        """The state once the net has learnt to foretell its inputs, each from those before, and then this symbol."""
        targets = np.append(state.inputs[1:], symbol).astype(np.int32)
        params, opt_state = step(state.params, state.opt_state, state.start, state.inputs, targets)
        return state._replace(params=params, opt_state=opt_state, start=state.carry, inputs=state.inputs[:0])

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
                state = learnt(state, symbols[first])
            part = symbols[first : first + min(PIECE, segment - len(state.inputs))]
            P[first] = state.p
            state, after = forward(state, part)
            P[first + 1 : first + len(part)] = after[:-1]
            first += len(part)
        return state, P

    def init():
        carry = net.initial_state(jax.device_put(params))
        state = Learning(
            jax.device_put(params),
            optimizer.init(params),
            carry,
            np.zeros(net.output.size),
            carry,
            np.zeros(0, np.int32),
        )
        return read(state, np.asarray(prompt))[0]

    def update(state, symbol):
        if len(state.inputs) == segment:
            state = learnt(state, symbol)
        return forward(state, [symbol])[0]

    return Predictor(init, lambda state: state.p, update, read)


def descent(rate: float) -> optax.GradientTransformation:
    """Gradient descent for ``online``, its gradients clipped to norm 1: what must decode a file is not to diverge."""
    return optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(rate))


def tuned_rate(
    net: Model, params: Any, prompt: np.ndarray, symbols: np.ndarray, rates: Sequence[float] = RATES
) -> float:
    """The rate of those given with which ``descent``, as the net goes, foretells a text (N,) best."""

    def bits(rate):
        predictor = online(net, params, prompt, descent(rate))
        bits = read_bits(predictor, predictor.init(), symbols)[1]
        return bits if np.isfinite(bits) else np.inf

    return min(rates, key=bits)
