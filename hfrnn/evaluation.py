"""What a model's predictions are worth: nats to bits per character."""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from hfrnn.training import Batch

BITS = 1 / math.log(2)  # bits in a nat


def total_nats(step: Callable, params: Any, batch: Batch, chunk: int) -> tuple[float, float]:
    """(sum of nats, sum of weights) over any number of sequences.

    Args:
      step: ``training.evaluation_step``, spread over devices.
      chunk: how many sequences to evaluate at a time; the devices must divide it.
    """
    nats = weight = 0.0
    for first in range(0, len(batch.weights), chunk):
        part = jax.tree.map(lambda leaf, first=first: _padded(leaf[first : first + chunk], chunk), batch)
        n, w = jax.device_get(step(params, part))
        nats, weight = nats + float(n), weight + float(w)
    return nats, weight


def _padded(leaf, rows):
    return np.concatenate([leaf, np.zeros((rows - len(leaf), *leaf.shape[1:]), leaf.dtype)])


def bits_per_char(step: Callable, params: Any, batch: Batch, chunk: int) -> float:
    """The mean of -log2 P over the weighted targets of a batch."""
    nats, weight = total_nats(step, params, batch, chunk)
    return nats / weight * BITS
