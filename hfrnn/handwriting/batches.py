"""Lines of any length in batches: nothing is cut off, and what is padded weighs nothing."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from hfrnn.errors import DataError
from hfrnn.handwriting.dataset import Handwriting, Lines, lengths, line
from hfrnn.handwriting.strokes import Scale, normalise
from hfrnn.text.alphabet import encode


class LineBatch(NamedTuple):
    """Lines padded to one length, as ``data.Batch`` has them, and what they say.

    Attributes:
      xs: (B, T, 3) float32, the points that are read: the null vector first, the last point not.
      targets: (B, T, 3) float32, the point after each.
      weights: (B, T) float32, 1 for a target, 0 for padding; a row of a batch that was not filled is all padding.
      characters: (B, U) int32 symbols, 0 where padded.
      n_characters: (B,) int32, how many of them are the line's.
    """

    xs: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    characters: np.ndarray
    n_characters: np.ndarray


MULTIPLE = 16  # of lengths that lines are padded to


def bounds(lines: Lines, buckets: int = 8, multiple: int = MULTIPLE) -> np.ndarray:
    """The lengths T, ascending, that leave the least padding if each line is padded to the next of them.

    By dynamic programming: least(k, j) = min_i least(k - 1, i) + (lines of length i to j) * j.

    Args:
      buckets: how many, at most: a net is compiled once for each.
      multiple: each is a multiple of it.
    """
    rounded = -(-np.maximum(lengths(lines) - 1, 1) // multiple)
    up_to = np.cumsum(np.bincount(rounded))  # lines of at most so many multiples
    ends = np.arange(len(up_to))
    cost = np.where(ends[:, None] <= ends, (up_to - up_to[:, None]) * ends, np.inf)  # [i, j]: from i to j, padded to j
    least, cuts = cost[0], []
    for _ in range(buckets - 1):
        through = least[:, None] + cost
        cuts.append(np.argmin(through, axis=0))
        least = np.min(through, axis=0)
    found = [len(ends) - 1]
    for cut in reversed(cuts):
        found.append(cut[found[-1]])
    return np.unique([end for end in found if end]) * multiple


class Sizes(NamedTuple):
    """What lines of a data set are padded to.

    Attributes:
      up_to: the lengths T, ascending.
      texts: by T, the length U that holds every text of its lines; empty where texts are left out.
    """

    up_to: np.ndarray
    texts: dict[int, int]


def sizes(data: Handwriting, buckets: int = 8, with_texts: bool = False) -> Sizes:
    """The lengths that leave the least padding of the training lines, and that hold every line for validation, too."""
    up_to = bounds(data.train, buckets)
    longest = max((int(lengths(part).max()) for part in (data.train, data.valid) if part.names), default=1) - 1
    up_to = np.append(up_to[:-1], max(up_to[-1], -(-longest // MULTIPLE) * MULTIPLE))
    texts = {}
    if with_texts:
        for part in (data.train, data.valid):
            for n, text in zip(lengths(part), part.texts, strict=True):
                T = int(up_to[np.searchsorted(up_to, n - 1)])
                texts[T] = max(texts.get(T, 8), -(-len(text) // 8) * 8)
    return Sizes(up_to, texts)


class Choice(NamedTuple):
    """The lines of one batch.

    Attributes:
      length: T to pad to.
      which: (B,) indices of lines, -1 where there is none.
    """

    length: int
    which: np.ndarray


def epoch(lines: Lines, up_to: np.ndarray, batch: int, rng: np.random.Generator | None = None) -> list[Choice]:
    """Batches of lines of like length that together hold every line once: in random order, or in order if no ``rng``.

    Their number is the same in every epoch; the last of each length may not be full.

    Args:
      up_to: the lengths to pad to; see ``bounds``.
      batch: B.

    Raises:
      DataError: if a line is longer than the last of them.
    """
    targets = lengths(lines) - 1
    if len(targets) and targets.max() > up_to[-1]:
        raise DataError(f'{lines.names[targets.argmax()]} has {targets.max()} steps; the batches take {up_to[-1]}')
    bucket = np.searchsorted(up_to, targets)
    choices = []
    for b, length in enumerate(up_to):
        mine = np.flatnonzero(bucket == b)
        if rng is not None:
            mine = rng.permutation(mine)
        for first in range(0, len(mine), batch):
            which = np.full(batch, -1)
            part = mine[first : first + batch]
            which[: len(part)] = part
            choices.append(Choice(int(length), which))
    if rng is not None:
        choices = [choices[i] for i in rng.permutation(len(choices))]
    return choices


def at_step(lines: Lines, up_to: np.ndarray, batch: int, seed: int, i: int) -> Choice:
    """The lines of step i (from 0) of one epoch after another: of nothing but the seed and i."""
    number, place = divmod(i, len(epoch(lines, up_to, batch)))
    return epoch(lines, up_to, batch, np.random.default_rng((seed, number)))[place]


def padded(
    lines: Lines,
    choice: Choice,
    scale: Scale,
    alphabet: str = '',
    longest_text: int = 0,
    distort: Callable[[np.ndarray], np.ndarray] | None = None,
) -> LineBatch:
    """The batch of a choice, normalised.

    Args:
      alphabet: the symbols of the texts; characters that it lacks become its unknown symbol.
      longest_text: U to pad texts to; 0 leaves them out.
      distort: what is done to the (T, 3) offsets of each line first, as by ``strokes.distorted``; T and the first row
        stay.

    Raises:
      DataError: if a line or a text does not fit: nothing is cut off.
    """
    B, T, U = len(choice.which), choice.length, longest_text
    xs, targets = np.zeros((2, B, T, 3), np.float32)
    weights = np.zeros((B, T), np.float32)
    characters, n_characters = np.zeros((B, U), np.int32), np.zeros(B, np.int32)
    for b, i in enumerate(choice.which):
        if i < 0:
            continue
        offsets = line(lines, i)
        points = normalise(offsets if distort is None else distort(offsets), scale)
        n, text = len(points) - 1, lines.texts[i]
        if n > T or (U and len(text) > U):
            raise DataError(f'{lines.names[i]} has {n} steps and {len(text)} characters; the batch takes {T} and {U}')
        xs[b, :n], targets[b, :n], weights[b, :n] = points[:-1], points[1:], 1
        if U:
            characters[b, : len(text)] = encode(text, alphabet, strict=False)
            n_characters[b] = len(text)
    return LineBatch(xs, targets, weights, characters, n_characters)
