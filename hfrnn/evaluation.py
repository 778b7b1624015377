"""What a model's predictions are worth: bits per character, perplexity, nats per line, errors, words read."""

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hfrnn import outputs, training
from hfrnn.data import Batch, words
from hfrnn.dynamic import Reading, static_reader
from hfrnn.model import Model
from hfrnn.parallel import AXIS

BITS = 1 / math.log(2)  # bits in a nat


def step(model: Model, **more: Callable[[jax.Array, Batch], jax.Array]) -> Callable:
    """``(params, batch) -> sums`` over all devices, by name, of what a model makes of a batch.

    They are ``nats``, of the targets; ``targets``, how many there are; ``sequences``, how many of these have any; and
    ``more``, each a function of (z, batch).
    """

    def of(params, batch):
        z = training.predict(model, params, batch).z
        sums = {
            'nats': training.nats(model, z, batch),
            'targets': jnp.sum(batch.weights),
            'sequences': training.sequences(batch),
        }
        return jax.lax.psum(sums | {name: value(z, batch) for name, value in more.items()}, AXIS)

    return of


def parts(batch: Batch, chunk: int) -> Iterator[Batch]:
    """Any number of sequences, one at least, in batches of ``chunk``, the last filled up with those without weight."""
    for first in range(0, len(batch.weights), chunk):
        yield jax.tree.map(lambda leaf, first=first: _padded(leaf[first : first + chunk], chunk), batch)


def _padded(leaf, rows):
    return np.concatenate([leaf, np.zeros((rows - len(leaf), *leaf.shape[1:]), leaf.dtype)])


def totals(step: Callable, params: Any, batches: Iterable[Batch]) -> dict[str, float]:
    """What a ``step``, spread over devices, makes of several batches, added up."""
    sums = [jax.device_get(step(params, batch)) for batch in batches]
    return {name: sum(float(part[name]) for part in sums) for name in sums[0]}


def wrong_sequences(wrong: Callable[[jax.Array, Batch], jax.Array]) -> Callable:
    """What ``step`` adds up of a ``tasks.Task``, by its ``wrong``; a sequence without targets is none."""
    return lambda z, batch: jnp.sum(wrong(z, batch) & (batch.weights > 0).any(1))


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
        'nats_at_rest': lambda z, batch: training.nats(model, z, at_rest(batch)),
    }


def bits_per_char(step: Callable, params: Any, batches: Iterable[Batch]) -> float:
    """The mean of -log2 P over the weighted targets of batches; see ``totals``."""
    sums = totals(step, params, batches)
    return sums['nats'] / sums['targets'] * BITS


def units(alphabet: str | tuple[str, ...], symbols: np.ndarray) -> tuple[int, int]:
    """(characters, words) of a text of symbols (N,), by its alphabet, which is a tuple if they are words.

    Of characters, a word is what has no space or end of a line in it and one behind it, and there is one at least.  Of
    words, each is followed by a character, and the ``words.END`` of a line is a word that takes the place of its last
    one.
    """
    if not isinstance(alphabet, str):
        lengths = np.array([0 if word == words.END else len(word) + 1 for word in alphabet])
        return int(lengths[symbols].sum()), len(symbols)
    blank = np.isin(symbols, [i for i, c in enumerate(alphabet) if c in ' \n'])
    return len(symbols), max(1, int(np.sum(blank & ~np.append(True, blank[:-1]))))


def measured(reading: Reading, alphabet: str | tuple[str, ...], symbols: np.ndarray) -> dict[str, float]:
    """Bits per character, perplexity (of a word) and error rate (of symbols) of a text (N,) that a net has read.

    Graves 2013 sec. 3 gives all three.
    """
    bits = float(reading.nats.sum()) * BITS
    characters, n_words = units(alphabet, symbols)
    return {
        'bits_per_char': bits / characters,
        'perplexity': 2 ** min(bits / n_words, 1000.0),
        'error': float(reading.wrong.mean()),
    }


def surprise(model: Model, params: Any, prompt: np.ndarray, symbols: np.ndarray, piece: int = 100) -> np.ndarray:
    """-log P of every symbol, given the prompt and those before it, in nats (N,) float64.

    Args:
      prompt: (P,) symbols, P >= 1.
      symbols: (N,) of a text of any length, N >= 1.
      piece: how many are read at a time.
    """
    text = np.concatenate([prompt, symbols])
    return static_reader(model, piece)(params, text[1:], int(text[0])).nats[len(prompt) - 1 :]


def words_read(said: str, read: str) -> tuple[int, int, int]:
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
