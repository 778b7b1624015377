"""Recurrent cells: pairs of pure functions, written for one sequence.

Legend of the shapes, here and in the whole library:

    T  time steps        D  size of an input      H  hidden units
    F  factors           V  symbols               B  sequences in a batch

A symbol is a scalar integer, which selects a column of an input matrix; a vector of D numbers is
multiplied by it.  A one-hot vector and its symbol therefore give the same result.

Sources: Sutskever, Martens & Hinton 2011 (SMH11); Graves 2013 (G13); Semeniuta, Severyn & Barth 2016, "Recurrent
Dropout without Memory Loss" (SSB16).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hfrnn.nets.scans import clip_cotangent, recurrence, reverse_recurrence

Params = Any
State = Any


class Cell(NamedTuple):
    """A recurrent layer.

    Attributes:
      size: the number of outputs, the length of ``y`` below.
      init: ``init(key) -> params``.
      initial_state: ``initial_state(params) -> state``, the (learned) state before the first input.
      step: ``step(params, state, x) -> (state, y)``.
      run: ``run(params, state, xs, key=None) -> (state, ys)``, the loop over steps, of cells that have a faster way, or
        one that is random while it is trained, by a key; else None.
      run_fed: ``run_fed(params, state, xs, feed, given, U, b, fed, below, key=None) -> (state, fed, ys, belows)``, the
        loop of a layer whose input from below depends on what it put out itself, or None.  xs are vectors, U is (E,
        size) and b (E,); ``below`` is what comes from below in the first step, and ``belows`` what would in each step
        after::

            for x in xs:
                state, y = step(params, state, (x, below))
                fed, below = feed(given, fed, U @ y + b)

        Nothing is derived with respect to ``given``; the key is that of ``run``.
    """

    size: int
    init: Callable[[jax.Array], Params]
    initial_state: Callable[[Params], State]
    step: Callable[[Params, State, Any], tuple[State, jax.Array]]
    run: Callable[..., tuple[State, jax.Array]] | None = None
    run_fed: Callable[..., tuple[State, State, jax.Array, jax.Array]] | None = None


def unroll(
    cell: Cell, params: Params, xs: jax.Array, state: State = None, key: jax.Array | None = None
) -> tuple[State, jax.Array]:
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
      key: of what the cell leaves out while it is trained, if it does (``dropout`` of ``lstm``); None for nothing.

    Returns:
      The state after the last input, and ys (T, size).
    """
    if state is None:
        state = cell.initial_state(params)
    if cell.run is not None:
        return cell.run(params, state, xs, key)
    return jax.lax.scan(lambda state, x: cell.step(params, state, x), state, xs)


SCALE = 15**-0.5  # 15 inputs of variance 1 then give a sum of variance 1


def sparse(key: jax.Array, shape: tuple[int, int], scale: float = SCALE, connections: int = 15) -> jax.Array:
    """Sparse initialisation: every unit (row) starts with exactly ``connections`` non-zero weights.

    Their values are N(0, scale^2); a row with fewer columns than that is dense.  SMH11, on training.

    Returns:
      (units, sources) weights.
    """
    places, values = jax.random.split(key)
    rank = jnp.argsort(jnp.argsort(jax.random.uniform(places, shape)))  # a random permutation in every row
    return jnp.where(rank < connections, scale * jax.random.normal(values, shape), 0.0)


def gaussian(key: jax.Array, shape: tuple[int, ...], sd: float = 0.1) -> jax.Array:
    """Weights drawn from N(0, sd^2)."""
    return sd * jax.random.normal(key, shape)


def scaled(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Weights drawn from N(0, 1/n) for units of n inputs: inputs of variance 1 then give a sum of variance 1."""
    return gaussian(key, shape, shape[-1] ** -0.5)


def take(W: jax.Array, x: jax.Array) -> jax.Array:
    """W x for a vector x (D,), or the column of W that the symbol x names.

    A symbol past the last column is the null vector, with which a text begins (G13 sec. 2).
    """
    return W.at[:, x].get(mode='fill', fill_value=0) if jnp.issubdtype(x.dtype, jnp.integer) else W @ x


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
        W_hh = p['W_hh'].at[x].get(mode='fill', fill_value=0) if symbol else jnp.einsum('m,mij->ij', x, p['W_hh'])
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

    The state is (h, c), zero at first.  The rows of W_x, W_h and b are those of i, f, o and c, one below the other, and
    those of w_c the peepholes of i, f and o.

    Args:
      n_below: the length of a vector v that comes from the layer below: an input is then a pair (x_t, v_t), and
        W_h acts on v_t and h_{t-1}, one after the other.  0 for none.
      clip: the derivatives of the loss with respect to the four arguments of sigmoid and tanh are clipped to
        [-clip, clip] on their way back (G13 sec. 2.1); None for none, and for Hessian-Free.
      weights: ``weights(key, shape)`` draws all but the biases, which start at 0.  (G13 says nothing of either.)
      reverse: derivatives by reverse mode alone, and quicker: for first-order methods.
      dtype: with ``reverse``, what the factors of products are rounded to while training: bfloat16, where that is
        quicker; None for what they are.  Symbols of an alphabet no larger than the layer are factors, too: they are
        multiplied as one-hot vectors, and of a larger one picked.
      dropout: with ``reverse``, and a key for ``unroll``, so much of what i_t lets into c_t is left out, each cell and
        step by itself, and the rest larger by 1 / (1 - dropout), so that no key gives the mean (SSB16).

    Raises:
      ValueError: for dropout that is no share below 1; for it, or a dtype, without ``reverse``.
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

    quick_core = _lstm_core(clip)
    dropped_core = _lstm_core(clip, 1 / (1 - dropout))

    def step(p, state, x):
        h, c = state
        if n_below:
            x, below = x
            h = jnp.concatenate([below, h])
        c, h = core(p['w_c'], c, take(p['W_x'], x) + p['W_h'] @ h + p['b'])
        return (h, c), h

    def run(p, state, xs, key=None):
        def share(x):
            if not n_below:
                return take(p['W_x'], x) + p['b']
            x, below = x
            return take(p['W_x'], x) + p['W_h'][:, :n_below] @ below + p['b']

        h, c = state
        c, hs = recurrence(core, p['W_h'][:, n_below:], p['w_c'], c, h, jax.vmap(share)(xs))
        return (hs[-1], c), hs

    def left_out(key, T, dtype, more=0):
        """(core, what is added to its sums and some more): (T, 4 H + more), -inf for an i that is shut; or None."""
        if not dropout or key is None:
            return quick_core, None
        shut = jax.random.bernoulli(key, dropout, (T, n_hidden))
        return dropped_core, jnp.pad(
            jnp.where(shut, -jnp.inf, jnp.zeros((), dtype)), ((0, 0), (0, 3 * n_hidden + more))
        )

    def run_reverse(p, state, xs, key=None):
        x, *below = xs if n_below else (xs,)
        W_x, (W_below, W) = p['W_x'], jnp.split(p['W_h'], [n_below], axis=1)
        a = None
        if jnp.issubdtype(x.dtype, jnp.integer) and n_in <= n_hidden:
            x = jax.nn.one_hot(x, n_in, dtype=W.dtype)  # on a CPU quicker than to pick columns, and to add them up
        elif jnp.issubdtype(x.dtype, jnp.integer):
            a = jax.vmap(take, (None, 0))(W_x, x)
            x, W_x = jnp.zeros((len(x), 0), a.dtype), W_x[:, :0]
        xs = jnp.concatenate([x, *below, jnp.ones((len(x), 1), x.dtype)], axis=1)
        V = jnp.concatenate([W_x, W_below, p['b'][:, None]], axis=1)
        core, shut = left_out(key, len(xs), W.dtype)
        if shut is not None:
            a = shut if a is None else a + shut
        h, c = state
        c, hs = reverse_recurrence(lambda _, __, *args: core(*args), dtype, None, W, V, p['w_c'], c, h, xs, a)
        return (hs[-1], c), hs

    def run_fed(p, state, xs, feed, given, U, b, fed, below, key=None):
        E = len(U)
        lstm_core, shut = left_out(key, len(xs), xs.dtype, more=len(U))

        def core(given, U, w_c, state, a):
            c, fed = state
            c, h = lstm_core(w_c, c, a[:-E])
            fed, below = feed(given, fed, U @ h + a[-E:])
            return (c, fed), jnp.concatenate([below, h])

        W = jnp.pad(p['W_h'], ((0, E), (0, 0)))
        V = jnp.concatenate([jnp.pad(p['W_x'], ((0, E), (0, 0))), jnp.concatenate([p['b'], b])[:, None]], axis=1)
        xs = jnp.concatenate([xs, jnp.ones((len(xs), 1), xs.dtype)], axis=1)
        h, c = state
        y = jnp.concatenate([below, h])
        (c, fed), ys = reverse_recurrence(core, dtype, given, W, V, p['w_c'], (c, fed), y, xs, shut, U)
        return (ys[-1, n_below:], c), fed, ys[:, n_below:], ys[:, :n_below]

    if reverse:
        return Cell(n_hidden, init, initial_state, step, run_reverse, run_fed)
    return Cell(n_hidden, init, initial_state, step, run)


def _lstm_core(clip, gain=1.0):
    """c, h and the derivatives of the LSTM from c and its four sums, with little kept for the way back.

    What i lets into c is multiplied by the gain.
    """

    def bound(da):
        return da if clip is None else jnp.clip(da, -clip, clip)

    @jax.custom_vjp
    def core(w_c, c, a):
        return there(w_c, c, a)[0]

    def there(w_c, c, a):
        i, f, o, g = a.reshape(4, -1)
        i, f, g = jax.nn.sigmoid(i + w_c[0] * c), jax.nn.sigmoid(f + w_c[1] * c), jnp.tanh(g)
        after = f * c + gain * i * g
        o, s = jax.nn.sigmoid(o + w_c[2] * after), jnp.tanh(after)
        return (after, o * s), (w_c, c, after, i, f, o, g, s)

    def back(kept, cotangent):
        w_c, c, after, i, f, o, g, s = kept
        dc, dh = cotangent
        da_o = bound(dh * s * o * (1 - o))
        dc = dc + dh * o * (1 - s**2) + da_o * w_c[2]
        di, df, dg = gain * dc * g, dc * c, gain * dc * i
        da_i, da_f, da_g = bound(di * i * (1 - i)), bound(df * f * (1 - f)), bound(dg * (1 - g**2))
        dw_c = jnp.stack([da_i * c, da_f * c, da_o * after])
        return dw_c, dc * f + da_i * w_c[0] + da_f * w_c[1], jnp.concatenate([da_i, da_f, da_o, da_g])

    core.defvjp(there, back)
    return core


def stack(*cells: Cell) -> Cell:
    """Layers with skip connections, G13 eq. 1-2: the input goes to every layer, every layer's output to the readout.

        h^1_t = layer_1(x_t, h^1_{t-1})
        h^n_t = layer_n(x_t, h^{n-1}_t, h^n_{t-1})
        y_t = h^1_t, ..., h^N_t, one after the other

    so that the readout of y is the paper's sum over layers.  Parameters and state are tuples, one entry for each layer.

    Args:
      cells: from the lowest; every other one made for a vector from the one below it (``n_below`` of ``lstm``).
    """

    def init(key):
        return tuple(cell.init(k) for cell, k in zip(cells, jax.random.split(key, len(cells)), strict=True))

    def initial_state(params):
        return tuple(cell.initial_state(p) for cell, p in zip(cells, params, strict=True))

    def each(go, params, state, xs):
        """The layers one after the other, each by go(cell, params, state, input)."""
        after, ys = [], []
        for cell, p, s in zip(cells, params, state, strict=True):
            s, y = go(cell, p, s, (xs, ys[-1]) if ys else xs)
            after.append(s)
            ys.append(y)
        return tuple(after), jnp.concatenate(ys, axis=-1)

    def step(params, state, x):
        return each(lambda cell, *args: cell.step(*args), params, state, x)

    def run(params, state, xs, key=None):
        keys = iter([None] * len(cells) if key is None else jax.random.split(key, len(cells)))
        return each(lambda cell, p, s, xs: unroll(cell, p, xs, s, next(keys)), params, state, xs)

    return Cell(sum(cell.size for cell in cells), init, initial_state, step, run)
