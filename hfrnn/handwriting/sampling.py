"""Lines that a handwriting net draws, point by point.

Source: Graves 2013 (G13), sec. 4 and 5.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from hfrnn.nets.model import Conditioned, Model


class Samples(NamedTuple):
    """Lines from a handwriting net, each with its prefix.

    Attributes:
      points: (B, N, 3) offsets, normalised; zeros after a line's end.
      lengths: (B,) the number of points of each line.
      stopped: (B,) whether the stop rule held, even if the cap came before the stroke was finished; else the line
        reached the cap.
      state: of the net, after each line's last point.
    """

    points: jax.Array
    lengths: jax.Array
    stopped: jax.Array
    state: Any


def sample_lines(
    model: Model,
    params: Any,
    keys: jax.Array,
    prefix: jax.Array,
    n_prefix: jax.Array,
    context: Any = None,
    *,
    cap: int,
    caps: jax.Array | None = None,
    bias: float = 0.0,
    bias_after: int = 0,
    stop: Callable[[Any, Any], jax.Array] | None = None,
    finish: int = 0,
) -> Samples:
    """Lines that a net continues, each point that it draws the next input; Graves 2013 (G13) sec. 4 and 5.

    For one line, with P the number of points in its prefix::

        x, state, left = prefix[:P], initial_state, None
        while True:
            state, z = step(state, x[-1], or each of x[:P] at first)
            if left is None and stop(state, context): left = finish
            if left is not None and (x[-1] ends a stroke or left == 0) or len(x) == P + cap: break
            if left is not None: left -= 1
            x.append(sample(z, bias if len(x) >= P + bias_after else 0))

    so that what is drawn depends on the state after reading the prefix, just as scoring it does (G13 sec. 5.5, primed
    sampling).  The prefix of a line that starts from nothing is the null vector.  All lines take their steps together,
    until the last one has ended: a step of 8 lines takes hardly longer than a step of one.

    Args:
      keys: (B,), one for each line.
      prefix: (B, P, 3) normalised points, the first with dx = dy = 0; padded at the end.
      n_prefix: (B,) the number of points in each prefix, at least 1.
      context: what the model is conditioned on, (B, ...) each; None for an unconditional model.
      cap: the largest number of points to draw.
      caps: (B,) the same for each line, none of them larger than ``cap``; None for ``cap`` each.
      bias: see ``outputs.mixture``; G13 sec. 5.4.
      bias_after: the number of points in each line that are drawn without the bias, before it sets in.
      stop: the stop rule, ``stop(state, context)``, applied once the prefix has been read: ``attention.finished``; None
        for no rule.
      finish: the largest number of points to add until the current stroke is finished, once the rule has ended a line;
        0 for none, as in G13.

    Returns:
      Samples, with N = P + cap.
    """
    B, P, _ = prefix.shape

    def step(state, x, context):
        return model.step(params, state, x if context is None else Conditioned(x, context))

    def sample(t, key, z, n_prefix):
        b = jnp.where(t + 1 < n_prefix + bias_after, 0.0, bias)
        return model.output.sample(jax.random.fold_in(key, t), z, b)

    def body(carry):
        t, state, points, lengths, stopped, left, done = carry
        read, z = jax.vmap(step)(state, points[t], context)
        live = ~done & (t < lengths)
        state = jax.vmap(lambda live, *states: optax.tree.where(live, *states))(live, read, state)
        last = live & (t + 1 >= n_prefix)
        if stop is not None:
            stopped = stopped | (last & jax.vmap(stop)(state, context))
            done = done | (last & stopped & ((points[t, :, 2] > 0.5) | (left == 0)))
        more = last & ~done & (lengths < n_prefix + (cap if caps is None else caps))
        drawn = jnp.where(more[:, None], jax.vmap(sample, (None, 0, 0, 0))(t, keys, z, n_prefix), points[t + 1])
        return t + 1, state, points.at[t + 1].set(drawn), lengths + more, stopped, left - (stopped & more), done

    def unfinished(carry):
        t, _, _, lengths, _, _, done = carry
        return jnp.any(~done & (t < lengths))

    state = model.initial_state(params)
    state = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (B, *leaf.shape)), state)
    is_padding = jnp.arange(P)[:, None] >= n_prefix[None]
    points = jnp.zeros((P + cap + 1, B, 3), prefix.dtype)
    points = points.at[:P].set(jnp.where(is_padding[:, :, None], 0, jnp.swapaxes(prefix, 0, 1)))
    carry = (0, state, points, n_prefix, jnp.zeros(B, bool), jnp.full(B, finish), jnp.zeros(B, bool))
    _, state, points, lengths, stopped, _, _ = jax.lax.while_loop(unfinished, body, carry)
    return Samples(jnp.swapaxes(points, 0, 1)[:, : P + cap], lengths, stopped, state)
