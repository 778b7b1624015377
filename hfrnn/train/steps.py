"""Training steps: ``step(state, batch) -> (state, metrics)``, one device's part of each.

They run under ``devices.spread``: every sum over sequences is a ``psum`` over its axis.

Source: Graves 2013 (G13).
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hfrnn.nets.model import Model
from hfrnn.optim import weight_noise
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
    """Everything that the next step depends on, besides its batches."""

    params: Params
    opt_state: Any
    step: jax.Array


def init_state(model: Model, optimizer: optax.GradientTransformation, key: jax.Array) -> TrainState:
    """The state before the first step, with random weights."""
    return state_of(optimizer, model.init(key))


def state_of(optimizer: optax.GradientTransformation, params: Params) -> TrainState:
    """The state before the first step, with these weights."""
    return TrainState(params, optimizer.init(params), jnp.zeros((), jnp.int32))


def first_order_step(
    model: Model,
    optimizer: optax.GradientTransformation,
    chunk: int,
    *,
    per: str = 'target',
    noisy: Callable | None = None,
    seed: int = 0,
) -> Callable:
    """A gradient step on the mean nats per target, or per sequence; ``batches`` is one Batch.

    A loss, gradient or update that is not finite leaves the state as it was, and the metric ``finite`` says so.  The
    metrics ``nats`` (per target, without a complexity), ``targets``, ``sequences`` and ``gradient``, its norm, are of
    the whole batch.

    Args:
      per: the scale of the gradient, 'target' or 'sequence'.  Graves' rmsprop has an offset that belongs to the latter.
      noisy: ``noisy(params, key, batch) -> (objective, (sum of nats, sum of weights))``, of which the objective, a sum
        over sequences, is differentiated; None for ``nll``.  The key is another for every step, device and chunk, so
        that chunks of one sequence draw noise for each.
      seed: of those keys.

    Raises:
      ValueError: for another scale.
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
    """``noisy`` of ``first_order_step``: nats at weights drawn once, and these sequences' share of the noise's cost.

    What the model leaves out while it is trained (``dropout`` of ``cells.lstm``) is drawn for each sequence, by its
    place in what ``first_order_step`` holds in memory at once.

    Args:
      n_sequences: of the training set, for each of which the n-th part of the cost is to be paid.
    """

    def noisy(params, key, batch):
        k_dropout = jax.random.fold_in(key, 2**31 - 1)  # no array of weights has that number, by which noise is drawn
        nats, weight = loss_and_weight(model, noise.sample(key, params), batch, k_dropout)
        return nats + count_sequences(batch) / n_sequences * noise.complexity(params), (nats, weight)

    return noisy


class HessianFreeBatches(NamedTuple):
    """The batches of one Hessian-Free step.

    Attributes:
      gradient: for the gradient.
      curvature: a smaller one, a subset of the first: for the Gauss-Newton matrix, and the objective of rho.
      backtrack: to choose among CG's iterates; the curvature's if None.
      line_search: for the line search; the gradient's if None.
    """

    gradient: Batch
    curvature: Batch
    backtrack: Batch | None = None
    line_search: Batch | None = None


# What is told of a Hessian-Free step; ``damping`` is for the next one.
HAPPENED = ('rho', 'damping', 'cg_iterations', 'backtracked', 'step_size', 'reduction')


def hessian_free_step(
    model: Model,
    optimizer: optax.GradientTransformationExtraArgs,
    chunk: int,
    mu: float = 0.0,
    preconditioned: bool = False,
    fisher_samples: int = 0,
    seed: int = 0,
) -> Callable:
    """A step of ``hessian_free``; ``batches`` is a HessianFreeBatches.

    The metrics are ``nats``, per target of the gradient's batch at the weights before the step, and ``finite``, whether
    these and the gradient are; what happened is in ``opt_state``, a ``hf.HessianFreeState``.  A step to where something
    is not finite is rejected there.

    Objective, gradient and curvature are sums over a sequence, means over sequences, as in Sutskever's release: that is
    the scale of lambda.  Matrix products are exact to float32: less spoils CG's conjugacy, and rho.

    Args:
      chunk: how many sequences of the gradient's batch are in memory at once, on each device.
      mu: the weight of structural damping (Martens & Sutskever 2011), whose distance, that of tanh units alone, is a
        sum over units and time; each time step with the largest weight of the targets from there on, so that padding
        behind the last adds nothing.
      preconditioned: whether to precondition CG by the squared gradients of the curvature batch's sequences, of which
        16 are in memory at once.
      fisher_samples: if not 0, the curvature is the Fisher matrix by so many samples of each output, drawn anew in
        each step; see ``curvature.fisher_loss``.
      seed: of these samples.

    Raises:
      ValueError: if the output's nll is not convex in z and there are no ``fisher_samples``.
    """
    if model.output.nonconvex and not fisher_samples:
        raise ValueError(
            f'{model.output.nonconvex} is not convex in z, and its Gauss-Newton matrix not positive: '
            'give Hessian-Free fisher_samples, or use a first-order method'
        )

    def objective(batch: Batch, params: Params) -> jax.Array:
        loss = sum_over_microbatches(lambda part: loss_and_weight(model, params, part)[0], batch, chunk)
        return jax.lax.pmean(loss / batch.weights.shape[0], AXIS)

    def curved_loss(batch: Batch, params: Params, key: jax.Array):
        """A function of z whose Hessian is the curvature's."""
        if not fisher_samples:
            return lambda z: sum_nll(model, z, batch)
        z = predict_batch(model, params, batch).z
        keys = jax.random.split(jax.random.fold_in(key, jax.lax.axis_index(AXIS)), (fisher_samples, *z.shape[:-1]))
        drawn = jax.vmap(jax.vmap(jax.vmap(model.output.sample)), (0, None))(keys, z)
        return fisher_loss(model.output.nll, z, drawn, batch.weights)

    def curvature(batch: Batch, params: Params, key: jax.Array):
        B = batch.weights.shape[0]
        loss = curved_loss(batch, params, key)
        weights = jax.lax.cummax(jnp.asarray(batch.weights), axis=1, reverse=True)

        def distance(moved, here):
            return mu / B * jnp.sum(jax.vmap(jax.vmap(tanh_distance))(moved.h, here.h) * weights)

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
        params, on = state.params, batches
        k_curvature, k_backtrack = jax.random.split(jax.random.fold_in(jax.random.key(seed), state.step))
        (loss, weight), grads = loss_and_gradient(model, params, on.gradient, chunk)
        B = on.gradient.weights.shape[0] * jax.lax.axis_size(AXIS)
        backtrack = on.curvature if on.backtrack is None else on.backtrack
        line_search = on.gradient if on.line_search is None else on.line_search
        updates, opt_state = optimizer.update(
            optax.tree.scale(1 / B, grads),
            state.opt_state,
            params,
            curvature=curvature(on.curvature, params, k_curvature),
            value_fn=functools.partial(objective, on.curvature),
            backtrack_fn=functools.partial(objective, backtrack),
            backtrack_curvature=None if on.backtrack is None else curvature(on.backtrack, params, k_backtrack),
            line_search_fn=functools.partial(objective, line_search),
            line_search_value=loss / B if on.line_search is None else None,
            squared_gradients=squared_gradients(on.curvature, params) if preconditioned else None,
        )
        happened = {name: optax.tree.get(opt_state, name) for name in HAPPENED}
        finite = jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(grads))
        metrics = {'nats': loss / weight, **happened, 'finite': finite}
        return TrainState(optax.apply_updates(params, updates), opt_state, state.step + 1), metrics

    return step


class StreamBatch(NamedTuple):
    """A sequence of every stream.

    Attributes:
      batch: of the sequences, (B, T).
      reset: (B,) whether a stream's state is the initial one before it.
    """

    batch: Batch
    reset: np.ndarray


# -- training ---------------------------------------------------------------------------------------------------------


class StreamState(NamedTuple):
    """A TrainState, with what streams have in addition.

    Attributes:
      params: of the ``Noise``.
      carry: (B, ...) the net's state in every stream, of all devices.
    """

    params: Params
    opt_state: Any
    step: jax.Array
    carry: Any


def init_stream_state(model: Model, optimizer: optax.GradientTransformation, params: Params, B: int) -> StreamState:
    """The state before the first step; ``params`` as the ``Noise`` begins with them."""
    state = model.initial_state(weight_noise.mean_params(params))
    carry = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (B, *leaf.shape)), state)
    return StreamState(params, optimizer.init(params), jnp.zeros((), jnp.int32), carry)


def stream_step(
    model: Model,
    optimizer: optax.GradientTransformation,
    noise: Noise,
    key: jax.Array,
    steps_per_epoch: int,
) -> Callable:
    """``step(state, StreamBatch) -> (state, metrics)``, to be spread over devices.

    A loss, gradient or update that is not finite leaves the state as it was, and the metric ``finite`` says so;
    ``nats`` is per target, without the noise's cost.

    The gradient is that of the nats of a sequence, summed over time and averaged over streams, and of the noise's cost,
    shared out among the steps of an epoch and the streams: the scale of G13's learning rates, with its batch of one.
    The state of all streams is whole on every device, which takes its own part of it and gives back what all have made.

    A device makes one draw of noisy weights a step, for all its sequences: see ``weight_noise.sample`` for what becomes
    of the squared gradient then.  It is squared in each device, on the scale of a sum of sequences' nats.

    What a model leaves out while it is trained (``dropout`` of ``cells.lstm``) is drawn for each sequence.

    Args:
      key: of the noise and of what is left out; a draw is of this key, the step and the device.
    """

    def objective(params, key, carry, batch: Batch, reset):
        k_noise, k_dropout = jax.random.split(key)
        weights, keys = noise.sample(k_noise, params), jax.random.split(k_dropout, len(reset))
        begun = model.initial_state(weights)

        def start(new, old):
            return jnp.where(jnp.expand_dims(reset, tuple(range(1, old.ndim))), new[None], old)

        state = jax.tree.map(start, begun, carry)
        carry, prediction = jax.vmap(model.run, (None, 0, 0, 0))(weights, state, batch.xs, keys)
        nats = sum_nll(model, prediction.z, batch)
        cost = noise.complexity(params) / (steps_per_epoch * jax.lax.axis_size(AXIS))
        return nats + cost, (nats, jnp.sum(batch.weights), carry)

    def step(state: StreamState, data: StreamBatch):
        device, b = jax.lax.axis_index(AXIS), data.reset.shape[0]
        k = jax.random.fold_in(jax.random.fold_in(key, state.step), device)
        mine = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, device * b, b), state.carry)
        value_and_grad = jax.value_and_grad(objective, has_aux=True)
        (_, (nats, weight, carry)), grads = value_and_grad(state.params, k, mine, *data)
        nats, weight, grads = jax.lax.psum((nats, weight, grads), AXIS)
        grads = optax.tree.scale(1 / (b * jax.lax.axis_size(AXIS)), grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        carry = jax.lax.all_gather(carry, AXIS, tiled=True)
        new = StreamState(params, opt_state, state.step + 1, carry)
        finite = jnp.isfinite(nats) & jnp.isfinite(optax.tree.norm((grads, updates)))
        return optax.tree.where(finite, new, state), {'nats': nats / weight, 'finite': finite}

    return step


def kept_params(state: TrainState) -> Params:
    """What is evaluated and kept of a state: the average of the params, if the optimiser keeps one, or the params."""
    average = optax.tree.get(state.opt_state, 'average', None)
    return state.params if average is None else average
