"""Sequences out of a model."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hfrnn.model import Model


def total_nats(model: Model, params: Any, prompt: jax.Array, symbols: jax.Array, piece: int = 10_000) -> float:
    """-log P(symbols | prompt): a text of any length, read from its beginning, in pieces that memory has room for.

    Args:
      prompt: (P,) symbols, P >= 1.
      symbols: (N,).
    """

    @jax.jit
    def read(params, state, xs, targets):
        def body(state, x_and_target):
            x, target = x_and_target
            state, z = model.step(params, state, x)
            return state, model.output.nll(z, target)

        return jax.lax.scan(body, state, (xs, targets))

    text = np.concatenate([prompt, symbols])
    state, total = model.initial_state(params), 0.0
    for first in range(0, len(text) - 1, piece):
        part = text[first : first + piece + 1]
        state, nats = read(params, state, part[:-1], part[1:])
        total += float(np.sum(np.asarray(nats, np.float64)[max(len(prompt) - 1 - first, 0) :]))
    return total


def continue_text(
    model: Model, params: Any, key: jax.Array, prompt: jax.Array, length: int, temperature: float = 1.0
) -> jax.Array:
    """Symbols drawn one after the other, each the next input (Sutskever, Martens & Hinton 2011 sec. 5.4).

    Args:
      prompt: (P,) symbols that the model reads first, P >= 1.
      length: how many to draw.
      temperature: 1 draws from the model's own distribution, 0 takes the most probable symbol.

    Returns:
      (length,) symbols.
    """

    def read(state, x):
        return model.step(params, state, x)

    def draw(carry, key):
        state, z = carry
        x = model.output.sample(key, z, temperature)
        return read(state, x), x

    state, zs = jax.lax.scan(read, model.initial_state(params), jnp.asarray(prompt))
    _, xs = jax.lax.scan(draw, (state, zs[-1]), jax.random.split(key, length))
    return xs
