"""The nets of text runs, found again by their folders."""

import hashlib
import zlib
from typing import Any, NamedTuple

import jax
import numpy as np

from hfrnn import cells, model, outputs, runs
from hfrnn.baselines import mixing
from hfrnn.baselines import net as predictors
from hfrnn.baselines.predictor import read_bits
from hfrnn.data import text
from hfrnn.model import Model

READ_BEFORE = 2000  # symbols that a net reads before the first that counts
TRIED = 20_000  # of the validation text, to choose a rate by


class Net(NamedTuple):
    """A trained net.

    Attributes:
      model, params: the net.
      alphabet: the character of each symbol.
      flags: those that defined the run.
      about: what the run's data were.
    """

    model: Model
    params: Any
    alphabet: str
    flags: dict
    about: dict


def text_model(n_symbols: int, *, cell: str, hidden: int, factors: int, gain: str = 'linear') -> Model:
    """A net of one recurrent layer: 'rnn', 'tensor_rnn' or 'mrnn'."""
    V, H = n_symbols, hidden
    layer = {
        'rnn': lambda: cells.rnn(V, H),
        'tensor_rnn': lambda: cells.tensor_rnn(V, H),
        'mrnn': lambda: cells.mrnn(V, H, factors, gain=gain),
    }[cell]()
    return model.sequence_model(layer, outputs.categorical(V))


def open_net(workdir: str) -> Net:
    """The net of a run of text_mrnn, as its newest whole checkpoint has it.

    Raises:
      RunError: if there is none.
    """
    run = runs.open_run(workdir)
    flags, about = (runs.read_json(workdir, name) for name in ('flags.json', 'about.json'))
    try:
        settings = {name: flags[name] for name in ('cell', 'hidden', 'factors', 'gain')}
        net = text_model(len(about['alphabet']), **settings)
    except KeyError as e:
        raise runs.RunError(f'{workdir} holds no run of a net of text: it has no {e}') from e
    params = runs.restore_params(run, jax.eval_shape(net.init, jax.random.key(0)))
    return Net(net, params, about['alphabet'], flags, about)


def about(corpus: text.Corpus) -> dict:
    """What a run's data are, so that it is noticed where they are others."""
    sizes = {part: len(getattr(corpus, part)) for part in ('train', 'valid', 'test')}
    checks = {f'{part}_crc32': zlib.crc32(getattr(corpus, part).tobytes()) for part in sizes}
    return {'alphabet': corpus.alphabet, **sizes, **checks}


def digest(net: Net) -> str:
    """A hash of all that makes the net's predictions: its structure, weights and alphabet."""
    settings = [net.flags[name] for name in ('cell', 'hidden', 'factors', 'gain')]
    sha = hashlib.sha256(repr((settings, net.alphabet)).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(net.params):
        sha.update(f'{jax.tree_util.keystr(path)} {leaf.shape} {leaf.dtype}'.encode())
        sha.update(np.ascontiguousarray(leaf).tobytes())
    return sha.hexdigest()


# -- nets among the rivals --------------------------------------------------------------------------------------------


def rival(
    workdir: str, valid: np.ndarray, known: np.ndarray, symbols: np.ndarray, alphabet: str
) -> tuple[float, float]:
    """A net as one of ``rivals.RIVALS``; online it learns at the rate that serves it best on ``valid``."""
    net = open_net(workdir)
    frozen = predictors.static(net.model, net.params, known[-READ_BEFORE:])
    bits = [read_bits(predictor, predictor.init(), symbols)[1] for predictor in (frozen, _learning(net, valid, known))]
    return bits[0] / len(symbols), bits[1] / len(symbols)


def rival_with_memoizer(
    workdir: str, valid: np.ndarray, known: np.ndarray, symbols: np.ndarray, alphabet: str
) -> tuple[None, float]:
    """A net and the memoizer, both of which go on learning, mixed."""
    from hfrnn.baselines import memoizer, pitman_yor  # need numba

    remembers = pitman_yor.online(memoizer.train(known, len(alphabet)))
    both = mixing.mix(_learning(open_net(workdir), valid, known), remembers)
    return None, read_bits(both, both.init(), symbols)[1] / len(symbols)


def _learning(net, valid, known):
    tried = valid[:TRIED]
    rate = predictors.tuned_rate(net.model, net.params, known[:1], tried) if len(tried) else 0.03
    return predictors.online(net.model, net.params, known[-READ_BEFORE:], predictors.descent(rate))
