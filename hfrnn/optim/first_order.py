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

    for g a gradient on the scale of one sequence's nats: the offset under the root belongs to it.
    """
    return optax.chain(_centred(), optax.scale_by_learning_rate(learning_rate), optax.trace(0.9))


def _centred():
    """optax.scale_by_stddev, whose state it has, for gradients of any size."""

    def init(params):
        return optax.ScaleByRStdDevState(mu=optax.tree.zeros_like(params), nu=optax.tree.zeros_like(params))

    def update(g, state, params=None):
        m, n = (optax.tree.update_moment(g, old, 0.95, order) for old, order in ((state.mu, 1), (state.nu, 2)))
        # of large gradients that hardly change, rounding takes n below m^2
        updates = jax.tree.map(lambda g, n, m: g / jnp.sqrt(jnp.maximum(n - m**2, 0.0) + 1e-4), g, n, m)
        return updates, optax.ScaleByRStdDevState(mu=m, nu=n)

    return optax.GradientTransformation(init, update)


def muon(learning_rate: float = 1e-3) -> optax.GradientTransformation:
    """Muon (Jordan et al. 2024) for a layer's ``W_h``, Nesterov-Adam for all other weights.

    ``W_h`` leads from cells, and a window, to all four net inputs of an LSTM (``cells.lstm``), and is one matrix here.
    A step is the gradient's momentum with its singular values brought near 1, scaled to the root mean square of 0.2
    that Adam's steps have (Liu et al. 2025, arXiv:2502.16982, sec. 2.2), so that Adam's learning rates serve.

    Raises:
      ValueError: by ``init``, for weights without a ``W_h``.
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
    """The state of ``averaged``: the mean of the weights so far, of which newer ones are more."""

    average: Params
    count: jax.Array


def averaged(decay: float) -> optax.GradientTransformation:
    """The last of a chain: changes no update, and keeps an exponential average of the weights that they make::

        average = d average + (1 - d) w,    d = min(decay, (1 + t) / (10 + t)) after t steps

    so that the first weights, which are far off, do not stay in it: a warm-up as that of TensorFlow's
    ``ExponentialMovingAverage``.  ``optax.tree.get(opt_state, 'average')`` finds it.
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
