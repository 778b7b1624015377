"""Truncated backpropagation through time: training steps that carry the net's state from sequence to sequence.

A long text is B streams; step i sees the i-th sequence of each.  The state goes on from one sequence to the next, its
derivative does not.  Steps run under ``devices.spread``.

Source: Graves 2013 (G13), sec. 3.2.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hfrnn.nets.model import Model
from hfrnn.optim import weight_noise
from hfrnn.optim.weight_noise import Noise
from hfrnn.train.devices import AXIS
from hfrnn.train.loss import Batch, sum_nll

Params = Any


class CarriedBatch(NamedTuple):
    """One sequence of every stream.

    Attributes:
      batch: the sequences, (B, T).
      reset: (B,), whether a stream's state is reset to the initial one before its sequence.
    """

    batch: Batch
    reset: np.ndarray


class CarriedState(NamedTuple):
    """A TrainState with the state of every stream.

    Attributes:
      params: of the ``Noise``.
      carry: (B, ...), the net's state in every stream of all devices.
    """

    params: Params
    opt_state: Any
    step: jax.Array
    carry: Any


def init_carried_state(model: Model, optimizer: optax.GradientTransformation, params: Params, B: int) -> CarriedState:
    """The state before the first step; ``params`` are those of ``Noise.init``."""
    state = model.initial_state(weight_noise.mean_params(params))
    carry = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (B, *leaf.shape)), state)
    return CarriedState(params, optimizer.init(params), jnp.zeros((), jnp.int32), carry)


def truncated_bptt_step(
    model: Model,
    optimizer: optax.GradientTransformation,
    noise: Noise,
    key: jax.Array,
    steps_per_epoch: int,
) -> Callable:
    """``step(state, CarriedBatch) -> (state, metrics)``, to be spread over devices.

    If a loss, gradient or update is not finite, the state does not change and the metric ``finite`` is False.  ``nats``
    is per target, without the noise's complexity.

    The gradient is that of the nats of a sequence, summed over time and averaged over streams, and of the complexity,
    divided among the steps of an epoch and the streams: the scale of G13's learning rates, with its batch of one.
    The carry is replicated on all devices; each updates the part of its own streams, and an all-gather joins the parts.

    A device draws noisy weights once a step, for all its sequences; ``weight_noise.sample`` says what that means for
    the squared gradient, which is squared on each device, on the scale of a sum of sequences' nats.  Dropout (of
    ``cells.lstm``) is drawn for each sequence.

    Args:
      key: for noise and dropout, folded with the step and the device.
    """

    def objective(params, key, carry, batch: Batch, reset):
        k_noise, k_dropout = jax.random.split(key)
        weights, keys = noise.sample(k_noise, params), jax.random.split(k_dropout, len(reset))
        initial = model.initial_state(weights)

        def reset_where_asked(initial, old):
            return jnp.where(jnp.expand_dims(reset, tuple(range(1, old.ndim))), initial[None], old)

        state = jax.tree.map(reset_where_asked, initial, carry)
        carry, prediction = jax.vmap(model.run, (None, 0, 0, 0))(weights, state, batch.xs, keys)
        nats = sum_nll(model, prediction.z, batch)
        complexity = noise.complexity(params) / (steps_per_epoch * jax.lax.axis_size(AXIS))
        return nats + complexity, (nats, jnp.sum(batch.weights), carry)

    def step(state: CarriedState, data: CarriedBatch):
        device, b = jax.lax.axis_index(AXIS), data.reset.shape[0]  # b streams on each device
        k = jax.random.fold_in(jax.random.fold_in(key, state.step), device)
        own = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, device * b, b), state.carry)
        value_and_grad = jax.value_and_grad(objective, has_aux=True)
        (_, (nats, weight, carry)), grads = value_and_grad(state.params, k, own, *data)
        nats, weight, grads = jax.lax.psum((nats, weight, grads), AXIS)
        grads = optax.tree.scale(1 / (b * jax.lax.axis_size(AXIS)), grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        carry = jax.lax.all_gather(carry, AXIS, tiled=True)
        new = CarriedState(params, opt_state, state.step + 1, carry)
        finite = jnp.isfinite(nats) & jnp.isfinite(optax.tree.norm((grads, updates)))
        return optax.tree.where(finite, new, state), {'nats': nats / weight, 'finite': finite}

    return step
