"""Batches of text: random substrings, and sequences for truncated backpropagation through time.

For truncated backpropagation a text of N symbols is cut into B consecutive streams, and every stream into sequences of
T.  Step i sees the i-th sequence of every stream; the net's state is carried over from one to the next, its derivative
is not (G13 sec. 3.2).

Sources: Sutskever, Martens & Hinton 2011 (SMH11), and the code of its author (S11c); Graves 2013 (G13).
"""

import math

import numpy as np

from hfrnn.errors import DataError
from hfrnn.train.loss import Batch
from hfrnn.train.truncated_bptt import CarriedBatch


def random_substrings(
    symbols: np.ndarray, rng: np.random.Generator, sequences: int, length: int, unscored: int
) -> Batch:
    """Uniformly random substrings, the first ``unscored`` predictions of each not counted (SMH11 sec. 5.1).

    Args:
      symbols: (N,) of a training text.
      sequences: B.
      length: T; T + 1 symbols are read.

    Raises:
      DataError: if the text is shorter than one substring.
    """
    if len(symbols) <= length:
        raise DataError(f'{len(symbols)} training symbols are too few for sequences of {length}')
    starts = rng.integers(0, len(symbols) - length, sequences)
    chosen = symbols[starts[:, None] + np.arange(length + 1)]
    weights = np.broadcast_to((np.arange(length) >= unscored).astype(np.float32), (sequences, length))
    return Batch(chosen[:, :-1], chosen[:, 1:], weights)


def steps_per_epoch(n: int, B: int, T: int) -> int:
    """How many sequences of T the longest of B streams of a text of n symbols has: the steps of an epoch."""
    return math.ceil(math.ceil(n / B) / T)


def check_streams(n: int, B: int, T: int) -> None:
    """Checks that a text of n symbols is long enough for every one of B streams to have a whole sequence of T.

    Raises:
      DataError: if not.
    """
    if n < B * T:
        raise DataError(
            f'{n:,} training symbols are too few for {B} streams of sequences of {T}; take fewer or shorter'
        )


def shifted_inputs(symbols: np.ndarray, where: np.ndarray, start: int) -> np.ndarray:
    """The input before each of these places: the symbol before it, and the start symbol before the first.

    Args:
      symbols: (N,) of a text.
      where: places in it, from 0, of any shape; the inputs have the same, int32.
    """
    return np.where(where > 0, symbols[np.clip(where - 1, 0, len(symbols) - 1)].astype(np.int32), start)


def stream_batch(symbols: np.ndarray, B: int, T: int, i: int, start: int, reset_every: int = 0) -> CarriedBatch:
    """The batch of step i.  In an epoch, ``steps_per_epoch`` of them, every symbol is a target exactly once.

    Streams differ in length by one symbol at most; past the end of a shorter one targets have no weight.

    Args:
      symbols: (N,) of a text.
      start: the start symbol, which is read before the first.
      reset_every: the state of every stream is reset after so many sequences; 0 for the start of an epoch alone.
    """
    s = i % steps_per_epoch(len(symbols), B, T)
    edges = np.arange(B + 1) * len(symbols) // B
    where = edges[:-1, None] + s * T + np.arange(T)
    weights = (where < edges[1:, None]).astype(np.float32)
    where = np.minimum(where, len(symbols) - 1)
    reset = s == 0 or (reset_every > 0 and s % reset_every == 0)
    targets = symbols[where].astype(np.int32)
    return CarriedBatch(Batch(shifted_inputs(symbols, where, start), targets, weights), np.full(B, reset))
