"""Implicit products against dense matrices, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from numpy.testing import assert_allclose

from hfrnn.nets import model, outputs
from hfrnn.optim.curvature import fisher_loss, gauss_newton, tanh_distance
from tests.laws.test_cells import CELLS, T, V, params_of, symbols

MU = 0.3
SOME = {name: row.cell for name, row in CELLS.items() if row.modes == ('fwd', 'rev') and row.symbols}


def problem(cell):
    """A net on two sequences, with its weights as one vector: (predict, loss, theta)."""
    net = model.sequence_model(cell, outputs.categorical(V))
    params = net.init(jax.random.key(1))
    params['cell'] = params_of(cell)
    theta, unravel = ravel_pytree(params)
    xs, targets = jnp.stack([symbols(2), symbols(3)]), jnp.stack([symbols(4), symbols(5)])

    def predict(theta):
        return jax.vmap(net.predict, (None, 0))(unravel(theta), xs)

    def loss(prediction):
        return jax.vmap(jax.vmap(net.output.nll))(prediction.z, targets).sum()

    return predict, loss, theta


def dense(function):
    """The matrix of a linear function of the weights, given the number of them."""
    return lambda n: jax.vmap(function, out_axes=1)(jnp.eye(n))


@pytest.mark.parametrize('cell, mu', [('rnn', 0.0), *((name, MU) for name in SOME)])
def test_product_is_the_dense_matrix(cell, mu, x64):
    """Which is symmetric, and no eigenvalue is below lambda."""
    predict, loss, theta = problem(SOME[cell])
    distance = (lambda moved, here: mu * tanh_distance(moved.h, here.h)) if mu else None
    product = gauss_newton(predict, loss, theta, distance)
    lam = 0.7

    J = jax.jacobian(lambda theta: predict(theta).z)(theta).reshape(2 * T * V, -1)
    p = jax.nn.softmax(predict(theta).z).reshape(-1, V)
    H = jax.scipy.linalg.block_diag(*(jnp.diag(q) - jnp.outer(q, q) for q in p))
    G = J.T @ H @ J
    # Structural damping as it is published, in the units' total inputs x: J_x' diag(1 - h^2) J_x.
    J_x = jax.jacobian(lambda theta: jnp.arctanh(predict(theta).h))(theta).reshape(-1, len(theta))
    h = predict(theta).h.ravel()
    G_S = J_x.T @ ((1 - h**2)[:, None] * J_x)

    B = dense(lambda v: product(v, lam))(len(theta))
    assert_allclose(B, G + lam * mu * G_S + lam * jnp.eye(len(theta)), atol=1e-9)
    assert_allclose(B, B.T, atol=1e-10)
    assert np.linalg.eigvalsh(B).min() > lam - 1e-9
    undamped = dense(lambda v: product(v, 0.0))(len(theta))
    assert_allclose(undamped, G, atol=1e-9)
    assert np.linalg.eigvalsh(undamped).min() > -1e-9


def test_at_the_optimum_of_a_linear_model_it_is_the_hessian(x64):
    rng = np.random.default_rng(0)
    A, t = rng.normal(size=(8, 3)), rng.normal(size=8)

    def predict(theta):
        return jnp.asarray(A) @ theta

    def loss(z):
        return 0.5 * jnp.sum((z - t) ** 2)

    theta = jnp.asarray(rng.normal(size=3))
    product = gauss_newton(predict, loss, theta)
    assert_allclose(dense(lambda v: product(v, 0.0))(3), jax.hessian(lambda th: loss(predict(th)))(theta), rtol=1e-12)


def test_saturated_units_add_nothing():
    h = jnp.array([1.0, -1.0, 0.5], jnp.float32)
    moved = jnp.array([0.9, -0.9, 0.6], jnp.float32)
    assert_allclose(tanh_distance(moved, h), 0.5 * 0.1**2 / 0.75, rtol=1e-5)
    assert jnp.isfinite(jax.grad(tanh_distance)(moved, h)).all()


def test_distance_has_its_minimum_here(x64):
    h = jnp.tanh(jnp.asarray(np.random.default_rng(0).normal(size=6)))
    assert tanh_distance(h, h) == 0
    assert (jax.grad(tanh_distance)(h, h) == 0).all()


@pytest.mark.slow
def test_fisher_of_a_matching_output_is_its_hessian(x64):
    """Each outcome as often as the model says it comes: the mean over samples is the expectation, exactly."""
    z = jnp.log(jnp.asarray([[[2.0, 1.0, 1.0], [1.0, 1.0, 2.0]]]))
    samples = jnp.asarray([[[0, 0]], [[0, 1]], [[1, 2]], [[2, 2]]])
    weights = jnp.asarray([[1.0, 3.0]])
    nll = outputs.categorical(3).nll

    def loss(z):
        return jnp.sum(weights * jax.vmap(jax.vmap(nll))(z, samples[0]))

    assert_allclose(jax.hessian(fisher_loss(nll, z, samples, weights))(z), jax.hessian(loss)(z), atol=1e-12)
    bits = jnp.asarray([[[0.0]], [[1.0]]])
    even = jax.hessian(fisher_loss(outputs.bernoulli(1).nll, jnp.zeros((1, 1)), bits))(jnp.zeros((1, 1)))
    assert_allclose(even.squeeze(), 0.25)


@pytest.mark.slow
def test_fisher_of_a_pen_is_its_mean_hessian_and_positive(x64):
    """E grad grad' = E hessian over what the model draws, though single Hessians are not positive."""
    pen, S = outputs.pen(2), 100_000
    z = jax.random.normal(jax.random.key(0), (pen.size,))
    samples = jax.vmap(pen.sample, (0, None))(jax.random.split(jax.random.key(1), S), z)
    F = jax.hessian(fisher_loss(pen.nll, z[None], samples[:, None]))(z[None])[0, :, 0]
    hessians = jax.vmap(jax.hessian(pen.nll), (None, 0))(z, samples)
    assert_allclose(F, hessians.mean(0), atol=0.02 * jnp.abs(F).max())
    assert jnp.linalg.eigvalsh(F).min() > -1e-9
    assert jnp.linalg.eigvalsh(hessians[:100]).min() < -0.1
