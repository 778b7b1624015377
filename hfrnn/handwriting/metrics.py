"""Metrics of handwriting: nats, squared errors, and how many words a reader recognises."""

import re
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hfrnn.nets import outputs
from hfrnn.nets.model import Model
from hfrnn.optim import weight_noise
from hfrnn.train.devices import spread
from hfrnn.train.loss import Batch, eval_step, sum_metrics, sum_nll


def pen_sums(model: Model, rest: np.ndarray) -> dict[str, Callable]:
    """The sums that ``loss.eval_step`` takes over handwriting, besides its own.

    ``squared``: the squared errors of ``outputs.pen_mean``, dx and dy together, of the normalised offsets.
    ``targets_at_rest``: the points where the pen does not move.  ``nats_at_rest``: their nats.  All these offsets are
    equal, so a component of the mixture may narrow on them without bound: this part of the nats can fall without limit.

    Args:
      rest: (2,) the normalised offset of a pen that does not move.
    """

    def squared(z, batch):
        errors = jax.vmap(jax.vmap(outputs.pen_mean))(z) - batch.targets[..., :2]
        return jnp.sum(jnp.sum(errors**2, -1) * batch.weights)

    def at_rest(batch):
        return batch._replace(weights=batch.weights * jnp.all(batch.targets[..., :2] == rest[None, None], -1))

    return {
        'squared': squared,
        'targets_at_rest': lambda z, batch: jnp.sum(at_rest(batch).weights),
        'nats_at_rest': lambda z, batch: sum_nll(model, z, at_rest(batch)),
    }


def evaluator(
    model: Model, rest: np.ndarray, batches: Callable[[], Iterable[Batch]], devices: int | None = None
) -> Callable[[Any], dict[str, float]]:
    """``evaluate(params)`` on these batches, with the means of noisy weights.

    Nats per line, and those of them where the pen rests; squared error per point; the share of points where it rests;
    and with adaptive noise L_C of all the weights, in nats.

    Args:
      rest: (2,) the normalised offset of a pen that does not move.
      devices: how many to use; all if None.
    """
    step = spread(eval_step(model, **pen_sums(model, rest)), devices)

    def evaluate(params):
        sums = sum_metrics(step, weight_noise.mean_params(params), batches())
        found = {
            'nats_per_line': sums['nats'] / sums['sequences'],
            'nats_at_rest': sums['nats_at_rest'] / sums['sequences'],
            'sse': sums['squared'] / sums['targets'],
            'points_at_rest': sums['targets_at_rest'] / sums['targets'],
        }
        if isinstance(params, weight_noise.Posterior):
            found['complexity_nats'] = float(jax.jit(weight_noise.complexity)(params))
        return found

    return evaluate


def word_recall(reference: str, transcription: str) -> tuple[int, int, int]:
    """How much of a text a reader recognises: the number of words of the reference, of the transcription, and of both.

    The last is the length of the longest common subsequence.  Case and punctuation do not count; an apostrophe within
    a word does.
    """
    a, b = (
        re.findall(r"[^\W_]+(?:'[^\W_]+)*", unicodedata.normalize('NFKC', text).lower().replace('\u2019', "'"))
        for text in (reference, transcription)
    )
    common = [0] * (len(b) + 1)  # of the words of a so far and the first j of b
    for word in a:
        row = [0]
        for j, other in enumerate(b):
            row.append(common[j] + 1 if word == other else max(common[j + 1], row[j]))
        common = row
    return len(a), len(b), common[-1]
