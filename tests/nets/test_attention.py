"""The soft window, and a net that reads a text through it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from numpy.testing import assert_allclose, assert_array_equal

from hfrnn.nets import attention, cells, model, outputs
from hfrnn.nets.attention import Text
from hfrnn.nets.model import Conditioned
from hfrnn.train.loss import Batch, loss_and_weight, sum_over_microbatches
from tests.laws.test_cells import params_of
from tests.nets.test_cells import lstm_by_hand

C, K, T, H1, H2 = 5, 3, 12, 7, 4
LAYERS = cells.lstm(3, H1, C), cells.lstm(3, H2, H1 + C)


def net_for(text):
    return model.sequence_model(attention.attend(text, LAYERS, C, K, 0.4), outputs.pen(2), cells.gaussian)


NET = model.conditional(net_for)


@pytest.fixture(scope='module')
def params():
    with jax.enable_x64(True):
        return jax.jit(lambda: params_of(NET))()


def offsets(seed=0, n=T):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(n, 3)) * [1, 1, 0])


def text(characters, length=None):
    n = len(characters)
    return Text(jnp.asarray(np.resize([*characters, 4, 4, 4], length or n), jnp.uint8), jnp.int32(n))


@functools.partial(jax.jit, static_argnums=0)
def states(net, params, xs, on):
    """The window's state after every step."""

    def step(state, x):
        state, z = net.step(params, state, Conditioned(x, on))
        return state, (state, z)

    return jax.lax.scan(step, net.initial_state(params), xs)[1]


def test_a_window_by_hand(x64, params):
    """The whole net of two layers in NumPy: w_{t-1} goes to the first layer, w_t to the second."""
    said, xs = [2, 0, 1, 1], offsets()
    cell = jax.tree.map(np.asarray, params['cell'])
    one_hot, u = np.eye(C)[said], np.arange(1, 5)
    h1, c1, h2, c2 = np.zeros(H1), np.zeros(H1), np.zeros(H2), np.zeros(H2)
    kappa, w = np.zeros(K), np.zeros(C)
    after, zs = states(NET, params, xs, text(said))
    p, q = cell['layers']
    for t, x in enumerate(np.asarray(xs)):
        h1, c1, _ = lstm_by_hand(p, x, np.concatenate([w, h1]), c1)
        ahat, bhat, khat = np.split(cell['W_hp'] @ h1 + cell['b_p'], 3)
        alpha, beta, kappa = np.exp(ahat), np.exp(bhat), kappa + np.exp(khat)
        phi = (alpha[:, None] * np.exp(-beta[:, None] * (kappa[:, None] - u) ** 2)).sum(0)
        w = sum(phi[i] * one_hot[i] for i in range(4))
        h2, c2, _ = lstm_by_hand(q, x, np.concatenate([h1, w, h2]), c2)
        z = params['readout']['W_oh'] @ np.concatenate([h1, h2]) + params['readout']['b_o']
        now = jax.tree.map(lambda leaf, t=t: leaf[t], after)
        assert_allclose(now.kappa, kappa, rtol=1e-10)
        assert_allclose(attention.phi(now, jnp.asarray(u, float)), phi, rtol=1e-9, atol=1e-12)
        assert_allclose(now.w, w, rtol=1e-9, atol=1e-12)
        assert_allclose(zs[t], z, rtol=1e-9)


def test_steps_are_predictions_and_kappa_never_falls(x64, params):
    xs, on = offsets(1), text([0, 1, 2, 3])
    after, zs = states(NET, params, xs, on)
    assert_allclose(NET.predict(params, Conditioned(xs, on)).z, zs, rtol=1e-10)
    assert (jnp.diff(after.kappa, axis=0) > 0).all()
    assert (after.kappa > 0).all()


def test_padding_characters_have_no_weight(x64, params):
    said = [3, 0, 1]
    _, zs = states(NET, params, offsets(), text(said))
    padded, padded_zs = states(NET, params, offsets(), text(said, 9))
    assert_allclose(padded_zs, zs, rtol=1e-12)
    assert (padded.w[:, 4] == 0).all()  # the symbol that pads
    none, _ = states(NET, params, offsets(), text([], 4))
    assert (none.w == 0).all()


def test_a_padded_batch_is_its_lines_one_by_one(x64, params):
    """Nats and gradients, through ``training``: two lines, of which the shorter says nothing."""
    lengths, texts = (9, 5), ([1, 2, 3, 0], [])
    xs, targets, weights = np.zeros((2, T, 3)), np.zeros((2, T, 3)), np.zeros((2, T))
    alone = []
    for i, (n, said) in enumerate(zip(lengths, texts, strict=True)):
        line = np.asarray(offsets(i, n + 1))
        xs[i, :n], targets[i, :n], weights[i, :n] = line[:-1], line[1:], 1
        one = jax.tree.map(lambda leaf: leaf[None], Conditioned(line[:-1], text(said or [4], len(said) or 1)))
        if not said:
            one = Conditioned(one.x, one.context._replace(n_characters=jnp.zeros(1, int)))
        alone.append(Batch(one, line[None, 1:], np.ones((1, n))))
    on = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(text(said, 6) for said in texts))
    together = Batch(Conditioned(xs, on), targets, weights)

    gradient = jax.value_and_grad(functools.partial(loss_and_weight, NET), has_aux=True)
    (nats, weight), grads = jax.jit(gradient)(params, together)
    one_by_one = [jax.jit(gradient)(params, batch) for batch in alone]
    assert weight == sum(lengths)
    assert_allclose(nats, sum(n for (n, _), _ in one_by_one))
    total = jax.tree.map(lambda *leaves: sum(leaves), *(g for _, g in one_by_one))
    jax.tree.map(functools.partial(assert_allclose, rtol=1e-9, atol=1e-9), grads, total)
    chunks = sum_over_microbatches(lambda part: loss_and_weight(NET, params, part), together, 1)
    assert_allclose(chunks, (nats, weight))


def test_the_quick_way_back_changes_no_number(x64, params):
    """A batch of two lines with different texts, from the states that other lines left."""
    xs, on = (jax.tree.map(lambda *leaves: jnp.stack(leaves), *pair) for pair in
              ((offsets(1), offsets(2)), (text([2, 0, 1, 1], 6), text([3], 6))))  # fmt: skip

    def gradients(reverse):
        layers = (cells.lstm(3, n, below, clip=0.3, reverse=reverse) for n, below in ((H1, C), (H2, H1 + C)))
        layers = tuple(layers)

        def run(p, state, x, on):
            return cells.unroll(attention.attend(on, layers, C, K, 0.4), p, x, state)

        def loss(p, states):
            after, ys = jax.vmap(run, (None, 0, 0, 0))(p, states, xs, on)
            return jnp.sum(ys**3) + sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(after))

        initial = attention.attend(None, layers, C, K).initial_state(params['cell'])
        states = jax.tree.map(lambda s: jnp.stack([s + 0.1, s + 0.3]), initial)
        return jax.jit(jax.value_and_grad(loss, (0, 1)))(params['cell'], states)

    jax.tree.map(functools.partial(assert_allclose, rtol=1e-9, atol=1e-12), gradients(True), gradients(False))


def test_dropout_under_a_window(x64, params):
    """Its derivatives are those of its loop, every layer draws its own, and no key leaves nothing out."""
    xs, on = offsets(1), text([2, 0, 1, 1], 6)

    def net(share):
        layers = (cells.lstm(3, n, below, reverse=True, dropout=share) for n, below in ((H1, C), (H2, H1 + C)))
        return attention.attend(on, tuple(layers), C, K, 0.4)

    def run(p, state, key, share=0.4):
        return cells.unroll(net(share), p, xs, state, key)

    def loss(p, state):
        after, ys = run(p, state, jax.random.key(3))
        return jnp.sum(ys**3) + sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(after))

    p, state = params['cell'], net(0).initial_state(params['cell'])
    state = jax.tree.map(lambda s: s + 0.1, state)
    check_grads(jax.jit(loss), (p, state), order=1, modes=['rev'], atol=1e-6, rtol=1e-5)
    jax.tree.map(assert_array_equal, run(p, state, None), run(p, state, None, 0.0))
    layers = zip(p['layers'], (H1, H2), strict=True)
    remembers = p | {'layers': tuple(q | {'b': q['b'].at[n : 3 * n].set(1e3)} for q, n in layers)}  # f = o = 1
    zero = net(0).initial_state(p)
    hs = jax.vmap(lambda key: run(remembers, zero, key)[1])(jax.random.split(jax.random.key(0), 400))
    gone = np.diff(hs, axis=1, prepend=0)[:, :4].reshape(400, -1) == 0  # h_t = tanh(c_t)
    assert_allclose(np.cov(gone.T), 0.24 * np.eye(gone.shape[1]), atol=0.06)


def test_writing_is_finished_past_the_last_character(x64):
    """Graves 2013 sec. 5.3, whatever pads the text: phi at U+1 is above phi at every character."""
    rng, on, seen = np.random.default_rng(0), text([3, 0, 1], 9), set()
    place, finished = jax.jit(attention.place), jax.jit(attention.finished)
    for _ in range(300):
        alpha, beta, kappa = (rng.uniform(*bounds, K) for bounds in ((0.1, 5), (0.2, 4), (0, 9)))
        phi = np.sum(alpha * np.exp(-beta * (kappa - np.arange(1, 5)[:, None]) ** 2), axis=1)
        state = attention.WindowState((), *map(jnp.asarray, (alpha, beta, kappa)), jnp.zeros(C))
        assert place(state, on) == 1 + phi.argmax()
        seen.add(bool(finished(state, on)))
        assert finished(state, on) == (phi[3] > phi[:3]).all()
    assert seen == {True, False}


def test_a_window_moves_on_in_half_precision(x64):
    """Only products are rounded, not kappa, in which steps that small would be lost far along a text."""
    xs, on = jnp.asarray(offsets(3, 900), jnp.float32), text([2, 0, 1, 1] * 10)

    def kappa(dtype):
        layers = tuple(cells.lstm(3, n, below, reverse=True, dtype=dtype) for n, below in ((H1, C), (H2, H1 + C)))
        net = attention.attend(on, layers, C, K, 0.04)
        p = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), net.init(jax.random.key(0)))
        return cells.unroll(net, p, xs, net.initial_state(p))[0].kappa

    exact, rounded = kappa(None), kappa(jnp.bfloat16)
    assert rounded.dtype == jnp.float32 and exact.min() > 30
    assert_allclose(rounded, exact, rtol=0.02)


def test_windows_begin_as_stated():
    p = attention.attend(None, LAYERS, C, K, 0.04).init(jax.random.key(0))
    assert_allclose(np.exp(p['b_p']), [1] * 2 * K + [0.04] * K, rtol=1e-6)
    state = attention.attend(None, LAYERS, C, K).initial_state(p)
    assert_array_equal(state.kappa, np.zeros(K))
    assert_array_equal(state.w, np.zeros(C))
