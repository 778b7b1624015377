"""Hessian-Free optimisation, as an optax transformation with extra arguments.

It knows no net, batch or device: every step gets these as functions and trees.

**What to pass.**  ``params`` is any pytree of float32 arrays, or any of float64; scalars, empty arrays and empty
containers are allowed.  For a flax nnx module it is the state of ``nnx.split(module, nnx.Param, ...)``, or use
``nnx.Optimizer``.  With f the objective, a mean over the cases of a batch, a step is::

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

A step needs float32 products in full precision: run it under ``jax.default_matmul_precision('highest')``.  A GPU's
default, TF32, spoils the conjugacy of CG's directions, and rho.

For a loss that is not convex in the outputs, pass that of ``curvature.fisher_loss`` to ``gauss_newton``.  Weights of
cases, masks and padding belong in ``loss``: f and the gradient are made of it, so that they enter gradient, curvature,
model and search alike.  f, curvature and gradient have one scale, which is also lambda's.

**Returns.**  ``updates`` is added to params.  ``state`` is a ``HessianFreeState``: everything that the next step needs,
and what happened in this one, as in ``optax.tree.get(state, 'rho')``, which also works in a chain.  It holds arrays
only, so it can be saved, carried by ``lax.scan`` and replicated by ``pmap`` (where ``curvature``, ``value_fn`` and the
gradient must be means over the devices).

**In a chain**, the transformations after it act on the finished update: ``optax.scale``, ``optax.add_decayed_weights``.
Those before it change the gradient, and so the model that rho is measured against: do not clip gradients there.

**Errors**: ValueError where ``params``, ``curvature`` or ``value_fn`` is missing, where the gradient, a product or
``squared_gradients`` differs from params in structure or shapes, and where an objective is not a scalar; TypeError for
params that are not all float32 or all float64, and for a choice that is not a function.  An objective of another type
than params, such as float64, is rounded to theirs.  Numbers that are not finite raise no error: such a step is
rejected, and its ``step_size`` is 0.

Sources: Martens 2010 (M10) and his demo code (M10c); Martens & Sutskever 2011 (MS11); Sutskever's code release of 2011
(S11c); Martens & Sutskever 2012 (MS12), whose choices we know from a public re-implementation.
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
    geometric_grid,
    progress_since_start,
    regular_grid,
    relative_progress,
)
from hfrnn.optim.curvature import Product
from hfrnn.optim.line_search import Backtrack, LineSearch, armijo, best_iterate, first_decrease, walk_back

Params = Any
Value = Callable[[Params], jax.Array]


class HessianFreeState(NamedTuple):
    """What the next step needs, and what happened in the last one.

    Attributes:
      step: the number of steps, including rejected ones.
      damping: lambda of the next step.
      start: the first iterate of the next CG run: the last solution, before backtracking and before the decay.
      cg_iterations: of the last step.
      backtracked: how many of the saved CG iterates backtracking discarded.
      rho: the actual reduction over the model's; -inf where the objective rose, NaN where it is undefined.
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

    Lambda stays within the range of float32, as it could not return from 0 or infinity.
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

    A step is rejected if the line search accepts no step size, if d is zero, or if a number is not finite: then the
    updates are zeros, ``step_size`` is 0, and the next CG run starts from zero.

    The update takes, besides gradients, state and params:

    * ``curvature``: ``product(v, lam) -> B v``, including lam, as ``curvature.gauss_newton`` makes it at params;
    * ``value_fn``: the objective, ``params -> scalar``, on the curvature's batch, for rho;
    * ``backtrack_fn`` (default ``value_fn``): the objective that chooses among the iterates;
    * ``backtrack_curvature`` (default ``curvature``): with ``judge_by_model``, the curvature that chooses;
    * ``line_search_fn`` (default ``value_fn``): the objective of the line search;
    * ``line_search_value`` (computed by default): its value at params, if known already;
    * ``squared_gradients`` (default: no preconditioner): mean_i grad_i * grad_i over cases i, a tree like params.

    Args:
      damping: the initial lambda, on the scale of the objective.
      cg_iterations: the most iterations of a step.
      tolerance, stop: when CG's progress is small: ``relative_progress`` or ``progress_since_start``, of
        ``conjugate_gradient``.
      start_decay: a number, or a function of the step count.
      grid: ``grid(cg_iterations)``, the iterations at which iterates are saved; ``geometric_grid`` or ``regular_grid``.
      backtrack: ``walk_back``, ``best_iterate`` or ``last_iterate``, of ``line_search``.
      judge_by_model: backtracking compares the quadratic model with ``backtrack_curvature``, not the objective.
      rho_damped: whether q in rho includes the damping (S11c) or not (M10c).
      rho_from_start: rho's differences are taken from CG's first iterate (MS12), not from theta.
      line_search: ``armijo`` or ``first_decrease``, of ``line_search``.
      exponent: of the preconditioner M = (squared_gradients + lambda)^exponent, M10 sec. 4.7.

    Raises:
      TypeError: for a choice that is not a function, or params that are not all float32 or all float64.
      ValueError: when an argument is missing or has another shape; see the module's page.
    """
    choices = {'stop': stop, 'grid': grid, 'backtrack': backtrack, 'line_search': line_search}
    for name, choice in choices.items():
        if not callable(choice):
            default = inspect.signature(hessian_free).parameters[name].default.__name__
            raise TypeError(f'{name} is a function, such as {default}, not {choice!r}')

    def init(params):
        _check_floating(params)
        dtype = jnp.result_type(*jax.tree.leaves(params))

        def count():  # a new array for each, as an array that occurs twice in a state cannot be donated
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
        moves = optax.tree.norm(d) > 0  # CG takes no iteration if the gradient is 0, or the first curvature < 0
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
    """``params -> scalar`` of params' type, which may differ from the data's."""
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
            raise TypeError(f'{name} is {dtype}; give hessian_free only floating-point numbers, of 32 bits or 64')
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
    """The choices of Martens' 2010 demo code: walking back on the objective, Armijo, undamped rho.

    As it does, pass ``line_search_fn`` and ``backtrack_fn`` on the gradient's batch, and ``squared_gradients``.
    (``train.steps.hessian_free_step`` backtracks on the curvature's batch by default.)
    """
    return hessian_free(damping, **{'cg_iterations': cg_iterations, 'grid': grid} | changes)


def sutskever2011(
    damping: float = 10.0, cg_iterations: int = 150, *, grid=regular_grid, **changes
) -> optax.GradientTransformationExtraArgs:
    """The choices of Sutskever's 2011 release: the best of every tenth iterate, first decrease, damped rho.

    It uses separate batches for the iterates and the line search (``backtrack_fn``, ``line_search_fn``), and no
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
    """The choices of the 2012 chapter: CG's progress and rho are measured from CG's first iterate, rho is damped."""
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
    """How many iterates, each as large as params, a CG run of this preset keeps in memory.

    Args:
      cg_iterations: the limit of a step; that of the preset if None.
    """
    own = {name: p.default for name, p in inspect.signature(preset).parameters.items()}
    n = own['cg_iterations'] if cg_iterations is None else cg_iterations
    return len(own['grid'](n)) + 1
