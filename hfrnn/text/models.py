"""The nets of text: of the settings that make one, and found again in a file of weights or the folder of a run.

    net = language.of_file(weight_files.read('penn_treebank'))
    prompt = text.encode('the ', net.alphabet)
    drawn = sampling.continue_text(net.model, net.params, jax.random.key(0), prompt, 200)
    print(text.decode(drawn, net.alphabet))

Source: Sutskever, Martens & Hinton 2011 (SMH11); Graves 2013 (G13), sec. 3.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hfrnn import bundle
from hfrnn.errors import RunError
from hfrnn.nets import cells, model, outputs
from hfrnn.nets.model import Model
from hfrnn.optim import weight_noise
from hfrnn.train import run_folder

KIND = 'language model'  # what a file of weights holds
MOST_LAYERS = 100


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
    """Those of a run's flags that make its net; the first runs of ``recurrent`` tell no gain."""
    return {name: flags[name] for name in (LSTM if 'layers' in flags else RECURRENT) if name in flags}


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
    if bundle.names_a_file(name):
        return of_file(bundle.read(name), words=False)
    flags, about = (run_folder.read_json(name, which) for which in ('flags.json', 'about.json'))

    def read(shapes):
        if 'layers' not in flags:
            return run_folder.restore_params(run_folder.open_run(name), shapes)
        if flags.get('noise') == 'adaptive':
            shapes = jax.eval_shape(weight_noise.posterior, shapes)
        return weight_noise.mean_params(run_folder.load_best(name, shapes))

    return _net(name, flags, about, read, words=False)


def of_file(kept: bundle.Weights, words: bool = True) -> Net:
    """The net of a file of weights.

    Args:
      words: whether it may be one of words.

    Raises:
      DataError: if they are of something else.
      RunError: if they do not tell which net they are of, or it is one of words and may not be.
    """
    bundle.check(kept, kind=KIND)
    flags, about = (kept.facts.get(which, {}) for which in ('flags', 'about'))
    return _net(kept.name, flags, about, functools.partial(bundle.restore, kept), words)


def _net(name, flags, about, read, words):
    """That of these facts, with what read(shapes) gives for its weights."""
    try:
        alphabet = alphabet_of(about)
        net = of_flags(flags, len(alphabet))
        shapes = jax.eval_shape(net.init, jax.random.key(0))
    except (ArithmeticError, KeyError, TypeError, ValueError) as e:
        raise RunError(f'{name} holds no net of text, or does not tell which: {e}') from e
    if not (words or isinstance(alphabet, str)):
        raise RunError(f'{name} holds a net of words, where one of characters or bytes is needed')
    return Net(net, jax.tree.map(jnp.asarray, read(shapes)), alphabet, flags, about)


def alphabet_of(about: dict) -> str | tuple[str, ...]:
    """The alphabet, of words a tuple, which JSON keeps as a list."""
    return about['alphabet'] if isinstance(about['alphabet'], str) else tuple(about['alphabet'])
