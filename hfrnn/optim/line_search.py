"""The choices that a Hessian-Free step makes by the objective: which of CG's iterates, and how far along it.

Sources: Martens 2010, his demo code (M10c); Sutskever's code release of 2011 (S11c).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from hfrnn.optim.conjugate_gradient import CGResult

Params = Any
Merit = Callable[[Params], jax.Array]

# -- choices: which iterate ------------------------------------------------------------------------------------------

# Each is (CGResult, merit) -> (iterate, its index in ``saved``); a lower merit is better, and NaN is the worst.
Backtrack = Callable[[CGResult, Merit], tuple[Params, jax.Array]]


def last_iterate(cg: CGResult, merit: Merit) -> tuple[Params, jax.Array]:
    """No backtracking."""
    del merit
    return cg.x, cg.last


def walk_back(cg: CGResult, merit: Merit, to_the_end: bool = False) -> tuple[Params, jax.Array]:
    """Goes back from the last iterate while the merit improves (M10c)."""

    def iterate(j):
        return jax.tree.map(lambda leaf: leaf[j], cg.saved)

    def step_back(s):
        j, chosen, value, _ = s
        new = merit(iterate(j))
        better = new < value
        value = jnp.where(better, new, value)
        return j - 1, jnp.where(better, j, chosen), value, better | jnp.isinf(value)

    infinite = jnp.full((), jnp.inf, cg.phi.dtype)
    start = (cg.last, cg.last, infinite, True)
    _, j, _, _ = jax.lax.while_loop(lambda s: (s[0] >= 0) & (s[3] | to_the_end), step_back, start)
    return iterate(j), j


def best_iterate(cg: CGResult, merit: Merit) -> tuple[Params, jax.Array]:
    """The best of all saved iterates (S11c)."""
    return walk_back(cg, merit, to_the_end=True)


# -- choices: how far ------------------------------------------------------------------------------------------------

# Each is (along, f_0, slope) -> (alpha, along(alpha)), with along(alpha) = f(theta + alpha d) and slope = g.d; alpha
# is 0 if no step size is accepted.
LineSearch = Callable[[Callable[[jax.Array], jax.Array], jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def armijo(along, f_0, slope):
    """alpha = 0.8^i, i <= 60, the first with f(theta + alpha d) <= f_0 + 0.01 alpha g.d (M10c)."""
    return _shrink(along, f_0, lambda alpha, f: f <= f_0 + 1e-2 * alpha * jnp.minimum(slope, 0.0), 60)


def first_decrease(along, f_0, slope):
    """alpha = 0.8^i, i < 50, the first with any decrease (S11c)."""
    del slope
    return _shrink(along, f_0, lambda alpha, f: f < f_0, 49)


def _shrink(along, f_0, sufficient, max_shrinks):
    def good(alpha, f):
        return sufficient(alpha, f) & jnp.isfinite(f)

    def shrink(s):
        i, alpha, _ = s
        return i + 1, 0.8 * alpha, along(0.8 * alpha)

    start = (jnp.array(-1), jnp.full_like(f_0, 1 / 0.8), jnp.full_like(f_0, jnp.inf))
    _, alpha, f = jax.lax.while_loop(lambda s: (s[0] < max_shrinks) & ~good(s[1], s[2]), shrink, start)
    return jnp.where(good(alpha, f), alpha, 0.0), f
