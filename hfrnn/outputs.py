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
