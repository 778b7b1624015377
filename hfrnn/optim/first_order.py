"""First-order optimisation: the rmsprop of Graves 2013, Muon for LSTMs, and an average of the weights."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import optax.contrib

Params = Any


def graves_rmsprop(learning_rate: float = 1e-4) -> optax.GradientTransformation:
    """The rmsprop of Graves 2013, eq. 38-41::

        n = .95 n + .05 g^2
        m = .95 m + .05 g
        D = .9 D - 1e-4 g / sqrt(n - m^2 + 1e-4)
        w = w + D

    for a gradient g on the scale of one sequence's nats, to which the offset under the root belongs.
    """
    return optax.chain(_centred(), optax.scale_by_learning_rate(learning_rate), optax.trace(0.9))


def _centred():
    """``optax.scale_by_stddev``, with its state, for gradients of any size."""

    def init(params):
        return optax.ScaleByRStdDevState(mu=optax.tree.zeros_like(params), nu=optax.tree.zeros_like(params))

    def update(g, state, params=None):
        m, n = (optax.tree.update_moment(g, old, 0.95, order) for old, order in ((state.mu, 1), (state.nu, 2)))
        # for large gradients that hardly change, rounding makes n less than m^2
        updates = jax.tree.map(lambda g, n, m: g / jnp.sqrt(jnp.maximum(n - m**2, 0.0) + 1e-4), g, n, m)
        return updates, optax.ScaleByRStdDevState(mu=m, nu=n)

    return optax.GradientTransformation(init, update)


def muon(learning_rate: float = 1e-3) -> optax.GradientTransformation:
    """Muon (Jordan et al. 2024) for a layer's ``W_h``, Nesterov-Adam for all other weights.

    ``W_h`` maps the recurrent inputs of an LSTM (and its window) to its four sums, and is one matrix (``cells.lstm``).
    A step is the gradient's momentum with its singular values brought near 1, scaled to the root mean square of Adam's
    steps, 0.2 (Liu et al. 2025, arXiv:2502.16982, sec. 2.2), so that Adam's learning rates apply.

    Raises:
      ValueError: from ``init``, for weights without a ``W_h``.
    """

    def orthogonal(params):
        def axes(path, _):
            return optax.contrib.MuonDimensionNumbers(1, 0) if path[-1] == jax.tree_util.DictKey('W_h') else None

        found = jax.tree_util.tree_map_with_path(axes, params)
        if not jax.tree.leaves(found):
            raise ValueError('muon is for LSTMs: none of these weights is a W_h')
        return found

    return optax.contrib.muon(learning_rate, muon_weight_dimension_numbers=orthogonal, consistent_rms=0.2)


class Average(NamedTuple):
    """The state of ``averaged``: the exponential average of the weights, and the number of steps."""

    average: Params
    count: jax.Array


def averaged(decay: float) -> optax.GradientTransformation:
    """Keeps an exponential average of the weights; it is the last of a chain, and changes no update::

        average = d average + (1 - d) w,    d = min(decay, (1 + t) / (10 + t)) after t steps

    The smaller d of the first steps forgets the initial weights, as in TensorFlow's ``ExponentialMovingAverage``.
    ``optax.tree.get(opt_state, 'average')`` finds the average.
    """

    def init(params):
        return Average(jax.tree.map(jnp.array, params), jnp.zeros((), jnp.int32))

    def update(updates, state, params=None):
        t = state.count + 1
        d = jnp.minimum(decay, (1 + t) / (10 + t))
        new = optax.apply_updates(params, updates)
        average = jax.tree.map(lambda a, w: (d * a + (1 - d) * w).astype(a.dtype), state.average, new)
        return updates, Average(average, t)

    return optax.GradientTransformation(init, update)
