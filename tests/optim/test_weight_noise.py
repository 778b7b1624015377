"""Fixed and adaptive weight noise, in float64 on losses whose derivatives are known."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from hfrnn.optim import weight_noise
from hfrnn.optim.weight_noise import Posterior, Prior
from tests.trees import assert_trees_close

KEY = jax.random.key(3)


def weights(seed=0):
    rng = np.random.default_rng(seed)
    return {'W': jnp.asarray(rng.normal(size=(2, 3))), 'b': jnp.asarray(rng.normal(size=2))}


def some_q():
    return Posterior(weights(), jax.tree.map(lambda w: 0.5 * w - 2, weights(1)))


def linear(w, a):
    return optax.tree.vdot(w, a)


def curved(w):
    return jnp.sum(jnp.cosh(w['W'] @ jnp.array([1.0, -0.5, 2.0]) + w['b'])) + optax.tree.norm(w) ** 4 / 40


def description(loss, share, variance='squared'):
    """The length of a description, in nats, of what a call sees and of its share of the weights."""
    noise = weight_noise.noise('adaptive', variance=variance)
    return lambda q, key, *args: loss(noise.sample(key, q), *args) + share * noise.complexity(q)


def test_fixed_noise_has_its_deviation_and_none_is_none(x64):
    w = weights()
    noise = jax.vmap(lambda key: optax.tree.sub(weight_noise.perturb(key, w, 0.075), w))(jax.random.split(KEY, 4000))
    flat = np.concatenate([noise['W'].reshape(4000, -1), noise['b']], axis=1)
    assert_allclose(np.cov(flat.T), 0.075**2 * np.eye(8), atol=5e-4)
    jax.tree.map(assert_array_equal, weight_noise.perturb(KEY, w, 0.0), w)
    fixed = weight_noise.noise('fixed', 0.1)
    jax.tree.map(assert_array_equal, fixed.sample(KEY, fixed.init(w)), weight_noise.perturb(KEY, w, 0.1))
    assert fixed.complexity(w) == 0
    silent = weight_noise.posterior(w, 0.0)
    jax.tree.map(assert_array_equal, weight_noise.sample(KEY, silent), w)


def test_complexity_is_the_divergence(x64):
    """Against the mean of log Q(w) - log P(w) over weights drawn from Q."""
    q, p = some_q(), Prior(jnp.array(0.3), jnp.array(1.7))

    def log_normal(w, mean, variance):
        return -0.5 * (jnp.log(2 * jnp.pi * variance) + (w - mean) ** 2 / variance)

    def log_ratio(key):
        def of(w, mu, v):
            return jnp.sum(log_normal(w, mu, jnp.exp(v)) - log_normal(w, p.mean, p.variance))

        return optax.tree.sum(jax.tree.map(of, weight_noise.sample(key, q), *q))

    nats = jax.vmap(log_ratio)(jax.random.split(KEY, 100_000))
    assert_allclose(weight_noise.complexity(q, p), nats.mean(), atol=4 * nats.std() / 100_000**0.5)
    nothing = Posterior(weights(), jax.tree.map(jnp.zeros_like, weights()))
    alike = Posterior(jax.tree.map(jnp.zeros_like, weights()), nothing.log_variance)
    assert_allclose(weight_noise.complexity(alike), 0, atol=1e-12)


def test_the_prior_is_the_best_and_the_derivatives_are_those_with_it_fixed(x64):
    q = some_q()
    p = weight_noise.best_prior(q)
    for name in Prior._fields:
        up, down = (weight_noise.complexity(q, p._replace(**{name: getattr(p, name) + d})) for d in (1e-4, -1e-4))
        assert_allclose(up, down, atol=1e-8)
        assert min(up, down) > weight_noise.complexity(q)
    grads = jax.grad(weight_noise.complexity)(q)
    s2 = jax.tree.map(jnp.exp, q.log_variance)
    assert_trees_close(grads.mu, jax.tree.map(lambda mu: (mu - p.mean) / p.variance, q.mu))
    assert_trees_close(grads.log_variance, jax.tree.map(lambda s2: s2 / 2 * (1 / p.variance - 1 / s2), s2))


def test_squared_derivatives_are_the_published_ones(x64):
    """d/dmu = g + share (mu - m) / S^2, d/ds^2 = 1/2 g^2 + share 1/2 (1 / S^2 - 1 / s^2), at the weights drawn."""
    q, share = some_q(), 0.01
    g = jax.grad(curved)(weight_noise.sample(KEY, q))
    cost = jax.grad(weight_noise.complexity)(q)
    grads = jax.grad(description(curved, share))(q, KEY)
    assert_trees_close(grads.mu, jax.tree.map(lambda g, c: g + share * c, g, cost.mu), rtol=1e-10)
    expected = jax.tree.map(lambda g, c, v: jnp.exp(v) * 0.5 * g**2 + share * c, g, cost.log_variance, q.log_variance)
    assert_trees_close(grads.log_variance, expected, rtol=1e-10)
    nats = description(curved, share)(q, KEY)
    assert_allclose(nats, curved(weight_noise.sample(KEY, q)) + share * weight_noise.complexity(q))


def test_reparameterised_derivatives_are_those_of_the_mean_loss(x64):
    """Against differences of the mean over the same draws."""
    keys = jax.random.split(KEY, 2000)

    @jax.jit
    def mean(q):
        noisy = description(curved, 0.01, 'reparameterised')
        return jnp.mean(jax.vmap(noisy, (None, 0))(q, keys))

    q = some_q()
    grads = jax.grad(mean)(q)
    for part, name, place in (('mu', 'W', (0, 1)), ('log_variance', 'W', (1, 2)), ('log_variance', 'b', (0,))):

        def moved(d, part=part, name=name, place=place):
            tree = getattr(q, part)
            return mean(q._replace(**{part: tree | {name: tree[name].at[place].add(d)}}))

        difference = (moved(1e-5) - moved(-1e-5)) / 2e-5
        assert_allclose(getattr(grads, part)[name][place], difference, rtol=1e-6)


def test_squared_derivatives_are_half_the_curvature_of_a_net_that_is_right(x64):
    """A softmax whose symbols come from itself: averaged over them, in the limit of little noise."""
    z = jnp.array([0.3, -1.0, 2.0, 0.1])
    p = jax.nn.softmax(z)
    q = weight_noise.posterior(z, 1e-4)

    def nats(w, symbol):
        return -jax.nn.log_softmax(w)[symbol]

    noisy = description(nats, 0.0)
    grads = jax.vmap(jax.grad(noisy), (None, None, 0))(q, KEY, jnp.arange(4))
    curvature = jnp.diag(jax.hessian(nats)(z, 0))
    assert_allclose(p @ grads.log_variance, 0.5e-8 * curvature, rtol=1e-3)


@pytest.mark.parametrize('variance', ['squared', 'reparameterised'])
def test_batches(variance, x64):
    """Squared, a draw for each sequence gives the sum of squares, one draw for all the square of the sum."""
    q = some_q()
    several = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(weights(seed) for seed in range(5, 9)))
    s2 = jax.tree.map(jnp.exp, q.log_variance)
    keys = jax.random.split(KEY, 4)
    noisy = description(linear, 0.0, variance)

    def separate(q):
        return jnp.sum(jax.vmap(noisy, (None, 0, 0))(q, keys, several))

    def shared(q):
        total = description(lambda w, a: jnp.sum(jax.vmap(linear, (None, 0))(w, a)), 0.0, variance)
        return total(q, KEY, several)

    each, one = jax.grad(separate)(q), jax.grad(shared)(q)
    total = jax.tree.map(lambda a: a.sum(0), several)
    assert_trees_close(each.mu, total)
    assert_trees_close(one.mu, total)
    if variance == 'squared':
        assert_trees_close(each.log_variance, jax.tree.map(lambda s2, a: s2 / 2 * (a**2).sum(0), s2, several))
        assert_trees_close(one.log_variance, jax.tree.map(lambda s2, a: s2 / 2 * a**2, s2, total))
    else:
        n = jax.tree.map(lambda w, mu, s2: (w - mu) / jnp.sqrt(s2), weight_noise.sample(KEY, q), q.mu, s2)
        assert_trees_close(one.log_variance, jax.tree.map(lambda s2, n, a: jnp.sqrt(s2) * n * a / 2, s2, n, total))


def test_another_variance_or_kind_is_refused():
    with pytest.raises(ValueError, match="not 'some'"):
        weight_noise.noise('some')
    with pytest.raises(ValueError, match='variance'):
        weight_noise.sample(KEY, some_q(), 'cubic')
