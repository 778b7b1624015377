"""Noise on the weights as a regulariser: fixed, and adaptive (a description length).

The weights may be drawn for each sequence, as in the papers (a ``vmap`` over keys and sequences), or once for several:
one draw for a whole batch keeps the batch's matrix products whole, and takes a fifth of the time (three layers of 400
LSTM cells, 8 lines).  At test time the weights are the means.

Sources: Graves 2013 (G13); Graves 2011, "Practical Variational Inference for Neural Networks" (G11).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Params = Any


class Noise(NamedTuple):
    """A distribution of weights with learnt params.

    Attributes:
      init: ``init(weights) -> params``.
      sample: ``sample(key, params) -> weights``.
      complexity: ``complexity(params) -> nats``, added once an epoch to those of the sequences: L = L_E + L_C of G11.
    """

    init: Callable[[Params], Params]
    sample: Callable[[jax.Array, Params], Params]
    complexity: Callable[[Params], Any]


def noise(kind: str, sd: float = 0.075, variance: str = 'squared') -> Noise:
    """The noise of a kind: 'none'; 'fixed', of standard deviation sd; 'adaptive', of initial standard deviation sd.

    The params of adaptive noise are a ``Posterior``; those of the others are the weights.

    Args:
      sd: 0.075 in G13.
      variance: see ``sample``.

    Raises:
      ValueError: for any other kind.
    """
    if kind == 'adaptive':
        return Noise(lambda w: posterior(w, sd), lambda key, q: sample(key, q, variance), complexity)
    draws = {'none': lambda key, w: w, 'fixed': lambda key, w: perturb(key, w, sd)}
    if kind not in draws:
        raise ValueError(f"noise is 'none', 'fixed' or 'adaptive', not {kind!r}")
    return Noise(lambda w: w, draws[kind], lambda w: 0.0)


def perturb(key: jax.Array, params: Params, sd: float = 0.075) -> Params:
    """params + sd * N(0, 1), independent for each weight."""
    return optax.tree.add_scale(params, sd, _normal(key, params))


class Posterior(NamedTuple):
    """Q: weight i is N(mu_i, s_i^2).

    Attributes:
      mu: the means, a pytree.
      log_variance: log s_i^2, a pytree of the same shapes; the logarithm keeps s_i positive in every step.
    """

    mu: Params
    log_variance: Params


class Prior(NamedTuple):
    """P: every weight is N(mean, variance)."""

    mean: jax.Array
    variance: jax.Array


def posterior(params: Params, sd: float = 0.075) -> Posterior:
    """Q with the weights as means and one standard deviation for all (0.075 in G13)."""
    return Posterior(params, jax.tree.map(lambda p: jnp.full_like(p, 2 * jnp.log(sd)), params))


def mean_params(params: Params) -> Params:
    """The weights for testing, from the params of any ``Noise``: the means."""
    return params.mu if isinstance(params, Posterior) else params


def best_prior(q: Posterior) -> Prior:
    """The prior of least complexity: mean(mu_i) and mean(s_i^2 + (mu_i - mean)^2) (G11)."""
    n = optax.tree.size(q.mu)
    mean = optax.tree.sum(q.mu) / n
    spread = jax.tree.map(lambda mu, v: jnp.sum(jnp.exp(v) + (mu - mean) ** 2), *q)
    return Prior(mean, optax.tree.sum(spread) / n)


def complexity(q: Posterior, p: Prior | None = None) -> jax.Array:
    """L_C in nats: the divergence KL(Q || P), the cost of sending weights drawn from Q to a receiver that knows P::

        L_C = sum_i [ log(S / s_i) + ((mu_i - m)^2 + s_i^2 - S^2) / (2 S^2) ]

    with P = N(m, S^2).  Its derivatives are those with a fixed P (G11)::

        d/dmu_i = (mu_i - m) / S^2,    d/ds_i^2 = 1/2 (1 / S^2 - 1 / s_i^2)

    Args:
      p: the prior; the best one if None.
    """
    m, S2 = jax.lax.stop_gradient(best_prior(q) if p is None else p)

    def of(mu, v):
        return 0.5 * jnp.sum(jnp.log(S2) - v + ((mu - m) ** 2 + jnp.exp(v) - S2) / S2)

    return optax.tree.sum(jax.tree.map(of, *q))


def sample(key: jax.Array, q: Posterior, variance: str = 'squared') -> Params:
    """Draws weights from Q, and defines the derivatives of Q from a derivative g of the loss in the weights.

    That of mu_i is g_i.  That of s_i^2 depends on ``variance``:

    * 'squared': 1/2 g_i^2 (G11).  Its mean is half the curvature of a log loss, if the net has the distribution of the
      data.  It is meant for one draw a sequence, as in the papers, with any number of sequences in a ``vmap``.  If a
      batch shares a draw, it is the square of the sum and not the sum of squares: larger by what the sequences'
      derivatives have in common, which vanishes only as training converges.  The loss must be in nats, as its scale is
      squared too.
    * 'reparameterised': g_i n_i / (2 s_i), with w_i = mu_i + s_i n_i: the exact derivative of the mean loss, for any
      sharing of draws and any scale of the loss, but a noisier estimate.

    The learnt parameter is log s_i^2, whose derivative is s_i^2 times that of s_i^2.

    Raises:
      ValueError: for any other variance.
    """
    if variance not in ('squared', 'reparameterised'):
        raise ValueError(f"variance is 'squared' or 'reparameterised', not {variance!r}")
    rule = _squared if variance == 'squared' else _reparameterised
    return jax.tree.map(rule, *q, _normal(key, q.mu))


def _normal(key, params):
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    return structure.unflatten([jax.random.normal(k, p.shape, p.dtype) for k, p in zip(keys, leaves, strict=True)])


def _reparameterised(mu, log_variance, n):
    return mu + jnp.exp(0.5 * log_variance) * n


@jax.custom_vjp
def _squared(mu, log_variance, n):
    return _reparameterised(mu, log_variance, n)


def _squared_fwd(mu, log_variance, n):
    return _reparameterised(mu, log_variance, n), log_variance


def _squared_bwd(log_variance, g):
    return g, 0.5 * jnp.exp(log_variance) * g**2, jnp.zeros_like(g)


_squared.defvjp(_squared_fwd, _squared_bwd)
