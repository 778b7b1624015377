"""Language models: the settings that make one, and a trained one from its bundle.

    model, params, alphabet = models.open_net(bundle.load('penn_treebank'))
    symbols = generate.continue_text(model, params, jax.random.key(0), encode('the ', alphabet), 200)
    print(decode(symbols, alphabet))

Sources: Sutskever, Martens & Hinton 2011 (SMH11); Graves 2013 (G13), sec. 3.
"""

import dataclasses
import functools
import hashlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hfrnn import bundle as bundles
from hfrnn.bundle import Bundle
from hfrnn.errors import DataError, RunError, SettingsError
from hfrnn.nets import cells, outputs
from hfrnn.nets.model import Model, sequence_model
from hfrnn.train import settings as settings_of
from hfrnn.train.settings import setting

KIND = 'language_model'  # of a bundle
LSTM = 'lstm'

# The cells of one layer, ``make(V, Net)``: a new one is a row here, and has the laws of tests/laws/test_cells.py.
CELLS = {
    'rnn': lambda V, net: cells.rnn(V, net.hidden),
    'tensor_rnn': lambda V, net: cells.tensor_rnn(V, net.hidden),
    'mrnn': lambda V, net: cells.mrnn(V, net.hidden, net.factors, gain=net.gain),
}


@dataclasses.dataclass(frozen=True)
class Net:
    """All that makes the net but the number of symbols"""

    cell: str = setting('mrnn', 'The recurrent layer.', choices=(*CELLS, LSTM))
    hidden: int = setting(350, 'Hidden units, or LSTM cells, in each layer, H.', low=1, high=10**6)
    layers: int = setting(1, 'lstm: the number of layers.', low=1, high=100)
    factors: int = setting(350, 'mrnn: factors, F.', low=1)
    gain: str = setting(
        'linear', "mrnn: the factors' gain. tanh: as in the code released with the paper.", choices=('linear', 'tanh')
    )
    clip: float = setting(
        0.0, 'lstm: clip each derivative at the net inputs of its cells to this size; 0 for no clipping.', low=0.0
    )
    output_clip: float = setting(0.0, 'The same at the inputs of the softmax.', low=0.0)
    initial_sd: float | None = setting(
        None, "lstm: standard deviation of the initial weights; 1 / sqrt(a unit's inputs) if not given.", low=0.0
    )


class Trained(NamedTuple):
    """A trained net.

    Attributes:
      model, params: the net.
      alphabet: the character of each symbol; of words, a tuple of them.
    """

    model: Model
    params: Any
    alphabet: str | tuple[str, ...]


def check(net: Net) -> None:
    """Checks that the settings go together.

    Raises:
      SettingsError: for what only another cell has.
    """
    settings_of.check(net)
    if net.cell != LSTM:
        for name, without in (('layers', 1), ('clip', 0.0), ('initial_sd', None)):
            if getattr(net, name) != without:
                raise SettingsError(f'{name}={getattr(net, name)} is of an LSTM: with cell={net.cell} it is {without}')
    if net.cell != 'mrnn' and net.gain != 'linear':
        raise SettingsError(f"gain={net.gain} is of the MRNN: with cell={net.cell} it is 'linear'")


def make(net: Net, n_symbols: int, *, dtype: Any = None, dropout: float = 0.0, reverse: bool = True) -> Model:
    """The net of these settings, one layer of SMH11, or LSTM layers with skip connections (G13 sec. 3).

    Args:
      n_symbols: V.
      dtype, dropout: of an LSTM in training, see ``cells.lstm``.
      reverse: whether an LSTM has derivatives by reverse mode alone, and faster; False for Hessian-Free.

    Raises:
      SettingsError: for settings that do not go together.
    """
    check(net)
    V, H = n_symbols, net.hidden
    output = outputs.clipped(outputs.categorical(V), net.output_clip) if net.output_clip else outputs.categorical(V)
    if net.cell != LSTM:
        return sequence_model(CELLS[net.cell](V, net), output)
    weights = cells.scaled if net.initial_sd is None else functools.partial(cells.gaussian, sd=net.initial_sd)
    kind = {'clip': net.clip or None, 'weights': weights, 'reverse': reverse, 'dtype': dtype, 'dropout': dropout}
    stacked = [cells.lstm(V, H, H if n else 0, **kind) for n in range(net.layers)]
    return sequence_model(stacked[0] if net.layers == 1 else cells.stack(*stacked), output, weights)


def open_net(bundle: Bundle, *, words: bool = True) -> Trained:
    """The net of a bundle; of one with adaptive weight noise, the means of its weights.

    Args:
      words: whether it may be a net of words.

    Raises:
      DataError: if the bundle is of something else, or its weights are of another net.
      RunError: if it does not say which net it is, or it is one of words and may not be.
    """
    bundles.check_kind(bundle, KIND)
    try:
        net = settings_of.restore(Net(), {name: value for name, value in bundle.model.items() if name != 'kind'})
        alphabet = alphabet_of(bundle)
        model = make(net, len(alphabet))
        shapes = jax.eval_shape(model.init, jax.random.key(0))
    except (ArithmeticError, KeyError, TypeError, ValueError) as e:
        raise RunError(f'{bundle.name} does not say which net of text it is: {e}') from e
    if not (words or isinstance(alphabet, str)):
        raise RunError(f'{bundle.name} is a net of words, where one of characters or bytes is needed')
    params = bundles.fit(bundles.without_noise(bundle), shapes)
    return Trained(model, jax.tree.map(jnp.asarray, params), alphabet)


def alphabet_of(bundle: Bundle) -> str | tuple[str, ...]:
    """The alphabet of a net; of words a tuple, which JSON keeps as a list.

    Raises:
      DataError: if there is none.
    """
    alphabet = bundle.data.get('alphabet')
    if not alphabet or not isinstance(alphabet, str | list):
        raise DataError(f'{bundle.name} has no alphabet')
    return alphabet if isinstance(alphabet, str) else tuple(alphabet)


def digest(bundle: Bundle) -> str:
    """A hash of all that makes the net's predictions: its settings, alphabet and weights."""
    trained = open_net(bundle)
    sha = hashlib.sha256(repr((sorted(bundle.model.items()), trained.alphabet)).encode())
    for place, leaf in bundles.places(trained.params).items():
        sha.update(f'{place} {leaf.shape} {leaf.dtype}'.encode())
        sha.update(np.ascontiguousarray(leaf).tobytes())
    return sha.hexdigest()
