"""The loss of a batch on one device, and sums over batches and devices.  A loss is a (sum, weight) pair."""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hfrnn.nets.model import Model
from hfrnn.train.devices import AXIS

Params = Any


class Batch(NamedTuple):
    """Sequences of one length, with a weight for each target: 0 for padding and for targets that are not scored.

    Attributes:
      xs: (B, T) or (B, T, D) inputs, or ``model.Conditioned`` with them.
      targets: (B, T) or (B, T, ...), to be predicted after each input.
      weights: (B, T).
    """

    xs: Any
    targets: np.ndarray
    weights: np.ndarray


def predict_batch(model: Model, params: Params, batch: Batch, key: jax.Array | None = None):
    """The model's Prediction for every sequence: z (B, T, size), h (B, T, H).

    Args:
      key: for the model's dropout, drawn for each sequence independently; None for no dropout.
    """
    if key is None:
        return jax.vmap(model.predict, (None, 0))(params, batch.xs)
    keys = jax.random.split(key, batch.weights.shape[0])
    return jax.vmap(lambda xs, key: model.run(params, None, xs, key)[1])(batch.xs, keys)


def sum_nll(model: Model, z: jax.Array, batch: Batch) -> jax.Array:
    """The weighted sum of the negative log likelihoods of a batch's targets, given its z."""
    return jnp.sum(jax.vmap(jax.vmap(model.output.nll))(z, batch.targets) * batch.weights)


def loss_and_weight(
    model: Model, params: Params, batch: Batch, key: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """(sum of nats, sum of weights) of one batch on one device; the key is that of ``predict_batch``."""
    return sum_nll(model, predict_batch(model, params, batch, key).z, batch), jnp.sum(batch.weights)


def sum_over_microbatches(function: Callable, batch: Any, chunk: int):
    """Sums ``function(part)`` over parts of at most ``chunk`` sequences, in the memory of one part.

    The last part is padded with sequences of weight 0, for which the function must be 0.

    Args:
      batch: a Batch, or any pytree of (B, ...).
    """
    B = jax.tree.leaves(batch)[0].shape[0]
    parts = -(-B // chunk)
    if parts == 1:
        return function(batch)
    size = -(-B // parts)

    def cut(leaf):
        leaf = jnp.concatenate([leaf, jnp.zeros((parts * size - B, *leaf.shape[1:]), leaf.dtype)])
        return leaf.reshape(parts, size, *leaf.shape[1:])

    batch = jax.tree.map(cut, batch)
    zeros = jax.tree.map(
        lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(function, jax.tree.map(lambda leaf: leaf[0], batch))
    )
    total, _ = jax.lax.scan(lambda total, part: (optax.tree.add(total, function(part)), None), zeros, batch)
    return total


def loss_and_gradient(model: Model, params: Params, batch: Batch, chunk: int):
    """((sum of nats, sum of weights), gradient of the sum) over all devices, ``chunk`` sequences at a time on each."""
    value_and_grad = jax.value_and_grad(functools.partial(loss_and_weight, model), has_aux=True)
    return jax.lax.psum(sum_over_microbatches(lambda part: value_and_grad(params, part), batch, chunk), AXIS)


def count_sequences(batch: Batch) -> jax.Array:
    """The number of sequences with any weight; the others are padding."""
    return jnp.sum(jnp.any(batch.weights > 0, axis=1))


def eval_step(model: Model, **more: Callable[[jax.Array, Batch], jax.Array]) -> Callable:
    """``(params, batch) -> {name: sum}`` over all devices: the model's metrics on a batch.

    They are ``nats``, those of the targets; ``targets`` and ``sequences``, the numbers of targets and of sequences with
    targets; and ``more``, each a function of (z, batch).
    """

    def step(params, batch):
        z = predict_batch(model, params, batch).z
        sums = {
            'nats': sum_nll(model, z, batch),
            'targets': jnp.sum(batch.weights),
            'sequences': count_sequences(batch),
        }
        return jax.lax.psum(sums | {name: value(z, batch) for name, value in more.items()}, AXIS)

    return step


def padded_batches(batch: Batch, chunk: int) -> Iterator[Batch]:
    """Cuts one or more sequences into batches of ``chunk``; the last is padded with sequences of weight 0."""
    for first in range(0, len(batch.weights), chunk):
        yield jax.tree.map(lambda leaf, first=first: _padded(leaf[first : first + chunk], chunk), batch)


def _padded(leaf, rows):
    return np.concatenate([leaf, np.zeros((rows - len(leaf), *leaf.shape[1:]), leaf.dtype)])


def sum_metrics(step: Callable, params: Any, batches: Iterable[Batch]) -> dict[str, float]:
    """The sums over several batches of the metrics of a ``step`` that is spread over devices."""
    sums = [jax.device_get(step(params, batch)) for batch in batches]
    return {name: sum(float(part[name]) for part in sums) for name in sums[0]}
