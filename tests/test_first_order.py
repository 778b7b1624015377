import jax.numpy as jnp
import numpy as np
import optax
from numpy.testing import assert_allclose, assert_array_equal

from hfrnn import first_order


def test_graves_rmsprop_is_as_printed(x64):
    """Graves 2013 eq. 38-41, by hand."""
    rng = np.random.default_rng(0)
    w, rule = jnp.asarray(rng.normal(size=5)), first_order.graves_rmsprop()
    state, by_hand, n, m, D = rule.init(w), np.asarray(w), 0.0, 0.0, 0.0
    for scale in (1.0, 30.0, 0.01, 5.0):
        g = scale * rng.normal(size=5)
        updates, state = rule.update(jnp.asarray(g), state, w)
        w = optax.apply_updates(w, updates)
        n, m = 0.95 * n + 0.05 * g**2, 0.95 * m + 0.05 * g
        D = 0.9 * D - 1e-4 * g / np.sqrt(n - m**2 + 1e-4)
        by_hand = by_hand + D
        assert_allclose(w, by_hand, rtol=1e-12)


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
