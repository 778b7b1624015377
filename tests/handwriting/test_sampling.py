"""Laws of handwriting drawn from nets: begun anywhere, with any bias, to the stop rule or the cap."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hfrnn.handwriting import models, sampling
from hfrnn.nets import attention, cells, outputs
from hfrnn.nets.cells import unroll
from hfrnn.nets.model import Conditioned

V, CAP, ADVANCE = 5, 20, 0.14
NET = models.Net(layers=2, hidden=7, mixtures=3, gaussians=2, clip=0.0, output_clip=0.0)
SYNTHESIS, PREDICTION = models.make('synthesis', NET, V), models.make('prediction', NET)
TEXTS = attention.Text(
    jnp.array([[1, 2, 3, 0, 0], [4, 4, 0, 0, 0], [1, 2, 3, 4, 1], [2, 0, 0, 0, 0]]), jnp.array([3, 2, 5, 1])
)
N_PREFIX = jnp.array([1, 4, 7, 2])


def prefix():
    points = jax.random.normal(jax.random.key(5), (4, 7, 3)).at[:, 0].set(0)
    return points.at[:, :, 2].set(points[:, :, 2] > 1)


def params_of(net, advance=None):
    """Weights that say something; with ``advance`` the window moves by about so much in a step."""
    params = jax.tree.map(lambda p: 3 * p, net.init(jax.random.key(1)))
    if advance:
        params['cell']['b_p'] = jnp.zeros(6).at[4:].set(jnp.log(advance))
    return params


@functools.partial(jax.jit, static_argnames=('net', 'cap', 'ruled'))
def drawn_by(net, params, keys, points, n, context, bias, bias_after=0, finish=0, cap=CAP, ruled=True):
    return sampling.sample_lines(
        net,
        params,
        keys,
        points,
        n,
        context,
        cap=cap,
        bias=bias,
        bias_after=bias_after,
        stop=attention.finished if ruled and context else None,
        finish=finish,
    )


def draw(net, seed=0, context=TEXTS, points=None, n=N_PREFIX, bias=0.0, advance=ADVANCE, **more):
    points = prefix() if points is None else points
    keys = jax.random.split(jax.random.key(seed), len(points))
    return drawn_by(net, params_of(net, advance if context else None), keys, points, n, context, bias, **more)


def test_begun_lines_go_on_from_exactly_the_state_that_scoring_leaves(x64):
    """``predict`` is how lines are scored: layer by layer, each a loop of its own."""
    points = prefix().astype(jnp.float64)
    params = params_of(SYNTHESIS, ADVANCE)
    after = draw(SYNTHESIS, points=points, cap=0, ruled=False)
    np.testing.assert_array_equal(
        after.points, np.where(np.arange(7)[:, None] < np.array(N_PREFIX)[:, None, None], points, 0)
    )
    layers = [cells.lstm(3, 7, V), cells.lstm(3, 7, 7 + V)]

    @jax.jit
    def scored(points, text):
        cell = attention.attend(text, layers, V, 2)
        return unroll(cell, params['cell'], points), SYNTHESIS.predict(params, Conditioned(points, text)).h

    for b in (1, 2):
        text = jax.tree.map(lambda leaf, b=b: leaf[b], TEXTS)
        (state, hs), h = scored(points[b, : N_PREFIX[b]], text)
        np.testing.assert_allclose(hs, h, rtol=1e-12, atol=1e-14)
        for found, expected in zip(jax.tree.leaves(after.state), jax.tree.leaves(state), strict=True):
            np.testing.assert_allclose(found[b], expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    'net, context, finish',
    [(SYNTHESIS, TEXTS, 0), (SYNTHESIS, TEXTS, 1), (SYNTHESIS, TEXTS, 9), (PREDICTION, None, 0)],
    ids=['synthesis', 'one more', 'to the end of a stroke', 'prediction'],
)
def test_it_is_the_loop_of_its_docstring(net, context, finish, x64):
    found = draw(net, 4, context=context, bias=0.5, points=prefix().astype(jnp.float64), finish=finish)
    params = params_of(net, ADVANCE if context else None)
    keys = jax.random.split(jax.random.key(4), 4)

    @jax.jit
    def one(state, x, text, key, t):
        state, z = net.step(params, state, Conditioned(x, text) if context else x)
        stop = attention.finished(state, text) if context else False
        return state, stop, net.output.sample(jax.random.fold_in(key, t), z, 0.5)

    points, ends, went_on = np.array(prefix()), [], []
    for b, P in enumerate(map(int, N_PREFIX)):
        text = context and jax.tree.map(lambda leaf, b=b: leaf[b], context)
        x, state, left = list(points[b, :P]), net.initial_state(params), None
        for t in range(P + CAP):
            state, stop, new = one(state, x[t], text, keys[b], t)
            if t + 1 < P:
                continue
            if left is None and stop:
                left = finish
            if (left is not None and (x[-1][2] == 1 or left == 0)) or len(x) == P + CAP:
                break
            if left is not None:
                left -= 1
            x.append(np.array(new))
        stopped = left is not None
        went_on.append((finish - left, x[-1][2] == 1) if stopped else None)
        assert found.lengths[b] == len(x) and found.stopped[b] == stopped
        np.testing.assert_allclose(found.points[b, : len(x)], np.array(x), rtol=1e-9, atol=1e-9)
        assert not found.points[b, len(x) :].any()
        ends.append(stopped)
    assert set(ends) == ({True, False} if context else {False})  # both ways to end were seen
    if finish:  # a stroke was drawn to its end; with one point more, another was not
        assert {end[1] for end in went_on if end and end[0]} == ({True, False} if finish == 1 else {True})


def test_the_same_seed_draws_the_same_and_lines_do_not_depend_on_their_neighbours():
    one, again, other = draw(SYNTHESIS), draw(SYNTHESIS), draw(SYNTHESIS, seed=1)
    np.testing.assert_array_equal(one.points, again.points)
    assert (one.points[:, :12] != other.points[:, :12]).any()
    keys = jax.random.split(jax.random.key(0), 4)
    for b in (0, 2):
        part = slice(b, b + 1)
        text = jax.tree.map(lambda leaf, part=part: leaf[part], TEXTS)
        params = params_of(SYNTHESIS, ADVANCE)
        alone = drawn_by(SYNTHESIS, params, keys[part], prefix()[part], N_PREFIX[part], text, 0.0)
        assert alone.lengths[0] == one.lengths[b] and alone.stopped[0] == one.stopped[b]
        np.testing.assert_allclose(alone.points[0], one.points[b], rtol=2e-3, atol=1e-4)


def test_the_cap_holds_and_a_window_that_hurries_stops_at_once():
    slow, fast = draw(SYNTHESIS, advance=1e-6), draw(SYNTHESIS, advance=20.0)
    np.testing.assert_array_equal(slow.lengths, N_PREFIX + CAP)
    assert not slow.stopped.any() and fast.stopped.all()
    np.testing.assert_array_equal(fast.lengths, N_PREFIX)  # not one point was drawn
    np.testing.assert_array_equal(draw(SYNTHESIS, ruled=False).lengths, N_PREFIX + CAP)


def test_the_first_points_may_be_drawn_without_the_bias(x64):
    """Of each line, begun with however many; those after them as if it had been begun with them."""
    plain, whole, late = (
        draw(PREDICTION, context=None, bias=b, bias_after=k) for b, k in ((0.0, 0), (2.0, 0), (2.0, 6))
    )
    for b, P in enumerate(map(int, N_PREFIX)):
        np.testing.assert_allclose(late.points[b, : P + 6], plain.points[b, : P + 6])
        assert not np.allclose(late.points[b, P + 6], plain.points[b, P + 6])
        assert not np.allclose(late.points[b, P], whole.points[b, P])
    primed = draw(PREDICTION, context=None, points=late.points[:, :13], n=N_PREFIX + 6, bias=2.0, cap=CAP - 6)
    for b, P in enumerate(map(int, N_PREFIX)):
        np.testing.assert_allclose(primed.points[b, : P + CAP], late.points[b, : P + CAP], rtol=1e-9, atol=1e-9)


def test_no_bias_is_the_plain_sampler_and_a_large_one_tends_to_the_likeliest_mean():
    keys = jax.random.split(jax.random.key(0), 4)
    params = params_of(PREDICTION)
    first = {bias: draw(PREDICTION, context=None, bias=bias, cap=1) for bias in (0.0, 30.0)}
    zs = jax.vmap(lambda xs: PREDICTION.predict(params, xs).z)(prefix())
    for b, P in enumerate(map(int, N_PREFIX)):
        z = zs[b, P - 1]
        plain = PREDICTION.output.sample(jax.random.fold_in(keys[b], P - 1), z)
        np.testing.assert_allclose(first[0.0].points[b, P], plain, rtol=1e-4, atol=1e-5)
        m = outputs.mixture(z)
        np.testing.assert_allclose(first[30.0].points[b, P, :2], m.mu[:, jnp.argmax(m.log_pi)], rtol=1e-3, atol=1e-4)
