"""The soft window: a net attends to the text that it writes.

    K  Gaussians of the window        U  characters of a text        C  symbols of the alphabet

Source: Graves 2013 (G13), sec. 5.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hfrnn.nets.cell import Cell, unroll
from hfrnn.nets.initializers import gaussian


class Text(NamedTuple):
    """A text, padded.

    Attributes:
      characters: (U,) symbols.
      n_characters: the length of the text; the rest is padding.
    """

    characters: jax.Array
    n_characters: jax.Array


class WindowState(NamedTuple):
    """The state of a stack of layers with a window.

    Attributes:
      layers: the state of each layer.
      alpha, beta, kappa: (K,) the Gaussians' heights, sharpnesses and positions; 0 at first.
      w: (C,) the window: a weighted sum of one-hot characters; 0 at first.
    """

    layers: tuple[Any, ...]
    alpha: jax.Array
    beta: jax.Array
    kappa: jax.Array
    w: jax.Array


def phi(state: WindowState, u: jax.Array) -> jax.Array:
    """The window's weights at the positions u (N,), of which the first character has 1: (N,), G13 eq. 46-51::

    phi(t, u) = sum_k alpha_k exp(-beta_k (kappa_k - u)^2)
    """
    return _phi(state.alpha, state.beta, state.kappa, u)


def _phi(alpha, beta, kappa, u):
    return alpha @ jnp.exp(-beta[:, None] * (kappa[:, None] - u[None, :]) ** 2)


def place(state: WindowState, text: Text) -> jax.Array:
    """The u = 1..U+1 with the largest phi(t, u), the first of equal ones; U+1 is the position after the last character.

    It compares logarithms: far past the end all phi are 0 in float32, and U+1 is still found.
    """
    u = jnp.arange(1, len(text.characters) + 2)
    far = (state.kappa[:, None] - u[None, :].astype(state.kappa.dtype)) ** 2
    weight = jax.nn.logsumexp(jnp.log(state.alpha)[:, None] - state.beta[:, None] * far, axis=0)
    return 1 + jnp.argmax(jnp.where(u <= text.n_characters + 1, weight, -jnp.inf))


def finished(state: WindowState, text: Text) -> jax.Array:
    """Whether to stop writing: phi(t, U+1) > phi(t, u) for all u = 1..U, G13 sec. 5.3.

    An empty text is finished at once.
    """
    return place(state, text) > text.n_characters


def attend(
    text: Text | None, layers: Sequence[Cell], n_symbols: int, n_gaussians: int = 10, advance: float = 1 / 25
) -> Cell:
    """``cells.stack`` with a soft window on a text, which the first layer moves and every layer reads, G13 eq. 46-51::

        h^1_t = layer_1(x_t, w_{t-1}, h^1_{t-1})
        (a, b, k) = W_hp h^1_t + b_p
        alpha_t = exp(a),  beta_t = exp(b),  kappa_t = kappa_{t-1} + exp(k)
        w_t = sum_{u=1..U} phi(t, u) c_u,    c_u the one-hot vector of character u
        h^n_t = layer_n(x_t, h^{n-1}_t, w_t, h^n_{t-1}),    n > 1

    The text is an argument of this function, so a step remains a function of parameters, state and input.  A batch of
    lines with a text each is a ``vmap`` over a function that calls this (``model.conditional``).  The shapes of the
    state do not depend on the text.

    Args:
      text: may be None for ``init`` and ``initial_state``.
      layers: the first takes C numbers from below; each other takes the outputs of the layer below and C.
      n_symbols: C.
      n_gaussians: K.
      advance: how far a Gaussian moves in a step before training, through the initial b_p.  The paper does not state
        it; its letters have 25 points and more.
    """
    K = n_gaussians
    if text is not None:
        U = len(text.characters)
        positions = jnp.arange(1, U + 1)
        one_hot = jax.nn.one_hot(text.characters, n_symbols) * (positions <= text.n_characters)[:, None]  # (U, C)

    def init(key):
        k_p, *keys = jax.random.split(key, 1 + len(layers))
        return {
            'layers': tuple(layer.init(k) for layer, k in zip(layers, keys, strict=True)),
            'W_hp': gaussian(k_p, (3 * K, layers[0].size)),
            'b_p': jnp.zeros(3 * K).at[2 * K :].set(jnp.log(advance)),
        }

    def initial_state(p):
        states = tuple(layer.initial_state(q) for layer, q in zip(layers, p['layers'], strict=True))
        zeros = jnp.zeros(K, p['b_p'].dtype)
        return WindowState(states, zeros, zeros, zeros, jnp.zeros(n_symbols, p['b_p'].dtype))

    def move(constants, window, hat):
        """(alpha, beta, kappa), (K,) each, after hat = W_hp h + b_p, (3K,); and w (C,)."""
        positions, one_hot = constants
        alpha, beta, change = jnp.exp(hat).reshape(3, K)
        window = alpha, beta, window[2] + change
        return window, _phi(*window, positions) @ one_hot

    def first(p, state, x):
        inner, h = layers[0].step(p['layers'][0], state.layers[0], (x, state.w))
        constants = positions.astype(h.dtype), one_hot.astype(h.dtype)
        window, w = move(constants, state[1:4], p['W_hp'] @ h + p['b_p'])
        return WindowState((inner, *state.layers[1:]), *window, w), h

    def higher(apply, p, state, xs, h, w):
        """Applies the other layers, each by ``apply(layer, params, state, input)``."""
        states, ys = [state.layers[0]], [h]
        for layer, q, s in zip(layers[1:], p['layers'][1:], state.layers[1:], strict=True):
            s, y = apply(layer, q, s, (xs, jnp.concatenate([ys[-1], w], axis=-1)))
            states.append(s)
            ys.append(y)
        return state._replace(layers=tuple(states)), jnp.concatenate(ys, axis=-1)

    def step(p, state, x):
        state, h = first(p, state, x)
        return higher(lambda layer, *args: layer.step(*args), p, state, x, h, state.w)

    def run(p, state, xs, key=None):
        k, *others = [None] * len(layers) if key is None else jax.random.split(key, len(layers))
        keys = iter(others)

        def body(state, x):
            state, h = first(p, state, x)
            return state, (h, state.w)

        if layers[0].run_with_feedback is None:
            state, (hs, ws) = jax.lax.scan(body, state, xs)
        else:
            constants = positions.astype(xs.dtype), one_hot.astype(xs.dtype)
            inner, window, hs, ws = layers[0].run_with_feedback(
                p['layers'][0], state.layers[0], xs, move, constants, p['W_hp'], p['b_p'], state[1:4], state.w, k
            )
            state = WindowState((inner, *state.layers[1:]), *window, ws[-1])
        return higher(lambda layer, q, s, xs: unroll(layer, q, xs, s, next(keys)), p, state, xs, hs, ws)

    return Cell(sum(layer.size for layer in layers), init, initial_state, step, run)
