"""Hessian-Free optimisation, as an optax transformation with extra arguments.

It knows no net, batch or device: curvature, objective and preconditioner come in as functions and trees.

Sources: Martens 2010 (M10) and his demo code (M10c); Martens & Sutskever 2011 (MS11); Sutskever's code release of 2011
(S11c); Martens & Sutskever 2012 (MS12), whose choices we know through a public re-implementation.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from hfrnn.conjugate_gradient import conjugate_gradient, every, geometric_grid
from hfrnn.curvature import Product

Params = Any
Value = Callable[[Params], jax.Array]


class HessianFreeState(NamedTuple):
    """What goes from one step to the next, and what happened in the last one.

    Attributes:
      step: how many steps were taken, rejected ones included.
      damping: lambda of the next step.
      start: where the next CG run starts: the last solution, un-backtracked and not yet decayed.
      cg_iterations: of the last step.
      backtracked: the CG iterations that backtracking took away, counted in saved iterates.
      rho: the actual reduction over the model's.
      reduction: how much the line search's objective fell, >= 0.
      step_size: alpha of the line search; 0 if the step was rejected.
    """

    step: jax.Array
    damping: jax.Array
    start: Params
    cg_iterations: jax.Array
    backtracked: jax.Array
    rho: jax.Array
    reduction: jax.Array
    step_size: jax.Array


def update_damping(damping: jax.Array, rho: jax.Array) -> jax.Array:
    """Levenberg-Marquardt, M10 sec. 4.1: 3/2 lambda if rho < 1/4 or NaN, 2/3 lambda if rho > 3/4, else lambda."""
    return damping * jnp.where(rho > 0.75, 2 / 3, jnp.where(rho >= 0.25, 1.0, 3 / 2))


def hessian_free(
    damping: float = 10.0,
    *,
    cg_iterations: int = 150,
    tolerance: float = 5e-4,
    stop: str = 'relative',
    start_decay: float | Callable[[jax.Array], jax.Array] = 0.95,
    grid: Sequence[int] | None = None,
    backtrack: str = 'walk',
    judge: str = 'objective',
    rho_damped: bool = False,
    rho_origin: str = 'zero',
    line_search: str = 'armijo',
    exponent: float = 0.75,
) -> optax.GradientTransformationExtraArgs:
    """Hessian-Free: minimise a local quadratic by conjugate gradient, then check it against the objective.

    At theta, with the gradient g and B = G + lambda (I + H_D) from ``curvature``, a step is (M10 algorithm 2)::

        q(d)   = g.d + 1/2 d'Bd
        x_1.. = CG on B x = -g from decay * (the last step's solution)
        d      = one of the saved iterates, by backtracking
        rho    = (f(theta + d) - f(theta)) / q(d);   lambda *= 3/2, 1 or 2/3
        alpha  = line search along d;                theta += alpha d

    A step that the line search rejects, or whose numbers are not finite, leaves theta as it is: the updates are zeros,
    ``step_size`` is 0, and the next CG run starts from zero.

    The update takes, beside gradients, state and params:

    * ``curvature``: ``product(v, lam) -> B v``, lam included, as made by ``curvature.gauss_newton`` at params;
    * ``value_fn``: the objective, ``params -> scalar``, on the batch of the curvature: rho is taken from it;
    * ``backtrack_fn`` (``value_fn`` if not given): the objective that chooses among the iterates;
    * ``backtrack_curvature`` (``curvature`` if not given): for judge='model', the curvature that chooses;
    * ``line_search_fn`` (``value_fn`` if not given): the objective of the line search, and
    * ``line_search_value`` (computed if not given): what it is at params, where that is known already;
    * ``squared_gradients`` (no preconditioner if not given): mean_i grad_i * grad_i over cases i, a tree like params.

    Args:
      damping: lambda at the start; its scale is that of the objective.
      cg_iterations: the most that one step may take.
      tolerance, stop: see ``conjugate_gradient``.
      start_decay: a number, or a function of the step count.
      grid: iterations at which iterates are saved; ceil(5 * 1.3^j) if None.
      backtrack: 'walk' goes back from the last iterate while that improves (M10c); 'best' takes the best of all saved
        (S11c); 'none' takes the last.
      judge: what backtracking goes by: the 'objective', or the quadratic 'model' with ``backtrack_curvature``.
      rho_damped: whether q in rho holds the damping (S11c) or not (M10c).
      rho_origin: rho's differences are taken from 'zero', theta itself, or from 'start', where CG set out (MS12).
      line_search: 'armijo': alpha = 0.8^i, i < 60, the first with f(theta + alpha d) <= f + 0.01 alpha g.d (M10c);
        'decrease': alpha = 0.8^i, i < 50, the first with any decrease (S11c).
      exponent: of the preconditioner M = (squared_gradients + lambda)^exponent, M10 sec. 4.7.

    Raises:
      ValueError: for a choice that is none of those above; when a needed extra argument is missing.
    """
    choices = {
        'backtrack': (backtrack, ('walk', 'best', 'none')),
        'judge': (judge, ('objective', 'model')),
        'rho_origin': (rho_origin, ('zero', 'start')),
        'line_search': (line_search, ('armijo', 'decrease')),
        'stop': (stop, ('relative', 'start')),
    }
    for name, (value, allowed) in choices.items():
        if value not in allowed:
            raise ValueError(f'{name} is one of {", ".join(allowed)}, not {value!r}')
    if grid is None:
        grid = geometric_grid(cg_iterations)

    def init(params):
        zero = jnp.zeros((), jnp.result_type(*jax.tree.leaves(params)))
        count = jnp.zeros((), jnp.int32)
        return HessianFreeState(
            step=count,
            damping=zero + damping,
            start=optax.tree.zeros_like(params),
            cg_iterations=count,
            backtracked=count,
            rho=zero,
            reduction=zero,
            step_size=zero,
        )

    def update(
        updates,
        state,
        params=None,
        *,
        curvature: Product | None = None,
        value_fn: Value | None = None,
        backtrack_fn: Value | None = None,
        backtrack_curvature: Product | None = None,
        line_search_fn: Value | None = None,
        line_search_value: jax.Array | None = None,
        squared_gradients: Params | None = None,
        **_,
    ):
        if params is None or curvature is None or value_fn is None:
            raise ValueError('hessian_free needs params, curvature= and value_fn= in its update')
        g, lam = updates, state.damping

        def moved(value, d):
            return value(optax.tree.add(params, d))

        def model(d, product, lam):
            return optax.tree.vdot(g, d) + 0.5 * optax.tree.vdot(d, product(d, lam))

        precondition = _identity
        if squared_gradients is not None:
            M = jax.tree.map(lambda s: (s + lam) ** exponent, squared_gradients)
            precondition = functools.partial(jax.tree.map, lambda m, r: r / m, M)

        decay = start_decay(state.step) if callable(start_decay) else start_decay
        start = optax.tree.scale(decay, state.start)
        cg = conjugate_gradient(
            lambda v: curvature(v, lam),
            optax.tree.scale(-1.0, g),
            start,
            precondition=precondition,
            max_iterations=cg_iterations,
            tolerance=tolerance,
            stop=stop,
            grid=grid,
        )

        if judge == 'objective':
            merit = functools.partial(moved, backtrack_fn or value_fn)
        else:
            merit = functools.partial(model, product=backtrack_curvature or curvature, lam=lam)
        d, chosen = _backtrack(cg, merit, backtrack)

        f_0 = value_fn(params)
        rise = moved(value_fn, d) - (f_0 if rho_origin == 'zero' else moved(value_fn, start))
        fall = model(d, curvature, lam if rho_damped else 0.0)
        if rho_origin == 'start':
            fall -= model(start, curvature, lam if rho_damped else 0.0)
        rho = jnp.where(rise > 0, -jnp.inf, rise / fall)

        search = line_search_fn or value_fn
        if line_search_value is not None:
            f_0 = line_search_value
        elif line_search_fn is not None:
            f_0 = line_search_fn(params)
        alpha, f_d = _line_search(
            lambda alpha: moved(search, optax.tree.scale(alpha, d)), f_0, optax.tree.vdot(g, d), line_search
        )
        accepted = alpha > 0
        zeros = optax.tree.zeros_like(params)
        new_state = HessianFreeState(
            step=state.step + 1,
            damping=update_damping(lam, rho),
            start=optax.tree.where(accepted, cg.x, zeros),
            cg_iterations=cg.iterations.astype(jnp.int32),
            backtracked=(cg.last - chosen).astype(jnp.int32),
            rho=rho,
            reduction=jnp.where(accepted, f_0 - f_d, 0.0),
            step_size=alpha,
        )
        return optax.tree.where(accepted, optax.tree.scale(alpha, d), zeros), new_state

    return optax.GradientTransformationExtraArgs(init, update)


def _identity(r):
    return r


def _backtrack(cg, merit, how):
    """The chosen iterate and its index in ``cg.saved``; less merit is better, and a NaN is worse than anything."""

    def iterate(j):
        return jax.tree.map(lambda leaf: leaf[j], cg.saved)

    def back(s):
        j, chosen, value, _ = s
        new = merit(iterate(j))
        better = new < value
        value = jnp.where(better, new, value)
        return j - 1, jnp.where(better, j, chosen), value, better | (how == 'best') | jnp.isinf(value)

    if how == 'none':
        return cg.x, cg.last
    infinite = jnp.full((), jnp.inf, cg.phi.dtype)
    _, j, _, _ = jax.lax.while_loop(lambda s: (s[0] >= 0) & s[3], back, (cg.last, cg.last, infinite, True))
    return iterate(j), j


def _line_search(along, f_0, slope, how):
    """The step size alpha, 0 if none will do, and the objective there; ``along(alpha)`` is the objective."""
    most, c = (60, 1e-2) if how == 'armijo' else (50, 0.0)

    def enough(alpha, f):
        bound = f_0 + c * alpha * jnp.minimum(slope, 0.0)
        return ((f <= bound) if how == 'armijo' else (f < bound)) & jnp.isfinite(f)

    def shrink(s):
        i, alpha, _ = s
        return i + 1, 0.8 * alpha, along(0.8 * alpha)

    start = (jnp.array(-1), jnp.full_like(f_0, 1 / 0.8), jnp.full_like(f_0, jnp.inf))
    _, alpha, f = jax.lax.while_loop(lambda s: (s[0] < most) & ~enough(s[1], s[2]), shrink, start)
    return jnp.where(enough(alpha, f), alpha, 0.0), f


def martens2010(damping: float = 45.0, cg_iterations: int = 250, **changes) -> optax.GradientTransformationExtraArgs:
    """The choices of Martens' 2010 demo code: backtracking by a walk on the objective, Armijo, undamped rho.

    Pass ``line_search_fn`` and ``backtrack_fn`` on the gradient's batch, and ``squared_gradients``, as it does.
    """
    return hessian_free(damping, **{'cg_iterations': cg_iterations} | changes)


def sutskever2011(damping: float = 10.0, cg_iterations: int = 150, **changes) -> optax.GradientTransformationExtraArgs:
    """The choices of Sutskever's 2011 release: the best of every tenth iterate, first decrease, damped rho.

    It judges iterates and line search on a batch of its own each (``backtrack_fn``, ``line_search_fn``), and has no
    preconditioner.  Its structural damping is a quarter of the formula's: pass mu / 4 for the mu of its code.
    """
    choices = {
        'cg_iterations': cg_iterations,
        'grid': every(cg_iterations),
        'backtrack': 'best',
        'rho_damped': True,
        'line_search': 'decrease',
    }
    return hessian_free(damping, **choices | changes)


def martens_sutskever2012(
    damping: float = 10.0, cg_iterations: int = 250, **changes
) -> optax.GradientTransformationExtraArgs:
    """The choices of the 2012 chapter: CG's progress and rho both measured from where CG set out, rho damped."""
    choices = {'cg_iterations': cg_iterations, 'stop': 'start', 'rho_damped': True, 'rho_origin': 'start'}
    return hessian_free(damping, **choices | changes)


PRESETS = {
    'martens2010': martens2010,
    'sutskever2011': sutskever2011,
    'martens_sutskever2012': martens_sutskever2012,
}
