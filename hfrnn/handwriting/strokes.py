"""One line of handwriting as pen offsets: from strokes and back, normalised, distorted.

A line is (T, 3) numbers, one row for each point of the pen: dx and dy from the point before, and 1 at the last point of
a stroke, else 0 (Graves 2013, G13, sec. 4: x_t).  Units are those of IAM-OnDB's whiteboard, whole numbers, in which a
written line is a few hundred high; x grows to the right and y **downward**, as in the recordings and in SVG.

The first point has no predecessor: its row is (0, 0, e), its place the origin.  Normalised, dx and dy of that row are 0
too, so that the row is the null vector that a net starts from.  It is read and never scored: a target that is always
the same would be worth any number of nats.  A line of T points therefore has T - 1 targets.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hfrnn.errors import DataError

# -- strokes ----------------------------------------------------------------------------------------------------------


def from_strokes(strokes: Sequence[np.ndarray]) -> np.ndarray:
    """(T, 3) int16 offsets of strokes, each (n, 2) points; positions are rounded, not offsets, so nothing drifts.

    Raises:
      DataError: if there is no point, or an offset exceeds 16 bits.
    """
    strokes = [np.asarray(stroke).reshape(-1, 2) for stroke in strokes if len(stroke)]
    if not strokes:
        raise DataError('no strokes')
    points = np.rint(np.concatenate(strokes)).astype(np.int64)
    ends = np.zeros(len(points), np.int64)
    ends[np.cumsum([len(stroke) for stroke in strokes]) - 1] = 1
    offsets = np.column_stack([np.diff(points, axis=0, prepend=points[:1]), ends])
    if np.abs(offsets).max() > np.iinfo(np.int16).max:
        raise DataError(f'a step of {np.abs(offsets).max()} units; no pen does that')
    return offsets.astype(np.int16)


def to_strokes(offsets: np.ndarray) -> list[np.ndarray]:
    """The (n, 2) points of each stroke, the first point of all at the origin; the last stroke ends with the line."""
    points = np.cumsum(offsets[:, :2], axis=0, dtype=np.float64)
    cuts = np.flatnonzero(offsets[:-1, 2] > 0.5) + 1
    return np.split(points - points[:1], cuts) if len(points) else []


def distort(offsets: np.ndarray, rng: np.random.Generator, sd: float) -> np.ndarray:
    """(T, 3) float64 offsets of a line as if it had been written larger, wider, and more slanted, or less, at random.

    (x, y) becomes s (w x + a y, y).  Positions are rounded, not offsets, so that steps stay whole numbers and a pen at
    rest stays at rest; in a line that shrinks, points may coincide.

    Args:
      offsets: (T, 3), in units.
      sd: the standard deviation of log s, log w and a, whose means are 0.
    """
    size, width, slant = rng.normal(0, sd, 3)
    shape = np.exp(size) * np.array([[np.exp(width), slant], [0, 1]])
    points = np.rint(np.cumsum(offsets[:, :2], axis=0, dtype=np.float64) @ shape.T)
    return np.column_stack([np.diff(points, axis=0, prepend=points[:1]), offsets[:, 2]])


# -- scale ------------------------------------------------------------------------------------------------------------


class Scale(NamedTuple):
    """Mean and standard deviation of dx and of dy, (2,) float64 each."""

    mean: np.ndarray
    sd: np.ndarray


def normalise(offsets: np.ndarray, scale: Scale) -> np.ndarray:
    """(T, 3) float32: mean 0 and standard deviation 1 on each axis, the first row null (G13 sec. 4.2)."""
    xs = np.array(offsets, np.float32)
    xs[:, :2] = (offsets[:, :2] - scale.mean) / scale.sd
    xs[:1, :2] = 0
    return xs


def denormalise(xs: np.ndarray, scale: Scale) -> np.ndarray:
    """(T, 3) float64 offsets, the inverse of ``normalise``; the first row becomes the null vector, whatever it was."""
    offsets = np.array(xs, np.float64)
    offsets[:, :2] = offsets[:, :2] * scale.sd + scale.mean
    offsets[:1, :2] = 0
    return offsets


def at_rest(scale: Scale) -> np.ndarray:
    """(2,) float32: the normalised offset of a pen that does not move."""
    return normalise(np.zeros((2, 3)), scale)[1, :2]
