"""Training steps on independent sequences: ``step(state, batch) -> (state, metrics)``, one device's part of each.

They run under ``devices.spread``: every sum over sequences is a ``psum`` over its axis.  Steps that carry the net's
state from sequence to sequence are in ``truncated_bptt``.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from hfrnn.nets.model import Model
from hfrnn.optim.curvature import fisher_loss, gauss_newton, tanh_distance
from hfrnn.optim.weight_noise import Noise
from hfrnn.train.devices import AXIS
from hfrnn.train.loss import (
    Batch,
    count_sequences,
    loss_and_gradient,
    loss_and_weight,
    predict_batch,
    sum_nll,
    sum_over_microbatches,
)

Params = Any


class TrainState(NamedTuple):
    """Everything that the next step depends on, except its batches."""

    params: Params
    opt_state: Any
    step: jax.Array


def init_state(model: Model, optimizer: optax.GradientTransformation, key: jax.Array) -> TrainState:
    """The state before the first step, with random weights."""
    return state_of(optimizer, model.init(key))


def state_of(optimizer: optax.GradientTransformation, params: Params) -> TrainState:
    """The state before the first step, with these weights."""
    return TrainState(params, optimizer.init(params), jnp.zeros((), jnp.int32))


def kept_params(state: Any) -> Params:
    """The weights to evaluate and keep: the average in the state's ``opt_state`` if there is one, else ``params``.

    Args:
      state: a TrainState or ``truncated_bptt.CarriedState``.
    """
    return optax.tree.get(state.opt_state, 'average', default=state.params)


def first_order_step(
    model: Model,
    optimizer: optax.GradientTransformation,
    chunk: int,
    *,
    per: str = 'target',
    noisy: Callable | None = None,
    seed: int = 0,
) -> Callable:
    """A gradient step on the mean nats per target, or per sequence; its batch is one Batch.

    If a loss, gradient or update is not finite, the state does not change and the metric ``finite`` is False.  The
    other metrics, of the whole batch, are ``nats`` (per target, without a complexity), ``targets``, ``sequences`` and
    ``gradient``, the gradient's norm.

    Args:
      per: the scale of the gradient, 'target' or 'sequence'.  The offset in Graves' rmsprop belongs to the latter.
      noisy: ``noisy(params, key, batch) -> (objective, (sum of nats, sum of weights))``: the objective, a sum over
        sequences, is differentiated in place of the nats.  None for the nats.  The key differs between steps, devices
        and chunks, so that chunks of one sequence draw noise for each sequence.
      seed: of these keys.

    Raises:
      ValueError: for any other scale.
    """
    if per not in ('target', 'sequence'):
        raise ValueError(f"a gradient is per 'target' or per 'sequence', not {per!r}")

    def plain(params, _, part):
        nats, weight = loss_and_weight(model, params, part)
        return nats, (nats, weight)

    value_and_grad = jax.value_and_grad(noisy or plain, has_aux=True)

    def step(state, batch):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), state.step), jax.lax.axis_index(AXIS))

        def of_part(part):
            part, places = part
            (_, sums), grads = value_and_grad(state.params, jax.random.fold_in(key, places[0]), part)
            return (*sums, count_sequences(part)), grads

        places = jnp.arange(batch.weights.shape[0])
        (loss, weight, count), grads = jax.lax.psum(sum_over_microbatches(of_part, (batch, places), chunk), AXIS)
        grads = optax.tree.scale(1 / (weight if per == 'target' else count), grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        new = TrainState(optax.apply_updates(state.params, updates), opt_state, state.step + 1)
        norm = optax.tree.norm(grads)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm) & jnp.isfinite(optax.tree.norm(updates))
        metrics = {'nats': loss / weight, 'targets': weight, 'sequences': count, 'gradient': norm, 'finite': finite}
        return optax.tree.where(finite, new, state), metrics

    return step


def noisy_loss(model: Model, noise: Noise, n_sequences: int) -> Callable:
    """``noisy`` of ``first_order_step``: nats at weights drawn once, and the sequences' share of the complexity.

    Dropout (of ``cells.lstm``) is drawn for each sequence, by its position in a chunk of ``first_order_step``.

    Args:
      n_sequences: the size n of the training set; each sequence has 1 / n of the complexity.
    """

    def noisy(params, key, batch):
        k_dropout = jax.random.fold_in(key, 2**31 - 1)  # noise is drawn with smaller numbers, one for each array
        nats, weight = loss_and_weight(model, noise.sample(key, params), batch, k_dropout)
        return nats + count_sequences(batch) / n_sequences * noise.complexity(params), (nats, weight)

    return noisy


class HessianFreeBatches(NamedTuple):
    """The batches of one Hessian-Free step.

    Attributes:
      gradient: for the gradient.
      curvature: for the Gauss-Newton matrix and the objective of rho; a smaller batch, a subset of the first.
      backtrack: for the choice among CG's iterates; the curvature's if None.
      line_search: for the line search; the gradient's if None.
    """

    gradient: Batch
    curvature: Batch
    backtrack: Batch | None = None
    line_search: Batch | None = None


HESSIAN_FREE_METRICS = ('rho', 'damping', 'cg_iterations', 'backtracked', 'step_size', 'reduction')


def hessian_free_step(
    model: Model,
    optimizer: optax.GradientTransformationExtraArgs,
    chunk: int,
    mu: float = 0.0,
    preconditioned: bool = False,
    fisher_samples: int = 0,
    seed: int = 0,
) -> Callable:
    """A step of ``hessian_free``; its batch is a HessianFreeBatches.

    The metrics are ``nats``, per target of the gradient's batch at the weights before the step; ``finite``, whether
    these and the gradient are; and what happened in the step, from the ``HessianFreeState`` in ``opt_state``, also in a
    chain: ``rho``, ``damping`` (of the next step), ``cg_iterations``, ``backtracked``, ``step_size``, ``reduction``.
    A step to a point where anything is not finite is rejected: its ``step_size`` is 0.

    Objective, gradient and curvature are sums over time and means over sequences, as in Sutskever's release: that is
    the scale of lambda.  Matrix products have full float32 precision: less spoils CG's conjugacy, and rho.

    Args:
      chunk: how many sequences of the gradient's batch are in memory at once, on each device.
      mu: the weight of structural damping (Martens & Sutskever 2011).  Its distance, that of tanh units, is a sum over
        units and time; a time step has the largest weight of the targets from that step on, so that padding after the
        last target adds nothing.
      preconditioned: whether to precondition CG by the squared gradients of the curvature batch's sequences, of which
        16 are in memory at once.
      fisher_samples: if not 0, the curvature is the Fisher matrix, from this many samples of each output, drawn anew
        in each step; see ``curvature.fisher_loss``.
      seed: of these samples.

    Raises:
      ValueError: if the output's nll is not convex in z and there are no ``fisher_samples``; for structural damping of
        units that are not tanh units.
    """
    if mu and not model.tanh_units:
        raise ValueError(f'mu={mu}: structural damping is of tanh units, which this net does not have; it takes mu=0')
    if model.output.nonconvex and not fisher_samples:
        raise ValueError(
            f'{model.output.nonconvex} is not convex in z, and its Gauss-Newton matrix not positive: '
            'give Hessian-Free fisher_samples, or use a first-order method'
        )

    def objective(batch: Batch, params: Params) -> jax.Array:
        loss = sum_over_microbatches(lambda part: loss_and_weight(model, params, part)[0], batch, chunk)
        return jax.lax.pmean(loss / batch.weights.shape[0], AXIS)

    def convex_loss(batch: Batch, params: Params, key: jax.Array):
        """A function of z whose Hessian is that of the curvature."""
        if not fisher_samples:
            return lambda z: sum_nll(model, z, batch)
        z = predict_batch(model, params, batch).z
        keys = jax.random.split(jax.random.fold_in(key, jax.lax.axis_index(AXIS)), (fisher_samples, *z.shape[:-1]))
        drawn = jax.vmap(jax.vmap(jax.vmap(model.output.sample)), (0, None))(keys, z)
        return fisher_loss(model.output.nll, z, drawn, batch.weights)

    def curvature(batch: Batch, params: Params, key: jax.Array):
        B = batch.weights.shape[0]
        loss = convex_loss(batch, params, key)
        weights = jax.lax.cummax(jnp.asarray(batch.weights), axis=1, reverse=True)

        def distance(moved, start):
            return mu / B * jnp.sum(jax.vmap(jax.vmap(tanh_distance))(moved.h, start.h) * weights)

        local = gauss_newton(
            lambda params: predict_batch(model, params, batch),
            lambda prediction: loss(prediction.z) / B,
            params,
            distance=distance if mu else None,
        )
        return lambda v, lam: jax.lax.pmean(local(v, lam), AXIS)

    def squared_gradients(batch: Batch, params: Params):
        def of_one(sequence):
            one = jax.tree.map(lambda leaf: leaf[None], sequence)
            return jax.tree.map(jnp.square, jax.grad(lambda p: loss_and_weight(model, p, one)[0])(params))

        def of_part(part):
            return jax.tree.map(lambda leaf: jnp.sum(leaf, 0), jax.vmap(of_one)(part))

        total = sum_over_microbatches(of_part, batch, 16)
        return jax.lax.pmean(optax.tree.scale(1 / batch.weights.shape[0], total), AXIS)

    @jax.default_matmul_precision('highest')
    def step(state, batches: HessianFreeBatches):
        params = state.params
        k_curvature, k_backtrack = jax.random.split(jax.random.fold_in(jax.random.key(seed), state.step))
        (loss, weight), grads = loss_and_gradient(model, params, batches.gradient, chunk)
        B = batches.gradient.weights.shape[0] * jax.lax.axis_size(AXIS)
        backtrack = batches.curvature if batches.backtrack is None else batches.backtrack
        line_search = batches.gradient if batches.line_search is None else batches.line_search
        own_curvature = None if batches.backtrack is None else curvature(batches.backtrack, params, k_backtrack)
        updates, opt_state = optimizer.update(
            optax.tree.scale(1 / B, grads),
            state.opt_state,
            params,
            curvature=curvature(batches.curvature, params, k_curvature),
            value_fn=functools.partial(objective, batches.curvature),
            backtrack_fn=functools.partial(objective, backtrack),
            backtrack_curvature=own_curvature,
            line_search_fn=functools.partial(objective, line_search),
            line_search_value=loss / B if batches.line_search is None else None,
            squared_gradients=squared_gradients(batches.curvature, params) if preconditioned else None,
        )
        metrics = {name: optax.tree.get(opt_state, name) for name in HESSIAN_FREE_METRICS}
        metrics |= {'nats': loss / weight, 'finite': jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(grads))}
        return TrainState(optax.apply_updates(params, updates), opt_state, state.step + 1), metrics

    return step
