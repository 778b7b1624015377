"""Output layers: what a net's last linear map z means, as pairs of pure functions."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Output(NamedTuple):
    """A distribution whose parameters a net puts out.

    Attributes:
      size: the length of ``z``.
      nll: ``nll(z, target) -> nats``, convex in z where curvature is taken of it.
      sample: ``sample(key, z, ...) -> target``.
    """

    size: int
    nll: Callable[[jax.Array, jax.Array], jax.Array]
    sample: Callable[..., jax.Array]


def categorical(n_symbols: int) -> Output:
    """P(symbol) = softmax(z), Sutskever, Martens & Hinton 2011 sec. 4.

    Its ``sample`` takes a temperature: P^(1/temperature), renormalised; 0 is the most probable symbol.
    """

    def nll(z, target):
        return jax.nn.logsumexp(z) - z[target]

    def sample(key, z, temperature=1.0):
        drawn = jax.random.categorical(key, z / jnp.maximum(temperature, 1e-6))
        return jnp.where(temperature > 0, drawn, jnp.argmax(z))

    return Output(n_symbols, nll, sample)


def gaussian(n_units: int) -> Output:
    """n independent numbers of variance 1 and mean z: squared error, 1/2 sum (z - target)^2.

    That is nats less the constant n/2 log(2 pi); targets are (n,).  Its Hessian is the identity.
    """

    def nll(z, target):
        return 0.5 * jnp.sum((z - target) ** 2)

    def sample(key, z):
        return z + jax.random.normal(key, z.shape, z.dtype)

    return Output(n_units, nll, sample)


def bernoulli(n_units: int) -> Output:
    """n independent bits, P(1) = sigmoid(z): nats = sum log(1 + e^z) - target z.

    Targets are (n,) numbers from 0 to 1.  Its Hessian is diag(p (1 - p)).
    """

    def nll(z, target):
        return jnp.sum(jax.nn.softplus(z) - target * z)

    def sample(key, z):
        return jax.random.bernoulli(key, jax.nn.sigmoid(z)).astype(z.dtype)

    return Output(n_units, nll, sample)
