"""The nets of Graves 2013 (G13) for handwriting: prediction (sec. 4) and synthesis (sec. 5).

They are for first-order methods: their derivatives are by reverse mode only.
"""

import dataclasses
from typing import Any

import numpy as np

from hfrnn.nets import attention, cells, model, outputs
from hfrnn.nets.model import Model
from hfrnn.train.settings import setting

KIND = 'handwriting'  # of a bundle
PREDICTION, SYNTHESIS = TASKS = ('prediction', 'synthesis')


@dataclasses.dataclass(frozen=True)
class Net:
    """The net; the limits of its derivatives (G13 sec. 4.2 and 5.2) are on the scale of one line's nats."""

    layers: int = setting(3, 'LSTM layers.', low=1)
    hidden: int = setting(400, 'Cells in each layer, H.', low=1, high=10**6)
    mixtures: int = setting(20, 'Components of the mixture, M.', low=1)
    gaussians: int = setting(10, 'synthesis: Gaussians of the window over the text, K.', low=1)
    clip: float = setting(
        10.0, "The largest derivative of a line's nats at the LSTM's net inputs; 0 for no limit.", low=0, infinite=True
    )
    output_clip: float = setting(100.0, 'The same at the outputs; 0 for no limit.', low=0.0, infinite=True)


def make(task: str, net: Net, n_symbols: int = 0, *, dtype: Any = None, dropout: float = 0.0) -> Model:
    """Peephole LSTM layers with skip connections, under the pen's mixture density; inputs are (T, 3) offsets.

    For synthesis the layers see the text through a soft window, and inputs are ``model.Conditioned`` (offsets,
    ``attention.Text``).

    Args:
      task: 'prediction' or 'synthesis'.
      n_symbols: in the alphabet of the texts, for synthesis.
      dtype, dropout: in training, as in ``cells.lstm``.
    """
    C = n_symbols if task == SYNTHESIS else 0
    kind = {'clip': net.clip or None, 'reverse': True, 'dtype': dtype, 'dropout': dropout}
    layers = [cells.lstm(3, net.hidden, (net.hidden if n else 0) + C, **kind) for n in range(net.layers)]

    def with_pen(cell):
        output = outputs.clipped(outputs.pen(net.mixtures), net.output_clip or None)
        return model.sequence_model(cell, output, cells.scaled)

    if task == PREDICTION:
        return with_pen(cells.stack(*layers))
    return model.conditional(lambda text: with_pen(attention.attend(text, layers, C, net.gaussians)))


def widen(params: Any, new: Any) -> Any:
    """The weights of a larger net that predicts exactly what a smaller one does, so that training can go on with it.

    The new cells, layers on top or cells within a layer, are not read at first: the weights from them into the cells of
    the smaller net, the window and the outputs are 0.  The weights into the new cells are random.  A net that is
    widened so that its function stays is the idea of Net2Net (Chen, Goodfellow & Shlens 2016, arXiv:1511.05641), which
    copies cells where this adds unread ones.

    Args:
      params: of the smaller net.
      new: random weights of the larger net, with at least as many layers, and cells in each, and the same numbers of
        mixtures, Gaussians and symbols.
    """
    few, many = _layers(params), _layers(new)
    h, H = (layers[0]['w_c'].shape[1] for layers in (few, many))
    rows = (np.arange(4)[:, None] * H + np.arange(h)).ravel()  # of i, f, o and c

    def put(large, small, rows, columns):
        return large.at[rows].set(0).at[np.ix_(rows, columns)].set(small)

    def layer(n, large, small):
        from_below = np.arange(h if n else 0)
        rest = (H if n else 0) + np.arange(small['W_h'].shape[1] - len(from_below))  # the window, and the layer itself
        return {
            'W_x': put(large['W_x'], small['W_x'], rows, np.arange(3)),
            'W_h': put(large['W_h'], small['W_h'], rows, np.concatenate([from_below, rest])),
            'w_c': large['w_c'].at[:, :h].set(small['w_c']),
            'b': large['b'].at[rows].set(small['b']),
        }

    layers = (*map(layer, range(len(few)), many, few), *many[len(few) :])
    rows_o = np.arange(len(params['readout']['b_o']))
    columns_h = (np.arange(len(few))[:, None] * H + np.arange(h)).ravel()
    W_oh = put(new['readout']['W_oh'], params['readout']['W_oh'], rows_o, columns_h)
    cell = layers
    if 'W_hp' in params['cell']:
        small = params['cell']
        W_hp = put(new['cell']['W_hp'], small['W_hp'], np.arange(len(small['b_p'])), np.arange(h))
        cell = {'layers': layers, 'W_hp': W_hp, 'b_p': small['b_p']}
    return {'cell': cell, 'readout': {'W_oh': W_oh, 'b_o': params['readout']['b_o']}}


def _layers(params):
    cell = params['cell']
    return cell['layers'] if 'W_hp' in cell else cell
