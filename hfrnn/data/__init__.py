"""What the nets learn from: text, handwriting, and tasks.  What is wrong with a file is a DataError."""

from typing import Any, NamedTuple

import numpy as np


class DataError(ValueError):
    """The data that was asked for is not there, or not what it should be; one line for the user."""


class Batch(NamedTuple):
    """Sequences of one length, each target with its weight: 0 for padding and for what is read but not scored.

    Attributes:
      xs: (B, T) or (B, T, D) inputs, or ``model.Conditioned`` with them.
      targets: (B, T) or (B, T, ...) what is to be predicted after each.
      weights: (B, T).
    """

    xs: Any
    targets: np.ndarray
    weights: np.ndarray
