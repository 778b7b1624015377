"""Derivatives that are not what JAX would make of a function by itself: clipped, or in a faster order."""

import dataclasses
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


def reverse_recurrence(
    core: Callable,
    dtype: Any,
    given: Any,
    W: jax.Array,
    V: jax.Array,
    p: Params,
    state: State,
    y: jax.Array,
    xs: jax.Array,
    a: jax.Array | None = None,
    U: jax.Array | None = None,
) -> tuple[State, jax.Array]:
    """The same loop for training: reverse-mode derivatives only, and these in the fastest order that we know::

        ys = []
        for x_t, a_t in zip(xs, a):
            state, y = core(given, U, p, state, a_t + V @ x_t + W @ y)
            ys.append(y)
        return state, stack(ys)

    What the way back needs of ``core`` is kept on the way there, not computed again.  Products over all steps stand
    outside of the loops, and those that lead to W and V take all sequences of a ``vmap`` at once, where these share W.

    Args:
      core: ``core(given, U, p, state, a) -> (state, y)``, element by element, but for U, and with few parameters p.
      dtype: the factors of all products but those of ``core`` are rounded to it, and their sums are float32; None
        leaves them as they are.
      given: arrays that nothing is derived with respect to.
      W: (A, H) recurrent weights.
      V: (A, D) weights of the inputs.
      y: (H,) what the layer put out last.
      xs: (T, D).
      a: (T, A); None for 0.
      U: (E, N) weights by which ``core`` multiplies the last N of its own y, to add them to the last E of its sums
        a and to nothing else; so that what those get, U gets too, as one product.  None for none.
    """
    return _reverse_recurrence(core, dtype, given, W, V, p, state, y, xs, a, U)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _reverse_recurrence(core, dtype, *args):
    return _there(core, dtype, *args)[0]


def _there(core, dtype, given, W, V, p, state, y, xs, a, U):
    W_T = _rounded(W, dtype).T

    def body(carry, a):
        state, y = carry
        after, pull = jax.vjp(functools.partial(core, given, U), p, state, a + _dot(y, W_T, dtype))
        return after, (after[1], _without(pull, (given, p, U)))

    inputs = _inner(dtype, V, xs)
    (state, _), (ys, pulls) = jax.lax.scan(body, (state, y), inputs if a is None else inputs + a)
    return (state, ys), (given, W, V, p, y, xs, a is None, U, ys, pulls)


def _back(core, dtype, kept, cotangent):
    given, W, V, p, y, xs, no_a, U, ys, pulls = kept
    dstate, dys = cotangent
    rounded = _rounded(W, dtype)

    def body(carry, inputs):
        dstate, dy, dp = carry
        pull, dy_t = inputs
        more, dstate, da = _with(pull, (given, p, U))((dstate, dy + dy_t))
        # da leaves the loop as it is: a CPU would convert all of a bfloat16 array whenever a row of it is written.
        return (dstate, _dot(da, rounded, dtype), jax.tree.map(jnp.add, dp, more)), da

    start = dstate, jnp.zeros_like(y), jax.tree.map(jnp.zeros_like, p)
    (dstate, dy, dp), da = jax.lax.scan(body, start, (pulls, dys), reverse=True)
    before = jnp.concatenate([y[None], ys[:-1]])
    dW, dV, dxs = _outer(dtype, W, da, before), _outer(dtype, V, da, xs), _inner(dtype, V.T, da)
    dU = None if U is None else _outer(dtype, U, da[:, -U.shape[0] :], ys[:, -U.shape[1] :])
    return None, dW, dV, dp, dstate, dy, dxs, None if no_a else da, dU


_reverse_recurrence.defvjp(_there, _back)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Same:
    """In place of an array that is the same in every step, and need not be kept for each."""

    index: int


def _without(tree, same):
    """The tree without the arrays of ``same``, by identity: what JAX hands on as an object of its own stays in it."""
    index = {id(x): i for i, x in enumerate(jax.tree.leaves(same))}
    return jax.tree.map(lambda x: _Same(index[id(x)]) if id(x) in index else x, tree)


def _with(tree, same):
    """The tree that ``_without`` was given."""
    arrays = jax.tree.leaves(same)

    def left_out(x):
        return isinstance(x, _Same)

    return jax.tree.map(lambda x: arrays[x.index] if left_out(x) else x, tree, is_leaf=left_out)


def _rounded(x, dtype):
    return x if dtype is None else x.astype(dtype)


def _dot(a, b, dtype, axes=1):
    kind = None if dtype is None else jnp.float32
    return jnp.tensordot(_rounded(a, dtype), _rounded(b, dtype), axes, preferred_element_type=kind)


def _inner(dtype, V, xs):
    """V x_t for all t; where sequences of a ``vmap`` share V, laid out in memory as a loop over t reads and writes it.

    JAX would have sequences one behind the other, and turn what may be far larger than xs for the loop.
    """

    def of_one(V, xs):
        return _dot(xs, V.T, dtype)

    @jax.custom_batching.custom_vmap
    def inner(V, xs):
        return of_one(V, xs)

    @inner.def_vmap
    def inner_of_many(n, batched, V, xs):
        if batched[0]:
            return jax.vmap(of_one, [0 if b else None for b in batched])(V, xs), True
        return jnp.swapaxes(of_one(V, jnp.swapaxes(xs, 0, 1)), 0, 1), True

    return inner(V, xs)


def _outer(dtype, W, das, ys):
    """sum_t da_t y_t', the derivative that W gets; of all sequences of a ``vmap`` together, unless each has its own W.

    JAX would make a matrix as large as W for every sequence, and add them up.
    """

    def of_one(das, ys):
        return _dot(das, ys, dtype, ((0,), (0,)))

    @jax.custom_batching.custom_vmap
    def outer(W, das, ys):
        return of_one(das, ys)

    @outer.def_vmap
    def outer_of_many(n, batched, W, das, ys):
        if batched[0] or not all(batched[1:]):
            return jax.vmap(of_one, [0 if b else None for b in batched[1:]])(das, ys), True
        das, ys = jnp.swapaxes(das, 0, 1), jnp.swapaxes(ys, 0, 1)  # as the loops left them
        if dtype is None:  # the quickest form is another one for each, on a CPU
            return _dot(das.reshape(-1, das.shape[-1]).T, ys.reshape(-1, ys.shape[-1]), dtype), False
        return _dot(das, ys, dtype, ((0, 1), (0, 1))), False

    return outer(W, das, ys)
