"""Derivatives that are not what JAX would make of a function by itself: clipped, or in a faster order."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Params = Any
State = Any


def clip_cotangent(x: jax.Array, limit: float | None) -> jax.Array:
    """x; the derivative of the loss with respect to it is clipped to [-limit, limit], element by element.

    Forward-mode derivatives are those of the identity: only the transpose clips.  JAX has one linear map whose
    transpose may be written by hand and that batches, loops and differentiates both ways: the solution of a linear
    system, here x = b.  Clipping is not linear, so a Gauss-Newton matrix through it is no longer symmetric: no limit
    for Hessian-Free.

    Args:
      limit: None for none.
    """
    if limit is None:
        return x
    return jax.lax.custom_linear_solve(
        lambda v: v, x, solve=lambda _, b: b, transpose_solve=lambda _, b: jnp.clip(b, -limit, limit)
    )


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def recurrence(core: Callable, W: jax.Array, p: Params, state: State, y: jax.Array, a: jax.Array):
    """The loop over a layer's steps when all that comes from its inputs is known::

        ys = []
        for a_t in a:
            state, y = core(p, state, a_t + W @ y)
            ys.append(y)
        return state, stack(ys)

    Its derivative says what that of the loop as it stands says too, in an order that is faster to go back through:
    dW y_{t-1} is one product over all steps, before the loop.  Reverse-mode derivatives then come to W as one product
    behind it, where they would be added up, a matrix as large as W, step by step.

    Args:
      core: ``core(p, state, a) -> (state, y)``, element by element and with few parameters p.
      W: (A, H) recurrent weights.
      y: (H,) what the layer put out last.
      a: (T, A) the inputs' share.
    """
    (state, _), (_, _, _, ys) = _recur(core, W, p, state, y, a)
    return state, ys


def _recur(core, W, p, state, y, a):
    def body(carry, a):
        state, y = carry
        total = a + W @ y
        after, out = core(p, state, total)
        return (after, out), (state, y, total, out)

    return jax.lax.scan(body, (state, y), a)


@recurrence.defjvp
def _recurrence_jvp(core, primals, tangents):
    W, p, *_ = primals
    dW, dp, dstate, dy, da = tangents
    (state, _), (states, before, totals, ys) = _recur(core, *primals)

    def body(carry, inputs):
        dstate, dy = carry
        state, total, da = inputs
        _, (dstate, dy) = jax.jvp(core, (p, state, total), (dp, dstate, da + W @ dy))
        return (dstate, dy), dy

    (dstate, _), dys = jax.lax.scan(body, (dstate, dy), (states, totals, da + before @ dW.T))
    return (state, ys), (dstate, dys)
