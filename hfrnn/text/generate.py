"""Text that a net writes: samples, and the likeliest text by beam search."""

from typing import Any

import jax
import jax.numpy as jnp

from hfrnn.nets.model import Model, continue_sequence


def continue_text(
    model: Model, params: Any, key: jax.Array, prompt: jax.Array, length: int, temperature: float = 1.0
) -> jax.Array:
    """Symbols drawn one after the other, each the next input (Sutskever, Martens & Hinton 2011).

    Args:
      prompt: (P,) symbols that the model reads first, P >= 1.
      length: how many to draw.
      temperature: 1 draws from the model's own distribution, 0 takes the most probable symbol.

    Returns:
      (length,) symbols.
    """
    return continue_sequence(
        model, params, key, prompt, length, lambda key, z: model.output.sample(key, z, temperature)
    )


def beam_search(model: Model, params: Any, prompt: jax.Array, length: int, width: int) -> tuple[jax.Array, jax.Array]:
    """The most probable continuations that a beam finds: after every symbol the ``width`` best are kept.

    With V symbols and a width of V^(length - 1) or more none is dropped on the way: the first is the best there is.

    Args:
      prompt: (P,) symbols that the model reads first, P >= 1.
      length: of the continuations.

    Returns:
      (width, length) symbols and their log P (width,) in nats, from the best; log P is -inf where there are fewer.
    """
    V = model.output.size

    def each(leaf):
        return jnp.broadcast_to(leaf, (width, *leaf.shape))

    def extend(beam, t):
        state, z, log_p, texts = beam
        both = log_p[:, None] + jax.nn.log_softmax(z)
        log_p, place = jax.lax.top_k(both.reshape(-1), width)
        parent, x = place // V, place % V
        state = jax.tree.map(lambda leaf: leaf[parent], state)
        state, z = jax.vmap(model.step, (None, 0, 0))(params, state, x)
        return (state, z, log_p, texts[parent].at[:, t].set(x)), None

    state, read = model.run(params, None, jnp.asarray(prompt))
    log_p = jnp.full(width, -jnp.inf, read.z.dtype).at[0].set(0.0)  # one of them at first, not width times the same
    beam = jax.tree.map(each, state), each(read.z[-1]), log_p, jnp.zeros((width, length), jnp.int32)
    (_, _, log_p, texts), _ = jax.lax.scan(extend, beam, jnp.arange(length))
    return texts, log_p
