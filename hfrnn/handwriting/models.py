"""The nets of Graves 2013 (G13) for handwriting: prediction (sec. 4) and synthesis (sec. 5).

They are for first-order methods: their derivatives are by reverse mode only.
"""

from typing import Any

import numpy as np

from hfrnn.nets import attention, cells, model, outputs
from hfrnn.nets.model import Model

CLIP, OUTPUT_CLIP = 10.0, 100.0  # G13 sec. 4.2, 5.2: of the derivatives at the LSTM's net inputs, and at the outputs


def prediction_net(
    layers: int = 3,
    hidden: int = 400,
    mixtures: int = 20,
    clip: float | None = CLIP,
    output_clip: float | None = OUTPUT_CLIP,
    dtype: Any = None,
    dropout: float = 0.0,
) -> Model:
    """Peephole LSTM layers with skip connections, and the pen's mixture density; inputs are (T, 3) offsets.

    Args:
      clip, output_clip: the limits of the derivatives of one line's nats, at the LSTM's net inputs and at the outputs;
        None for no limit.
      dtype, dropout: in training, as in ``cells.lstm``.
    """
    stacked = _stacked(layers, hidden, 0, clip=clip, dtype=dtype, dropout=dropout)
    return _with_pen(cells.stack(*stacked), mixtures, output_clip)


def synthesis_net(
    n_symbols: int,
    layers: int = 3,
    hidden: int = 400,
    mixtures: int = 20,
    gaussians: int = 10,
    clip: float | None = CLIP,
    output_clip: float | None = OUTPUT_CLIP,
    dtype: Any = None,
    dropout: float = 0.0,
) -> Model:
    """The same with a soft window over the text; inputs are ``model.Conditioned`` (offsets, ``attention.Text``).

    Args:
      n_symbols: in the alphabet of the texts.
    """
    stacked = _stacked(layers, hidden, n_symbols, clip=clip, dtype=dtype, dropout=dropout)

    def given(text):
        return _with_pen(attention.attend(text, stacked, n_symbols, gaussians), mixtures, output_clip)

    return model.conditional(given)


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


def _stacked(layers, hidden, n_symbols, **kind):
    """LSTM layers that read the offsets, the layer below, and ``n_symbols`` numbers of a window."""
    return [cells.lstm(3, hidden, (hidden if n else 0) + n_symbols, reverse=True, **kind) for n in range(layers)]


def _with_pen(cell, mixtures, output_clip):
    return model.sequence_model(cell, outputs.clipped(outputs.pen(mixtures), output_clip), cells.scaled)
