"""The nets of text: of the settings that make one, and found again by the folder of a run, or in a file of weights."""

import functools
import hashlib
import zlib
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from hfrnn import cells, dynamic, model, outputs, runs, weight_files, weight_noise
from hfrnn.baselines import mixing
from hfrnn.baselines import net as predictors
from hfrnn.baselines.predictor import Predictor, read_bits
from hfrnn.data import text
from hfrnn.evaluation import BITS
from hfrnn.model import Model

KIND = 'language model'  # what a file of weights holds
MOST_LAYERS = 100
READ_BEFORE = 2000  # symbols that a net reads before the first that counts
TRIED = 20_000  # of the validation text, to choose a rate by
RMS_OF = 200_000  # of the training text, for root mean squares
SEGMENT = 20  # symbols between two changes of the weights, with those


class Net(NamedTuple):
    """A trained net.

    Attributes:
      model, params: the net.
      alphabet: the character of each symbol; of words, a tuple of them.
      flags: those that defined the run.
      about: what the run's data were.
    """

    model: Model
    params: Any
    alphabet: str | tuple[str, ...]
    flags: dict
    about: dict


def recurrent(n_symbols: int, *, cell: str, hidden: int, factors: int, gain: str = 'linear') -> Model:
    """A net of SMH11, of one recurrent layer: 'rnn', 'tensor_rnn' or 'mrnn'."""
    V, H = n_symbols, hidden
    layer = {
        'rnn': lambda: cells.rnn(V, H),
        'tensor_rnn': lambda: cells.tensor_rnn(V, H),
        'mrnn': lambda: cells.mrnn(V, H, factors, gain=gain),
    }[cell]()
    return model.sequence_model(layer, outputs.categorical(V))


def lstm(
    n_symbols: int,
    *,
    hidden: int,
    layers: int,
    clip: float,
    output_clip: float,
    initial_sd: float | None = None,
    dtype: Any = None,
    dropout: float = 0.0,
) -> Model:
    """A net of G13 sec. 3: LSTM layers with skip connections.

    Args:
      clip, output_clip: of the derivatives, as in ``cells.lstm`` and ``outputs.clipped``; 0 for none.
      initial_sd: of the weights; ``cells.scaled`` if not given.
      dtype, dropout: in training, as in ``cells.lstm``.

    Raises:
      ValueError: for no layers, or more than ``MOST_LAYERS``.
    """
    if not 0 < layers <= MOST_LAYERS:
        raise ValueError(f'a net has 1 to {MOST_LAYERS} layers')
    weights = cells.scaled if initial_sd is None else functools.partial(cells.gaussian, sd=initial_sd)
    kind = {'clip': clip or None, 'weights': weights, 'reverse': True, 'dtype': dtype, 'dropout': dropout}
    stacked = [cells.lstm(n_symbols, hidden, hidden if n else 0, **kind) for n in range(layers)]
    output = outputs.clipped(outputs.categorical(n_symbols), output_clip or None)
    return model.sequence_model(stacked[0] if layers == 1 else cells.stack(*stacked), output, weights)


RECURRENT = ('cell', 'hidden', 'factors', 'gain')
LSTM = ('hidden', 'layers', 'clip', 'output_clip')


def settings(flags: dict) -> dict:
    """Those of a run's flags that make its net."""
    return {name: flags[name] for name in (LSTM if 'layers' in flags else RECURRENT)}


def of_flags(flags: dict, n_symbols: int) -> Model:
    """The net that a run with these flags trains."""
    return (lstm if 'layers' in flags else recurrent)(n_symbols, **settings(flags))


def open_net(name: str) -> Net:
    """A net of characters or bytes: of a run's folder, or of a file of weights or one that came with the package.

    Of a run of text_mrnn as its newest whole checkpoint has it; of one of an LSTM, as validation text found it best.

    Raises:
      RunError: if there is none, or it is one of words.
      DataError: if the file is damaged, or something else.
    """
    if weight_files.names_a_file(name):
        return of_file(weight_files.read(name), words=False)
    flags, about = (runs.read_json(name, which) for which in ('flags.json', 'about.json'))

    def read(shapes):
        if 'layers' not in flags:
            return runs.restore_params(runs.open_run(name), shapes)
        if flags.get('noise') == 'adaptive':
            shapes = jax.eval_shape(weight_noise.posterior, shapes)
        return weight_noise.means(runs.load_best(name, shapes))

    return _net(name, flags, about, read, words=False)


def of_file(kept: weight_files.Weights, words: bool = True) -> Net:
    """The net of a file of weights.

    Args:
      words: whether it may be one of words.

    Raises:
      DataError: if they are of something else.
      RunError: if they do not tell which net they are of, or it is one of words and may not be.
    """
    weight_files.check(kept, kind=KIND)
    flags, about = (kept.facts.get(which, {}) for which in ('flags', 'about'))
    return _net(kept.name, flags, about, functools.partial(weight_files.restore, kept), words)


def _net(name, flags, about, read, words):
    """That of these facts, with what read(shapes) gives for its weights."""
    try:
        alphabet = alphabet_of(about)
        net = of_flags(flags, len(alphabet))
        shapes = jax.eval_shape(net.init, jax.random.key(0))
    except (ArithmeticError, KeyError, TypeError, ValueError) as e:
        raise runs.RunError(f'{name} holds no net of text, or does not tell which: {e}') from e
    if not (words or isinstance(alphabet, str)):
        raise runs.RunError(f'{name} holds a net of words, where one of characters or bytes is needed')
    return Net(net, read(shapes), alphabet, flags, about)


def alphabet_of(about: dict) -> str | tuple[str, ...]:
    """The alphabet, of words a tuple, which JSON keeps as a list."""
    return about['alphabet'] if isinstance(about['alphabet'], str) else tuple(about['alphabet'])


def corpus_of(flags: dict, data: str | None) -> text.Corpus:
    """The text of a run with these flags; ``data`` is the folder of ptb and enwik8."""
    return with_held_out(text.load(flags['corpus'], data, flags['unit']), flags.get('held_out', 0))


def check_held_out(corpus: text.Corpus, n: int) -> None:
    """That the validation text has so many symbols.

    Raises:
      RunError: if it has not.
    """
    if n > len(corpus.valid):
        raise runs.RunError(f'--held_out={n}: {corpus.name} has {len(corpus.valid):,} symbols for validation')


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


def digest(net: Net) -> str:
    """A hash of all that makes the net's predictions: its structure, weights and alphabet."""
    sha = hashlib.sha256(repr((settings(net.flags), net.alphabet)).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(net.params):
        sha.update(f'{jax.tree_util.keystr(path)} {leaf.shape} {leaf.dtype}'.encode())
        sha.update(np.ascontiguousarray(leaf).tobytes())
    return sha.hexdigest()


# -- nets among the rivals --------------------------------------------------------------------------------------------


def rival(
    workdir: str, by: str, valid: np.ndarray, known: np.ndarray, symbols: np.ndarray, alphabet: str
) -> tuple[float, float]:
    """A net as one of ``rivals.RIVALS``; online it learns by the rule, and at the rate, that ``learning`` tells."""
    net = open_net(workdir)
    frozen = predictors.static(net.model, net.params, known[-READ_BEFORE:])
    learns = learning(net, by, valid, known)
    bits = [read_bits(predictor, predictor.init(), symbols)[1] for predictor in (frozen, learns)]
    return bits[0] / len(symbols), bits[1] / len(symbols)


def rival_with_memoizer(
    workdir: str, by: str, valid: np.ndarray, known: np.ndarray, symbols: np.ndarray, alphabet: str
) -> tuple[None, float]:
    """A net and the memoizer, both of which go on learning, mixed."""
    from hfrnn.baselines import memoizer, pitman_yor  # need numba

    remembers = pitman_yor.online(memoizer.train(known, len(alphabet)))
    both = mixing.mix(learning(open_net(workdir), by, valid, known), remembers)
    return None, read_bits(both, both.init(), symbols)[1] / len(symbols)


def learning(net: Net, by: str, valid: np.ndarray, known: np.ndarray) -> Predictor:
    """A net that goes on learning by gradient descent ('sgd') or the rule of ``dynamic.learn`` with root mean squares.

    The rule's numbers are those that serve the net best on the first of the validation text; the root mean squares
    are of the first of what is known.
    """
    tried, read_before = valid[:TRIED], known[-READ_BEFORE:]
    if by == 'sgd':
        rate = predictors.tuned_rate(net.model, net.params, known[:1], tried) if len(tried) else 0.03
        return predictors.online(net.model, net.params, read_before, predictors.descent(rate))
    null, reader = len(net.alphabet), dynamic.dynamic_reader(net.model, SEGMENT)
    rms = dynamic.root_mean_squares(net.model, net.params, known[:RMS_OF], null, SEGMENT)

    def bits(rate, decay):
        return reader(net.params, tried, null, dynamic.Rule(rate, decay, rms)).nats.mean() * BITS

    rule = dynamic.Rule(*dynamic.tuned(bits, with_rms=True), optax.tree.scale(1 / SEGMENT, rms))  # of mean nats
    return predictors.online(net.model, net.params, read_before, dynamic.optimizer(rule), SEGMENT)
