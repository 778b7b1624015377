"""Preconditioned conjugate gradient that saves iterates, in one ``lax.while_loop``.

Sources: Martens 2010 (M10) and his demo code (M10c); Martens & Sutskever 2012 (MS12).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Params = Any


class CGResult(NamedTuple):
    """The result of conjugate gradient.

    Attributes:
      x: the last iterate.
      saved: the iterates on the grid, then the last one, stacked along a new first axis; entries after it are unused.
      last: the index in ``saved`` of the last iterate.
      iterations: the number of iterations.
      phi: the value of 1/2 x'Ax - b'x at the last iterate.
    """

    x: Params
    saved: Params
    last: jax.Array
    iterations: jax.Array
    phi: jax.Array


def geometric_grid(max_iterations: int, first: float = 5.0, ratio: float = 1.3) -> tuple[int, ...]:
    """Iterations ceil(first * ratio^j), j = 0, 1, ...: M10c has first = 5, the text of M10 (sec. 4.6) first = 1."""
    grid, j = [], 0
    while (i := math.ceil(first * ratio**j)) <= max_iterations:
        grid.append(i)
        j += 1
    return tuple(dict.fromkeys(grid))


def regular_grid(max_iterations: int, interval: int = 10) -> tuple[int, ...]:
    """Iterations interval, 2 interval, ...: the grid of Sutskever's 2011 release."""
    return tuple(range(interval, max_iterations + 1, interval))


def relative_progress(phis: jax.Array, i: jax.Array, k: jax.Array, tolerance: float) -> jax.Array:
    """M10 sec. 4.4: phi_i < 0 and (phi_i - phi_{i-k}) / phi_i < k tolerance."""
    return (phis[i] < 0) & ((phis[i] - phis[i - k]) / phis[i] < k * tolerance)


def progress_since_start(phis: jax.Array, i: jax.Array, k: jax.Array, tolerance: float) -> jax.Array:
    """MS12 sec. 20.4.2: (phi_{i-k} - phi_i) / (phi_0 - phi_i) < tolerance; with a warm start phi_0 is not 0."""
    return (phis[i - k] - phis[i]) / (phis[0] - phis[i]) < tolerance


Stop = Callable[[jax.Array, jax.Array, jax.Array, float], jax.Array]


def conjugate_gradient(
    A: Callable[[Params], Params],
    b: Params,
    x0: Params,
    *,
    precondition: Callable[[Params], Params] = lambda r: r,
    max_iterations: int = 150,
    tolerance: float = 5e-4,
    stop: Stop = relative_progress,
    grid: Sequence[int] = (),
) -> CGResult:
    """Minimises phi(x) = 1/2 x'Ax - b'x for a positive definite A.

    It stops at iteration i > k = max(10, ceil(0.1 i)) where ``stop`` finds little progress in the last k iterations;
    phi is -1/2 x.(b + r) with the residual r = b - A x, at no extra product.  It also stops after max_iterations, at
    ||r|| <= 1e-12 ||b||, and where the curvature along a direction is not positive (or NaN); it does not take that
    direction.

    Args:
      A: the matrix, as a function of a vector; vectors are pytrees of one structure.
      b, x0: the right side and the first iterate.
      precondition: the inverse of the preconditioner, M^-1, symmetric and positive definite.
      stop, tolerance: ``stop(phis, i, k, tolerance)`` with all values of phi so far.
      grid: the iterations whose iterates are saved, in increasing order.
    """
    dot, add_scale = optax.tree.vdot, optax.tree.add_scale
    slots = jnp.asarray([*grid, max_iterations + 1])

    def phi(x, r):
        return -0.5 * dot(x, optax.tree.add(b, r))

    def small(r):
        return optax.tree.norm(r) <= 1e-12 * optax.tree.norm(b)

    def done(i, phis):
        k = jnp.maximum(10, jnp.ceil(0.1 * i).astype(int))
        return (i > k) & stop(phis, i, k, tolerance)

    class Loop(NamedTuple):
        x: Params
        r: Params
        p: Params
        r_y: jax.Array  # r . M^-1 r
        phis: jax.Array
        saved: Params
        slot: jax.Array
        i: jax.Array
        stopped: jax.Array

    def body(s: Loop) -> Loop:
        Ap = A(s.p)
        p_Ap = dot(s.p, Ap)
        bad = ~(p_Ap > 0)
        alpha = s.r_y / p_Ap
        x = optax.tree.where(bad, s.x, add_scale(s.x, alpha, s.p))
        r = optax.tree.where(bad, s.r, add_scale(s.r, -alpha, Ap))
        y = precondition(r)
        r_y = dot(r, y)
        i = s.i + ~bad
        phis = s.phis.at[i].set(phi(x, r))
        stopped = bad | done(i, phis) | small(r)
        # saved[slot] always holds the latest iterate; on the grid it stays there, and the next slot is filled.
        return Loop(
            x,
            r,
            add_scale(y, r_y / s.r_y, s.p),
            r_y,
            phis,
            put(s.saved, s.slot, x),
            s.slot + (i == slots[s.slot]),
            i,
            stopped,
        )

    def put(stack, slot, x):
        return jax.tree.map(lambda s, leaf: s.at[slot].set(leaf), stack, x)

    r = optax.tree.sub(b, A(x0))
    y = precondition(r)
    r_y = dot(r, y)
    phis = jnp.zeros(max_iterations + 1, r_y.dtype).at[0].set(phi(x0, r))
    saved = jax.tree.map(lambda leaf: jnp.zeros((len(slots), *leaf.shape), leaf.dtype), x0)
    zero = jnp.array(0)
    start = Loop(x0, r, y, r_y, phis, put(saved, 0, x0), zero, zero, small(r))
    end = jax.lax.while_loop(lambda s: ~s.stopped & (s.i < max_iterations), body, start)
    on_grid = (end.slot > 0) & (slots[end.slot - 1] == end.i)
    return CGResult(end.x, end.saved, end.slot - on_grid, end.i, end.phis[end.i])
