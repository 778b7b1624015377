"""Nets among the rivals: what a trained one makes of a text, frozen, or learning as it reads."""

import hashlib

import jax
import numpy as np

from hfrnn.text import mixing, models, predictors, scoring, tuning
from hfrnn.text.metrics import BITS
from hfrnn.text.predictors import read_bits

READ_BEFORE = 2000  # symbols that a net reads before the first that counts
TRIED = 20_000  # of the validation text, to choose a rate by
RMS_OF = 200_000  # of the training text, for root mean squares
SEGMENT = 20  # symbols between two changes of the weights


def digest(net: models.Net) -> str:
    """A hash of all that makes the net's predictions: its structure, weights and alphabet."""
    sha = hashlib.sha256(repr((models.settings(net.flags), net.alphabet)).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(net.params):
        sha.update(f'{jax.tree_util.keystr(path)} {leaf.shape} {leaf.dtype}'.encode())
        sha.update(np.ascontiguousarray(leaf).tobytes())
    return sha.hexdigest()


def rival(
    workdir: str, by: str, valid: np.ndarray, known: np.ndarray, symbols: np.ndarray, alphabet: str
) -> tuple[float, float]:
    """A net as one of ``measure.RIVALS``; online it learns by the rule ``by`` of ``tuning.RULES``."""
    net, before = models.open_net(workdir), known[-READ_BEFORE:]
    static = scoring.static_reader(net.model)(net.params, symbols, before)
    read = scoring.dynamic_reader(net.model, SEGMENT)
    online = read(net.params, symbols, before, rule(net, by, valid, known, read))
    return float(static.nll.mean()) * BITS, float(online.nll.mean()) * BITS


def rival_with_memoizer(
    workdir: str, by: str, valid: np.ndarray, known: np.ndarray, symbols: np.ndarray, alphabet: str
) -> tuple[None, float]:
    """A net and the memoizer, both of which go on learning, mixed."""
    from hfrnn.rivals import memoizer, pitman_yor  # need numba

    net, remembers = models.open_net(workdir), pitman_yor.online(memoizer.train(known, len(alphabet)))
    chosen = rule(net, by, valid, known)
    learns = predictors.online(net.model, net.params, known[-READ_BEFORE:], chosen, SEGMENT)
    both = mixing.mix(learns, remembers)
    return None, read_bits(both, both.init(), symbols)[1] / len(symbols)


def rule(net, by, valid, known, read=None):
    """The rule that serves the net best on the first of the validation text."""
    texts = net.alphabet, known[:RMS_OF], valid[:TRIED]
    return tuning.tuned_rule(by, net.model, net.params, *texts, segment=SEGMENT, read=read)
