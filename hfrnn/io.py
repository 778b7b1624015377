"""Files that are written whole or not at all: bytes, arrays (.npz), text and JSON."""

import contextlib
import json
import os
import pathlib
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from hfrnn.errors import CorruptFile, DataError

_SIGNS_OF_CORRUPTION = (
    *(AttributeError, EOFError, LookupError, OSError, RecursionError, RuntimeError, TypeError, ValueError),
    *(tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)


@contextlib.contextmanager
def atomic_write(path: str | pathlib.Path) -> Iterator[BinaryIO]:
    """Opens a file that replaces ``path`` when the block ends; if anything fails, ``path`` stays as it was.

    Until then the content is in NAME.PID.new beside it, which is all that a kill can leave.
    """
    path = pathlib.Path(path)
    new = path.with_name(f'{path.name}.{os.getpid()}.new')
    try:
        with new.open('wb') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException as e:
        if isinstance(e, OSError):
            e.filename, e.filename2 = str(path), None
        with contextlib.suppress(OSError):
            new.unlink()
        raise


def write_bytes(path: str | pathlib.Path, content: bytes) -> None:
    """Writes a file, whole or not at all."""
    with atomic_write(path) as file:
        file.write(content)


def save_npz(path: str | pathlib.Path, *, compressed: bool = True, **arrays: np.ndarray) -> None:
    """Writes arrays as one file, whole or not at all; the folder is made if need be.

    Raises:
      DataError: if it cannot be written.
    """
    try:
        pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            (np.savez_compressed if compressed else np.savez)(file, **arrays)
    except OSError as e:
        raise DataError(f'cannot write {path}: {e.strerror}') from e


def read_npz(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of a file.

    Raises:
      FileNotFoundError: if there is no such file.
      CorruptFile: if it holds something else, or cannot be read.
    """
    try:
        with open(path, 'rb') as file, np.load(file, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
        if not all(isinstance(array, np.ndarray) for array in arrays.values()):
            raise TypeError('a member is not an array')
    except FileNotFoundError:
        raise
    except _SIGNS_OF_CORRUPTION as e:
        raise CorruptFile(f'{path} is damaged') from e
    return arrays


def read_text(path: str | pathlib.Path) -> str:
    """A file of UTF-8, with or without a byte order mark.

    Raises:
      DataError: if it is not UTF-8.
    """
    try:
        return pathlib.Path(path).read_text('utf-8-sig')
    except UnicodeDecodeError as e:
        raise DataError(f'{path} is not UTF-8 (byte {e.start})') from e


def write_json(path: str | pathlib.Path, content: Any) -> None:
    """Writes JSON, whole or not at all, in a folder that is made if need be; a number that is not finite is null."""
    finite = json.loads(json.dumps(content), parse_constant=lambda _: None)
    text = json.dumps(finite, indent=1) + '\n'  # in ASCII, which can also hold a file name that is not UTF-8
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, text.encode())


def read_json(path: str | pathlib.Path) -> dict:
    """The object in a JSON file.

    Raises:
      FileNotFoundError: if there is no such file.
      CorruptFile: if it holds something else.
    """
    try:
        content = json.loads(pathlib.Path(path).read_text('utf-8'))
    except (ValueError, RecursionError) as e:
        raise CorruptFile(f'{path} is damaged') from e
    if not isinstance(content, dict):
        raise CorruptFile(f'{path} is damaged')
    return content
