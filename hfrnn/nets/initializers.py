"""Initial weights, as functions of a key and a shape.

Source: Sutskever, Martens & Hinton 2011 (SMH11).
"""

import jax
import jax.numpy as jnp

SCALE = 15**-0.5  # a sum of 15 inputs of variance 1 then has variance 1


def sparse(key: jax.Array, shape: tuple[int, int], scale: float = SCALE, connections: int = 15) -> jax.Array:
    """Sparse initialisation: every unit (row) starts with exactly ``connections`` non-zero weights.

    Their values are N(0, scale^2).  A row with fewer columns than that is dense.  SMH11, on training.

    Returns:
      (units, sources) weights.
    """
    k_places, k_values = jax.random.split(key)
    rank = jnp.argsort(jnp.argsort(jax.random.uniform(k_places, shape)))  # a random permutation in every row
    return jnp.where(rank < connections, scale * jax.random.normal(k_values, shape), 0.0)


def gaussian(key: jax.Array, shape: tuple[int, ...], sd: float = 0.1) -> jax.Array:
    """Weights drawn from N(0, sd^2)."""
    return sd * jax.random.normal(key, shape)


def scaled(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Weights drawn from N(0, 1/n) for units of n inputs: inputs of variance 1 then give a sum of variance 1."""
    return gaussian(key, shape, shape[-1] ** -0.5)
