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


def beam_search(model: Model, params: Any, prompt: jax.Array, length: int, width: int) -> tuple[jax.Array, jax.Array]:
    """The most probable continuations that a beam finds: after every symbol the ``width`` best are kept.

    With width >= V^length / V, V symbols, none is dropped before the last, and the first is the best there is.

    Args:
      prompt: (P,) symbols that the model reads first, P >= 1.
      length: of the continuations.

    Returns:
      (width, length) symbols and their log P (width,) in nats, from the best; log P is -inf where there are fewer.
    """
    V = model.output.size

    def read(state, x):
        return model.step(params, state, x)

    def each(leaf):
        return jnp.broadcast_to(leaf, (width, *leaf.shape))

    def extend(beam, t):
        state, z, log_p, texts = beam
        both = log_p[:, None] + jax.nn.log_softmax(z)
        log_p, place = jax.lax.top_k(both.reshape(-1), width)
        parent, x = place // V, place % V
        state = jax.tree.map(lambda leaf: leaf[parent], state)
        state, z = jax.vmap(read)(state, x)
        return (state, z, log_p, texts[parent].at[:, t].set(x)), None

    state, zs = jax.lax.scan(read, model.initial_state(params), jnp.asarray(prompt))
    log_p = jnp.full(width, -jnp.inf, zs.dtype).at[0].set(0.0)  # one of them at first, not width times the same
    beam = jax.tree.map(each, state), each(zs[-1]), log_p, jnp.zeros((width, length), jnp.int32)
    (_, _, log_p, texts), _ = jax.lax.scan(extend, beam, jnp.arange(length))
    return texts, log_p
