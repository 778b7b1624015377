"""The recurrent cells: tanh RNN, tensor RNN, multiplicative RNN, LSTM, and stacks of them.

What a cell is, and the legend of the shapes, stand in ``hfrnn.nets.cell``.

Sources: Sutskever, Martens & Hinton 2011 (SMH11); Graves 2013 (G13).
"""

import jax
import jax.numpy as jnp

from hfrnn.nets.cell import Cell, take, unroll
from hfrnn.nets.initializers import SCALE, gaussian, scaled, sparse
from hfrnn.nets.lstm import lstm

__all__ = [
    'SCALE',
    'Cell',
    'gaussian',
    'lstm',
    'mrnn',
    'rnn',
    'scaled',
    'sparse',
    'stack',
    'take',
    'tensor_rnn',
    'unroll',
]


def rnn(n_in: int, n_hidden: int, *, input_scale: float = SCALE, bias_scale: float = 0.0) -> Cell:
    """The standard tanh RNN, SMH11 eq. 1::

        h_t = tanh(W_hx x_t + W_hh h_{t-1} + b_h)

    The initial h_0 is learned.  (The paper learns the product W_hh h_0 instead: as many weights.)

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

    return Cell(n_hidden, init, lambda p: p['h_init'], step, tanh_units=True)


def tensor_rnn(n_in: int, n_hidden: int) -> Cell:
    """The RNN whose recurrent matrix is chosen by the input symbol, SMH11 eq. 3-5::

        W_hh^(x) = sum_m x[m] W_hh^(m)
        h_t = tanh(W_hx x_t + W_hh^(x_t) h_{t-1} + b_h)

    It has V H^2 weights, so it is for small nets only.
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
        W_hh = p['W_hh'].at[x].get(mode='fill', fill_value=0) if symbol else jnp.einsum('m,mij->ij', x, p['W_hh'])
        h = jnp.tanh(take(p['W_hx'], x) + W_hh @ h + p['b_h'])
        return h, h

    return Cell(n_hidden, init, lambda p: p['h_init'], step, tanh_units=True)


def mrnn(n_in: int, n_hidden: int, n_factors: int, *, gain: str = 'linear') -> Cell:
    """The multiplicative RNN: the tensor RNN with its tensor in F factors, SMH11 eq. 7-8::

        f_t = (W_fx x_t) * (W_fh h_{t-1})
        h_t = tanh(W_hf f_t + W_hx x_t)

    There is no b_h: with symbols as inputs, W_hx contains it.

    Args:
      gain: the factor of W_fh h_{t-1}.  'linear' is W_fx x_t, as in the paper; 'tanh' is tanh(W_fx x_t) + b_f, as in
        the author's released code.

    Raises:
      ValueError: for any other gain.
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

    return Cell(n_hidden, init, lambda p: p['h_init'], step, tanh_units=True)


def stack(*cells: Cell) -> Cell:
    """Layers with skip connections, G13 eq. 1-2: every layer gets the input, and the readout gets every layer::

        h^1_t = layer_1(x_t, h^1_{t-1})
        h^n_t = layer_n(x_t, h^{n-1}_t, h^n_{t-1})
        y_t = (h^1_t, ..., h^N_t), concatenated

    A linear readout of y is therefore the paper's sum over layers.  Parameters and state are tuples, one entry a layer.

    Args:
      cells: from the lowest up; all but the first take a vector from the layer below (``n_below`` of ``lstm``).
    """

    def init(key):
        return tuple(cell.init(k) for cell, k in zip(cells, jax.random.split(key, len(cells)), strict=True))

    def initial_state(params):
        return tuple(cell.initial_state(p) for cell, p in zip(cells, params, strict=True))

    def apply_layers(apply, params, state, xs):
        """Applies the layers from the lowest up, each by ``apply(cell, params, state, input)``."""
        states, ys = [], []
        for cell, p, s in zip(cells, params, state, strict=True):
            s, y = apply(cell, p, s, (xs, ys[-1]) if ys else xs)
            states.append(s)
            ys.append(y)
        return tuple(states), jnp.concatenate(ys, axis=-1)

    def step(params, state, x):
        return apply_layers(lambda cell, *args: cell.step(*args), params, state, x)

    def run(params, state, xs, key=None):
        keys = iter([None] * len(cells) if key is None else jax.random.split(key, len(cells)))
        return apply_layers(lambda cell, p, s, xs: unroll(cell, p, xs, s, next(keys)), params, state, xs)

    return Cell(sum(cell.size for cell in cells), init, initial_state, step, run)
