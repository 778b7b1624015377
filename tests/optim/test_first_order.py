import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from hfrnn.handwriting import models
from hfrnn.optim import first_order


def test_graves_rmsprop_is_as_printed(x64):
    """Graves 2013 eq. 38-41, by hand."""
    rng = np.random.default_rng(0)
    w, rule = jnp.asarray(rng.normal(size=5)), first_order.graves_rmsprop()
    state, by_hand, n, m, D = rule.init(w), np.asarray(w), 0.0, 0.0, 0.0
    as_optax = optax.rmsprop(1e-4, decay=0.95, eps=1e-4, centered=True, momentum=0.9).init(w)
    assert jax.tree.structure(state) == jax.tree.structure(as_optax)  # so that checkpoints of both can be read
    for scale in (1.0, 30.0, 0.01, 5.0):
        g = scale * rng.normal(size=5)
        updates, state = rule.update(jnp.asarray(g), state, w)
        w = optax.apply_updates(w, updates)
        n, m = 0.95 * n + 0.05 * g**2, 0.95 * m + 0.05 * g
        D = 0.9 * D - 1e-4 * g / np.sqrt(n - m**2 + 1e-4)
        by_hand = by_hand + D
        assert_allclose(w, by_hand, rtol=1e-12)


def test_graves_rmsprop_stays_finite_where_gradients_hardly_change():
    """In float32, n falls below m^2 by rounding."""
    rule, g = first_order.graves_rmsprop(), jnp.asarray(np.random.default_rng(0).uniform(10, 1e4, 500), jnp.float32)

    def step(state, i):
        updates, state = rule.update(g * (1 + 1e-4 * jnp.sin(i)), state)
        return state, jnp.isfinite(updates).all()

    _, finite = jax.lax.scan(step, rule.init(g), jnp.arange(400.0))
    assert finite.all()


def test_muon_is_for_weights_that_have_recurrent_ones():
    with pytest.raises(ValueError, match='none of these weights is a W_h'):
        first_order.muon().init({'W_hh': jnp.ones((3, 3))})


def test_muon_levels_the_singular_values_of_recurrent_weights_and_is_nadam_elsewhere(x64):
    """A first step: -rate 0.2 sqrt(longest side) U S V where the gradient is U s V, S in the band of the iteration."""
    params = models.make('prediction', models.Net(layers=2, hidden=6, mixtures=3)).init(jax.random.key(0))
    rng, rate = np.random.default_rng(0), 0.01
    grads = jax.tree.map(lambda w: jnp.asarray(rng.normal(size=w.shape)), params)
    muon, nadam = first_order.muon(rate), optax.nadam(rate)
    updates, _ = muon.update(grads, muon.init(params), params)
    expected, _ = nadam.update(grads, nadam.init(params), params)
    for layer, beside, g in zip(updates['cell'], expected['cell'], grads['cell'], strict=True):
        beside.pop('W_h')
        U, _, V = np.linalg.svd(g['W_h'], full_matrices=False)
        S = -U.T @ layer.pop('W_h') @ V.T / (rate * 0.2 * np.sqrt(max(g['W_h'].shape)))
        assert_allclose(S, np.diag(np.diag(S)), atol=1e-9)
        assert np.all((np.diag(S) > 0.6) & (np.diag(S) < 1.3))
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-9), updates, expected)


def test_an_average_forgets_its_beginning():
    optimizer = optax.chain(optax.sgd(1.0), first_order.averaged(0.9))
    params = {'w': jnp.array([10.0])}
    state = optimizer.init(params)
    expected = 10.0
    for t in range(1, 30):
        updates, state = optimizer.update({'w': jnp.array([0.5])}, state, params)
        assert_array_equal(updates['w'], [-0.5])
        params = optax.apply_updates(params, updates)
        d = min(0.9, (1 + t) / (10 + t))
        expected = d * expected + (1 - d) * (10 - 0.5 * t)
    assert_allclose(optax.tree.get(state, 'average')['w'], [expected], rtol=1e-6)
