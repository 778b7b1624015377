"""Sequences out of a model."""

from collections.abc import Callable
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
    return go_on(model, params, key, prompt, length, lambda key, z: model.output.sample(key, z, temperature))


def go_on(
    model: Model,
    params: Any,
    key: jax.Array,
    prompt: jax.Array,
    length: int,
    draw: Callable[[jax.Array, jax.Array], jax.Array],
) -> jax.Array:
    """A sequence that a net goes on with by itself, each output the next input.

    Args:
      prompt: (P, ...) inputs that the model reads first, P >= 1.
      length: how many to make.
      draw: ``draw(key, z)``, the next input.

    Returns:
      (length, ...) inputs.
    """

    def read(state, x):
        return model.step(params, state, x)

    def body(carry, key):
        state, z = carry
        x = draw(key, z)
        return read(state, x), x

    state, zs = jax.lax.scan(read, model.initial_state(params), jnp.asarray(prompt))
    _, xs = jax.lax.scan(body, (state, zs[-1]), jax.random.split(key, length))
    return xs
