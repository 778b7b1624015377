"""Nets among the rivals: what a trained one makes of a text, frozen, or learning as it reads."""

import hashlib

import jax
import numpy as np
import optax

from hfrnn.text import mixing, models, predictors, scoring
from hfrnn.text.metrics import BITS
from hfrnn.text.predictors import Predictor, read_bits

READ_BEFORE = 2000  # symbols that a net reads before the first that counts
TRIED = 20_000  # of the validation text, to choose a rate by
RMS_OF = 200_000  # of the training text, for root mean squares
SEGMENT = 20  # symbols between two changes of the weights, with those


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
    """A net as one of ``rivals.RIVALS``; online it learns by the rule, and at the rate, that ``learning`` tells."""
    net = models.open_net(workdir)
    frozen = predictors.static(net.model, net.params, known[-READ_BEFORE:])
    learns = learning(net, by, valid, known)
    bits = [read_bits(predictor, predictor.init(), symbols)[1] for predictor in (frozen, learns)]
    return bits[0] / len(symbols), bits[1] / len(symbols)


def rival_with_memoizer(
    workdir: str, by: str, valid: np.ndarray, known: np.ndarray, symbols: np.ndarray, alphabet: str
) -> tuple[None, float]:
    """A net and the memoizer, both of which go on learning, mixed."""
    from hfrnn.rivals import memoizer, pitman_yor  # need numba

    remembers = pitman_yor.online(memoizer.train(known, len(alphabet)))
    both = mixing.mix(learning(models.open_net(workdir), by, valid, known), remembers)
    return None, read_bits(both, both.init(), symbols)[1] / len(symbols)


def learning(net: models.Net, by: str, valid: np.ndarray, known: np.ndarray) -> Predictor:
    """A net that goes on learning by gradient descent ('sgd') or the rule of ``dynamic.learn`` with root mean squares.

    The rule's numbers are those that serve the net best on the first of the validation text; the root mean squares
    are of the first of what is known.
    """
    tried, read_before = valid[:TRIED], known[-READ_BEFORE:]
    if by == 'sgd':
        rate = predictors.tuned_rate(net.model, net.params, known[:1], tried) if len(tried) else 0.03
        return predictors.online(net.model, net.params, read_before, predictors.descent(rate))
    null, reader = len(net.alphabet), scoring.dynamic_reader(net.model, SEGMENT)
    rms = scoring.root_mean_squares(net.model, net.params, known[:RMS_OF], null, SEGMENT)

    def bits(rate, decay):
        return reader(net.params, tried, null, scoring.Rule(rate, decay, rms)).nats.mean() * BITS

    rule = scoring.Rule(*scoring.tuned(bits, with_rms=True), optax.tree.scale(1 / SEGMENT, rms))  # of mean nats
    return predictors.online(net.model, net.params, read_before, scoring.optimizer(rule), SEGMENT)
