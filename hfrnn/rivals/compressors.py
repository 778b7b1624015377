"""General compressors as predictors: how many bits a text costs after another one."""

import bz2
import gzip
import importlib
import lzma
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable

import numpy as np

from hfrnn.errors import Unavailable
from hfrnn.text.alphabet import as_bytes

MEMORY = 1 << 30  # bytes for PPMd's model; as all texts get the same, the bits of one do not depend on what follows it


def _needed(module):
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as e:
        raise Unavailable(f"this needs {module}: pip install 'hfrnn[rivals]'") from e


def zstd(data: bytes) -> bytes:
    """At its highest level, with a window of 128 MiB."""
    return _needed('zstandard').ZstdCompressor(level=22).compress(data)


def brotli(data: bytes) -> bytes:
    """At its highest quality, with a window of 16 MiB."""
    return _needed('brotli').compress(data, quality=11, lgwin=24)


def ppmd(variant: str, order: int) -> Callable[[bytes], bytes]:
    """PPMd of variant 'H' or 'I', by pyppmd."""

    def compress(data):
        return _needed('pyppmd').compress(data, max_order=order, mem_size=MEMORY, variant=variant)

    return compress


def zpaq(data: bytes) -> bytes:
    """An archive by ``zpaq -method 5``, one file in it; the size of the text sets its model, see ``zpaq_model``."""
    program = shutil.which('zpaq')
    if not program:
        raise Unavailable('zpaq is not installed (Debian and Ubuntu: apt install zpaq)')
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / 'text').write_bytes(data)
        command = [program, 'add', 'archive.zpaq', 'text', '-method', '5', '-threads', '1']
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unavailable(f'zpaq fails: {(done.stderr.strip().splitlines() or ["no reason given"])[-1]}')
        return (pathlib.Path(folder) / 'archive.zpaq').read_bytes()


def zpaq_model(size: int) -> tuple[int, int]:
    """What sets zpaq's model for a text of ``size`` bytes: its tables double with the text from 1 MiB on, and it
    forgets everything at the end of each block of 64 MiB."""
    return max((size + 4095).bit_length(), 20), size // (2**26 - 4096)


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    'gzip': lambda data: gzip.compress(data, 9, mtime=0),
    'bzip2': lambda data: bz2.compress(data, 9),
    'xz': lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME),
}  # those of Python's library
ALL: dict[str, Callable[[bytes], bytes]] = COMPRESSORS | {
    'zstd': zstd,
    'brotli': brotli,
    'ppmd-h-8': ppmd('H', 8),
    'ppmd-h-16': ppmd('H', 16),
    'ppmd-i-16': ppmd('I', 16),
    'zpaq': zpaq,
}


def conditional_bits(compress: Callable[[bytes], bytes], before: bytes, data: bytes) -> int:
    """8 (|C(before + data)| - |C(before)|): the bits of data for a compressor that has read ``before``."""
    return 8 * (len(compress(before + data)) - len(compress(before)))


def bits_per_symbol(known: np.ndarray, symbols: np.ndarray, alphabet: str) -> dict[str, float]:
    """Bits per symbol of a text (N,), by each of Python's compressors, once it has read ``known``."""
    before, data = (as_bytes(part, alphabet) for part in (known, symbols))
    return {name: conditional_bits(compress, before, data) / len(symbols) for name, compress in COMPRESSORS.items()}
