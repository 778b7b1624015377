"""The nets of Graves 2013 (G13) for handwriting: prediction (sec. 4) and synthesis (sec. 5).

They are for first-order methods: derivatives by reverse mode alone.
"""

from typing import Any

from hfrnn import cells, model, outputs, window
from hfrnn.model import Model

CLIP, OUTPUT_CLIP = 10.0, 100.0  # G13 sec. 4.2, 5.2: of the derivatives that reach the LSTM's sums, and the outputs


def prediction_net(
    layers: int = 3,
    hidden: int = 400,
    mixtures: int = 20,
    clip: float | None = CLIP,
    output_clip: float | None = OUTPUT_CLIP,
    dtype: Any = None,
) -> Model:
    """Peephole LSTM layers with skip connections, and the pen's mixture density; inputs are (T, 3) offsets.

    Args:
      clip, output_clip: where the derivatives of one line's nats are clipped; None for nowhere.
      dtype: what the factors of the LSTM's products are rounded to, as ``cells.lstm`` has it.
    """
    first = cells.lstm(3, hidden, clip=clip, reverse=True, dtype=dtype)
    others = [cells.lstm(3, hidden, hidden, clip=clip, reverse=True, dtype=dtype) for _ in range(layers - 1)]
    return _with_pen(cells.stack(first, *others), mixtures, output_clip)


def synthesis_net(
    n_symbols: int,
    layers: int = 3,
    hidden: int = 400,
    mixtures: int = 20,
    gaussians: int = 10,
    clip: float | None = CLIP,
    output_clip: float | None = OUTPUT_CLIP,
    dtype: Any = None,
) -> Model:
    """The same under a soft window over the text; inputs are ``model.Conditioned`` (offsets, ``window.Text``).

    Args:
      n_symbols: of the alphabet that the texts are in.
    """
    first = cells.lstm(3, hidden, n_symbols, clip=clip, reverse=True, dtype=dtype)
    others = [
        cells.lstm(3, hidden, hidden + n_symbols, clip=clip, reverse=True, dtype=dtype) for _ in range(layers - 1)
    ]

    def given(text):
        return _with_pen(window.attend(text, [first, *others], n_symbols, gaussians), mixtures, output_clip)

    return model.conditional(given)


def _with_pen(cell, mixtures, output_clip):
    return model.sequence_model(cell, outputs.clipped(outputs.pen(mixtures), output_clip), cells.scaled)
