"""Loops over time and derivatives that differ from JAX's own: clipped, or computed in a faster order."""

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

    Forward-mode derivatives are those of the identity: only the transpose clips.  In JAX, one linear map may have a
    hand-written transpose and still works under vmap, scan, jvp and vjp: the solution of a linear system, here x = b.
    Clipping is not linear, so a Gauss-Newton matrix through it is not symmetric: use no limit with Hessian-Free.

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
    """The loop over a layer's steps, given the terms a_t that its inputs add::

        ys = []
        for a_t in a:
            state, y = core(p, state, a_t + W @ y)
            ys.append(y)
        return state, stack(ys)

    Its derivatives are those of the loop, in a faster order: dW y_{t-1} is one product over all steps, before the loop.
    In reverse mode the derivative of W is then one product after the loop, not a sum of T matrices as large as W.

    Args:
      core: ``core(p, state, a) -> (state, y)``, element by element and with few parameters p.
      W: (A, H) recurrent weights.
      y: (H,) the layer's last output.
      a: (T, A) the inputs' terms.
    """
    (state, _), (_, _, _, ys) = _recur(core, W, p, state, y, a)
    return state, ys


def _recur(core, W, p, state, y, a):
    def body(carry, a):
        state, y = carry
        total = a + W @ y
        new_state, new_y = core(p, state, total)
        return (new_state, new_y), (state, y, total, new_y)

    return jax.lax.scan(body, (state, y), a)


@recurrence.defjvp
def _recurrence_jvp(core, primals, tangents):
    W, p, *_ = primals
    dW, dp, dstate, dy, da = tangents
    (state, _), (states, previous, totals, ys) = _recur(core, *primals)

    def body(carry, inputs):
        dstate, dy = carry
        state, total, da = inputs
        _, (dstate, dy) = jax.jvp(core, (p, state, total), (dp, dstate, da + W @ dy))
        return (dstate, dy), dy

    (dstate, _), dys = jax.lax.scan(body, (dstate, dy), (states, totals, da + previous @ dW.T))
    return (state, ys), (dstate, dys)


def reverse_recurrence(
    core: Callable,
    dtype: Any,
    constants: Any,
    W: jax.Array,
    V: jax.Array,
    p: Params,
    state: State,
    y: jax.Array,
    xs: jax.Array,
    a: jax.Array | None = None,
    U: jax.Array | None = None,
) -> tuple[State, jax.Array]:
    """The same loop for first-order training: reverse-mode derivatives only, in the fastest order that we know::

        ys = []
        for x_t, a_t in zip(xs, a):
            state, y = core(constants, U, p, state, a_t + V @ x_t + W @ y)
            ys.append(y)
        return state, stack(ys)

    The forward pass keeps the residuals of ``core``; the backward pass recomputes nothing.  Products over all steps
    stand outside the loops.  Under ``vmap``, where the sequences share W and V, the derivatives of W and V are one
    product over all sequences.

    Args:
      core: ``core(constants, U, p, state, a) -> (state, y)``, element by element except for U, with few parameters p.
      dtype: the type that the factors of all products, except those in ``core``, are rounded to; their sums are
        float32.  None does not round.
      constants: arrays without derivatives.
      W: (A, H) recurrent weights.
      V: (A, D) input weights.
      y: (H,) the layer's last output.
      xs: (T, D).
      a: (T, A); None for 0.
      U: (E, N) weights that ``core`` multiplies by the last N elements of its own y.  It must add the result to the
        last E of its sums a, and use it nowhere else: the derivative of U is then one product of the derivatives of
        those sums.  None for none.
    """
    return _reverse_recurrence(core, dtype, constants, W, V, p, state, y, xs, a, U)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _reverse_recurrence(core, dtype, *args):
    return _fwd(core, dtype, *args)[0]


def _fwd(core, dtype, constants, W, V, p, state, y, xs, a, U):
    W_T = _rounded(W, dtype).T

    def body(carry, a):
        state, y = carry
        new, vjp = jax.vjp(functools.partial(core, constants, U), p, state, a + _dot(y, W_T, dtype))
        return new, (new[1], _hoist_invariants(vjp, (constants, p, U)))

    inputs = _inner(dtype, V, xs)
    (state, _), (ys, vjps) = jax.lax.scan(body, (state, y), inputs if a is None else inputs + a)
    return (state, ys), (constants, W, V, p, y, xs, a is None, U, ys, vjps)


def _bwd(core, dtype, residuals, cotangent):
    constants, W, V, p, y, xs, no_a, U, ys, vjps = residuals
    dstate, dys = cotangent
    rounded = _rounded(W, dtype)

    def body(carry, inputs):
        dstate, dy, dp = carry
        vjp, dy_t = inputs
        dp_t, dstate, da = _restore_invariants(vjp, (constants, p, U))((dstate, dy + dy_t))
        # da leaves the loop unrounded: a CPU would convert the whole bfloat16 array whenever one row is written.
        return (dstate, _dot(da, rounded, dtype), jax.tree.map(jnp.add, dp, dp_t)), da

    start = dstate, jnp.zeros_like(y), jax.tree.map(jnp.zeros_like, p)
    (dstate, dy, dp), da = jax.lax.scan(body, start, (vjps, dys), reverse=True)
    previous = jnp.concatenate([y[None], ys[:-1]])
    dW, dV, dxs = _outer(dtype, W, da, previous), _outer(dtype, V, da, xs), _inner(dtype, V.T, da)
    dU = None if U is None else _outer(dtype, U, da[:, -U.shape[0] :], ys[:, -U.shape[1] :])
    return None, dW, dV, dp, dstate, dy, dxs, None if no_a else da, dU


_reverse_recurrence.defvjp(_fwd, _bwd)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Invariant:
    """Stands for array number ``index`` of the loop invariants, which need not be stored for every step."""

    index: int


def _hoist_invariants(tree, invariants):
    """The tree with loop invariants replaced by ``_Invariant``.

    They are recognised by identity: an array that JAX passes on as a new object stays in the tree.
    """
    index = {id(x): i for i, x in enumerate(jax.tree.leaves(invariants))}
    return jax.tree.map(lambda x: _Invariant(index[id(x)]) if id(x) in index else x, tree)


def _restore_invariants(tree, invariants):
    """The inverse of ``_hoist_invariants``."""
    arrays = jax.tree.leaves(invariants)

    def hoisted(x):
        return isinstance(x, _Invariant)

    return jax.tree.map(lambda x: arrays[x.index] if hoisted(x) else x, tree, is_leaf=hoisted)


def _rounded(x, dtype):
    return x if dtype is None else x.astype(dtype)


def _dot(a, b, dtype, axes=1):
    kind = None if dtype is None else jnp.float32
    return jnp.tensordot(_rounded(a, dtype), _rounded(b, dtype), axes, preferred_element_type=kind)


def _inner(dtype, V, xs):
    """V x_t for all t.  Under a ``vmap`` whose sequences share V the result is time-major in memory, as loops read it.

    JAX alone would make it batch-major, and transpose for the loop an array that may be far larger than xs.
    """

    def single(V, xs):
        return _dot(xs, V.T, dtype)

    @jax.custom_batching.custom_vmap
    def inner(V, xs):
        return single(V, xs)

    @inner.def_vmap
    def inner_vmap(n, batched, V, xs):
        if batched[0]:
            return jax.vmap(single, [0 if b else None for b in batched])(V, xs), True
        return jnp.swapaxes(single(V, jnp.swapaxes(xs, 0, 1)), 0, 1), True

    return inner(V, xs)


def _outer(dtype, W, das, ys):
    """sum_t da_t y_t', the derivative of W; under a ``vmap`` one product over all sequences, unless each has its own W.

    JAX alone would make a matrix as large as W for every sequence, and add them.
    """

    def single(das, ys):
        return _dot(das, ys, dtype, ((0,), (0,)))

    @jax.custom_batching.custom_vmap
    def outer(W, das, ys):
        return single(das, ys)

    @outer.def_vmap
    def outer_vmap(n, batched, W, das, ys):
        if batched[0] or not all(batched[1:]):
            return jax.vmap(single, [0 if b else None for b in batched[1:]])(das, ys), True
        das, ys = jnp.swapaxes(das, 0, 1), jnp.swapaxes(ys, 0, 1)  # time-major, as the loops left them
        if dtype is None:  # on a CPU each case has its own fastest form
            return _dot(das.reshape(-1, das.shape[-1]).T, ys.reshape(-1, ys.shape[-1]), dtype), False
        return _dot(das, ys, dtype, ((0, 1), (0, 1))), False

    return outer(W, das, ys)
