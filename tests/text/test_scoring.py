"""Static and dynamic evaluation on a small net."""

import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree
from numpy.testing import assert_allclose, assert_array_equal

from hfrnn.nets import cells, model, outputs
from hfrnn.text import scoring

V = 4
NET = model.sequence_model(cells.lstm(V, 6, clip=1.0), outputs.categorical(V), cells.gaussian)
TEXT = np.random.default_rng(0).integers(0, V, 57).astype(np.uint8)


predict = jax.jit(NET.predict)


@functools.cache
def weights():
    return jax.tree.map(lambda w: 5 * w, jax.jit(NET.init)(jax.random.key(0)))


@jax.jit
def segment_grad(w, state, xs, targets):
    """(derivatives of a segment's nats, (nats of each, the state behind it))."""

    def loss(w):
        after, prediction = NET.run(w, state, xs)
        each = jax.vmap(NET.output.nll)(prediction.z, targets)
        return each.sum(), (each, after)

    return jax.grad(loss, has_aux=True)(w)


static_reader = functools.cache(lambda length: scoring.static_reader(NET, length))
dynamic_reader = functools.cache(lambda segment, block: scoring.dynamic_reader(NET, segment, block))


def by_hand(text):
    """-log P of each symbol, and whether another was likelier, by one prediction of the whole."""
    z = np.asarray(predict(weights(), np.append(V, text[:-1])).z, np.float64)
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    return -np.log(p[np.arange(len(text)), text]), p.argmax(1) != text


@pytest.mark.parametrize(
    'stride, context, length', [(0, 0, 100), (0, 0, 7), (12, 58, 10), (1, 60, 9), (57, 1, 9), (99, 1, 9)]
)
@pytest.mark.parametrize('K', [1, 4])
def test_pieces_are_one_stream_where_their_context_reaches_the_beginning(stride, context, length, K):
    """However the text is divided, and whatever of it stands before what is scored."""
    nll, wrong = by_hand(TEXT)
    before = np.append(V, TEXT[: K - 1])
    reading = static_reader(length)(weights(), TEXT[K - 1 :], before, stride=stride, context=max(context, K))
    assert_allclose(reading.nll, nll[K - 1 :], rtol=1e-4)
    assert_array_equal(reading.wrong, wrong[K - 1 :])


def counting():
    """A model whose -log P of a symbol is the number of inputs read before it, if they are in order."""

    def run(params, state, xs, key=None):
        counts = state + 1.0 + jnp.arange(len(xs))
        return state + len(xs), model.Prediction(jnp.stack([counts, xs.astype(jnp.float32)], axis=1), counts)

    output = outputs.Output(2, lambda z, target: jnp.where(target == z[1] + 1, z[0], jnp.nan), None)
    return model.Model(None, lambda params: jnp.zeros(()), None, None, output, run)


COUNTING = scoring.static_reader(counting(), 7)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 12), st.integers(1, 9), st.integers(1, 20), st.integers(1, 5))
def test_every_symbol_is_scored_once_after_its_context(n, context, stride, K, streams):
    """A symbol has ``context`` symbols before it, or those that there are, and those of its piece."""
    before, symbols = np.arange(100, 100 + K), np.arange(100 + K, 100 + K + n)
    with mock.patch.object(scoring, 'STREAMS', streams):
        reading = COUNTING(None, symbols, before, stride=stride, context=context)
    first = np.arange(n) // stride * stride
    assert_array_equal(reading.nll, np.minimum(context, K + first) + np.arange(n) - first)


def test_a_text_without_anything_before_it_is_refused():
    with pytest.raises(ValueError, match='start symbol'):
        static_reader(9)(weights(), TEXT, [])
    with pytest.raises(ValueError, match='give a context'):
        static_reader(9)(weights(), TEXT, [V], stride=3)
    assert len(static_reader(9)(weights(), TEXT[:0], [V]).nll) == 0


@pytest.mark.parametrize('rms', [False, True])
@pytest.mark.parametrize('segment', [1, 8])
def test_at_rate_0_dynamic_is_static(segment, rms):
    rule = scoring.Rule(0.0, 0.3, weights() if rms else None)
    reading = dynamic_reader(segment, 3)(weights(), TEXT, [V], rule)
    nats, wrong = by_hand(TEXT)
    assert_allclose(reading.nll, nats, rtol=1e-4)
    assert_array_equal(reading.wrong, wrong)


def rules(repeated):
    rms = scoring.root_mean_squares(NET, weights(), repeated, [V], 10)
    return scoring.Rule(0.05, 0.0), scoring.Rule(0.02, 0.001, rms)


@pytest.mark.parametrize('which', [0, 1])
def test_on_a_repeated_text_it_falls_below_static(which):
    repeated = np.tile(TEXT[:10], 60)
    reading = dynamic_reader(10, 10)(weights(), repeated, [V], rules(repeated)[which])
    static, _ = by_hand(repeated)
    assert reading.nll.mean() < 0.9 * static.mean()
    assert reading.nll[300:].mean() < reading.nll[:300].mean()
    assert reading.nll[300:].mean() < 0.7 * static[300:].mean()


@pytest.mark.parametrize('which', [0, 1])
def test_nothing_is_learnt_from_before_it_is_scored(which):
    """What comes later, to the end of the same segment, changes nothing that came before."""
    read = dynamic_reader(10, 10)
    rule = rules(TEXT)[which]
    for place in (1, 9, 10, 23, 56):  # of the first symbol this net says nothing, whatever it is
        other = TEXT.copy()
        other[place] = (other[place] + 1) % V
        one, two = (read(weights(), text, [V], rule).nll for text in (TEXT, other))
        assert_array_equal(one[:place], two[:place])
        assert one[place] != two[place]
    static, _ = by_hand(TEXT)
    assert_allclose(read(weights(), TEXT, [V], rule).nll[:10], static[:10], rtol=1e-4)  # as yet nothing is learnt


@pytest.mark.parametrize('with_rms', [False, True])
def test_dynamic_is_this_loop(with_rms, x64):
    w_0 = w = jax.tree.map(lambda p: p.astype(jnp.float64), weights())
    rms = jax.tree.map(lambda p: jnp.abs(p) / 10 + 0.01, w_0) if with_rms else None
    rule, nats = scoring.Rule(0.02, 0.1, rms), []
    state, xs = NET.initial_state(w_0), np.append(V, TEXT[:-1])

    def norm(tree):
        return np.linalg.norm(ravel_pytree(tree)[0])

    mean, shortened = sum(leaf.sum() for leaf in jax.tree.leaves(rms)) / model.size(w_0) if with_rms else None, []
    for first in range(0, 57, 8):
        g, (each, state) = segment_grad(w, state, xs[first : first + 8], TEXT[first : first + 8])
        nats.extend(each)
        if with_rms:
            d, usual = (jax.tree.map(lambda x, r: x / (r + mean), tree, rms) for tree in (g, rms))
            rate = 0.02 * min(1.0, 3 * norm(usual) / norm(d))
            shortened.append(rate < 0.02)
            w = jax.tree.map(
                lambda w, w_0, d, r, rate=rate: w - rate * d + jnp.minimum(1, 0.1 * r / mean) * (w_0 - w),
                w, w_0, d, rms,
            )  # fmt: skip
        else:
            w = jax.tree.map(lambda w, w_0, g: w - 0.02 * g + 0.1 * (w_0 - w), w, w_0, g)
    assert set(shortened) == ({True, False} if with_rms else set())
    assert_allclose(scoring.dynamic_reader(NET, 8, 3)(w_0, TEXT, [V], rule).nll, nats, rtol=1e-10)


def test_a_weight_that_training_left_alone_learns_no_faster_than_by_gradient_descent(x64):
    """However small its root mean square is, down to that of a symbol that never came."""
    w_0 = jax.tree.map(lambda p: p.astype(jnp.float64), weights())
    g, _ = segment_grad(w_0, NET.initial_state(w_0), np.append(V, TEXT[:9]), TEXT[:10])
    rms = jax.tree.map(jnp.ones_like, w_0) | {'readout': jax.tree.map(jnp.zeros_like, w_0['readout'])}
    mean = model.size(w_0['cell']) / model.size(w_0)
    moved = scoring.learn(scoring.Rule(0.02, 0.1, rms), w_0, w_0, g)
    for part, rate in (('cell', 0.02 / (1 + mean)), ('readout', 0.02 / mean)):
        for to, w, d in zip(*map(jax.tree.leaves, (moved[part], w_0[part], g[part])), strict=True):
            assert_allclose(to, w - rate * d, rtol=1e-12)


def test_no_step_is_longer_than_three_times_those_of_training(x64):
    w_0 = jax.tree.map(lambda p: p.astype(jnp.float64), weights())
    rms = jax.tree.map(lambda p: jnp.full_like(p, 0.5), w_0)  # so is their mean
    for k in (1.0, 2.9, 3.0, 100.0):  # derivatives so many times as large as the root mean squares
        g = jax.tree.map(lambda r: k * r, rms)  # noqa: B023
        moved = scoring.learn(scoring.Rule(0.02, 0.0, rms), w_0, w_0, g)
        for to, w in zip(*map(jax.tree.leaves, (moved, w_0)), strict=True):
            assert_allclose(to, w - 0.02 * min(k, 3) / 2, rtol=1e-12)


def test_gradient_descent_takes_no_step_longer_than_its_bound(x64):
    w_0 = jax.tree.map(lambda p: p.astype(jnp.float64), weights())
    g = jax.tree.map(jnp.ones_like, w_0)
    n = model.size(w_0) ** 0.5  # its norm
    for clip, s in ((np.inf, 1.0), (2 * n, 1.0), (0.5 * n, 0.5)):
        moved = scoring.learn(scoring.Rule(0.02, 0.0, clip=clip), w_0, w_0, g)
        for to, w in zip(*map(jax.tree.leaves, (moved, w_0)), strict=True):
            assert_allclose(to, w - 0.02 * s, rtol=1e-12)
    still = scoring.learn(scoring.Rule(0.02, 0.0), w_0, w_0, jax.tree.map(jnp.zeros_like, g))
    jax.tree.map(assert_array_equal, still, w_0)


def test_root_mean_squares_are_those_of_the_segments(x64):
    w = weights()
    found = scoring.root_mean_squares(NET, w, TEXT, [V], 30, block=4)
    xs, state, total = np.append(V, TEXT[:-1]), NET.initial_state(w), 0.0
    for part in (slice(0, 30), slice(30, 57)):
        g, (_, state) = segment_grad(w, state, xs[part], TEXT[part])
        total += np.asarray(g['cell']['W_h']) ** 2
    assert_allclose(found['cell']['W_h'], np.sqrt(total / 2), rtol=1e-5)
