"""Batches of lines of any length: no line is cut off, and padding has no weight."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from hfrnn.errors import DataError
from hfrnn.handwriting.dataset import Dataset, Lines, offsets_of, points_per_line
from hfrnn.handwriting.strokes import Scale, normalise
from hfrnn.text.alphabet import encode

MULTIPLE = 16  # lines are padded to multiples of so many points

# -- padding ----------------------------------------------------------------------------------------------------------


def best_lengths(lines: Lines, buckets: int = 8, multiple: int = MULTIPLE) -> np.ndarray:
    """The ascending lengths T that leave the least padding, if each line is padded to the next of them.

    By dynamic programming: least(k, j) = min_i least(k - 1, i) + (lines of length i to j) * j.

    Args:
      buckets: the largest number of lengths; a net is compiled once for each.
      multiple: each length is a multiple of it.
    """
    rounded = -(-np.maximum(points_per_line(lines) - 1, 1) // multiple)
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


class Padding(NamedTuple):
    """The sizes to which the lines of a data set are padded.

    Attributes:
      lengths: the lengths T, ascending.
      text_lengths: {T: U} the length U that holds every text of lines padded to T; empty for batches without texts.
    """

    lengths: np.ndarray
    text_lengths: dict[int, int]


def choose_padding(data: Dataset, buckets: int = 8, with_texts: bool = False) -> Padding:
    """The lengths that leave the least padding of the training lines and still hold every validation line."""
    lengths = best_lengths(data.train, buckets)
    parts = [part for part in (data.train, data.valid) if part.names]
    longest = max((int(points_per_line(part).max()) for part in parts), default=1) - 1
    lengths = np.append(lengths[:-1], max(lengths[-1], -(-longest // MULTIPLE) * MULTIPLE))
    text_lengths = {}
    if with_texts:
        for part in parts:
            for n, text in zip(points_per_line(part), part.texts, strict=True):
                T = int(lengths[np.searchsorted(lengths, n - 1)])
                text_lengths[T] = max(text_lengths.get(T, 8), -(-len(text) // 8) * 8)
    return Padding(lengths, text_lengths)


# -- the lines of a batch ---------------------------------------------------------------------------------------------


class Selection(NamedTuple):
    """The lines of one batch.

    Attributes:
      length: T, to which they are padded.
      indices: (B,) of the lines, -1 for a row without a line.
    """

    length: int
    indices: np.ndarray


def epoch(
    lines: Lines, lengths: np.ndarray, batch_size: int, rng: np.random.Generator | None = None
) -> list[Selection]:
    """Batches of lines of similar length that together hold every line once: in random order, or in order without rng.

    Every epoch has the same number of batches; the last one of each length may not be full.

    Args:
      lengths: see ``best_lengths``.
      batch_size: B.

    Raises:
      DataError: if a line is longer than the last of the lengths.
    """
    targets = points_per_line(lines) - 1
    if len(targets) and targets.max() > lengths[-1]:
        raise DataError(f'{lines.names[targets.argmax()]} has {targets.max()} steps; the batches take {lengths[-1]}')
    bucket_of_line = np.searchsorted(lengths, targets)
    selections = []
    for bucket, length in enumerate(lengths):
        members = np.flatnonzero(bucket_of_line == bucket)
        if rng is not None:
            members = rng.permutation(members)
        for first in range(0, len(members), batch_size):
            indices = np.full(batch_size, -1)
            chosen = members[first : first + batch_size]
            indices[: len(chosen)] = chosen
            selections.append(Selection(int(length), indices))
    if rng is not None:
        selections = [selections[i] for i in rng.permutation(len(selections))]
    return selections


def at_step(lines: Lines, lengths: np.ndarray, batch_size: int, seed: int, i: int) -> Selection:
    """The lines of step i (from 0) in a sequence of random epochs; a function of the seed and i alone."""
    number, place = divmod(i, len(epoch(lines, lengths, batch_size)))
    return epoch(lines, lengths, batch_size, np.random.default_rng((seed, number)))[place]


# -- arrays -----------------------------------------------------------------------------------------------------------


class LineBatch(NamedTuple):
    """Lines padded to one length, as in ``train.loss.Batch``, and their texts.

    Attributes:
      xs: (B, T, 3) float32, the points that are read: from the null vector to the last but one.
      targets: (B, T, 3) float32, the point after each.
      weights: (B, T) float32, 1 for a target, 0 for padding; a row without a line is all padding.
      characters: (B, U) int32 symbols, 0 where padded.
      n_characters: (B,) int32, the length of each text.
    """

    xs: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    characters: np.ndarray
    n_characters: np.ndarray


def pad(
    lines: Lines,
    selection: Selection,
    scale: Scale,
    alphabet: str = '',
    text_length: int = 0,
    distort: Callable[[np.ndarray], np.ndarray] | None = None,
) -> LineBatch:
    """The selected lines as one batch, normalised.

    Args:
      alphabet: the symbols of the texts; a character outside it becomes its unknown symbol.
      text_length: U, to which texts are padded; 0 leaves them out.
      distort: a function of the (T, 3) offsets of each line, applied before they are normalised, such as
        ``strokes.distort``; T and the first row must stay.

    Raises:
      DataError: if a line or a text does not fit: nothing is cut off.
    """
    B, T, U = len(selection.indices), selection.length, text_length
    xs, targets = np.zeros((2, B, T, 3), np.float32)
    weights = np.zeros((B, T), np.float32)
    characters, n_characters = np.zeros((B, U), np.int32), np.zeros(B, np.int32)
    for b, i in enumerate(selection.indices):
        if i < 0:
            continue
        offsets = offsets_of(lines, i)
        points = normalise(offsets if distort is None else distort(offsets), scale)
        n, text = len(points) - 1, lines.texts[i]
        if n > T or (U and len(text) > U):
            raise DataError(f'{lines.names[i]} has {n} steps and {len(text)} characters; the batch takes {T} and {U}')
        xs[b, :n], targets[b, :n], weights[b, :n] = points[:-1], points[1:], 1
        if U:
            characters[b, : len(text)] = encode(text, alphabet, strict=False)
            n_characters[b] = len(text)
    return LineBatch(xs, targets, weights, characters, n_characters)
