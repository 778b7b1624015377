"""Streams: nothing lost, nothing twice; carried state; noise in the stream step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from hfrnn.errors import DataError
from hfrnn.nets import cells, model, outputs
from hfrnn.optim import weight_noise
from hfrnn.text.batches import check_streams, steps_per_epoch, stream_batch
from hfrnn.train.devices import spread
from hfrnn.train.loss import Batch, loss_and_weight
from hfrnn.train.truncated_bptt import CarriedBatch, init_carried_state, truncated_bptt_step
from tests.trees import assert_trees_close

V = 5
LSTM = functools.partial(cells.lstm, V, clip=1.0, reverse=True)
NET = model.sequence_model(LSTM(4), outputs.categorical(V), cells.gaussian)
DEEP = model.sequence_model(cells.stack(LSTM(4), LSTM(3, 4)), outputs.categorical(V), cells.gaussian)
TEXT = np.random.default_rng(0).integers(0, V, 103).astype(np.uint8)
KEY = jax.random.key(7)


@functools.partial(jax.jit, static_argnums=0)
def weights(net=NET):
    return jax.tree.map(lambda w: 4 * w, net.init(jax.random.key(0)))


@jax.jit
def sequence(w, state, batch):
    """(nats, state behind it) of one sequence, and the derivatives of the nats."""

    def nats(w):
        after, prediction = NET.run(w, state, batch.xs)
        return jnp.sum(jax.vmap(NET.output.nll)(prediction.z, batch.targets) * batch.weights), after

    return jax.value_and_grad(nats, has_aux=True)(w)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 9), st.integers(1, 11), st.integers(1, 80), st.integers(0, 3))
def test_an_epoch_predicts_every_symbol_once(B, T, more, epoch):
    n = B * T + more
    symbols, S = np.arange(n), steps_per_epoch(n, B, T)
    seen = []
    before = None
    for i in range(epoch * S, (epoch + 1) * S):
        (xs, targets, weight), reset = stream_batch(symbols, B, T, i, -1)
        assert_array_equal(xs[weight > 0] + 1, targets[weight > 0])  # -1, null, before the first
        assert (reset == (i % S == 0)).all()
        if before is not None:
            whole = weight[:, 0] > 0  # a stream goes on where it was
            assert_array_equal(xs[whole, 0], before[whole])
        before = targets[:, -1]
        seen.append(targets[weight > 0])
    assert_array_equal(np.sort(np.concatenate(seen)), symbols)


def test_the_state_starts_anew_where_it_is_told_to():
    resets = [bool(stream_batch(TEXT, 2, 5, i, V, reset_every=4).reset[0]) for i in range(14)]
    assert steps_per_epoch(103, 2, 5) == 11
    assert [i for i, reset in enumerate(resets) if reset] == [0, 4, 8, 11]


def test_too_short_a_text_is_named():
    check_streams(40, 4, 10)
    with pytest.raises(DataError, match='39 training symbols are too few for 4 streams'):
        check_streams(39, 4, 10)


@pytest.mark.parametrize('net', [NET, DEEP])
def test_two_sequences_with_carried_state_are_one(net, x64):
    w, xs, run = weights(net), np.append(V, TEXT[:19]), jax.jit(net.run)
    whole, all_of_it = run(w, net.initial_state(w), xs)
    state, first = run(w, net.initial_state(w), xs[:8])
    state, second = run(w, state, xs[8:])
    assert_trees_close(state, whole)
    assert_allclose(np.concatenate([first.z, second.z]), all_of_it.z)


def test_null_is_the_null_vector():
    predict = jax.jit(NET.predict)
    null, zeros, other = (predict(weights(), x).z for x in (np.array([V]), np.zeros((1, V)), np.array([V - 1])))
    assert_allclose(null, zeros, rtol=1e-6)
    assert np.abs(null - other).max() > 1e-2


@functools.cache
def stepper(noise, devices, sd=0.1):
    optimizer = optax.sgd(0.1)
    noise = weight_noise.noise(noise, sd)
    step = spread(truncated_bptt_step(NET, optimizer, noise, KEY, 4), devices)

    @functools.partial(jax.jit, static_argnums=0)
    def begin(B):
        return init_carried_state(NET, optimizer, noise.init(weights()), B)

    def run(n, B=4, T=6, state=None, reset_every=0):
        if state is None:
            state = begin(B)
        for i in range(int(state.step), n):
            state, metrics = jax.block_until_ready(step(state, stream_batch(TEXT, B, T, i, V, reset_every)))
        return state, metrics

    return run


@pytest.mark.parametrize('reset_every', [0, 2])
def test_steps_are_those_of_a_loop(reset_every, x64):
    """Against gradients of one sequence at a time, the state handed on, or begun anew."""
    w = weights()
    for i in range(3):
        batch, reset = stream_batch(TEXT, 4, 6, i, V, reset_every)
        anew = i == 0 or (reset_every > 0 and i % reset_every == 0)
        assert (reset == anew).all()
        if anew:
            carry = [NET.initial_state(w)] * 4
        total, grads = 0.0, []
        for b in range(4):
            (nats, carry[b]), g = sequence(w, carry[b], Batch(*(part[b] for part in batch)))
            grads.append(g)
            total += nats
        w = jax.tree.map(lambda w, *g: np.asarray(w) - 0.1 * sum(map(np.asarray, g)) / 4, w, *grads)
    state, metrics = stepper('none', 1)(3, reset_every=reset_every)
    assert_trees_close(state.params, w, rtol=1e-10)
    assert_trees_close(state.carry, jax.tree.map(lambda *s: np.stack(s), *carry), rtol=1e-9)
    assert_allclose(metrics['nats'], total / 24)


@pytest.mark.four_devices
def test_devices_change_no_number(x64):
    one, _ = stepper('none', 1)(6)
    assert_trees_close(stepper('none', 2)(6)[0], one, rtol=1e-9, atol=1e-12)


def test_no_noise_is_no_noise():
    for kind in ('none', 'fixed', 'adaptive'):
        noise = weight_noise.noise(kind, 0.0)
        q = noise.init(weights())
        jax.tree.map(assert_array_equal, noise.sample(KEY, q), weights())
        jax.tree.map(assert_array_equal, weight_noise.mean_params(q), weights())
    plain, noisy = stepper('none', 1)(2), stepper('fixed', 1, sd=0.0)(2)
    jax.tree.map(assert_array_equal, plain, noisy)


@pytest.mark.parametrize('devices', [1, pytest.param(2, marks=pytest.mark.four_devices)])
def test_what_becomes_of_the_squared_gradient(devices, x64):
    """A device's sequences share a draw: theirs is the square of the sum, and devices add up; the cost comes once.

    The draw is of the key, the step and the device.
    """
    S, B = 4, 4
    batch, _ = stream_batch(TEXT, B, 6, 0, V)
    q = weight_noise.posterior(weights(), 0.1)
    gradient = jax.jit(jax.grad(lambda w, part: loss_and_weight(NET, w, part)[0]))
    draw = jax.jit(weight_noise.sample)
    expected = jax.tree.map(lambda leaf: np.asarray(leaf) / S, jax.jit(jax.grad(weight_noise.complexity))(q))
    for device in range(devices):
        part = jax.tree.map(lambda leaf, d=device: leaf[d * B // devices : (d + 1) * B // devices], batch)
        key, _ = jax.random.split(jax.random.fold_in(jax.random.fold_in(KEY, 0), device))
        g = gradient(draw(key, q), part)  # of the sum over the device's sequences
        squared = jax.tree.map(lambda g, v: np.exp(v) * np.square(g) / 2, g, q.log_variance)
        expected = jax.tree.map(np.add, expected, weight_noise.Posterior(g, squared))
    state, _ = stepper('adaptive', devices)(1)
    moved = jax.tree.map(lambda new, old: (np.asarray(old) - np.asarray(new)) / 0.1 * B, state.params, q)
    assert_trees_close(moved, expected, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize('devices', [1, pytest.param(2, marks=pytest.mark.four_devices)])
def test_each_sequence_has_its_own_dropout(devices):
    """Streams of the same text part; the same key does the same again, another step and another device do not."""
    cell = cells.lstm(V, 4, reverse=True, dropout=0.5)
    net = model.sequence_model(cell, outputs.categorical(V), cells.gaussian)
    optimizer, noise = optax.sgd(0.0), weight_noise.noise('none')
    step = spread(truncated_bptt_step(net, optimizer, noise, KEY, 4), devices)
    alike = CarriedBatch(Batch(*(np.tile(TEXT[:6], (4, 1)).astype(np.int32),) * 2, np.ones((4, 6))), np.ones(4, bool))
    state = init_carried_state(net, optimizer, weights(net), 4)
    first, again = (step(state, alike)[0] for _ in range(2))
    second, _ = step(first, alike)
    jax.tree.map(assert_array_equal, first, again)
    c = np.concatenate([first.carry[1], second.carry[1]])
    assert len(np.unique(c, axis=0)) == 8


def test_what_is_not_finite_changes_nothing():
    run = stepper('none', 1)
    state, _ = run(1)
    broken = state._replace(params=jax.tree.map(lambda w: w * jnp.nan, state.params))
    after, metrics = run(2, state=broken)
    assert not metrics['finite']
    assert int(after.step) == 1
    jax.tree.map(assert_array_equal, after.carry, state.carry)
