"""Hessian-Free optimisation, as an optax transformation with extra arguments.

It knows no net, batch or device: what it needs of them comes in as functions and trees, each step anew.

**What to pass.**  ``params`` is any pytree of float32 arrays, or any of float64: scalars, empty arrays and empty
containers may be among them; of a flax nnx module, what ``nnx.split(module, nnx.Param, ...)`` gives behind the graph.
With f the objective, a mean over the cases of a batch, a step is::

    optimizer = hessian_free(damping)
    state = optimizer.init(params)

    grads = jax.grad(f)(params)
    curvature = gauss_newton(predict, loss, params)
    updates, state = optimizer.update(grads, state, params, curvature=curvature, value_fn=f)
    params = optax.apply_updates(params, updates)

    predict     params -> outputs of the whole batch, any pytree, before the loss's non-linearity
    loss        outputs -> scalar, convex in them: cross-entropy of logits, squared error, Bernoulli; f = loss(predict)
    curvature   (tree like params, lambda) -> tree like params, positive definite, as ``gauss_newton`` makes it
    f           params -> scalar

A step needs products exact to float32, as ``jax.default_matmul_precision('highest')`` around it gives them: a GPU's
default, TF32, spoils the conjugacy of CG's directions, and rho.

A loss that is not convex in the outputs has no such matrix; ``curvature.fisher_loss`` gives one in its place.  Weights
of cases, masks and padding stand in ``loss``; as f and the gradient are made of it, they hold in gradient, curvature,
model and search alike.  f, curvature and gradient are of one scale, which is also lambda's.

**What comes back.**  ``updates`` is what is to be added to params.  ``state`` is a ``HessianFreeState``: all that goes
on to the next step, arrays alone, so that it can be saved, carried by ``lax.scan`` and replicated by ``pmap`` (where
``curvature``, ``value_fn`` and the gradient must be means over the devices); and what happened, as in
``optax.tree.get(state, 'rho')``, which works inside a chain, too.

**In a chain**, what stands behind it acts on the finished update: ``optax.scale``, ``optax.add_decayed_weights``.
What stands before it changes the gradient, and so the model that rho is measured against: clipping has no meaning here.

**Errors**: ValueError where ``params``, ``curvature`` or ``value_fn`` is missing, where the gradient, a product or
``squared_gradients`` has not the structure and shapes of params, and where an objective gives no scalar; TypeError for
params that are not all float32 or all float64, and for a choice that is no function.  An objective of another type than
params, as of float64 data, is rounded to theirs.  Numbers that are not finite raise nothing: such a step is rejected,
and says so by ``step_size`` 0.

Sources: Martens 2010 (M10) and his demo code (M10c); Martens & Sutskever 2011 (MS11); Sutskever's code release of 2011
(S11c); Martens & Sutskever 2012 (MS12), whose choices we know through a public re-implementation.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from hfrnn.optim.conjugate_gradient import (
    Stop,
    conjugate_gradient,
    every,
    geometric_grid,
    progress_since_start,
    relative_progress,
)
from hfrnn.optim.curvature import Product
from hfrnn.optim.line_search import Backtrack, LineSearch, armijo, best_iterate, first_decrease, walk_back

Params = Any
Value = Callable[[Params], jax.Array]


class HessianFreeState(NamedTuple):
    """What goes from one step to the next, and what happened in the last one.

    Attributes:
      step: how many steps were taken, rejected ones included.
      damping: lambda of the next step.
      start: where the next CG run starts: the last solution, un-backtracked and not yet decayed.
      cg_iterations: of the last step.
      backtracked: how many of the CG iterates that were kept backtracking gave up.
      rho: the actual reduction over the model's; -inf where the objective rose, NaN where nothing tells.
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
    """Levenberg-Marquardt, M10 sec. 4.1: 3/2 lambda if rho < 1/4 or NaN, 2/3 lambda if rho > 3/4, else lambda.

    A lambda never gets so small or large that float32 cannot hold it, as there is no way back from 0 or infinity.
    """
    new = damping * jnp.where(rho > 0.75, 2 / 3, jnp.where(rho >= 0.25, 1.0, 3 / 2))
    return jnp.where(damping > 0, jnp.clip(new, 1e-30, 1e30), damping)


def hessian_free(
    damping: float = 10.0,
    *,
    cg_iterations: int = 150,
    tolerance: float = 5e-4,
    stop: Stop = relative_progress,
    start_decay: float | Callable[[jax.Array], jax.Array] = 0.95,
    grid: Callable[[int], Sequence[int]] = geometric_grid,
    backtrack: Backtrack = walk_back,
    judge_by_model: bool = False,
    rho_damped: bool = False,
    rho_from_start: bool = False,
    line_search: LineSearch = armijo,
    exponent: float = 0.75,
) -> optax.GradientTransformationExtraArgs:
    """Hessian-Free: minimise a local quadratic by conjugate gradient, then check it against the objective.

    At theta, with the gradient g and B = G + lambda (I + H_D) from ``curvature``, a step is (M10 algorithm 1)::

        q(d)   = g.d + 1/2 d'Bd
        x_1.. = CG on B x = -g from decay * (the last step's solution)
        d      = one of the saved iterates, by backtracking
        rho    = (f(theta + d) - f(theta)) / q(d);   lambda *= 3/2, 1 or 2/3
        alpha  = line search along d;                theta += alpha d

    A step that the line search rejects, that goes nowhere, or whose numbers are not finite, leaves theta as it is: the
    updates are zeros, ``step_size`` is 0, and the next CG run starts from zero.

    The update takes, beside gradients, state and params:

    * ``curvature``: ``product(v, lam) -> B v``, lam included, as made by ``curvature.gauss_newton`` at params;
    * ``value_fn``: the objective, ``params -> scalar``, on the batch of the curvature: rho is taken from it;
    * ``backtrack_fn`` (``value_fn`` if not given): the objective that chooses among the iterates;
    * ``backtrack_curvature`` (``curvature`` if not given): for ``judge_by_model``, the curvature that chooses;
    * ``line_search_fn`` (``value_fn`` if not given): the objective of the line search, and
    * ``line_search_value`` (computed if not given): what it is at params, where that is known already;
    * ``squared_gradients`` (no preconditioner if not given): mean_i grad_i * grad_i over cases i, a tree like params.

    Args:
      damping: lambda at the start; its scale is that of the objective.
      cg_iterations: the most that one step may take.
      tolerance, stop: when CG's progress is small; ``relative_progress`` or ``progress_since_start``, of
        ``conjugate_gradient``.
      start_decay: a number, or a function of the step count.
      grid: ``grid(cg_iterations)``, the iterations at which iterates are saved; ``geometric_grid`` or ``every``.
      backtrack: ``walk_back``, ``best_iterate`` or ``last_iterate``, of ``search``.
      judge_by_model: backtracking goes by the quadratic model with ``backtrack_curvature``, not by the objective.
      rho_damped: whether q in rho holds the damping (S11c) or not (M10c).
      rho_from_start: rho's differences are taken from where CG set out (MS12), not from theta itself.
      line_search: ``armijo`` or ``first_decrease``, of ``search``.
      exponent: of the preconditioner M = (squared_gradients + lambda)^exponent, M10 sec. 4.7.

    Raises:
      TypeError: for a choice that is no function, or params that are not all float32 or all float64.
      ValueError: when a needed argument is missing or of another shape; see the module's page.
    """
    choices = {'stop': stop, 'grid': grid, 'backtrack': backtrack, 'line_search': line_search}
    for name, choice in choices.items():
        if not callable(choice):
            default = inspect.signature(hessian_free).parameters[name].default.__name__
            raise TypeError(f'{name} is a function, such as {default}, not {choice!r}')

    def init(params):
        _check_floating(params)
        dtype = jnp.result_type(*jax.tree.leaves(params))

        def count():  # an array for each, as one that stands twice in a state cannot be donated
            return jnp.zeros((), jnp.int32)

        return HessianFreeState(
            step=count(),
            damping=jnp.asarray(damping, dtype),
            start=optax.tree.zeros_like(params),
            cg_iterations=count(),
            backtracked=count(),
            rho=jnp.zeros((), dtype),
            reduction=jnp.zeros((), dtype),
            step_size=jnp.zeros((), dtype),
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
        needed = {'params': params, 'curvature': curvature, 'value_fn': value_fn}
        missing = [name for name, value in needed.items() if value is None]
        if missing:
            raise ValueError(f'hessian_free needs {", ".join(missing)} in its update')
        _check_like(params, updates, 'the gradient')
        if squared_gradients is not None:
            _check_like(params, squared_gradients, 'squared_gradients')
        value_fn = _objective(value_fn, 'value_fn', state.damping.dtype)
        backtrack_fn = _objective(backtrack_fn, 'backtrack_fn', state.damping.dtype) if backtrack_fn else value_fn
        search = _objective(line_search_fn, 'line_search_fn', state.damping.dtype) if line_search_fn else value_fn
        f_0 = value_fn(params)
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
            lambda v: _check_like(params, curvature(v, lam), 'a product of curvature'),
            optax.tree.scale(-1.0, g),
            start,
            precondition=precondition,
            max_iterations=cg_iterations,
            tolerance=tolerance,
            stop=stop,
            grid=grid(cg_iterations),
        )

        if judge_by_model:
            merit = functools.partial(model, product=backtrack_curvature or curvature, lam=lam)
        else:
            merit = functools.partial(moved, backtrack_fn)
        d, chosen = backtrack(cg, merit)

        rise = moved(value_fn, d) - (moved(value_fn, start) if rho_from_start else f_0)
        fall = model(d, curvature, lam if rho_damped else 0.0)
        if rho_from_start:
            fall -= model(start, curvature, lam if rho_damped else 0.0)
        rho = jnp.where(rise > 0, -jnp.inf, jnp.where(jnp.isfinite(rise), rise / fall, jnp.nan))

        if line_search_value is not None:
            f_0 = _scalar(line_search_value, 'line_search_value', lam.dtype)
        elif line_search_fn is not None:
            f_0 = search(params)
        alpha, f_d = line_search(lambda alpha: moved(search, optax.tree.scale(alpha, d)), f_0, optax.tree.vdot(g, d))
        usable = optax.tree.sum((g, 0.0 if squared_gradients is None else squared_gradients))
        moves = optax.tree.norm(d) > 0  # CG finds no way where the gradient is 0, or its first curvature below 0
        accepted = (alpha > 0) & moves & jnp.isfinite(fall) & jnp.isfinite(usable)
        zeros = optax.tree.zeros_like(params)
        new_state = HessianFreeState(
            step=state.step + 1,
            damping=update_damping(lam, rho),
            start=optax.tree.where(accepted & jnp.isfinite(optax.tree.norm(cg.x)), cg.x, zeros),
            cg_iterations=cg.iterations.astype(jnp.int32),
            backtracked=(cg.last - chosen).astype(jnp.int32),
            rho=rho,
            reduction=jnp.where(accepted, f_0 - f_d, 0.0),
            step_size=jnp.where(accepted, alpha, 0.0),
        )
        return optax.tree.where(accepted, optax.tree.scale(alpha, d), zeros), new_state

    return optax.GradientTransformationExtraArgs(init, update)


def _identity(r):
    return r


def _objective(value, name, dtype):
    """``params -> scalar`` of params' type, which may be another than that of the data."""
    return lambda params: _scalar(value(params), name, dtype)


def _scalar(found, name, dtype):
    if jnp.shape(found) != ():
        raise ValueError(f'{name} gives shape {jnp.shape(found)}, not a scalar')
    return jnp.asarray(found, dtype)


def _check_floating(params):
    leaves = jax.tree_util.tree_leaves_with_path(params)
    if not leaves:
        raise ValueError('hessian_free has no params: the tree has no leaves')
    for path, leaf in leaves:
        dtype, first = jnp.result_type(leaf), jnp.result_type(leaves[0][1])
        name = f'params{jax.tree_util.keystr(path)}'
        if dtype not in (jnp.float32, jnp.float64):  # less spoils CG's conjugacy, and rho
            raise TypeError(f'{name} is {dtype}; give hessian_free floating-point numbers alone, of 32 bits or 64')
        if dtype != first:
            raise TypeError(f'{name} is {dtype} where others are {first}; give hessian_free params of one type')


def _check_like(params, tree, what):
    def shapes(tree):
        return [jnp.shape(leaf) for leaf in jax.tree.leaves(tree)]

    if jax.tree.structure(tree) != jax.tree.structure(params) or shapes(tree) != shapes(params):
        of = shapes if shapes(tree) != shapes(params) else jax.tree.structure
        raise ValueError(f'{what} is not of the structure and shapes of params: {of(tree)}, not {of(params)}')
    return tree


# -- published variants ----------------------------------------------------------------------------------------------


def martens2010(
    damping: float = 45.0, cg_iterations: int = 250, *, grid=geometric_grid, **changes
) -> optax.GradientTransformationExtraArgs:
    """The choices of Martens' 2010 demo code: backtracking by a walk on the objective, Armijo, undamped rho.

    Pass ``line_search_fn`` and ``backtrack_fn`` on the gradient's batch, and ``squared_gradients``, as it does.
    (``training.hessian_free_step`` backtracks on the curvature's batch where it is given no other.)
    """
    return hessian_free(damping, **{'cg_iterations': cg_iterations, 'grid': grid} | changes)


def sutskever2011(
    damping: float = 10.0, cg_iterations: int = 150, *, grid=every, **changes
) -> optax.GradientTransformationExtraArgs:
    """The choices of Sutskever's 2011 release: the best of every tenth iterate, first decrease, damped rho.

    It judges iterates and line search on a batch of its own each (``backtrack_fn``, ``line_search_fn``), and has no
    preconditioner.  Its structural damping is a quarter of the formula's: pass mu / 4 for the mu of its code.
    """
    choices = {
        'cg_iterations': cg_iterations,
        'grid': grid,
        'backtrack': best_iterate,
        'rho_damped': True,
        'line_search': first_decrease,
    }
    return hessian_free(damping, **choices | changes)


def martens_sutskever2012(
    damping: float = 10.0, cg_iterations: int = 250, *, grid=geometric_grid, **changes
) -> optax.GradientTransformationExtraArgs:
    """The choices of the 2012 chapter: CG's progress and rho both measured from where CG set out, rho damped."""
    choices = {
        'cg_iterations': cg_iterations,
        'grid': grid,
        'stop': progress_since_start,
        'rho_damped': True,
        'rho_from_start': True,
    }
    return hessian_free(damping, **choices | changes)


PRESETS = {
    'martens2010': martens2010,
    'sutskever2011': sutskever2011,
    'martens_sutskever2012': martens_sutskever2012,
}


def saved_iterates(preset: Callable, cg_iterations: int | None = None) -> int:
    """How many iterates a CG run of this preset keeps in memory, each as large as params; its own limit if None."""
    own = {name: p.default for name, p in inspect.signature(preset).parameters.items()}
    n = own['cg_iterations'] if cg_iterations is None else cg_iterations
    return len(own['grid'](n)) + 1
