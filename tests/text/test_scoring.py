"""Static and dynamic evaluation on a small net."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from numpy.testing import assert_allclose, assert_array_equal

from hfrnn.errors import DataError
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


static_reader = functools.cache(lambda piece: scoring.static_reader(NET, piece))
dynamic_reader = functools.cache(lambda segment, block: scoring.dynamic_reader(NET, segment, block))


def by_hand(text):
    """-log P of each symbol, and whether another was likelier, by one prediction of the whole."""
    z = np.asarray(predict(weights(), np.append(V, text[:-1])).z, np.float64)
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    return -np.log(p[np.arange(len(text)), text]), p.argmax(1) != text


@pytest.mark.parametrize('B, context, piece', [(1, 0, 100), (1, 0, 7), (5, 57, 10), (57, 60, 9), (80, 60, 9)])
def test_static_is_the_whole_text_however_it_is_read(B, context, piece):
    nats, wrong = by_hand(TEXT)
    reading = static_reader(piece)(weights(), TEXT, V, B, context)
    assert_allclose(reading.nats, nats, rtol=1e-4)
    assert_array_equal(reading.wrong, wrong)


@pytest.mark.parametrize('rms', [False, True])
@pytest.mark.parametrize('segment', [1, 8])
def test_at_rate_0_dynamic_is_static(segment, rms):
    rule = scoring.Rule(0.0, 0.3, weights() if rms else None)
    reading = dynamic_reader(segment, 3)(weights(), TEXT, V, rule)
    nats, wrong = by_hand(TEXT)
    assert_allclose(reading.nats, nats, rtol=1e-4)
    assert_array_equal(reading.wrong, wrong)


def rules(repeated):
    rms = scoring.root_mean_squares(NET, weights(), repeated, V, 10)
    return scoring.Rule(0.05, 0.0), scoring.Rule(0.02, 0.001, rms)


@pytest.mark.parametrize('which', [0, 1])
def test_on_a_repeated_text_it_falls_below_static(which):
    repeated = np.tile(TEXT[:10], 60)
    reading = dynamic_reader(10, 10)(weights(), repeated, V, rules(repeated)[which])
    static, _ = by_hand(repeated)
    assert reading.nats.mean() < 0.9 * static.mean()
    assert reading.nats[300:].mean() < reading.nats[:300].mean()
    assert reading.nats[300:].mean() < 0.7 * static[300:].mean()


@pytest.mark.parametrize('which', [0, 1])
def test_nothing_is_learnt_from_before_it_is_scored(which):
    """What comes later, to the end of the same segment, changes nothing that came before."""
    read = dynamic_reader(10, 10)
    rule = rules(TEXT)[which]
    for place in (1, 9, 10, 23, 56):  # of the first symbol this net says nothing, whatever it is
        other = TEXT.copy()
        other[place] = (other[place] + 1) % V
        one, two = (read(weights(), text, V, rule).nats for text in (TEXT, other))
        assert_array_equal(one[:place], two[:place])
        assert one[place] != two[place]
    static, _ = by_hand(TEXT)
    assert_allclose(read(weights(), TEXT, V, rule).nats[:10], static[:10], rtol=1e-4)  # as yet nothing is learnt


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
    assert_allclose(scoring.dynamic_reader(NET, 8, 3)(w_0, TEXT, V, rule).nats, nats, rtol=1e-10)


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


def test_root_mean_squares_are_those_of_the_segments(x64):
    w = weights()
    found = scoring.root_mean_squares(NET, w, TEXT, V, 30, block=4)
    xs, state, total = np.append(V, TEXT[:-1]), NET.initial_state(w), 0.0
    for part in (slice(0, 30), slice(30, 57)):
        g, (_, state) = segment_grad(w, state, xs[part], TEXT[part])
        total += np.asarray(g['cell']['W_h']) ** 2
    assert_allclose(found['cell']['W_h'], np.sqrt(total / 2), rtol=1e-5)


@pytest.mark.parametrize('best', [1e-7, 3e-4, 0.9, 50.0])
@pytest.mark.parametrize('cliff', [1.0, math.inf, math.nan])
def test_tuning_finds_the_valley_and_shuns_the_cliff(best, cliff):
    def measure(rate):
        assert rate > 0
        return (math.log(rate / best)) ** 2 if rate < 5 * best or cliff == 1 else cliff

    rate, value = scoring.tune(measure, 1e-2, most=30)
    assert best / 2 < rate < best * 2
    assert value == measure(rate)


def test_where_every_rate_takes_the_weights_apart_none_is_chosen():
    with pytest.raises(DataError, match='come apart'):
        scoring.tuned(lambda rate, decay: math.nan, with_rms=True)
