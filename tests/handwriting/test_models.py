"""Laws of the nets for handwriting: as large as the paper's, clipped line by line, widened without a change."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from hfrnn.handwriting import models
from hfrnn.nets import attention, model, outputs
from hfrnn.optim import weight_noise
from hfrnn.train.loss import Batch, loss_and_weight, predict_batch, sum_nll
from hfrnn.train.steps import first_order_step, noisy_loss, state_of
from tests.train.test_first_order_step import alone, lines, params_of


def net(C, dropout=0.0, **sizes):
    """A net of prediction, for C = 0, or of synthesis with C symbols; its derivatives are not clipped."""
    sizes = {'layers': 2, 'hidden': 4, 'mixtures': 2, 'gaussians': 3, 'clip': 0.0, 'output_clip': 0.0} | sizes
    return models.make('synthesis' if C else 'prediction', models.Net(**sizes), C, dropout=dropout)


@pytest.mark.parametrize(
    'task, net, weights',
    [
        ('prediction', models.Net(layers=1, hidden=900), 3_366_121),
        ('prediction', models.Net(), 3_368_121),
        ('synthesis', models.Net(), 3_653_751),
    ],
    ids=['1x900', '3x400', 'synthesis'],
)
def test_nets_are_as_large_as_the_papers(task, net, weights):
    """G13 sec. 4.2 and 5.2: about 3.4 and 3.7 million, counted here with peepholes and every skip connection."""
    assert model.size(jax.eval_shape(models.make(task, net, 57).init, jax.random.key(0))) == weights


@pytest.mark.slow
@pytest.mark.parametrize('C, layers, hidden', [(0, 3, 5), (5, 3, 5), (5, 2, 5), (5, 3, 3)])
def test_a_larger_net_begins_where_a_smaller_one_was(C, layers, hidden, x64):
    """It predicts the same, and all of it learns: cells that nothing reads yet are read after a step."""
    rng = np.random.default_rng(0)
    small, large = net(C, hidden=3), net(C, layers=layers, hidden=hidden)
    xs, targets, weights = rng.normal(size=(2, 9, 3)), rng.normal(size=(2, 9, 3)) > 0, np.ones((2, 9))
    if C:
        xs = model.Conditioned(xs, attention.Text(rng.integers(0, C, (2, 4)), np.array([4, 3])))
    batch, params = Batch(xs, targets, weights), params_of(small)
    widened = models.widen(params, params_of(large))
    assert jax.tree.map(np.shape, widened) == jax.tree.map(np.shape, params_of(large))
    loss, grads = jax.jit(jax.value_and_grad(lambda p: loss_and_weight(large, p, batch)[0]))(widened)
    assert_allclose(loss, loss_and_weight(small, params, batch)[0])
    stepped = jax.tree.map(lambda p, g: p - 1e-3 * g, widened, grads)
    grads = jax.jit(jax.grad(lambda p: loss_and_weight(large, p, batch)[0]))(stepped)
    assert all(np.all(g) for g in jax.tree.leaves(grads))


@pytest.mark.slow
@pytest.mark.parametrize('C', [0, 5], ids=['prediction', 'synthesis'])
def test_derivatives_are_clipped_line_by_line(C, x64):
    """The derivatives at the outputs are those of a line's nats, before the mean over lines."""
    limit, rng = 0.01, np.random.default_rng(0)
    xs, targets, weights = rng.normal(size=(3, 7, 3)), rng.normal(size=(3, 7, 3)) > 0, np.ones((3, 7))
    if C:
        xs = model.Conditioned(xs, attention.Text(rng.integers(0, C, (3, 4)), np.array([4, 3, 4])))
    batch, params = Batch(xs, targets, weights), params_of(net(C))

    def gradients(net):
        step = first_order_step(net, optax.sgd(1.0), 2, per='sequence')
        state = state_of(optax.sgd(1.0), params)
        return jax.tree.map(jnp.subtract, params, alone(step)(state, batch)[0].params)

    z = predict_batch(net(C), params, batch).z
    dz = jax.grad(lambda z: sum_nll(net(C), z, batch))(z)
    clipped = gradients(net(C, output_clip=limit))['readout']['b_o']
    assert_allclose(clipped, jnp.clip(dz, -limit, limit).sum((0, 1)) / 3, rtol=1e-9)
    assert_allclose(gradients(net(C))['readout']['b_o'], dz.sum((0, 1)) / 3, rtol=1e-9)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def clip_back(a, limit):
    return a


clip_back.defvjp(lambda a, _: (a, None), lambda limit, _, d: (jnp.clip(d, -limit, limit),))


def nats_by_hand(params, xs, targets, characters, limit, output_limit):
    """Graves 2013 eq. 7-11, 17-26 and, where there are characters, 46-51, point by point."""
    p, (K, C) = params['cell'], (3, 0 if characters is None else 5)
    layers = p if characters is None else p['layers']
    h, c, w, kappa, total = [jnp.zeros(4)] * 2, [jnp.zeros(4)] * 2, jnp.zeros(C), jnp.zeros(K), 0.0
    for x, target in zip(xs, targets, strict=True):
        for n, q in enumerate(layers):
            read = jnp.concatenate([*h[:n], w, h[n]])
            a_i, a_f, a_o, a_c = jnp.split(q['W_x'] @ x + q['W_h'] @ read + q['b'], 4)
            w_ci, w_cf, w_co = q['w_c']
            i, f = (jax.nn.sigmoid(clip_back(a + v * c[n], limit)) for a, v in ((a_i, w_ci), (a_f, w_cf)))
            c[n] = f * c[n] + i * jnp.tanh(clip_back(a_c, limit))
            h[n] = jax.nn.sigmoid(clip_back(a_o + w_co * c[n], limit)) * jnp.tanh(c[n])
            if C and not n:
                alpha, beta, change = jnp.split(jnp.exp(p['W_hp'] @ h[0] + p['b_p']), 3)
                kappa = kappa + change
                u = jnp.arange(1, 1 + len(characters))
                near = jnp.exp(-beta[:, None] * (kappa[:, None] - u[None]) ** 2)
                w = alpha @ near @ jnp.eye(C)[characters]
        z = params['readout']['W_oh'] @ jnp.concatenate(h) + params['readout']['b_o']
        total += outputs.pen(2).nll(clip_back(z, output_limit), target)
    return total


@pytest.mark.parametrize('limits', [(None, None), (0.01, 0.03)], ids=['none', 'both'])
@pytest.mark.parametrize('C', [0, 5], ids=['prediction', 'synthesis'])
def test_derivatives_are_clipped_at_the_sums_and_the_outputs_and_nowhere_else(C, limits, x64):
    rng = np.random.default_rng(1)
    clipped = net(C, clip=limits[0] or 0.0, output_clip=limits[1] or 0.0)
    params = jax.tree.map(lambda w: w + 0.3 * rng.normal(size=w.shape), params_of(clipped))
    xs, targets, characters = rng.normal(size=(4, 3)), rng.normal(size=(4, 3)) > 0, rng.integers(0, C, 4) if C else None
    xs_and_text = model.Conditioned(xs, attention.Text(characters, np.array(4))) if C else xs
    line = jax.tree.map(lambda leaf: leaf[None], Batch(xs_and_text, targets, np.ones(4)))
    grads = jax.jit(jax.grad(lambda p: loss_and_weight(clipped, p, line)[0]))(params)
    bounds = [limit or np.inf for limit in limits]
    by_hand = jax.jit(jax.grad(lambda p: nats_by_hand(p, xs, targets, characters, *bounds)))(params)
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-9, atol=1e-12), grads, by_hand)


def test_dropout_is_drawn_for_each_line_and_by_a_key_alone(x64):
    share = 0.5
    dropped, bare = net(0, dropout=share), net(0)
    params, line = params_of(dropped), lines(lengths=(6,))
    batch = jax.tree.map(lambda leaf: jnp.concatenate([leaf] * 3), line)
    assert_array_equal(predict_batch(dropped, params, batch).z, predict_batch(bare, params, batch).z)
    noise = weight_noise.noise('none')
    drawn = [noisy_loss(dropped, noise, 3)(params, jax.random.key(seed), batch)[0] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    z = predict_batch(dropped, params, batch, jax.random.key(0)).z
    assert np.ptp(z[:, -1], axis=0).min() > 0
    assert not np.isclose(drawn[0], loss_and_weight(bare, params, batch)[0])
