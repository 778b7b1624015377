"""Laws of first-order steps on sequences of many lengths: the scale of the gradient, and the draws of the noise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose

from hfrnn.nets import cells, model, outputs
from hfrnn.train.devices import AXIS
from hfrnn.train.loss import Batch, loss_and_weight
from hfrnn.train.steps import TrainState, first_order_step, state_of

NET = model.sequence_model(cells.lstm(3, 4, clip=10.0, reverse=True), outputs.pen(2), cells.gaussian)


def lines(seed=0, lengths=(6, 3, 5, 0)):
    """Lines of these lengths in one batch; the last row of it is not filled."""
    rng = np.random.default_rng(seed)
    xs, targets = rng.normal(size=(2, len(lengths), max(lengths), 3))
    xs[..., 2], targets[..., 2] = xs[..., 2] > 1, targets[..., 2] > 1
    weights = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(float)
    return Batch(xs * weights[..., None], targets * weights[..., None], weights)


def one_by_one(batch):
    for x, target, weight in zip(*batch, strict=True):
        n = int(weight.sum())
        if n:
            yield Batch(x[None, :n], target[None, :n], weight[None, :n])


def params_of(net=NET):
    return jax.tree.map(lambda p: p.astype(float), net.init(jax.random.key(0)))


def alone(step):
    """A step as on one device."""
    return lambda state, batch: jax.tree.map(
        lambda leaf: leaf[0],
        jax.jit(jax.vmap(step, (None, 0), axis_name=AXIS))(state, jax.tree.map(lambda b: b[None], batch)),
    )


@functools.cache
def grads_one_by_one():
    return [
        jax.grad(lambda p, line=line: loss_and_weight(NET, p, line)[0])(params_of()) for line in one_by_one(lines())
    ]


@pytest.mark.slow
@pytest.mark.parametrize('per, chunk', [('target', 3), ('sequence', 1), ('sequence', 4)])
def test_a_gradient_is_per_target_or_per_line(per, chunk, x64):
    optimizer, batch = optax.sgd(1.0), lines()
    params = params_of()
    state = state_of(optimizer, params)
    new, metrics = alone(first_order_step(NET, optimizer, chunk, per=per))(state, batch)
    scale = 14 if per == 'target' else 3
    mean = jax.tree.map(lambda *g: sum(g) / scale, *grads_one_by_one())
    jax.tree.map(lambda a, b, g: assert_allclose(a - b, g, atol=1e-12), params, new.params, mean)
    assert (metrics['targets'], metrics['sequences']) == (14, 3)
    assert_allclose(metrics['gradient'], optax.tree.norm(mean))
    with pytest.raises(ValueError, match='letter'):
        first_order_step(NET, optimizer, chunk, per='letter')


def test_noise_is_another_for_each_step_device_and_chunk_and_the_same_again(x64):
    """With a loss that is nothing but its key's number, sgd shows what was drawn."""
    optimizer, batch = optax.sgd(1.0), lines(lengths=(4, 4, 4, 4))

    def noisy(params, key, part):
        return params * jax.random.uniform(key), (jnp.sum(part.weights), jnp.sum(part.weights))

    def drawn(step, chunk, seed, devices=1):
        state = TrainState(jnp.zeros(()), optimizer.init(jnp.zeros(())), jnp.int32(step))
        take = first_order_step(NET, optimizer, chunk, per='sequence', noisy=noisy, seed=seed)
        parts = jax.tree.map(lambda b: b.reshape(devices, -1, *b.shape[1:]), batch)
        return -4 * float(jax.vmap(take, (None, 0), axis_name=AXIS)(state, parts)[0].params[0])

    seen = [drawn(0, 4, 0), drawn(1, 4, 0), drawn(0, 4, 1), drawn(0, 2, 0), drawn(0, 1, 0), drawn(0, 2, 0, 2)]
    assert len(set(seen)) == len(seen)
    assert drawn(0, 2, 0) == seen[3]
    assert seen[3] != 2 * seen[0]  # two chunks drew two numbers
    assert seen[5] != 2 * seen[0]  # and so did two devices
