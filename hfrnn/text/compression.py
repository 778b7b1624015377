"""Files coded by the probabilities of a Predictor, with the range coder of the ``constriction`` package.

An archive is

    'HFR2'  kind (1 byte)  model (8 bytes)                                  the header
    n  m  payload (m - 1 bytes)  content (4 bytes)  seal (4 bytes)          blocks, or, where coding does not pay:
    n  0  r  raw (r bytes)       content            seal
    0                                               seal                    the end

with n the block's symbols, all of n, m, r as base-128 numbers, ``seal`` the CRC-32 of the archive so far (without other
seals), ``content`` that of the file so far.  They distinguish a damaged archive from one that this machine's
arithmetic decodes into something else.  A block ends when it is full, and its coder with it: memory does not grow with
the file.  The model's state is carried over from block to block.
"""

import codecs
import time
import zlib
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

import numpy as np

from hfrnn.errors import DataError, UserError
from hfrnn.text.alphabet import BYTES, as_bytes, encode
from hfrnn.text.predictors import Predictor, read

try:
    import constriction
except ModuleNotFoundError as e:
    raise ModuleNotFoundError("this needs constriction: pip install 'hfrnn[compression]'", name='constriction') from e

MAGIC = b'HFR2'  # hfrnn 0.1 wrote HFR1
CODED, RAW = 2**16, 2**20  # bytes of a block that end it: as coded, and of the file
PIECE = 2048  # bytes that are read and predicted at a time
LARGEST = 2**21  # no block that is whole is longer, coded or not, or has more symbols
FAMILY = constriction.stream.model.Categorical(perfect=False)  # to 24 bits, and never 0


class ArchiveError(UserError):
    """An archive that cannot be decoded, or not by this model."""


class ContentError(DataError):
    """A file with characters that the alphabet of a model lacks."""


class Header(NamedTuple):
    """What an archive says of its model.

    Attributes:
      kind: a number from 0 to 255; the caller gives it a meaning.
      model: 8 bytes, a hash of all that the model's probabilities depend on.
    """

    kind: int
    model: bytes


class Progress(NamedTuple):
    """How much of a file is done.

    Attributes:
      raw, coded: bytes of the file, and of its archive; approximate until the end.
      symbols: how many.
      bits: of the symbols, by the model's own probabilities; 0 when decoding.
      seconds, model_seconds: since the model was ready, and of them those spent in it.
    """

    raw: int = 0
    coded: int = 0
    symbols: int = 0
    bits: float = 0.0
    seconds: float = 0.0
    model_seconds: float = 0.0


def compress(
    predictor: Predictor,
    alphabet: str,
    header: Header,
    source: BinaryIO,
    target: BinaryIO,
    tick: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Writes the archive of a file.

    Args:
      alphabet: the character of each symbol; ``alphabet.BYTES`` for bytes, otherwise the file is UTF-8.
      tick: called with the progress, often.

    Raises:
      ContentError: if the file is not UTF-8, or has a character that the alphabet lacks; or if the model diverges.
    """
    state = predictor.init()
    begin = MAGIC + bytes([header.kind]) + header.model
    target.write(begin)
    seal, content = zlib.crc32(begin), 0
    done = Progress()
    encoder, raw, n, written = constriction.stream.queue.RangeEncoder(), bytearray(), 0, len(begin)
    begun = time.perf_counter()

    def block():
        """Writes the block that is gathered so far."""
        nonlocal seal, content, n, written
        payload = _trimmed(encoder.get_compressed())
        if len(payload) < len(raw):
            body = _number(n) + _number(len(payload) + 1) + payload
        else:
            body = _number(n) + _number(0) + _number(len(raw)) + raw
        content = zlib.crc32(raw, content)
        body += content.to_bytes(4)
        seal = zlib.crc32(body, seal)
        body += seal.to_bytes(4)
        target.write(body)
        encoder.clear()
        raw.clear()
        n = 0
        written += len(body)

    for part, symbols in _symbols(source, alphabet):
        start = time.perf_counter()
        state, P = read(predictor, state, symbols)
        seconds = time.perf_counter() - start
        if not np.all(np.isfinite(P)):
            raise ContentError('the model has diverged on it, and predicts nothing any more; let it learn more slowly')
        encoder.encode(symbols.astype(np.int32), FAMILY, P)
        raw += part
        n += len(symbols)
        if 4 * encoder.num_words() >= CODED or len(raw) >= RAW:
            block()
        done = Progress(
            done.raw + len(part),
            written + 4 * encoder.num_words(),
            done.symbols + len(symbols),
            done.bits - float(np.sum(np.log2(P[np.arange(len(symbols)), symbols]))),
            time.perf_counter() - begun,
            done.model_seconds + seconds,
        )
        tick(done)
    if n:
        block()
    end = _number(0)
    target.write(end + zlib.crc32(end, seal).to_bytes(4))
    return done._replace(coded=written + 5, seconds=time.perf_counter() - begun)


def decompress(
    predictor: Predictor,
    alphabet: str,
    header: Header,
    source: BinaryIO,
    target: BinaryIO,
    tick: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Writes the file of an archive.  The file is complete and verified only when this returns.

    Raises:
      ArchiveError: if it is not an archive, is damaged, or was made by another model.
    """
    if read_header(source) != header:
        raise ArchiveError(
            'the archive was made by another model: other weights or another --prime, or, where memoizer, n-grams or a '
            'net that learns took part, other settings of them'
        )
    seal, content = zlib.crc32(MAGIC + bytes([header.kind]) + header.model), 0
    state = predictor.init()
    done, written = Progress(), 13
    begun = time.perf_counter()
    while True:
        n, first = _read_number(source)
        m, second = _read_number(source) if n else (1, b'')
        r, third = (0, b'') if m else _read_number(source)
        if max(n, m, r) > LARGEST:
            raise ArchiveError('the archive is damaged: a number in it is too large')
        body = _read_exactly(source, m - 1 if m else r)
        saved = _read_exactly(source, 4) if n else b''
        seal = zlib.crc32(first + second + third + body + saved, seal)
        if _read_exactly(source, 4) != seal.to_bytes(4):
            raise ArchiveError('the archive is damaged: a checksum of it is wrong')
        if n == 0:
            break
        pieces = _decoded(predictor, state, alphabet, body, n) if m else _stored(predictor, state, alphabet, body)
        size, symbols_before = len(first + second + third + body) + 8, done.symbols
        for state, part, symbols, seconds in pieces:  # noqa: B007 (the block after this one goes on from it)
            target.write(part)
            content = zlib.crc32(part, content)
            done = Progress(
                done.raw + len(part),
                written + size * (done.symbols + symbols - symbols_before) // n,
                done.symbols + symbols,
                0.0,
                time.perf_counter() - begun,
                done.model_seconds + seconds,
            )
            tick(done)
        if content != int.from_bytes(saved):
            raise ArchiveError(_DIFFERS)
        written += size
    if source.read(1):
        raise ArchiveError('the archive is damaged: something follows its end')
    return done._replace(coded=written + 5, seconds=time.perf_counter() - begun)


_DIFFERS = (
    'the archive is whole and its model is this one, but what comes out is not what went in: this machine, or another '
    'version of JAX, computes other probabilities; decompress where it was compressed'
)


def read_header(source: BinaryIO) -> Header:
    """Reads the header of an archive.

    Raises:
      ArchiveError: if it is not an archive.
    """
    begin = source.read(13)
    if begin.startswith(b'HFR1'):
        raise ArchiveError('an archive of hfrnn 0.1, which that version reads')
    if not begin.startswith(MAGIC):
        raise ArchiveError('this is not an archive of experiments.compression')
    if len(begin) < 13:
        raise ArchiveError(_TRUNCATED)
    return Header(begin[4], begin[5:])


_TRUNCATED = 'the archive is truncated'


def _decoded(predictor, state, alphabet, payload, n):
    """Yields (state, bytes, symbols, seconds in the model) of the n symbols of a payload."""
    words = np.frombuffer(payload + bytes(-len(payload) % 4), '>u4').astype(np.uint32)
    decoder = constriction.stream.queue.RangeDecoder(words)
    for first in range(0, n, PIECE):
        symbols = np.empty(min(PIECE, n - first), np.int64)
        seconds = 0.0
        for i in range(len(symbols)):
            start = time.perf_counter()
            p = predictor.probs(state)
            seconds -= start - time.perf_counter()
            try:
                symbols[i] = decoder.decode(FAMILY, p[None])[0]
            except AssertionError as e:  # raised for data that no encoder with these probabilities makes
                raise ArchiveError(_DIFFERS) from e
            start = time.perf_counter()
            state = predictor.update(state, int(symbols[i]))
            seconds -= start - time.perf_counter()
        yield state, as_bytes(symbols, alphabet), len(symbols), seconds


def _stored(predictor, state, alphabet, raw):
    """Yields the same of a block that is stored uncoded, which the model reads, too."""
    try:
        symbols = np.frombuffer(raw, np.uint8) if alphabet == BYTES else encode(raw.decode(), alphabet)
    except (UnicodeDecodeError, DataError) as e:
        raise ArchiveError('the archive is damaged: a block of it is not text that this model reads') from e
    for first in range(0, len(symbols), PIECE):
        part = symbols[first : first + PIECE]
        start = time.perf_counter()
        state, _ = read(predictor, state, part)
        yield state, as_bytes(part, alphabet), len(part), time.perf_counter() - start


def _symbols(source, alphabet):
    """Yields (bytes, their symbols), a piece of a file at a time, cut between characters."""
    utf8 = codecs.getincrementaldecoder('utf-8')()
    while True:
        part = source.read(PIECE)
        if alphabet == BYTES:
            symbols = np.frombuffer(part, np.uint8)
        else:
            try:
                decoded = utf8.decode(part, final=not part)
            except UnicodeDecodeError as e:
                raise ContentError(f'it is not UTF-8 ({e.reason}), and this model is one of characters') from e
            try:
                symbols = encode(decoded, alphabet)
            except DataError as e:
                raise ContentError(str(e)) from e
            end, part = not part, decoded.encode()
            if end:
                return
            if not part:
                continue
        if not part:
            return
        yield part, symbols


def _trimmed(words):
    """Words as bytes, without the zeros at the end, which the decoder restores."""
    return words.astype('>u4').tobytes().rstrip(b'\0')


def _number(n):
    """A number >= 0 in base 128, the lowest digit first, all but the last with their highest bit set."""
    digits = bytearray()
    while n > 127:
        digits.append(n & 127 | 128)
        n >>= 7
    digits.append(n)
    return bytes(digits)


def _read_number(source):
    """(a number, its bytes)."""
    n, digits = 0, b''
    while True:
        digit = _read_exactly(source, 1)
        n |= (digit[0] & 127) << 7 * len(digits)
        digits += digit
        if digit[0] < 128:
            return n, digits
        if len(digits) == 5:
            raise ArchiveError('the archive is damaged: a number in it is too large')


def _read_exactly(source, n):
    found = source.read(n)
    if len(found) < n:
        raise ArchiveError(_TRUNCATED)
    return found
