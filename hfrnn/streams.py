"""A long text as parallel streams: truncated backpropagation with the state carried from sequence to sequence.

A text of N symbols is cut into B streams, one behind the other, and every stream into sequences of T.  Step i sees the
i-th sequence of every stream; the net's state goes on from one to the next, its derivative does not (G13 sec. 3.2).

Source: Graves 2013 (G13).
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hfrnn import training, weight_noise
from hfrnn.data import Batch, DataError
from hfrnn.model import Model
from hfrnn.parallel import AXIS
from hfrnn.weight_noise import Noise

Params = Any


class StreamBatch(NamedTuple):
    """A sequence of every stream.

    Attributes:
      batch: of the sequences, (B, T).
      reset: (B,) whether a stream's state is the initial one before it.
    """

    batch: Batch
    reset: np.ndarray


def steps(n: int, B: int, T: int) -> int:
    """How many sequences of T the longest of B streams of a text of n symbols has: the steps of an epoch."""
    return math.ceil(math.ceil(n / B) / T)


def check(n: int, B: int, T: int) -> None:
    """That a text of n symbols is long enough for every one of B streams to have a whole sequence of T.

    Raises:
      DataError: if not.
    """
    if n < B * T:
        raise DataError(
            f'{n:,} training symbols are too few for {B} streams of sequences of {T}; take fewer or shorter'
        )


def inputs_of(symbols: np.ndarray, where: np.ndarray, null: int) -> np.ndarray:
    """What is read before the symbols at these places: the symbols before them, and null before the first.

    Args:
      symbols: (N,) of a text.
      where: places in it, from 0, of any shape; the inputs have the same, int32.
    """
    return np.where(where > 0, symbols[np.clip(where - 1, 0, len(symbols) - 1)].astype(np.int32), null)


def cut(symbols: np.ndarray, B: int, T: int, i: int, null: int, reset_every: int = 0) -> StreamBatch:
    """What step i sees.  Over an epoch, ``steps`` of them, every symbol is a target exactly once.

    Streams differ in length by one symbol at most; what stands behind a shorter one's end has no weight.

    Args:
      symbols: (N,) of a text.
      null: what is read before its first symbol.
      reset_every: after so many sequences the state starts anew, in every stream; 0 for at an epoch's start alone.
    """
    s = i % steps(len(symbols), B, T)
    edges = np.arange(B + 1) * len(symbols) // B
    where = edges[:-1, None] + s * T + np.arange(T)
    weights = (where < edges[1:, None]).astype(np.float32)
    where = np.minimum(where, len(symbols) - 1)
    reset = s == 0 or (reset_every > 0 and s % reset_every == 0)
    targets = symbols[where].astype(np.int32)
    return StreamBatch(Batch(inputs_of(symbols, where, null), targets, weights), np.full(B, reset))


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


def init(model: Model, optimizer: optax.GradientTransformation, params: Params, B: int) -> StreamState:
    """The state before the first step; ``params`` as the ``Noise`` begins with them."""
    state = model.initial_state(weight_noise.means(params))
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

    A device makes one draw of noisy weights a step, for all its sequences: see ``weight_noise.draw`` for what becomes
    of the squared gradient then.  It is squared in each device, on the scale of a sum of sequences' nats.

    What a model leaves out while it is trained (``dropout`` of ``cells.lstm``) is drawn for each sequence.

    Args:
      key: of the noise and of what is left out; a draw is of this key, the step and the device.
    """

    def objective(params, key, carry, batch: Batch, reset):
        k_noise, k_dropout = jax.random.split(key)
        weights, keys = noise.draw(k_noise, params), jax.random.split(k_dropout, len(reset))
        begun = model.initial_state(weights)

        def start(new, old):
            return jnp.where(jnp.expand_dims(reset, tuple(range(1, old.ndim))), new[None], old)

        state = jax.tree.map(start, begun, carry)
        carry, prediction = jax.vmap(model.run, (None, 0, 0, 0))(weights, state, batch.xs, keys)
        nats = training.nats(model, prediction.z, batch)
        cost = noise.cost(params) / (steps_per_epoch * jax.lax.axis_size(AXIS))
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
