import functools
import os
import signal
import threading
import time

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from hfrnn.nets import cells, model, outputs
from hfrnn.optim import hessian_free, line_search, weight_noise
from hfrnn.optim.curvature import gauss_newton
from hfrnn.optim.first_order import averaged
from hfrnn.text.batches import random_substrings
from hfrnn.train import devices, loop
from hfrnn.train.devices import AXIS, spread
from hfrnn.train.loop import Interrupted, NotFinite, fit
from hfrnn.train.loss import (
    Batch,
    eval_step,
    loss_and_weight,
    padded_batches,
    predict_batch,
    sum_metrics,
    sum_nll,
    sum_over_microbatches,
)
from hfrnn.train.steps import (
    HESSIAN_FREE_METRICS,
    HessianFreeBatches,
    TrainState,
    first_order_step,
    hessian_free_step,
    init_state,
    kept_params,
    noisy_loss,
    state_of,
)
from hfrnn.train.truncated_bptt import init_carried_state
from tests.trees import assert_trees_close, saved_and_restored

V = 6
NET = model.sequence_model(cells.mrnn(V, 8, 8), outputs.categorical(V))
SYMBOLS = np.resize([0, 1, 2, 0, 3, 4, 5, 1, 1], 500).astype(np.uint8)


def batch(i=0, B=8, T=12, unscored=3):
    return random_substrings(SYMBOLS, np.random.default_rng(i), B, T, unscored)


def hf_batches(i=0):
    gradient = batch(i)
    return HessianFreeBatches(gradient, jax.tree.map(lambda leaf: leaf[:4], gradient))


def hf_own_batches(i=0):
    return HessianFreeBatches(*hf_batches(i)[:2], batch(100 + i, 4), batch(200 + i, 4))


HF = hessian_free.martens2010(1.0, 20)
OWN = hessian_free.sutskever2011(1.0, 20)
STEPS = {
    'hf': (HF, hessian_free_step(NET, HF, 3, 0.1), hf_batches),
    'hf, all options': (OWN, hessian_free_step(NET, OWN, 3, 0.1, preconditioned=True), hf_own_batches),
    'adam': (optax.adam(1e-2), first_order_step(NET, optax.adam(1e-2), 3), batch),
}
each_step = pytest.mark.parametrize('kind', STEPS)


@functools.cache
def spread_step(kind, n):
    return devices.spread(STEPS[kind][1], n)


def run_steps(kind, n, devices, first=0, state=None):
    optimizer, _, batches = STEPS[kind]
    state = init_state(NET, optimizer, jax.random.key(0)) if state is None else state
    step = spread_step(kind, devices)
    for i in range(first, n):
        state, metrics = jax.block_until_ready(step(state, batches(i)))
    return state, metrics


@pytest.mark.slow
@pytest.mark.four_devices
@pytest.mark.parametrize('kind, devices', [('hf', 4), ('hf, all options', 4), ('adam', 2), ('adam', 4)])
def test_devices_change_no_number(kind, devices, x64):
    one, _ = run_steps(kind, 2, 1)
    many, _ = run_steps(kind, 2, devices)
    assert_trees_close(one.params, many.params, atol=1e-9)


@pytest.mark.slow
@pytest.mark.four_devices
@each_step
def test_devices_are_a_vmap_with_the_axis_name(kind, x64):
    optimizer, step, batches = STEPS[kind]
    state = init_state(NET, optimizer, jax.random.key(0))
    parts = jax.tree.map(lambda leaf: leaf.reshape(4, -1, *leaf.shape[1:]), batches(0))
    mapped, _ = jax.vmap(step, (None, 0), axis_name=AXIS)(state, parts)
    on_devices, _ = run_steps(kind, 1, 4)
    assert_trees_close(jax.tree.map(lambda leaf: leaf[0], mapped.params), on_devices.params, atol=1e-9)


@pytest.mark.four_devices
@each_step
def test_two_and_two_steps_are_four_bit_for_bit(kind, tmp_path, x64):
    whole, _ = run_steps(kind, 4, 4)
    half, _ = run_steps(kind, 2, 4)
    restored = saved_and_restored(half, 2, tmp_path / 'run')
    resumed, _ = run_steps(kind, 4, 4, first=2, state=restored)
    jax.tree.map(assert_array_equal, whole, resumed)


@pytest.mark.parametrize('chunk', [1, 3, 5, 7, 8, 100])
def test_chunks_change_no_number(chunk, x64):
    params = jax.tree.map(lambda p: p.astype(float), NET.init(jax.random.key(0)))
    whole = loss_and_weight(NET, params, batch())
    parts = sum_over_microbatches(lambda part: loss_and_weight(NET, params, part), batch(), chunk)
    assert_trees_close(whole, parts, rtol=1e-10)


def test_unscored_symbols_are_no_part_of_the_loss(x64):
    params = jax.tree.map(lambda p: p.astype(float), NET.init(jax.random.key(0)))
    b = batch(unscored=3)
    nats, weight = loss_and_weight(NET, params, b)
    assert weight == 8 * 9
    z = predict_batch(NET, params, b).z
    assert_allclose(nats, sum(-jax.nn.log_softmax(z[i, t])[b.targets[i, t]] for i in range(8) for t in range(3, 12)))


@pytest.mark.slow
def test_a_hessian_free_step_solves_the_dense_system(x64):
    """(G + lambda mu S + lambda I) d = -g, means over sequences of sums over steps; scored ones in G and g."""
    lam, mu = 0.7, 0.3
    net = model.sequence_model(cells.rnn(3, 4), outputs.categorical(3))
    optimizer = hessian_free.hessian_free(
        lam, cg_iterations=300, tolerance=0.0, start_decay=0.0, backtrack=line_search.last_iterate
    )
    optimizer = optax.chain(optimizer, optax.scale(1e-6))  # so that the direction is all there is of the step
    step = spread(hessian_free_step(net, optimizer, 3, mu), 1)
    symbols = np.resize([0, 1, 2, 0, 0, 2], 300).astype(np.uint8)
    gradient = random_substrings(symbols, np.random.default_rng(0), 6, 7, 2)
    curvature = jax.tree.map(lambda leaf: leaf[:4], gradient)
    params = jax.tree.map(lambda leaf: leaf.astype(float) + 0.1, net.init(jax.random.key(0)))
    flat, unflatten = jax.flatten_util.ravel_pytree(params)

    def outputs_of(flat):
        return predict_batch(net, unflatten(flat), curvature)

    def mean_nats(flat, batch):
        z = jax.nn.log_softmax(predict_batch(net, unflatten(flat), batch).z[:, 2:])
        return -jnp.take_along_axis(z, batch.targets[:, 2:, None], 2).sum() / len(batch.xs)

    J = jax.jacobian(outputs_of)(flat)
    here = outputs_of(flat)
    G = S = 0.0
    for b in range(4):
        for t in range(7):
            if t >= 2:
                p = jax.nn.softmax(here.z[b, t])
                G += J.z[b, t].T @ (jnp.diag(p) - jnp.outer(p, p)) @ J.z[b, t] / 4
            S += J.h[b, t].T @ jnp.diag(1 / (1 - here.h[b, t] ** 2)) @ J.h[b, t] / 4
    g = jax.grad(mean_nats)(flat, gradient)
    expected = -jnp.linalg.solve(G + lam * mu * S + lam * jnp.eye(len(flat)), g)
    state = state_of(optimizer, params)
    new, _ = step(state, HessianFreeBatches(gradient, curvature))
    moved = (jax.flatten_util.ravel_pytree(new.params)[0] - flat) / 1e-6
    alpha = optax.tree.get(new.opt_state, 'step_size')
    assert alpha > 0
    assert_allclose(moved / alpha, expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.four_devices
@pytest.mark.parametrize('own', [False, True])
def test_an_optimiser_is_given_each_objective_on_its_batch(own, x64):
    """And the squared gradients of single sequences; by one that writes down what it is given."""

    def init(params):
        trees = {name: params for name in ('product', 'backtrack_product', 'squared')}
        return {name: 0.0 for name in ('rho', 'backtrack', 'line_search', 'known')} | trees

    def update(
        grads,
        state,
        params,
        *,
        curvature,
        value_fn,
        backtrack_fn,
        backtrack_curvature,
        line_search_fn,
        line_search_value,
        squared_gradients,
    ):
        del state
        assert (backtrack_curvature is not None) == own
        seen = {'rho': value_fn(params), 'backtrack': backtrack_fn(params), 'line_search': line_search_fn(params)}
        seen['known'] = jnp.nan if line_search_value is None else line_search_value
        seen['product'] = curvature(params, 0.0)
        seen['backtrack_product'] = backtrack_curvature(params, 0.0) if own else optax.tree.zeros_like(params)
        return optax.tree.zeros_like(grads), seen | {'squared': squared_gradients}

    spy = optax.GradientTransformationExtraArgs(init, update)
    state = init_state(NET, spy, jax.random.key(0))
    batches = hf_own_batches() if own else hf_batches()
    step = spread(hessian_free_step(NET, spy, 3, preconditioned=True), 2)
    seen = step(state, batches)[0].opt_state

    def nats(which):
        return loss_and_weight(NET, state.params, which)[0] / len(which.weights)

    gradient, curvature, backtrack, line_search = batches
    assert_allclose(seen['rho'], nats(curvature))
    assert_allclose(seen['backtrack'], nats(backtrack if own else curvature))
    assert_allclose(seen['line_search'], nats(line_search if own else gradient))
    assert_allclose(seen['known'], np.nan if own else nats(gradient))

    def product(which):
        """Of the weights themselves."""
        on = gauss_newton(
            lambda params: predict_batch(NET, params, which),
            lambda prediction: sum_nll(NET, prediction.z, which) / len(which.weights),
            state.params,
        )
        return on(state.params, 0.0)

    assert_trees_close(seen['product'], product(curvature), rtol=1e-6, atol=1e-12)
    if own:
        assert_trees_close(seen['backtrack_product'], product(backtrack), rtol=1e-6, atol=1e-12)
    ones = [jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], curvature) for i in range(len(curvature.weights))]
    grads = [jax.grad(lambda p, one=one: loss_and_weight(NET, p, one)[0])(state.params) for one in ones]
    assert_trees_close(seen['squared'], jax.tree.map(lambda *g: sum(x**2 for x in g) / len(g), *grads), rtol=1e-6)


def test_each_batch_of_a_step_serves_its_purpose(x64):
    """Another one for the line search touches neither CG nor rho, for backtracking not CG; another curvature's does."""
    state = init_state(NET, OWN, jax.random.key(0))
    a, other = hf_own_batches(0), batch(300, 4)
    new = {name: spread_step('hf, all options', 1)(state, a._replace(**{name: other}))[0] for name in a._fields[1:]}
    new['none'] = spread_step('hf, all options', 1)(state, a)[0]
    seen = {name: jax.device_get(one.opt_state) for name, one in new.items()}
    for name in ('backtrack', 'line_search'):  # neither touches CG
        jax.tree.map(assert_array_equal, seen[name].start, seen['none'].start)
    assert seen['line_search'].rho == seen['none'].rho
    assert seen['line_search'].reduction != seen['none'].reduction
    assert np.abs(seen['curvature'].start['cell']['W_hx'] - seen['none'].start['cell']['W_hx']).max() > 0


def test_hessian_free_learns(x64):
    state, _ = run_steps('hf', 1, 1)
    first = loss_and_weight(NET, state.params, batch(99))[0]
    state, metrics = run_steps('hf', 8, 1, first=1, state=state)
    assert loss_and_weight(NET, state.params, batch(99))[0] < first
    assert metrics['finite']


def test_metrics_of_a_hessian_free_step_are_what_its_state_says():
    """Also in a chain, where another transformation stands beside it."""
    chain = optax.chain(HF, optax.scale(0.5))
    state, batches = init_state(NET, chain, jax.random.key(0)), hf_batches()
    new, metrics = spread(hessian_free_step(NET, chain, 3, 0.1), 1)(state, batches)
    happened = new.opt_state[0]
    assert set(metrics) == {'nats', 'finite', *HESSIAN_FREE_METRICS}
    for name in HESSIAN_FREE_METRICS:
        assert metrics[name].shape == ()
        assert_array_equal(metrics[name], getattr(happened, name))
    assert metrics['finite'] and metrics['step_size'] > 0 and metrics['reduction'] > 0
    assert metrics['cg_iterations'] > 0 and metrics['damping'] != 1


def test_kept_params_are_the_average_or_else_the_params():
    params = NET.init(jax.random.key(0))
    for plain in (optax.adam(0.1), HF):
        assert kept_params(state_of(plain, params)) is params
    chain = optax.chain(optax.clip(1.0), optax.adam(0.1), averaged(0.9))
    state, _ = spread(first_order_step(NET, chain, 8), 1)(state_of(chain, params), batch())
    jax.tree.map(assert_array_equal, kept_params(state), state.opt_state[-1].average)
    assert any((a != b).any() for a, b in zip(*map(jax.tree.leaves, (kept_params(state), state.params)), strict=True))
    q = weight_noise.posterior(params)
    assert kept_params(state_of(chain, q)).mu.keys() == params.keys()  # of any tree
    assert kept_params(init_carried_state(NET, chain, params, 2)).keys() == params.keys()


def test_an_output_that_is_not_convex_is_refused_by_name_or_takes_fisher():
    net = model.sequence_model(cells.rnn(3, 8), outputs.pen(2))
    with pytest.raises(ValueError, match='the mixture density of a pen is not convex'):
        hessian_free_step(net, HF, 3)
    step = spread(hessian_free_step(net, HF, 8, 0.1, fisher_samples=2), 1)
    rng = np.random.default_rng(0)
    xs = np.concatenate([rng.normal(0.5, 0.1, (8, 6, 2)), rng.random((8, 6, 1)) < 0.2], 2).astype(np.float32)
    b = Batch(xs[:, :-1], xs[:, 1:], np.ones((8, 5), np.float32))
    state, nats = init_state(net, HF, jax.random.key(0)), []
    for _ in range(6):
        state, metrics = jax.block_until_ready(step(state, HessianFreeBatches(b, b)))
        nats.append(float(metrics['nats']))
    assert nats[-1] < nats[0] - 1
    assert state.opt_state.cg_iterations > 2


@pytest.mark.four_devices
def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match='does not divide among 3 devices'):
        spread(eval_step(NET), 3)({}, batch())
    with pytest.raises(ValueError, match='5 devices were asked for, and JAX has 4'):
        spread(eval_step(NET), 5)


@pytest.mark.four_devices
def test_evaluation_counts_what_is_padded_once():
    params = NET.init(jax.random.key(0))
    step = spread(eval_step(NET, rows=lambda z, batch: jnp.sum(batch.weights[:, -1])), 2)
    nats, targets = map(float, loss_and_weight(NET, params, batch(B=7)))
    found = sum_metrics(step, params, padded_batches(batch(B=7), 4))
    assert found == pytest.approx({'nats': nats, 'targets': targets, 'sequences': 7, 'rows': 7}, rel=1e-6)


# -- fit --------------------------------------------------------------------------------------------------------------


def count_up(state, batches, nats=1.0):
    return TrainState(state.params + 1, None, state.step + 1), {
        'nats': jnp.float32(nats),
        'finite': jnp.array(True),
    }


def start():
    return TrainState(jnp.zeros(()), None, jnp.zeros((), int))


def fit_to_the_end(step=count_up, *, steps=5, seconds=60.0, save_every=1e9, on_step=lambda *_: None):
    saved = []
    options = {'steps': steps, 'seconds': seconds, 'elapsed': 0.0, 'save_every': save_every, 'on_step': on_step}
    try:
        loop.fit(step, start(), lambda i: i, save=lambda s, t: saved.append(int(s.step)), **options)
    except (Interrupted, NotFinite) as e:
        return saved, e
    return saved, None


def test_over_an_epoch_the_noise_is_paid_for_once(x64):
    noise = weight_noise.noise('adaptive', 0.1)
    q = noise.init(NET.init(jax.random.key(0)))
    noisy, paid = jax.jit(noisy_loss(NET, noise, 20)), 0.0
    for i, n in enumerate((8, 8, 4)):  # sequences; what pads the last batch is none
        key, data = jax.random.key(i), batch(i)
        data = data._replace(weights=data.weights * (np.arange(8) < n)[:, None])
        objective, (nats, weight) = noisy(q, key, data)
        assert_allclose((nats, weight), loss_and_weight(NET, weight_noise.sample(key, q), data))
        paid += objective - nats
    assert_allclose(paid, weight_noise.complexity(q))


def test_fit_ends_by_steps_or_time_and_saves():
    assert fit_to_the_end() == ([5], None)
    assert fit_to_the_end(save_every=0.0, steps=3)[0] == [1, 2, 3, 3]
    saved, _ = fit_to_the_end(steps=10**9, seconds=0.2)
    assert 0 < saved[0] < 10**9


def test_fit_tells_the_seconds_of_each_step_alone():
    now, told = [0.0], []

    def step(state, i):
        now[0] += 1 + i
        return count_up(state, i)

    def on_step(state, metrics, seconds):
        told.append((metrics['seconds'], seconds))
        now[0] += 100  # an evaluation

    options = {'steps': 3, 'seconds': 1e9, 'elapsed': 0.0, 'save_every': 1e9, 'on_step': on_step}
    fit(step, start(), lambda i: i, save=lambda s, t: None, clock=lambda: now[0], **options)
    assert told == [(1, 1), (2, 103), (3, 206)]


def test_fit_stops_at_what_is_not_finite():
    def step(state, i):
        new, metrics = count_up(state, i)
        return new, metrics | {'finite': jnp.array(i < 3)}

    saved, error = fit_to_the_end(step)
    assert saved == [2] == [int(error.state.step)]  # it is the loss of state 3 that is not finite
    assert 'step 4' in str(error) and error.seconds >= 0


def test_fit_saves_whatever_fails():
    def on_step(state, *_):
        if state.step == 3:
            raise BrokenPipeError

    saved = []
    with pytest.raises(BrokenPipeError):
        fit(
            count_up, start(), lambda i: i, steps=5, seconds=9.0, elapsed=0.0, save_every=9.0, on_step=on_step,
            save=lambda s, t: saved.append(int(s.step)),
        )  # fmt: skip
    assert saved == [3]


def test_a_signal_in_the_last_step_counts():
    _, error = fit_to_the_end(
        on_step=lambda state, *_: os.kill(os.getpid(), signal.SIGTERM) if state.step == 5 else None
    )
    assert error.signum == signal.SIGTERM


@pytest.mark.parametrize('signum', [signal.SIGINT, signal.SIGTERM])
def test_fit_saves_the_state_before_the_step_in_flight(signum):
    """A step that takes long: the signal is answered at once, without it."""

    def slow(x):
        return jax.lax.fori_loop(0, 150, lambda _, a: a @ a / jnp.linalg.norm(a), x)

    @jax.jit
    def step(state, i):
        metrics = {'nats': slow(jnp.eye(700) + state.step)[0, 0], 'finite': jnp.array(True)}
        return TrainState(state.params, None, state.step + 1), metrics

    step(start(), 0)[1]['nats'].block_until_ready()
    begun = time.monotonic()
    step(start(), 0)[1]['nats'].block_until_ready()
    takes = time.monotonic() - begun
    before, begun_at, killed_at = signal.getsignal(signum), [], []

    def watched(state, i):
        begun_at.append(time.monotonic())
        return step(state, i)

    def kill():
        killed_at.append(time.monotonic())
        os.kill(os.getpid(), signum)

    threading.Timer(1.1 * takes, kill).start()
    saved, error = fit_to_the_end(watched, steps=10**6)
    ended = time.monotonic()
    assert error.signum == signum
    assert saved == [len(begun_at) - 1]
    assert ended - killed_at[0] < 0.5 * takes
    assert signal.getsignal(signum) is before


def test_what_is_ignored_stays_ignored():
    """As nohup has it: the terminal is closed, and the training goes on."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        saved, error = fit_to_the_end(
            on_step=lambda state, *_: os.kill(os.getpid(), signal.SIGHUP) if state.step == 2 else None
        )
        assert (saved, error) == ([5], None) and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_it_fits_in_a_thread_too():
    found = []
    thread = threading.Thread(target=lambda: found.append(fit_to_the_end()))
    thread.start()
    thread.join()
    assert found == [([5], None)]


def test_first_order_keeps_the_last_good_state():
    state = init_state(NET, optax.adam(0.1), jax.random.key(0))
    bad = state._replace(params=jax.tree.map(lambda p: p * jnp.inf, state.params))
    new, metrics = spread(STEPS['adam'][1], 1)(bad, batch())
    assert not metrics['finite']
    jax.tree.map(assert_array_equal, new, bad)
    wild = optax.chain(optax.adam(0.1), optax.stateless(lambda updates, _: optax.tree.scale(jnp.inf, updates)))
    state = init_state(NET, wild, jax.random.key(0))
    new, metrics = spread(first_order_step(NET, wild, 3), 1)(state, batch())
    assert not metrics['finite'] and np.isfinite(metrics['gradient'])
    jax.tree.map(assert_array_equal, new, state)


# -- weights ----------------------------------------------------------------------------------------------------------


def hf_step(b):
    """A Hessian-Free step, structural damping and all, on b, its first four for the curvature."""
    state, batches = init_state(NET, HF, jax.random.key(0)), hf_batches()
    first = jax.tree.map(lambda leaf: leaf[: len(batches.curvature.xs)], b)
    return jax.device_get(spread_step('hf', 1)(state, batches._replace(gradient=b, curvature=first)))


def test_a_sequence_of_weight_two_is_that_sequence_twice(x64):
    """In gradient, curvature, structural damping, model and search alike; one of weight 0 is none."""
    a = batch()
    weighted = a._replace(weights=a.weights * np.array([2, 1, 0, 1, 1, 1, 2, 0], np.float32)[:, None])
    repeated = jax.tree.map(lambda leaf: leaf[np.array([0, 0, 1, 3, 4, 5, 6, 6])], a)
    assert_trees_close(hf_step(weighted), hf_step(repeated), rtol=1e-9, atol=1e-12)


def test_what_follows_the_last_target_changes_nothing(x64):
    a = batch()
    weights = a.weights * (np.arange(12) < 9)
    other = np.where(np.arange(12) < 9, a.xs, (a.xs + 1) % V).astype(a.xs.dtype)
    one, two = (hf_step(Batch(xs, a.targets, weights)) for xs in (a.xs, other))
    jax.tree.map(assert_array_equal, one, two)


def test_fit_ends_when_it_is_told_to():
    assert fit_to_the_end(on_step=lambda state, *_: int(state.step) == 3)[0] == [3]
