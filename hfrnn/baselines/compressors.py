"""General compressors as predictors: how many bits a text costs after another one."""

import bz2
import gzip
import lzma
from collections.abc import Callable

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    'gzip': lambda data: gzip.compress(data, 9, mtime=0),
    'bzip2': lambda data: bz2.compress(data, 9),
    'xz': lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME),
}


def conditional_bits(compress: Callable[[bytes], bytes], before: bytes, text: bytes) -> int:
    """8 (|C(before + text)| - |C(before)|): the text's bits for a compressor that has read what stands before it."""
    return 8 * (len(compress(before + text)) - len(compress(before)))
