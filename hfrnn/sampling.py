"""Sequences out of a model."""

from typing import Any

import jax
import jax.numpy as jnp

from hfrnn.model import Model


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
