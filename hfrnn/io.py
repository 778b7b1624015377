"""Files that are there whole or not at all, and arrays in one (.npz)."""

import contextlib
import os
import pathlib
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from hfrnn.errors import CorruptFile, DataError

_BY_DAMAGE = (
    *(AttributeError, EOFError, LookupError, OSError, RuntimeError, TypeError, ValueError),
    *(tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)


@contextlib.contextmanager
def whole(path: str | pathlib.Path) -> Iterator[BinaryIO]:
    """A file to write, which is there and on the disk once the block has been left; if anything fails, what was there.

    Until then it is NAME.PID.new beside it: that is what a kill leaves.
    """
    path = pathlib.Path(path)
    new = path.with_name(f'{path.name}.{os.getpid()}.new')
    try:
        with new.open('wb') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink()
        raise


def save_npz(path: str | pathlib.Path, *, compressed: bool = True, **arrays: np.ndarray) -> None:
    """Writes arrays as one file, whole or not at all, in a folder that is made if need be.

    Raises:
      DataError: if it cannot be written there.
    """
    try:
        pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as file:
            (np.savez_compressed if compressed else np.savez)(file, **arrays)
    except OSError as e:
        raise DataError(f'cannot write {path}: {e.strerror}') from e


def read_npz(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of a file.

    Raises:
      FileNotFoundError: if there is none.
      Damaged: if it holds something else, or cannot be read.
    """
    try:
        with open(path, 'rb') as file, np.load(file, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
        if not all(isinstance(array, np.ndarray) for array in arrays.values()):
            raise TypeError('a member is no array')
    except FileNotFoundError:
        raise
    except _BY_DAMAGE as e:
        raise CorruptFile(f'{path} is damaged') from e
    return arrays
