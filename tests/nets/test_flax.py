"""Our cells inside flax's nnx, and hessian_free inside its Optimizer."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from numpy.testing import assert_allclose, assert_array_equal

from hfrnn import gauss_newton, hessian_free
from hfrnn.nets import cells, flax
from tests.trees import assert_trees_close

V, H, B, T = 4, 6, 3, 7
CELLS = {
    'mrnn': cells.mrnn(V, H, 5),
    'lstm': cells.lstm(V, H),
    'stack, reverse': cells.stack(cells.lstm(V, H, reverse=True), cells.lstm(V, 3, H, reverse=True)),
}
each_cell = pytest.mark.parametrize('cell', CELLS.values(), ids=list(CELLS))
each_kind = pytest.mark.parametrize('symbols', [False, True], ids=['vectors', 'symbols'])


def inputs(symbols):
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.integers(V, size=(B, T)) if symbols else rng.normal(size=(B, T, V)))


def module_of(cell, symbols=False):
    """With a learned initial state that is not zero."""
    module = flax.RNNCell(cell, symbols=symbols, rngs=nnx.Rngs(0))
    nnx.update(module, jax.tree.map(lambda p: p + 0.1, nnx.state(module, nnx.Param)))
    return module


@each_cell
@each_kind
def test_in_nnx_rnn_it_is_our_unroll(cell, symbols, x64):
    """Outputs, last states, and derivatives by the parameters."""
    module, xs = module_of(cell, symbols), inputs(symbols)
    params = nnx.as_pure(module.params)

    def ours(params):
        return jax.vmap(lambda xs: cells.unroll(cell, params, xs))(xs)

    state, ys = nnx.RNN(module, return_carry=True)(xs)
    assert ys.shape == (B, T, cell.size)
    assert_trees_close((state, ys), ours(params), rtol=1e-10)
    major, _ = nnx.RNN(module, time_major=True, return_carry=True)(jnp.swapaxes(xs, 0, 1))
    assert_trees_close(major, state, rtol=1e-10)
    fast = jax.vmap(lambda xs: flax.unroll(module, xs))(xs)
    assert_trees_close(fast, ours(params), rtol=1e-10)

    grads = nnx.grad(lambda module: jnp.sum(nnx.RNN(module)(xs) ** 2))(module)
    expected = jax.grad(lambda params: jnp.sum(ours(params)[1] ** 2))(params)
    assert_trees_close(jax.tree.leaves(nnx.as_pure(grads)), jax.tree.leaves(expected), rtol=1e-9, atol=1e-12)


def test_a_carry_given_is_where_it_starts():
    cell = cells.lstm(V, H)
    module, xs = module_of(cell), inputs(False)
    rnn = nnx.RNN(module, return_carry=True)
    carry, first = rnn(xs[:, :3])
    _, second = rnn(xs[:, 3:], initial_carry=carry)
    assert_allclose(jnp.concatenate([first, second], 1), rnn(xs)[1], rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match='initial_carry'):
        module.initialize_carry((B, V), carry_init=nnx.initializers.zeros_init())


class Classifier(nnx.Module):
    """The last output of an MRNN, read by a linear layer of flax."""

    def __init__(self, rngs):
        self.rnn = nnx.RNN(flax.RNNCell(cells.mrnn(V, H, 5), rngs=rngs))
        self.readout = nnx.Linear(H, 2, rngs=rngs)

    def __call__(self, xs):
        return self.readout(self.rnn(xs)[:, -1])


def test_hessian_free_in_an_nnx_optimizer_makes_our_step():
    """Several steps, under nnx.jit, beside the same by hand."""
    xs, labels = inputs(False), jnp.array([0, 1, 1])
    model = Classifier(nnx.Rngs(1))
    rule = hessian_free(1.0, cg_iterations=15)
    optimizer = nnx.Optimizer(model, rule, wrt=nnx.Param)
    params, merge = flax.pure(model)
    state = rule.init(params)

    def loss(z):
        return optax.softmax_cross_entropy_with_integer_labels(z, labels).mean()

    def predict(params):
        return merge(params)(xs)

    def objective(params):
        return loss(predict(params))

    @nnx.jit
    def theirs(model, optimizer):
        params, merge = flax.pure(model)

        def predict(params):
            return merge(params)(xs)

        grads = nnx.grad(lambda model: loss(model(xs)))(model)
        curvature = gauss_newton(predict, loss, params)
        optimizer.update(model, grads, curvature=curvature, value_fn=lambda params: loss(predict(params)))

    @jax.jit
    def ours(params, state):
        curvature = gauss_newton(predict, loss, params)
        grads = jax.grad(objective)(params)
        updates, state = rule.update(grads, state, params, curvature=curvature, value_fn=objective)
        return optax.apply_updates(params, updates), state

    before = objective(params)
    for _ in range(3):
        theirs(model, optimizer)
        params, state = ours(params, state)
    assert_trees_close(jax.tree.leaves(flax.pure(model)[0]), jax.tree.leaves(params), rtol=1e-3, atol=1e-4)
    happened = nnx.as_pure(optimizer.opt_state)
    for name in ('rho', 'damping', 'reduction', 'step_size'):
        assert_allclose(optax.tree.get(happened, name), getattr(state, name), rtol=1e-2)
    assert_array_equal(optax.tree.get(happened, 'step'), 3)
    assert objective(params) < before - 0.1
