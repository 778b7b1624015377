"""Lines that a handwriting net draws, point by point.

Source: Graves 2013 (G13), sec. 4 and 5.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from hfrnn.nets.model import Conditioned, Model


class Drawn(NamedTuple):
    """Lines out of a handwriting net, what they were begun with among them.

    Attributes:
      points: (B, N, 3) offsets, normalised; zeros behind a line's end.
      lengths: (B,) how many of them are the line's.
      stopped: (B,) whether the rule was met, also where the cap came before the stroke was finished; else the line came
        to the cap.
      state: the net's after each line's last point.
    """

    points: jax.Array
    lengths: jax.Array
    stopped: jax.Array
    state: Any


def sample_lines(
    model: Model,
    params: Any,
    keys: jax.Array,
    begun: jax.Array,
    n_begun: jax.Array,
    on: Any = None,
    *,
    cap: int,
    caps: jax.Array | None = None,
    bias: float = 0.0,
    bias_after: int = 0,
    stop: Callable[[Any, Any], jax.Array] | None = None,
    finish: int = 0,
) -> Drawn:
    """Handwriting: lines that a net goes on with, each point drawn the next input; Graves 2013 (G13) sec. 4 and 5.

    For one line, with P the number of points that it is begun with::

        x, state, left = begun[:P], initial_state, None
        while True:
            state, z = step(state, x[-1], or each of x[:P] at first)
            if left is None and stop(state, on): left = finish
            if left is not None and (x[-1] ends a stroke or left == 0) or len(x) == P + cap: break
            if left is not None: left -= 1
            x.append(sample(z, bias if len(x) >= P + bias_after else 0))

    so that what is drawn depends on the state that reading ``begun`` leaves, as scoring it does (G13 sec. 5.5, primed
    sampling).  A line begun with nothing is begun with the null vector.  All lines take their steps together, until
    the last one has ended: a step of 8 lines takes hardly longer than that of one.

    Args:
      keys: (B,), one for each line.
      begun: (B, P, 3) normalised points, the first with dx = dy = 0; padded behind.
      n_begun: (B,) how many of them are the line's, at least 1.
      on: what the model is conditioned on, (B, ...) each; None for a model that is not.
      cap: the most points to draw.
      caps: (B,) of each line, none of them over ``cap``; None where that is all the same.
      bias: see ``outputs.mixture``; G13 sec. 5.4.
      bias_after: how many points of each line are drawn without it.
      stop: the rule, looked at after ``begun`` has been read: ``window.finished``; None for none.
      finish: how many points more, at most, finish the stroke that is being drawn when the rule ends a line; 0 for
        none, as G13 has it.

    Returns:
      Drawn, with N = P + cap.
    """
    B, P, _ = begun.shape

    def step(state, x, on):
        return model.step(params, state, x if on is None else Conditioned(x, on))

    def sample(t, key, z, n_begun):
        b = jnp.where(t + 1 < n_begun + bias_after, 0.0, bias)
        return model.output.sample(jax.random.fold_in(key, t), z, b)

    def body(carry):
        t, state, points, lengths, stopped, left, done = carry
        read, z = jax.vmap(step)(state, points[t], on)
        live = ~done & (t < lengths)
        state = jax.vmap(lambda live, *states: optax.tree.where(live, *states))(live, read, state)
        last = live & (t + 1 >= n_begun)
        if stop is not None:
            stopped = stopped | (last & jax.vmap(stop)(state, on))
            done = done | (last & stopped & ((points[t, :, 2] > 0.5) | (left == 0)))
        more = last & ~done & (lengths < n_begun + (cap if caps is None else caps))
        drawn = jnp.where(more[:, None], jax.vmap(sample, (None, 0, 0, 0))(t, keys, z, n_begun), points[t + 1])
        return t + 1, state, points.at[t + 1].set(drawn), lengths + more, stopped, left - (stopped & more), done

    def going(carry):
        t, _, _, lengths, _, _, done = carry
        return jnp.any(~done & (t < lengths))

    state = model.initial_state(params)
    state = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (B, *leaf.shape)), state)
    past = jnp.arange(P)[:, None] >= n_begun[None]
    points = jnp.zeros((P + cap + 1, B, 3), begun.dtype)
    points = points.at[:P].set(jnp.where(past[:, :, None], 0, jnp.swapaxes(begun, 0, 1)))
    carry = (0, state, points, n_begun, jnp.zeros(B, bool), jnp.full(B, finish), jnp.zeros(B, bool))
    _, state, points, lengths, stopped, _, _ = jax.lax.while_loop(going, body, carry)
    return Drawn(jnp.swapaxes(points, 0, 1)[:, : P + cap], lengths, stopped, state)
