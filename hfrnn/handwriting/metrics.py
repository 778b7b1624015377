"""Metrics of handwriting: nats, squared errors, words that a reader has found."""

import re
import unicodedata
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from hfrnn.nets import outputs
from hfrnn.nets.model import Model
from hfrnn.train.loss import sum_nll


def pen_sums(model: Model, rest: np.ndarray) -> dict[str, Callable]:
    """What ``step`` adds up of handwriting besides.

    ``squared``: the squared errors of ``outputs.pen_mean``, dx and dy together, of the normalised offsets.
    ``targets_at_rest``: the points where the pen does not move.  ``nats_at_rest``: theirs.  Offsets there are all the
    same, so that a component of the mixture may narrow on them, and a density has no bound: this part of the nats may
    fall as no other does.

    Args:
      rest: (2,) the normalised offset of a pen that does not move.
    """

    def squared(z, batch):
        off = jax.vmap(jax.vmap(outputs.pen_mean))(z) - batch.targets[..., :2]
        return jnp.sum(jnp.sum(off**2, -1) * batch.weights)

    def at_rest(batch):
        return batch._replace(weights=batch.weights * jnp.all(batch.targets[..., :2] == rest[None, None], -1))

    return {
        'squared': squared,
        'targets_at_rest': lambda z, batch: jnp.sum(at_rest(batch).weights),
        'nats_at_rest': lambda z, batch: sum_nll(model, z, at_rest(batch)),
    }


def word_recall(said: str, read: str) -> tuple[int, int, int]:
    """What a reader has made of a text's writing: its words, his words, and how many of them both have, in order.

    The last is their longest common subsequence.  Case and punctuation are no part of a word, an apostrophe in it is.
    """
    a, b = (
        re.findall(r"[^\W_]+(?:'[^\W_]+)*", unicodedata.normalize('NFKC', text).lower().replace('\u2019', "'"))
        for text in (said, read)
    )
    both = [0] * (len(b) + 1)  # of a's words so far and of b's first j
    for word in a:
        row = [0]
        for j, other in enumerate(b):
            row.append(both[j] + 1 if word == other else max(both[j + 1], row[j]))
        both = row
    return len(a), len(b), both[-1]
