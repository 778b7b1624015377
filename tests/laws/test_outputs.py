"""The laws of every output layer; a new output is one new row."""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from hfrnn.nets import outputs


class Row(NamedTuple):
    """An output, and all its targets.

    Attributes:
      targets: (N, ...), of which sums stand for those over all targets, or for integrals.
      weight: of each target in such a sum, 1 or an area.
      constant: nats that ``nll`` leaves out.
      features: what moments are taken of, a vector of each target.
    """

    output: outputs.Output
    targets: np.ndarray
    weight: float = 1.0
    constant: float = 0.0
    features: Callable = lambda target: target


def grid(side, *more):
    """((N, D) places of a grid, area of each): two numbers along ``side``, and each combination of ``more``."""
    return np.array(list(itertools.product(side, side, *more))), (side[1] - side[0]) ** 2


PLANE, AREA = grid(np.linspace(-12, 12, 97))
OFFSETS, _ = grid(np.linspace(-12, 12, 97), (0.0, 1.0))
BITS = np.array(list(itertools.product((0.0, 1.0), repeat=3)))
PEN = outputs.pen(3)
OUTPUTS = {
    'categorical': Row(outputs.categorical(4), np.arange(4), features=lambda symbol: jax.nn.one_hot(symbol, 4)),
    'gaussian': Row(outputs.gaussian(2), PLANE, AREA, math.log(2 * math.pi)),
    'bernoulli': Row(outputs.bernoulli(3), BITS),
    'pen': Row(PEN, OFFSETS, AREA),
    'clipped pen': Row(outputs.clipped(PEN, 100.0), OFFSETS, AREA),
}
each_output = pytest.mark.parametrize('row', OUTPUTS.values(), ids=list(OUTPUTS))


def some_z(row, seed=0):
    return jnp.asarray(0.4 * np.random.default_rng(seed).normal(size=row.output.size))


def probabilities(row, z):
    """(N,) of the targets, weights included."""
    nats = jax.vmap(row.output.nll, (None, 0))(z, jnp.asarray(row.targets))
    return row.weight * jnp.exp(-nats - row.constant)


@each_output
def test_probabilities_sum_to_one(row, x64):
    for seed in range(3):
        assert_allclose(probabilities(row, some_z(row, seed)).sum(), 1, rtol=1e-6)


@each_output
def test_the_mean_score_is_zero(row, x64):
    """E grad nll = 0 over the output's own targets."""
    z = some_z(row)
    scores = jax.vmap(jax.grad(row.output.nll), (None, 0))(z, jnp.asarray(row.targets))
    assert_allclose(probabilities(row, z) @ scores, 0, atol=1e-6)
    assert jnp.abs(scores).max() > 0.1


@each_output
def test_samples_have_the_moments_of_the_probabilities(row, x64):
    z, n = some_z(row, 1), 40_000
    p, features = probabilities(row, z), jax.vmap(row.features)(jnp.asarray(row.targets))
    mean = p @ features
    covariance = (p[:, None] * features).T @ features - jnp.outer(mean, mean)
    samples = jax.vmap(row.output.sample, (0, None))(jax.random.split(jax.random.key(0), n), z)
    assert samples.shape[1:] == row.targets.shape[1:]
    drawn = jax.vmap(row.features)(samples)
    sd = jnp.sqrt(jnp.diag(covariance))
    assert (jnp.abs(drawn.mean(0) - mean) < 5 * sd / math.sqrt(n)).all()
    assert_allclose(np.cov(drawn.T), covariance, atol=0.05 * float(sd.max() ** 2))


@each_output
def test_it_is_convex_unless_it_says_that_it_is_not(row, x64):
    """Eigenvalues of the Hessian in z, at some z and at targets that the output draws there."""

    def eigenvalues(key):
        k_z, k_sample = jax.random.split(key)
        z = jax.random.normal(k_z, (row.output.size,))
        return jnp.linalg.eigvalsh(jax.hessian(row.output.nll)(z, row.output.sample(k_sample, z)))

    least = jax.vmap(eigenvalues)(jax.random.split(jax.random.key(0), 100)).min()
    if row.output.nonconvex:
        assert least < -1e-3
    else:
        assert least > -1e-9
