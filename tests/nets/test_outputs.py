"""The pen's mixture density, and clipped derivatives."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from hfrnn.nets import outputs

M = 3
PEN = outputs.pen(M)


def some_z(seed=0, spread=0.5):
    return jnp.asarray(spread * np.random.default_rng(seed).normal(size=PEN.size))


def by_hand(z, x):
    """Graves 2013 eq. 15-26 as they are printed, in a loop over components."""
    e, pihat = 1 / (1 + math.exp(z[0])), z[1 : 1 + M]
    mu, sigmahat, rhohat = z[1 + M : 1 + 3 * M], z[1 + 3 * M : 1 + 5 * M], z[1 + 5 * M :]
    density = 0.0
    for j in range(M):
        pi = math.exp(pihat[j]) / sum(math.exp(p) for p in pihat)
        s1, s2, rho = math.exp(sigmahat[j]), math.exp(sigmahat[M + j]), math.tanh(rhohat[j])
        d1, d2 = x[0] - mu[j], x[1] - mu[M + j]
        Z = d1**2 / s1**2 + d2**2 / s2**2 - 2 * rho * d1 * d2 / (s1 * s2)
        N = math.exp(-Z / (2 * (1 - rho**2))) / (2 * math.pi * s1 * s2 * math.sqrt(1 - rho**2))
        density += pi * N
    return -math.log(density) - math.log(e if x[2] else 1 - e)


def test_the_density_is_the_printed_one(x64):
    rng = np.random.default_rng(1)
    nll = jax.jit(PEN.nll)
    for end, rho in itertools.product((0.0, 1.0), (0.0, 1.0, -3.0, 6.0)):
        z = some_z(2).at[-M:].add(rho)
        x = np.append(0.02 * rng.normal(size=2), end)
        assert_allclose(nll(z, jnp.asarray(x)), by_hand(np.asarray(z), x), rtol=1e-9)


@pytest.mark.parametrize('narrow', [-6.0, -14.0])
def test_a_narrow_component_keeps_its_density(narrow, x64):
    z = some_z(2).at[1 + M : 1 + 3 * M].set(0.3).at[1 + 3 * M : 1 + 5 * M].set(narrow)
    x = np.array([0.3 + 0.5 * math.exp(narrow), 0.3 - 0.2 * math.exp(narrow), 0.0])
    assert_allclose(PEN.nll(z, jnp.asarray(x)), by_hand(np.asarray(z), x), rtol=1e-8)


def test_pen_mean_is_the_mean_of_the_density(x64):
    z, side = some_z(), np.linspace(-12, 12, 481)
    places = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    mean = 0.0
    for end in (0.0, 1.0):
        p = np.exp(-jax.vmap(lambda x, end=end: PEN.nll(z, jnp.append(x, end)))(jnp.asarray(places)))
        mean = mean + p @ places
    assert_allclose(mean * (side[1] - side[0]) ** 2, outputs.pen_mean(z), atol=1e-9)


def test_rho_that_is_almost_one_loses_no_digits(x64):
    """Along the diagonal the density of a component of rho -> 1 is that of one variable, and a width across it."""
    rhohat, t = 8.0, 0.7
    z = jnp.zeros(7).at[6].set(rhohat)
    lost = 1 - math.tanh(rhohat) ** 2  # 4.5e-7, to half its digits
    expected = 0.5 * t**2 * 2 / (1 + math.tanh(rhohat)) + math.log(2 * math.pi) + 0.5 * math.log(lost)
    with jax.enable_x64(False):
        one = outputs.pen(1).nll(z.astype(np.float32), jnp.array([t, t, 0], np.float32))
    assert_allclose(one, expected + math.log(2), rtol=1e-5)


def test_finite_at_the_extremes_and_so_are_the_derivatives():
    """Offsets of 50 standard deviations, and every output of the net at -30, 0 or 30, in float32."""
    two = outputs.pen(2)
    zs = jnp.asarray(np.random.default_rng(3).choice([-30, 0, 30], (20_000, two.size)), jnp.float32)
    f = jax.jit(jax.vmap(jax.value_and_grad(two.nll), (0, None)))
    for x in ((0.0, 0.0, 0.0), (50.0, -50.0, 1.0), (1e-3, 50.0, 0.0)):
        nats, dz = f(zs.at[:, 0].multiply(10), jnp.array(x))
        assert jnp.isfinite(nats).all()
        assert jnp.isfinite(dz).all()


def test_derivatives_are_the_printed_ones(x64):
    """Graves 2013: the derivatives of the loss with respect to every z, gamma the components' responsibilities."""
    z, x = np.asarray(some_z(4)), np.array([0.3, -0.5, 1.0])
    m = outputs.mixture(jnp.asarray(z))
    pi, sigma, rho = np.exp(m.log_pi), np.exp(m.log_sigma), np.tanh(m.rhohat)
    e = 1 / (1 + np.exp(z[0]))
    d = (x[:2, None] - np.asarray(m.mu)) / sigma
    Z = d[0] ** 2 + d[1] ** 2 - 2 * rho * d[0] * d[1]
    C = 1 / (1 - rho**2)
    N = np.exp(-Z * C / 2) / (2 * np.pi * sigma[0] * sigma[1] * np.sqrt(1 - rho**2))
    gamma = pi * N / np.sum(pi * N)
    across = d - rho * d[::-1]
    by_mu, by_sigmahat = -gamma * C / sigma * across, -gamma * (C * d * across - 1)
    by_rhohat = -gamma * (d[0] * d[1] + rho * (1 - C * Z))
    printed = [[x[2] - e], pi - gamma, by_mu.ravel(), by_sigmahat.ravel(), by_rhohat]
    assert_allclose(jax.grad(PEN.nll)(jnp.asarray(z), jnp.asarray(x)), np.concatenate(printed), rtol=1e-9)


def draws(z, n=40_000, **options):
    return np.asarray(jax.vmap(lambda key: PEN.sample(key, z, **options))(jax.random.split(jax.random.key(0), n)))


@pytest.mark.parametrize('bias', [0.0, 0.7])
def test_moments_of_samples(bias):
    z = some_z(5).astype(jnp.float32)
    m = outputs.mixture(z, bias)
    pi, mu, sigma, rho = np.exp(m.log_pi), np.asarray(m.mu), np.exp(m.log_sigma), np.tanh(m.rhohat)
    mean = mu @ pi
    off = sigma[0] * sigma[1] * rho
    covariance = sum(
        pi[j] * (np.array([[sigma[0, j] ** 2, off[j]], [off[j], sigma[1, j] ** 2]]) + np.outer(mu[:, j], mu[:, j]))
        for j in range(M)
    ) - np.outer(mean, mean)
    xs = draws(z, bias=bias)
    assert_allclose(xs[:, :2].mean(0), mean, atol=0.03)
    assert_allclose(np.cov(xs[:, :2].T), covariance, atol=0.06)
    assert_allclose(xs[:, 2].mean(), 1 / (1 + np.exp(z[0])), atol=0.015)  # whatever the bias
    assert set(np.unique(xs[:, 2])) == {0, 1}
    assert_allclose(np.cov(xs.T)[2, :2], 0, atol=0.02)


def test_bias(x64):
    z = some_z(6)
    plain, biased = outputs.mixture(z), outputs.mixture(z, 2.0)
    assert_allclose(jnp.exp(biased.log_sigma), jnp.exp(plain.log_sigma - 2))
    powers = jnp.exp(plain.log_pi) ** 3
    assert_allclose(jnp.exp(biased.log_pi), powers / powers.sum())
    assert_array_equal(biased.mu, plain.mu)
    assert_array_equal((biased.ehat, *biased.rhohat), (plain.ehat, *plain.rhohat))
    mode = plain.mu[:, jnp.argmax(plain.log_pi)]
    assert_allclose(draws(z, 100, bias=1e3)[:, :2], np.tile(mode, (100, 1)), atol=1e-12)


def test_clipped_outputs(x64):
    z, x = 3 * some_z(7), jnp.array([4.0, -3.0, 1.0])
    soft = outputs.clipped(PEN, 0.3)
    assert_allclose(soft.nll(z, x), PEN.nll(z, x))
    free = jax.grad(PEN.nll)(z, x)
    assert_allclose(jax.grad(soft.nll)(z, x), np.clip(free, -0.3, 0.3))
    assert abs(free).max() > 0.3
    assert_allclose(jax.grad(outputs.clipped(PEN, None).nll)(z, x), free)
