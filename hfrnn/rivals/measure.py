"""The rivals of a net, and nets beside them, each measured on a text after another one, in a process of its own.

Static bits are those of a model that is frozen while it reads the text; online bits those of one that goes on learning,
as every compressor does.
"""

import concurrent.futures
import functools
import logging
import multiprocessing
import pathlib
import re
import resource
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from hfrnn.errors import Unavailable
from hfrnn.rivals import compressors
from hfrnn.text.alphabet import as_bytes

READ_BEFORE = 2000  # symbols that a net reads before the first that counts
TUNED_ON = 20_000  # of the validation text, for the rule of dynamic evaluation
RMS_OF = 200_000  # of the training text, for its root mean squares
SEGMENT = 20  # symbols between two changes of the weights
CLIP = float(SEGMENT)  # of a segment's gradient: a net that has hardly been trained does not diverge

Rival = Callable[[np.ndarray, np.ndarray, str], tuple[float | None, float]]


class Measured(NamedTuple):
    """What a rival makes of a text.

    Attributes:
      static, online: bits per symbol; None where there is no such thing.
      seconds: of processor time, for all that it read; a compressor reads the first text twice.
      mebibytes: by how much the memory of its process grew at most, or that of the program which it called.
    """

    static: float | None
    online: float
    seconds: float
    mebibytes: float


def _compressor(compress):
    def rival(known, symbols, alphabet):
        before, unseen = (as_bytes(part, alphabet) for part in (known, symbols))
        return None, compressors.conditional_bits(compress, before, unseen) / len(symbols)

    return rival


def _zpaq(known, symbols, alphabet):
    sizes = [len(as_bytes(part, alphabet)) for part in (known, symbols)]
    if compressors.zpaq_model(sizes[0]) != compressors.zpaq_model(sum(sizes)):
        raise Unavailable('zpaq would not use the same model for the first text alone and for both')
    return _compressor(compressors.zpaq)(known, symbols, alphabet)


def _model(train):
    def rival(known, symbols, alphabet):
        from hfrnn.rivals import pitman_yor  # needs numba

        model = train(known, len(alphabet))
        static = pitman_yor.static_bits(model, symbols)
        _, online = pitman_yor.online_bits(model, symbols)
        return static / len(symbols), online / len(symbols)

    return rival


def _ngram(order):
    def train(known, n_symbols):
        from hfrnn.rivals import ngram

        return ngram.train(known, n_symbols, order)

    return train


def _memoizer(known, n_symbols):
    from hfrnn.rivals import memoizer

    return memoizer.train(known, n_symbols)


RIVALS: dict[str, Rival] = {
    **{name: _compressor(compress) for name, compress in compressors.ALL.items()},
    'zpaq': _zpaq,
    **{f'kneser-ney-{order}': _model(_ngram(order)) for order in (4, 8, 12)},
    'memoizer': _model(_memoizer),
}


# -- nets -------------------------------------------------------------------------------------------------------------


def net(name: str, rule: str, valid: np.ndarray) -> Rival:
    """A trained net as a rival; online it learns by dynamic evaluation.

    Args:
      name: as ``bundle.load`` takes it.
      rule: one of ``tuning.RULES``.
      valid: (N,) validation text, to tune the rule on.
    """
    return functools.partial(_net, name, rule, valid)


def net_and_memoizer(name: str, rule: str, valid: np.ndarray) -> Rival:
    """A net and the memoizer, mixed, both of which learn; the arguments are those of ``net``."""
    return functools.partial(_net_and_memoizer, name, rule, valid)


def _open(name, rule, valid, known):
    from hfrnn import bundle
    from hfrnn.text import models, scoring, tuning  # in the process of the net alone: JAX takes its time

    trained = models.open_net(bundle.load(name), words=False)
    read = scoring.dynamic_reader(trained.model, SEGMENT)
    texts = trained.alphabet, known[:RMS_OF], valid[:TUNED_ON]
    how = {'segment': SEGMENT, 'clip': CLIP, 'read': read}
    return trained, read, tuning.tuned_rule(rule, trained.model, trained.params, *texts, **how)


def _net(name, rule, valid, known, symbols, alphabet):
    from hfrnn.text import metrics, scoring

    trained, read, tuned = _open(name, rule, valid, known)
    before = known[-READ_BEFORE:]
    static = scoring.static_reader(trained.model)(trained.params, symbols, before)
    online = read(trained.params, symbols, before, tuned)
    return float(static.nll.mean()) * metrics.BITS, float(online.nll.mean()) * metrics.BITS


def _net_and_memoizer(name, rule, valid, known, symbols, alphabet):
    from hfrnn.rivals import memoizer, pitman_yor  # need numba
    from hfrnn.text import mixing, predictors

    trained, _, tuned = _open(name, rule, valid, known)
    learns = predictors.online(trained.model, trained.params, known[-READ_BEFORE:], tuned, SEGMENT)
    both = mixing.mix(learns, pitman_yor.online(memoizer.train(known, len(alphabet))))
    return None, predictors.read_bits(both, both.init(), symbols)[1] / len(symbols)


def subjects(known: np.ndarray, n_symbols: int, say: Callable[[str], None] = print) -> dict:
    """The memoizer and 8-grams of a text (N,) as ``probes.Subject``; none where numba is not installed.

    Args:
      say: called with the reason if there are none.
    """
    from hfrnn.text.probes import Subject

    try:
        from hfrnn.rivals import memoizer, ngram, pitman_yor
    except ModuleNotFoundError as e:
        say(f'without memoizer and n-grams: {e}')
        return {}

    def subject(model):
        def sample(prompt, n, streams, seed):
            rng = np.random.default_rng(seed)
            drawn = np.empty((streams, n), np.int64)
            for row in drawn:
                context = list(prompt)
                for i in range(n):
                    p = pitman_yor.distribution(model, context[-model.prior.longest :])
                    row[i] = min(np.searchsorted(np.cumsum(p), rng.random()), n_symbols - 1)
                    context.append(row[i])
            return drawn

        return Subject(functools.partial(pitman_yor.log2_probabilities, model), sample)

    return {
        'memoizer': subject(memoizer.train(known, n_symbols)),
        '8-gram': subject(ngram.train(known, n_symbols, 8)),
    }


# -- measuring --------------------------------------------------------------------------------------------------------


def check(name: str) -> None:
    """Tries a rival on next to nothing.

    Raises:
      Unavailable: if something that it needs is not installed.
    """
    try:
        RIVALS[name](np.zeros(4, np.uint8), np.zeros(4, np.uint8), 'ab')
    except ModuleNotFoundError as e:
        raise Unavailable(str(e)) from e


def measure(name: str, known: np.ndarray, symbols: np.ndarray, alphabet: str, rival: Rival | None = None) -> Measured:
    """A rival on ``symbols`` (N,), once it has read ``known``.

    Args:
      rival: what to measure under that name, if it is none of RIVALS; to be pickled.

    Raises:
      Unavailable: if something that it needs is not installed, or its process is killed.
    """
    context = multiprocessing.get_context('spawn')
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        try:
            return pool.submit(_measure, name, known, symbols, alphabet, rival).result()
        except ModuleNotFoundError as e:
            raise Unavailable(str(e)) from e
        except concurrent.futures.process.BrokenProcessPool as e:
            raise Unavailable(f'{name} was killed, most likely for want of memory') from e


def _measure(name, known, symbols, alphabet, rival):
    if rival is None:
        rival = RIVALS[name]
        check(name)  # and compile, which is not to be counted
    logging.getLogger('absl').setLevel(logging.WARNING)  # a new process has the default level
    before, start = _kibibytes('VmRSS'), _processor_seconds()
    static, online = rival(known, symbols, alphabet)
    grown = max(_kibibytes('VmHWM') - before, _most_kibibytes(resource.RUSAGE_CHILDREN))
    return Measured(static, online, round(_processor_seconds() - start, 2), round(grown / 1024, 1))


def _processor_seconds():
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _kibibytes(field):
    """Memory now (VmRSS) or at most so far (VmHWM); ru_maxrss would remember the process that started this one."""
    status = pathlib.Path('/proc/self/status')
    if not status.exists():  # not Linux
        return _most_kibibytes(resource.RUSAGE_SELF)
    return int(re.search(rf'{field}:\s*(\d+)', status.read_text()).group(1))


def _most_kibibytes(who):
    return resource.getrusage(who).ru_maxrss // (1024 if sys.platform == 'darwin' else 1)  # which counts bytes
