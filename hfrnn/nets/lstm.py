"""Long short-term memory with peepholes.

Sources: Graves 2013 (G13); Semeniuta, Severyn & Barth 2016, "Recurrent Dropout without Memory Loss" (SSB16).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from hfrnn.nets.cell import Cell, take
from hfrnn.nets.initializers import scaled
from hfrnn.nets.scans import clip_cotangent, recurrence, reverse_recurrence


def lstm(
    n_in: int,
    n_hidden: int,
    n_below: int = 0,
    *,
    clip: float | None = None,
    weights: Callable[[jax.Array, tuple[int, ...]], jax.Array] = scaled,
    reverse: bool = False,
    dtype: Any = None,
    dropout: float = 0.0,
) -> Cell:
    """Long short-term memory with peepholes, G13 eq. 7-11::

        i_t = sigmoid(W_xi x_t + W_hi h_{t-1} + w_ci * c_{t-1} + b_i)
        f_t = sigmoid(W_xf x_t + W_hf h_{t-1} + w_cf * c_{t-1} + b_f)
        c_t = f_t * c_{t-1} + i_t * tanh(W_xc x_t + W_hc h_{t-1} + b_c)
        o_t = sigmoid(W_xo x_t + W_ho h_{t-1} + w_co * c_t + b_o)
        h_t = o_t * tanh(c_t)

    The state is (h, c), zero at first.  The rows of W_x, W_h and b are those of i, f, o and c, in this order; the rows
    of w_c are the peepholes of i, f and o.

    Args:
      n_below: the length of a vector v from the layer below.  An input is then a pair (x_t, v_t), and W_h acts on v_t
        and h_{t-1} concatenated.  0 for none.
      clip: the derivatives of the loss with respect to the four arguments of sigmoid and tanh are clipped to
        [-clip, clip] in backpropagation (G13 sec. 2.1); None for none, and for Hessian-Free.
      weights: ``weights(key, shape)`` draws all weights but the biases, which start at 0.  (G13 states neither.)
      reverse: only reverse-mode derivatives, and faster ones: for first-order methods.
      dtype: with ``reverse``, the type that the factors of matrix products are rounded to in training: bfloat16 where
        that is faster; None does not round.  Symbols of an alphabet no larger than the layer are multiplied as one-hot
        vectors, and rounded too; those of a larger alphabet select columns.
      dropout: with ``reverse`` and a key for ``unroll``, the probability with which i_t is set to 0, for each cell and
        step independently; the rest is scaled by 1 / (1 - dropout), so that without a key the net computes the mean
        (SSB16).

    Raises:
      ValueError: if dropout is not in [0, 1); if dropout or dtype is given without ``reverse``.
    """
    if not 0 <= dropout < 1 or (dropout and not reverse):
        raise ValueError(f'dropout is a share from 0 to below 1, of cells with reverse=True; not {dropout}')
    if dtype is not None and not reverse:
        raise ValueError('only the products of cells with reverse=True are rounded to a dtype')

    def init(key):
        k_x, k_h, k_c = jax.random.split(key, 3)
        return {
            'W_x': weights(k_x, (4 * n_hidden, n_in)),
            'W_h': weights(k_h, (4 * n_hidden, n_below + n_hidden)),
            'w_c': weights(k_c, (3, n_hidden)),
            'b': jnp.zeros(4 * n_hidden),
        }

    def initial_state(p):
        zeros = jnp.zeros_like(p['b'][:n_hidden])
        return zeros, zeros

    def core(w_c, c, a):
        i, f, o, g = a.reshape(4, n_hidden)
        w_ci, w_cf, w_co = w_c
        i = jax.nn.sigmoid(clip_cotangent(i + w_ci * c, clip))
        f = jax.nn.sigmoid(clip_cotangent(f + w_cf * c, clip))
        c = f * c + i * jnp.tanh(clip_cotangent(g, clip))
        o = jax.nn.sigmoid(clip_cotangent(o + w_co * c, clip))
        return c, o * jnp.tanh(c)

    reverse_core = _lstm_core(clip)
    dropout_core = _lstm_core(clip, 1 / (1 - dropout))

    def step(p, state, x):
        h, c = state
        if n_below:
            x, below = x
            h = jnp.concatenate([below, h])
        c, h = core(p['w_c'], c, take(p['W_x'], x) + p['W_h'] @ h + p['b'])
        return (h, c), h

    def run(p, state, xs, key=None):
        def input_term(x):
            if not n_below:
                return take(p['W_x'], x) + p['b']
            x, below = x
            return take(p['W_x'], x) + p['W_h'][:, :n_below] @ below + p['b']

        h, c = state
        c, hs = recurrence(core, p['W_h'][:, n_below:], p['w_c'], c, h, jax.vmap(input_term)(xs))
        return (hs[-1], c), hs

    def draw_dropout(key, T, dtype, extra=0):
        """(core, terms to add to its sums and to ``extra`` more: (T, 4 H + extra), -inf for a dropped i; or None)."""
        if not dropout or key is None:
            return reverse_core, None
        dropped = jax.random.bernoulli(key, dropout, (T, n_hidden))
        terms = jnp.where(dropped, -jnp.inf, jnp.zeros((), dtype))
        return dropout_core, jnp.pad(terms, ((0, 0), (0, 3 * n_hidden + extra)))

    def run_reverse(p, state, xs, key=None):
        x, *below = xs if n_below else (xs,)
        W_x, (W_below, W) = p['W_x'], jnp.split(p['W_h'], [n_below], axis=1)
        a = None
        if jnp.issubdtype(x.dtype, jnp.integer) and n_in <= n_hidden:
            x = jax.nn.one_hot(x, n_in, dtype=W.dtype)  # on a CPU faster than a gather, and its scatter-add
        elif jnp.issubdtype(x.dtype, jnp.integer):
            a = jax.vmap(take, (None, 0))(W_x, x)
            x, W_x = jnp.zeros((len(x), 0), a.dtype), W_x[:, :0]
        xs = jnp.concatenate([x, *below, jnp.ones((len(x), 1), x.dtype)], axis=1)
        V = jnp.concatenate([W_x, W_below, p['b'][:, None]], axis=1)
        core, dropped = draw_dropout(key, len(xs), W.dtype)
        if dropped is not None:
            a = dropped if a is None else a + dropped
        h, c = state
        c, hs = reverse_recurrence(lambda _, __, *args: core(*args), dtype, None, W, V, p['w_c'], c, h, xs, a)
        return (hs[-1], c), hs

    def run_with_feedback(p, state, xs, feedback, constants, U, b, feedback_state, below, key=None):
        E = len(U)
        lstm_core, dropped = draw_dropout(key, len(xs), xs.dtype, extra=E)

        def core(constants, U, w_c, state, a):
            c, feedback_state = state
            c, h = lstm_core(w_c, c, a[:-E])
            feedback_state, below = feedback(constants, feedback_state, U @ h + a[-E:])
            return (c, feedback_state), jnp.concatenate([below, h])

        W = jnp.pad(p['W_h'], ((0, E), (0, 0)))
        V = jnp.concatenate([jnp.pad(p['W_x'], ((0, E), (0, 0))), jnp.concatenate([p['b'], b])[:, None]], axis=1)
        xs = jnp.concatenate([xs, jnp.ones((len(xs), 1), xs.dtype)], axis=1)
        h, c = state
        y = jnp.concatenate([below, h])
        (c, feedback_state), ys = reverse_recurrence(
            core, dtype, constants, W, V, p['w_c'], (c, feedback_state), y, xs, dropped, U
        )
        return (ys[-1, n_below:], c), feedback_state, ys[:, n_below:], ys[:, :n_below]

    if reverse:
        return Cell(n_hidden, init, initial_state, step, run_reverse, run_with_feedback)
    return Cell(n_hidden, init, initial_state, step, run)


def _lstm_core(clip, gain=1.0):
    """(w_c, c, a) -> (c, h) with a hand-written vjp, which keeps few residuals.

    The gain multiplies what i adds to c.
    """

    def bound(da):
        return da if clip is None else jnp.clip(da, -clip, clip)

    @jax.custom_vjp
    def core(w_c, c, a):
        return fwd(w_c, c, a)[0]

    def fwd(w_c, c, a):
        i, f, o, g = a.reshape(4, -1)
        i, f, g = jax.nn.sigmoid(i + w_c[0] * c), jax.nn.sigmoid(f + w_c[1] * c), jnp.tanh(g)
        c_new = f * c + gain * i * g
        o, s = jax.nn.sigmoid(o + w_c[2] * c_new), jnp.tanh(c_new)
        return (c_new, o * s), (w_c, c, c_new, i, f, o, g, s)

    def bwd(residuals, cotangent):
        w_c, c, c_new, i, f, o, g, s = residuals
        dc, dh = cotangent
        da_o = bound(dh * s * o * (1 - o))
        dc = dc + dh * o * (1 - s**2) + da_o * w_c[2]
        di, df, dg = gain * dc * g, dc * c, gain * dc * i
        da_i, da_f, da_g = bound(di * i * (1 - i)), bound(df * f * (1 - f)), bound(dg * (1 - g**2))
        dw_c = jnp.stack([da_i * c, da_f * c, da_o * c_new])
        return dw_c, dc * f + da_i * w_c[0] + da_f * w_c[1], jnp.concatenate([da_i, da_f, da_o, da_g])

    core.defvjp(fwd, bwd)
    return core
