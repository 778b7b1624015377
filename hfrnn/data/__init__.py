"""What the nets learn from: text, handwriting, and tasks.  What is wrong with a file is a DataError."""

import contextlib
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np


class DataError(ValueError):
    """The data that was asked for is not there, or not what it should be; one line for the user."""


def save_npz(path: str | pathlib.Path, *, compressed: bool = True, **arrays: np.ndarray) -> None:
    """Writes arrays as one file, whole or not at all, in a folder that is made if need be.

    Raises:
      DataError: if it cannot be written there.
    """
    path = pathlib.Path(path)
    new = path.with_name(f'{path.name}.{os.getpid()}.new')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new.open('wb') as f:
            (np.savez_compressed if compressed else np.savez)(f, **arrays)
        new.replace(path)
    except OSError as e:
        with contextlib.suppress(OSError):
            new.unlink()
        raise DataError(f'cannot write {path}: {e.strerror}') from e


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
