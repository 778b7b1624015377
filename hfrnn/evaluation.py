"""What a model's predictions are worth: bits per character, perplexity, nats per line, errors, words read."""

import math
import re
import unicodedata
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hfrnn import outputs, training
from hfrnn.data import Batch, words
from hfrnn.dynamic import Reading
from hfrnn.model import Model
from hfrnn.parallel import AXIS

BITS = 1 / math.log(2)  # bits in a nat


def totals(step: Callable, params: Any, batch: Batch, chunk: int) -> tuple[float, ...]:
    """What ``step(params, part)`` gives, a tuple of sums, added up over any number of sequences.

    Args:
      step: such as ``training.evaluation_step`` or ``answers_step``, spread over devices.
      batch: of one sequence at least.
      chunk: how many sequences to evaluate at a time; the devices must divide it.
    """
    sums = []
    for first in range(0, len(batch.weights), chunk):
        part = jax.tree.map(lambda leaf, first=first: _padded(leaf[first : first + chunk], chunk), batch)
        sums.append([float(number) for number in jax.device_get(step(params, part))])
    return tuple(map(sum, zip(*sums, strict=True)))


def answers_step(model: Model, wrong: Callable[[jax.Array, Batch], jax.Array]) -> Callable:
    """``(params, batch) -> (sum of nats, sum of weights, wrong sequences, sequences)`` over all devices.

    Args:
      wrong: ``wrong(z, batch) -> (B,)``, as the ``wrong`` of a ``tasks.Task``.  A sequence without weight is none.
    """

    def step(params, batch):
        z = training.predict(model, params, batch).z
        real = (batch.weights > 0).any(1)
        counts = jnp.sum(batch.weights), jnp.sum(wrong(z, batch) & real), jnp.sum(real)
        return jax.lax.psum((training.nats(model, z, batch), *counts), AXIS)

    return step


def pen_step(model: Model) -> Callable:
    """``(params, batch) -> (sum of nats, sum of squared errors, points, lines)`` over all devices, of handwriting.

    A point's squared error is that of ``outputs.pen_mean``, dx and dy together, of the normalised offsets.
    """

    def step(params, batch):
        z = training.predict(model, params, batch).z
        off = jax.vmap(jax.vmap(outputs.pen_mean))(z) - batch.targets[..., :2]
        squared = jnp.sum(jnp.sum(off**2, -1) * batch.weights)
        counts = jnp.sum(batch.weights), training.sequences(batch)
        return jax.lax.psum((training.nats(model, z, batch), squared, *counts), AXIS)

    return step


def _padded(leaf, rows):
    return np.concatenate([leaf, np.zeros((rows - len(leaf), *leaf.shape[1:]), leaf.dtype)])


def bits_per_char(step: Callable, params: Any, batch: Batch, chunk: int) -> float:
    """The mean of -log2 P over the weighted targets of a batch."""
    nats, weight = totals(step, params, batch, chunk)
    return nats / weight * BITS


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


def surprise(model: Model, params: Any, prompt: jax.Array, symbols: jax.Array, piece: int = 10_000) -> np.ndarray:
    """-log P of every symbol, given the prompt and those before it, in nats (N,) float64.

    A text of any length, read from its beginning, in pieces that memory has room for.

    Args:
      prompt: (P,) symbols, P >= 1.
      symbols: (N,).
    """

    @jax.jit
    def read(params, state, xs, targets):
        def body(state, x_and_target):
            x, target = x_and_target
            state, z = model.step(params, state, x)
            return state, model.output.nll(z, target)

        return jax.lax.scan(body, state, (xs, targets))

    text = np.concatenate([prompt, symbols])
    state, found = model.initial_state(params), []
    for first in range(0, len(text) - 1, piece):
        part = text[first : first + piece + 1]
        state, nats = read(params, state, part[:-1], part[1:])
        found.append(np.asarray(nats, np.float64))
    return np.concatenate(found)[len(prompt) - 1 :]


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
