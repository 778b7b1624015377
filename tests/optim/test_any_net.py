"""hessian_free for anybody's model: any pytree, any module, weighted examples; in scan and jit; saved and restored."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from numpy.testing import assert_allclose, assert_array_equal

from hfrnn import gauss_newton, hessian_free
from tests.trees import saved_and_restored


def rings(n=200, seed=0):
    """Points of the plane in 3 rings, which no line can part: (xs (n, 2), labels (n,))."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=n)
    radius, angle = labels + rng.uniform(0.1, 0.9, n), rng.uniform(0, 2 * np.pi, n)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).astype(np.float32), labels


def mean_cross_entropy(z, labels, weights):
    nats = optax.softmax_cross_entropy_with_integer_labels(z, labels)
    return jnp.sum(nats * weights) / jnp.sum(weights)


def train_step(predict, optimizer):
    """``(params, state, (xs, labels, weights)) -> (params, state)``: all that a user of the library writes."""

    def step(params, state, batch):
        xs, labels, weights = batch

        def loss(z):
            return mean_cross_entropy(z, labels, weights)

        def objective(params):
            return loss(predict(params, xs))

        curvature = gauss_newton(lambda params: predict(params, xs), loss, params)
        grads = jax.grad(objective)(params)
        updates, state = optimizer.update(grads, state, params, curvature=curvature, value_fn=objective)
        return optax.apply_updates(params, updates), state

    return jax.jit(step)


def feed_forward():
    """A net whose parameters are an odd tree: a scalar, an empty array, empty containers, a tuple."""
    k1, k2 = jax.random.split(jax.random.key(1))
    params = {
        'layers': ({'W': jax.random.normal(k1, (2, 16))}, {'W': jax.random.normal(k2, (16, 3)) / 4}),
        'gain': jnp.ones(()),
        'nothing': jnp.zeros((0, 3)),
        'none': None,
        'no_layers': [],
    }

    def predict(p, xs):
        first, second = p['layers']
        return p['gain'] * jnp.tanh(xs @ first['W']) ** 2 @ second['W'] + jnp.sum(p['nothing'])

    return params, predict


OPTIMIZER = hessian_free(1.0, cg_iterations=30)
PARAMS, PREDICT = feed_forward()
STEP = train_step(PREDICT, OPTIMIZER)


def batch(n=200, seed=0):
    xs, labels = rings(n, seed)
    return xs, labels, np.ones(n, np.float32)


def run(steps, params=PARAMS, state=None, first=0):
    state = OPTIMIZER.init(params) if state is None else state
    for i in range(first, steps):
        params, state = STEP(params, state, batch(seed=i))
    return params, state


def test_a_tree_with_scalars_and_empty_leaves():
    params, state = run(12)
    assert jax.tree.structure(params) == jax.tree.structure(PARAMS)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, PARAMS)
    assert params['gain'] != 1
    xs, labels, _ = batch(1000, 99)
    assert (PREDICT(params, xs).argmax(1) == labels).mean() > 0.9
    assert state.step == 12
    assert state.cg_iterations > 0
    assert 0 < state.damping < 1


def test_a_flax_module():
    class Classifier(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(2, 16, rngs=rngs)
            self.second = nnx.Linear(16, 3, rngs=rngs)

        def __call__(self, xs):
            return self.second(jnp.tanh(self.first(xs)))

    graph, params = nnx.split(Classifier(nnx.Rngs(0)))
    step = train_step(lambda params, xs: nnx.merge(graph, params)(xs), OPTIMIZER)
    state = OPTIMIZER.init(params)
    for i in range(15):
        params, state = step(params, state, batch(seed=i))
    xs, labels, _ = batch(1000, 99)
    assert (nnx.merge(graph, params)(xs).argmax(1) == labels).mean() > 0.9
    assert jax.tree.structure(state.start) == jax.tree.structure(params)


def test_weights_of_examples_are_repeated_examples(x64):
    """Gradient, curvature, model and search alike: the same step, the same rho, the same lambda."""
    xs, labels, _ = batch(60)
    times = np.tile([0, 2, 1], 20)
    params = jax.tree.map(lambda leaf: leaf.astype(float), PARAMS)
    weighted = (xs.astype(float), labels, times.astype(float))
    repeated = (np.repeat(xs, times, 0).astype(float), np.repeat(labels, times), np.ones(times.sum()))

    @jax.jit
    def product(xs, labels, weights):
        Gv = gauss_newton(lambda p: PREDICT(p, xs), lambda z: mean_cross_entropy(z, labels, weights), params)
        return Gv(jax.tree.map(jnp.ones_like, params), 0.1)

    products = product(*weighted), product(*repeated)
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-9, atol=1e-12), *products)

    ends = [STEP(params, OPTIMIZER.init(params), data) for data in (weighted, repeated)]
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-6, atol=1e-9), *ends)


def test_saved_in_the_middle_and_restored_it_is_the_same_run(tmp_path):
    whole = run(6)
    half = run(3)
    params, state = saved_and_restored(half, 3, tmp_path / 'run')
    jax.tree.map(assert_array_equal, whole, run(6, params, state, first=3))


def test_a_scan_of_steps_inside_jit_is_the_loop():
    batches = jax.tree.map(lambda *leaves: np.stack(leaves), *[batch(seed=i) for i in range(4)])

    @jax.jit
    def scanned(params, state):
        def body(carry, data):
            params, state = STEP(*carry, data)
            return (params, state), state.rho

        return jax.lax.scan(body, (params, state), batches)

    (params, state), rhos = scanned(PARAMS, OPTIMIZER.init(PARAMS))
    looped, last = run(4)
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-3, atol=1e-4), params, looped)
    assert rhos.shape == (4,)
    assert_allclose(rhos[-1], last.rho, rtol=1e-2)
    assert state.step == 4


@pytest.mark.four_devices
def test_pmap_with_means_over_the_devices_is_the_whole_batch():
    """What the page asks of gradient, curvature and value: each a mean over the devices."""

    def step(params, state, data):
        xs, labels, weights = data

        def loss(z):
            return mean_cross_entropy(z, labels, weights)

        def objective(params):
            return jax.lax.pmean(loss(PREDICT(params, xs)), 'data')

        local = gauss_newton(lambda p: PREDICT(p, xs), loss, params)
        grads = jax.lax.pmean(jax.grad(lambda p: loss(PREDICT(p, xs)))(params), 'data')
        updates, state = OPTIMIZER.update(
            grads,
            state,
            params,
            curvature=lambda v, lam: jax.lax.pmean(local(v, lam), 'data'),
            value_fn=objective,
        )
        return optax.apply_updates(params, updates), state

    spread = jax.pmap(step, 'data', in_axes=(None, None, 0), out_axes=None, devices=jax.devices()[:2])
    state = OPTIMIZER.init(PARAMS)
    two = spread(PARAMS, state, jax.tree.map(lambda leaf: leaf.reshape(2, -1, *leaf.shape[1:]), batch()))
    one = STEP(PARAMS, state, batch())
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-3, atol=1e-4), two, one)


def test_in_a_chain_what_stands_behind_acts_on_the_step():
    """And what happened is found by name, wherever the state lies."""
    chain = optax.chain(OPTIMIZER, optax.add_decayed_weights(-0.1), optax.scale(0.5))
    params = jax.tree.map(jnp.ones_like, PARAMS)
    _, alone = STEP(params, OPTIMIZER.init(params), batch())
    moved, state = train_step(PREDICT, chain)(params, chain.init(params), batch())
    plain, _ = STEP(params, OPTIMIZER.init(params), batch())
    half = jax.tree.map(lambda new, old: old + 0.5 * (new - old) - 0.05 * old, plain, params)
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-4, atol=1e-5), moved, half)
    assert_allclose(optax.tree.get(state, 'rho'), alone.rho, rtol=1e-4)
    assert optax.tree.get(state, 'cg_iterations') == alone.cg_iterations


def test_the_function_is_not_the_module():
    """hfrnn.hessian_free is the optimiser, whatever else is imported."""
    import hfrnn
    import hfrnn.optim.hessian_free

    assert hfrnn.hessian_free is hfrnn.optim.hessian_free.hessian_free is hessian_free
    assert set(hfrnn.__all__) <= set(vars(hfrnn))
