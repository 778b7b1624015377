"""The laws of every optimiser; a new one is one new row."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_array_equal

from hfrnn.nets import cells, model, outputs
from hfrnn.optim import first_order, hessian_free
from hfrnn.optim.curvature import gauss_newton
from hfrnn.train import optimizers
from hfrnn.train.devices import spread
from hfrnn.train.loss import Batch
from hfrnn.train.steps import HessianFreeBatches, first_order_step, hessian_free_step, state_of
from tests.trees import assert_trees_close

FIRST_ORDER = {name: optimizers.first_order(optimizers.Optimization(name)) for name in optimizers.FIRST_ORDER} | {
    'averaged': optax.chain(optax.adam(0.02), first_order.averaged(0.9)),
}
SECOND_ORDER = {
    'hessian_free': hessian_free.hessian_free(1.0, cg_iterations=12),
    'hessian_free by the model': hessian_free.hessian_free(1.0, cg_iterations=12, judge_by_model=True),
} | {name: preset(1.0, 12) for name, preset in hessian_free.PRESETS.items()}
OPTIMIZERS = FIRST_ORDER | SECOND_ORDER
each_optimizer = pytest.mark.parametrize('name', OPTIMIZERS)

RNG = np.random.default_rng(0)
XS, YS = RNG.normal(size=(40, 3)), RNG.normal(size=(40, 2))


def some_params():
    """Weights with a ``W_h``, for muon."""
    W_h, W_o = (jnp.asarray(np.random.default_rng(1).normal(size=shape)) for shape in ((6, 3), (2, 6)))
    return {'W_h': W_h, 'readout': [W_o, jnp.zeros(2)]}


def predict(params):
    W, b = params['readout']
    return jnp.tanh(jnp.asarray(XS, b.dtype) @ params['W_h'].T) @ W.T + b[None]


def loss(z):
    return 0.5 * jnp.sum((z - jnp.asarray(YS, z.dtype)) ** 2) / len(YS)


def objective(params):
    return loss(predict(params))


def make_step(optimizer, scale=1.0):
    """One step for all: what an optimiser has no use for it does not look at."""
    optimizer = optax.with_extra_args_support(optimizer)

    def step(params, state):
        grads = jax.tree.map(lambda g: scale * g, jax.grad(objective)(params))
        curvature = gauss_newton(predict, loss, params)
        updates, state = optimizer.update(grads, state, params, curvature=curvature, value_fn=objective)
        return optax.apply_updates(params, updates), state

    return step


@functools.cache
def jitted(name):
    return jax.jit(make_step(OPTIMIZERS[name]))


def run(step, params, state, n):
    for _ in range(n):
        params, state = step(params, state)
    return params, state


def start(name):
    params = some_params()
    return params, OPTIMIZERS[name].init(params)


@each_optimizer
def test_it_learns(name, x64):
    params, _ = run(jitted(name), *start(name), 30)
    assert objective(params) < objective(some_params())


@each_optimizer
def test_saved_in_the_middle_and_restored_it_is_the_same_run(name, tmp_path, x64):
    """Params and state are arrays alone, which a file keeps."""
    whole = run(jitted(name), *start(name), 6)
    half = run(jitted(name), *start(name), 3)
    leaves, structure = jax.tree.flatten(half)
    np.savez(tmp_path / 'half.npz', *leaves)
    with np.load(tmp_path / 'half.npz', allow_pickle=False) as saved:
        restored = structure.unflatten([jnp.asarray(saved[f'arr_{i}']) for i in range(len(leaves))])
    jax.tree.map(assert_array_equal, run(jitted(name), *restored, 3), whole)


@each_optimizer
def test_parameters_and_state_can_be_donated(name, x64):
    donating = jax.jit(make_step(OPTIMIZERS[name]), donate_argnums=(0, 1))
    assert_trees_close(run(donating, *start(name), 3), run(jitted(name), *start(name), 3), rtol=1e-9, atol=1e-12)


@each_optimizer
def test_what_follows_in_a_chain_acts_on_the_update(name, x64):
    optimizer = OPTIMIZERS[name]
    chain = optax.chain(optimizer, optax.scale(0.5))
    params, state = start(name)
    moved, alone = jitted(name)(params, state)
    halfway, state = jax.jit(make_step(chain))(params, chain.init(params))
    expected = jax.tree.map(lambda old, new: old + 0.5 * (new - old), params, moved)
    assert_trees_close(halfway, expected, rtol=1e-9, atol=1e-12)
    assert_trees_close(state[0], alone, rtol=1e-9, atol=1e-12)


@each_optimizer
def test_jit_changes_no_number(name, x64):
    plain = run(make_step(OPTIMIZERS[name]), *start(name), 2)
    assert_trees_close(plain, run(jitted(name), *start(name), 2), rtol=1e-7, atol=1e-10)


@each_optimizer
def test_structure_shapes_and_types_stay(name):
    before = start(name)
    after = jitted(name)(*before)
    assert jax.tree.structure(after) == jax.tree.structure(before)
    for of in (jnp.shape, jnp.result_type):
        assert jax.tree.map(of, after) == jax.tree.map(of, before)


@pytest.mark.parametrize('name', SECOND_ORDER)
@pytest.mark.parametrize('wrong', [jnp.nan, jnp.inf])
def test_gradients_that_are_not_finite_are_rejected(name, wrong):
    """By the optimiser itself, after a step that has left it a solution to start from; and it goes on."""
    params, state = jitted(name)(*start(name))
    same, new = jax.jit(make_step(OPTIMIZERS[name], wrong))(params, state)
    jax.tree.map(assert_array_equal, same, params)
    assert new.step_size == 0 == new.reduction
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(new.start))
    params, state = run(jitted(name), same, new, 3)
    assert objective(params) < objective(same)


V = 4
NET = model.sequence_model(cells.lstm(V, 5), outputs.categorical(V), cells.gaussian)


@each_optimizer
def test_its_training_step_keeps_finite_params(name):
    """Where a batch makes nats, gradients and all that is not finite: params stay, and ``finite`` is False."""
    optimizer = OPTIMIZERS[name]
    symbols = np.random.default_rng(0).integers(0, V, (3, 7))
    good = Batch(symbols[:, :-1], symbols[:, 1:], np.ones((3, 6), np.float32))
    bad = good._replace(weights=np.full((3, 6), np.nan, np.float32))
    step = first_order_step(NET, optimizer, 3)
    if name in SECOND_ORDER:
        step = hessian_free_step(NET, optimizer, 3)
        good, bad = (HessianFreeBatches(batch, batch) for batch in (good, bad))
    step = spread(step, 1)
    first, metrics = step(state_of(optimizer, NET.init(jax.random.key(0))), good)
    assert metrics['finite']
    second, metrics = step(first, bad)
    assert not metrics['finite']
    jax.tree.map(assert_array_equal, second.params, first.params)
    third, metrics = step(second, good)
    assert metrics['finite'] and all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(third.params))
