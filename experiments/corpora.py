"""The texts of runs: which part of one is held out, and whether it is what a run was of."""

import zlib

import numpy as np

from experiments.cli import FlagError
from hfrnn.data import text

SHORTEST = 1_000  # a validation text, in symbols, that a rate can be chosen on


def corpus_of(flags: dict, data: str | None) -> text.Corpus:
    """The text of a run with these flags; ``data`` is the folder of ptb and enwik8."""
    return with_held_out(text.load(flags['corpus'], data, flags['unit']), flags.get('held_out', 0))


def check_tuning_text(symbols: np.ndarray, instead: str = 'leave it out with --dynamic=') -> None:
    """That there is enough validation text to choose a learning rate on.

    Args:
      instead: what to do if not, for the error to say.

    Raises:
      FlagError: if not.
    """
    if len(symbols) < SHORTEST:
        raise FlagError(
            f'{len(symbols):,} validation symbols are too few to tune dynamic evaluation on ({SHORTEST:,} are needed); '
            f'{instead}'
        )


def check_held_out(corpus: text.Corpus, n: int) -> None:
    """That the validation text has so many symbols.

    Raises:
      FlagError: if it has not.
    """
    if n > len(corpus.valid):
        raise FlagError(f'--held_out={n}: {corpus.name} has {len(corpus.valid):,} symbols for validation')


def with_held_out(corpus: text.Corpus, n: int) -> text.Corpus:
    """Of the validation text only the last n symbols are kept for validation, and the others trained on; 0 for all."""
    if not 0 < n < len(corpus.valid):
        return corpus
    more, valid = np.split(corpus.valid, [-n])
    return corpus._replace(train=np.concatenate([corpus.train, more]), valid=valid)


def about(corpus: text.Corpus) -> dict:
    """What a run's data are, so that it is noticed where they are others."""
    sizes = {part: len(getattr(corpus, part)) for part in ('train', 'valid', 'test')}
    checks = {f'{part}_crc32': zlib.crc32(getattr(corpus, part).tobytes()) for part in sizes}
    return {'alphabet': corpus.alphabet, **sizes, **checks}
