"""Recurrent cells: pairs of pure functions, written for one sequence.

Legend of the shapes, here and in the whole library:

    T  time steps        D  size of an input      H  hidden units
    F  factors           V  symbols               B  sequences in a batch

A symbol is a scalar integer, which selects a column of an input matrix; a vector of D numbers is
multiplied by it.  A one-hot vector and its symbol therefore give the same result.

Sources: Sutskever, Martens & Hinton 2011 (SMH11).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Params = Any
State = Any


class Cell(NamedTuple):
    """A recurrent layer.

    Attributes:
      size: the number of outputs, the length of ``y`` below.
      init: ``init(key) -> params``.
      initial_state: ``initial_state(params) -> state``, the (learned) state before the first input.
      step: ``step(params, state, x) -> (state, y)``.
    """

    size: int
    init: Callable[[jax.Array], Params]
    initial_state: Callable[[Params], State]
    step: Callable[[Params, State, jax.Array], tuple[State, jax.Array]]


def unroll(cell: Cell, params: Params, xs: jax.Array, state: State = None) -> tuple[State, jax.Array]:
    """Runs a cell over one sequence.  It is this loop, as one ``lax.scan``::

        state = cell.initial_state(params)
        ys = []
        for x in xs:
            state, y = cell.step(params, state, x)
            ys.append(y)
        return state, stack(ys)

    Args:
      xs: (T,) symbols or (T, D) vectors.
      state: where to start; the cell's own initial state if None.

    Returns:
      The state after the last input, and ys (T, size).
    """
    if state is None:
        state = cell.initial_state(params)
    return jax.lax.scan(lambda state, x: cell.step(params, state, x), state, xs)


def sparse(key: jax.Array, shape: tuple[int, int], scale: float, connections: int = 15) -> jax.Array:
    """Sparse initialisation: every unit (row) starts with exactly ``connections`` non-zero weights.

    Their values are N(0, scale^2); a row with fewer columns than that is dense.  SMH11 sec. 5.2.

    Returns:
      (units, sources) weights.
    """
    places, values = jax.random.split(key)
    rank = jnp.argsort(jnp.argsort(jax.random.uniform(places, shape)))  # a random permutation in every row
    return jnp.where(rank < connections, scale * jax.random.normal(values, shape), 0.0)


SCALE = 15**-0.5  # 15 inputs of variance 1 then give a sum of variance 1


def take(W: jax.Array, x: jax.Array) -> jax.Array:
    """W x for a vector x (D,), or the column of W that the symbol x names."""
    return W[:, x] if jnp.issubdtype(x.dtype, jnp.integer) else W @ x


def rnn(n_in: int, n_hidden: int, *, input_scale: float = SCALE, bias_scale: float = 0.0) -> Cell:
    """The standard tanh RNN, SMH11 eq. 1::

        h_t = tanh(W_hx x_t + W_hh h_{t-1} + b_h)

    The initial h_0 is learned.  (The paper learns the product W_hh h_0 in its place: the same number of weights.)

    Args:
      input_scale, bias_scale: the standard deviations of W_hx's non-zero weights and of b_h at the start.
    """

    def init(key):
        k_hx, k_hh, k_b = jax.random.split(key, 3)
        return {
            'W_hx': sparse(k_hx, (n_hidden, n_in), input_scale),
            'W_hh': sparse(k_hh, (n_hidden, n_hidden), SCALE),
            'b_h': bias_scale * jax.random.normal(k_b, (n_hidden,)),
            'h_init': jnp.zeros(n_hidden),
        }

    def step(p, h, x):
        h = jnp.tanh(take(p['W_hx'], x) + p['W_hh'] @ h + p['b_h'])
        return h, h

    return Cell(n_hidden, init, lambda p: p['h_init'], step)


def tensor_rnn(n_in: int, n_hidden: int) -> Cell:
    """The RNN whose recurrent matrix is chosen by the input symbol, SMH11 eq. 3-5::

        W_hh^(x) = sum_m x[m] W_hh^(m)
        h_t = tanh(W_hx x_t + W_hh^(x_t) h_{t-1} + b_h)

    It has V H^2 weights: for small nets only.
    """

    def init(key):
        k_hx, k_hh = jax.random.split(key)
        matrices = jax.vmap(lambda k: sparse(k, (n_hidden, n_hidden), SCALE))(jax.random.split(k_hh, n_in))
        return {
            'W_hx': sparse(k_hx, (n_hidden, n_in), SCALE),
            'W_hh': matrices,  # (V, H, H)
            'b_h': jnp.zeros(n_hidden),
            'h_init': jnp.zeros(n_hidden),
        }

    def step(p, h, x):
        symbol = jnp.issubdtype(x.dtype, jnp.integer)
        W_hh = p['W_hh'][x] if symbol else jnp.einsum('m,mij->ij', x, p['W_hh'])
        h = jnp.tanh(take(p['W_hx'], x) + W_hh @ h + p['b_h'])
        return h, h

    return Cell(n_hidden, init, lambda p: p['h_init'], step)


def mrnn(n_in: int, n_hidden: int, n_factors: int, *, gain: str = 'linear') -> Cell:
    """The multiplicative RNN: the tensor RNN with its tensor in F factors, SMH11 eq. 7-8::

        f_t = (W_fx x_t) * (W_fh h_{t-1})
        h_t = tanh(W_hf f_t + W_hx x_t)

    There is no b_h: with symbols as inputs W_hx holds it already.

    Args:
      gain: what multiplies the factors.  'linear' is W_fx x_t, the paper's form; 'tanh' is
        tanh(W_fx x_t) + b_f, the form of the code that the author released.

    Raises:
      ValueError: for another gain.
    """
    if gain not in ('linear', 'tanh'):
        raise ValueError(f"gain is 'linear' or 'tanh', not {gain!r}")

    def init(key):
        k_fx, k_fh, k_hf, k_hx, k_f = jax.random.split(key, 5)
        params = {
            'W_fx': sparse(k_fx, (n_factors, n_in), 1.0),  # a gain, not a sum
            'W_fh': sparse(k_fh, (n_factors, n_hidden), SCALE),
            'W_hf': sparse(k_hf, (n_hidden, n_factors), SCALE),
            'W_hx': sparse(k_hx, (n_hidden, n_in), SCALE),
            'h_init': jnp.zeros(n_hidden),
        }
        if gain == 'tanh':
            params['b_f'] = jax.random.normal(k_f, (n_factors,))
        return params

    def step(p, h, x):
        g = take(p['W_fx'], x)
        if gain == 'tanh':
            g = jnp.tanh(g) + p['b_f']
        h = jnp.tanh(p['W_hf'] @ (g * (p['W_fh'] @ h)) + take(p['W_hx'], x))
        return h, h

    return Cell(n_hidden, init, lambda p: p['h_init'], step)
