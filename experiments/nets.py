"""The nets of text runs, found again by their folders."""

import hashlib
from typing import Any, NamedTuple

import jax
import numpy as np

from hfrnn import cells, model, outputs, runs
from hfrnn.model import Model


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


def digest(net: Net) -> str:
    """A hash of all that makes the net's predictions: its structure, weights and alphabet."""
    settings = [net.flags[name] for name in ('cell', 'hidden', 'factors', 'gain')]
    sha = hashlib.sha256(repr((settings, net.alphabet)).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(net.params):
        sha.update(f'{jax.tree_util.keystr(path)} {leaf.shape} {leaf.dtype}'.encode())
        sha.update(np.ascontiguousarray(leaf).tobytes())
    return sha.hexdigest()
