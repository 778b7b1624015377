"""What single cells have to themselves; the laws of all stand in ``tests.laws.test_cells``."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from hfrnn.nets import cells, model, outputs
from tests.laws.test_cells import F, H, T, V, params_of, symbols


def test_mrnn_is_the_tensor_rnn_of_its_factored_tensor(x64):
    """SMH11 eq. 10: W_hh^(m) = W_hf diag(column m of W_fx) W_fh."""
    p = params_of(cells.mrnn(V, H, F))
    dense = {
        'W_hx': p['W_hx'],
        'W_hh': jnp.einsum('hf,fm,fk->mhk', p['W_hf'], p['W_fx'], p['W_fh']),
        'b_h': jnp.zeros(H),
        'h_init': p['h_init'],
    }
    _, factored = cells.unroll(cells.mrnn(V, H, F), p, symbols())
    _, tensor = cells.unroll(cells.tensor_rnn(V, H), dense, symbols())
    assert_allclose(factored, tensor, rtol=1e-10)


def test_weights_are_as_many_as_in_the_paper():
    """The nets of SMH11 sec. 3.2 and 5, at its 86 symbols."""

    def count(cell):
        net = model.sequence_model(cell, outputs.categorical(86))
        return model.size(jax.eval_shape(net.init, jax.random.key(0)))

    assert count(cells.rnn(86, 500)) == 337_086
    assert count(cells.mrnn(86, 350, 350)) == 335_736
    assert count(cells.mrnn(86, 1500, 1500)) == 4_888_586


@pytest.mark.parametrize('sources', [3, 15, 40])
def test_sparse_units_have_their_connections(sources):
    W = cells.sparse(jax.random.key(0), (50, sources), 0.5)
    assert W.shape == (50, sources)
    assert ((W != 0).sum(1) == min(sources, 15)).all()
    assert_allclose(W[W != 0].std(), 0.5, rtol=0.1)


def test_another_gain_is_refused():
    with pytest.raises(ValueError, match='gain'):
        cells.mrnn(V, H, F, gain='cubic')


def test_scales_at_the_start():
    """input_scale and bias_scale are standard deviations, and change nothing else."""
    key = jax.random.key(0)
    plain, scaled = cells.rnn(2, 400).init(key), cells.rnn(2, 400, input_scale=1.0, bias_scale=0.5).init(key)
    assert_allclose(scaled['W_hx'].std(), 1.0, rtol=0.1)
    assert_allclose(scaled['b_h'].std(), 0.5, rtol=0.1)
    assert_allclose(scaled['W_hx'] * cells.SCALE, plain['W_hx'], rtol=1e-6)
    assert (plain['b_h'] == 0).all()
    assert (scaled['W_hh'] == plain['W_hh']).all()
    assert ((scaled['W_hh'] != 0).sum(1) == 15).all()


# -- LSTM -------------------------------------------------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_by_hand(p, x, h, c):
    """Graves 2013 eq. 7-11, for one step: h, c and the gates."""
    p = {name: np.split(np.asarray(W), 3 if name == 'w_c' else 4) for name, W in p.items()}
    a_i, a_f, a_o, a_c = (W_x @ x + W_h @ h + b for W_x, W_h, b in zip(p['W_x'], p['W_h'], p['b'], strict=True))
    (w_ci,), (w_cf,), (w_co,) = p['w_c']
    i, f, g = sigmoid(a_i + w_ci * c), sigmoid(a_f + w_cf * c), np.tanh(a_c)
    c = f * c + i * g
    o = sigmoid(a_o + w_co * c)
    return o * np.tanh(c), c, (i, f, o, g)


def test_lstm_is_eight_lines_of_numpy(x64):
    cell, xs = cells.lstm(V, H), np.random.default_rng(0).normal(size=(T, V))
    params, h, c = params_of(cell), np.zeros(H), np.zeros(H)
    (last_h, last_c), ys = cells.unroll(cell, params, jnp.asarray(xs))
    for x, y in zip(xs, ys, strict=True):
        h, c, _ = lstm_by_hand(params, x, h, c)
        assert_allclose(y, h, rtol=1e-12)
    assert_allclose((last_h, last_c), (h, c), rtol=1e-12)


def lstm_derivatives_by_hand(p, xs, dys, limit):
    """Backpropagation through time in which the derivatives of the four net inputs, and no others, are clipped."""
    h, c, steps = np.zeros(H), np.zeros(H), []
    for x in xs:
        before = h, c
        h, c, gates = lstm_by_hand(p, x, h, c)
        steps.append((x, *before, c, gates))
    p = {name: np.asarray(W) for name, W in p.items()}
    w_ci, w_cf, w_co = p['w_c']
    d, dxs = {name: np.zeros_like(W) for name, W in p.items()}, []
    dh, dc = np.zeros(H), np.zeros(H)
    for (x, h_, c_, c, (i, f, o, g)), dy in zip(reversed(steps), reversed(dys), strict=True):
        dh = dh + dy
        da_o = np.clip(dh * np.tanh(c) * o * (1 - o), -limit, limit)
        dc = dc + dh * o * (1 - np.tanh(c) ** 2) + w_co * da_o
        da_i = np.clip(dc * g * i * (1 - i), -limit, limit)
        da_f = np.clip(dc * c_ * f * (1 - f), -limit, limit)
        da = np.concatenate([da_i, da_f, da_o, np.clip(dc * i * (1 - g**2), -limit, limit)])
        terms = {'W_x': np.outer(da, x), 'W_h': np.outer(da, h_), 'w_c': [da_i * c_, da_f * c_, da_o * c], 'b': da}
        d = {name: d[name] + term for name, term in terms.items()}
        dh, dc = p['W_h'].T @ da, dc * f + w_ci * da_i + w_cf * da_f
        dxs.append(p['W_x'].T @ da)
    return d, np.array(dxs[::-1])


@pytest.mark.parametrize('reverse', [False, True])
@pytest.mark.parametrize('limit', [None, 0.5])
def test_derivatives_are_clipped_at_the_net_inputs_and_nowhere_else(limit, reverse, x64):
    rng = np.random.default_rng(1)
    xs, dys = rng.normal(size=(T, V)), 3 * rng.normal(size=(T, H))
    cell = cells.lstm(V, H, clip=limit, reverse=reverse)
    params = params_of(cell)
    grads = jax.grad(lambda p, xs: jnp.sum(cells.unroll(cell, p, xs)[1] * dys), (0, 1))(params, jnp.asarray(xs))
    by_hand = lstm_derivatives_by_hand(params, xs, dys, limit or np.inf)
    jax.tree.map(functools.partial(assert_allclose, rtol=1e-9), grads, by_hand)
    unclipped, _ = lstm_derivatives_by_hand(params, xs, dys, np.inf)
    assert np.allclose(grads[0]['b'], unclipped['b']) == (limit is None)


def test_dropout_leaves_out_its_share_of_what_enters_and_is_right_in_the_mean():
    """Each cell of each layer in each step by itself; c_1 = i * tanh(...) is then 0 or larger."""
    share, n = 0.3, 4000
    both = cells.stack(*(cells.lstm(V, 4, below, reverse=True, dropout=share) for below in (0, 4)))
    params, x, keys = params_of(both), symbols(n=3), jax.random.split(jax.random.key(1), n)
    lower = jax.vmap(lambda key: cells.unroll(both, params, x[:1], None, key)[0])(keys)[0][1]
    whole = cells.unroll(both, params, x[:1])[0][0][1]
    assert_allclose(lower, np.where(lower == 0, 0, whole / (1 - share)), rtol=1e-5)
    remembers = tuple(p | {'b': p['b'].at[4:12].set(1e3)} for p in params)  # f = o = 1: h_t = tanh(c_t)
    _, hs = jax.vmap(lambda key: cells.unroll(both, remembers, x, None, key))(keys)
    gone = np.diff(hs, axis=1, prepend=0).reshape(n, -1) == 0
    assert_allclose(np.cov(gone.T), share * (1 - share) * np.eye(24), atol=0.02)
    assert_allclose(gone.mean(0), share, atol=0.03)
    none = cells.stack(*(cells.lstm(V, 4, below, reverse=True) for below in (0, 4)))
    alike = [cells.unroll(none, params, x, None, keys[0]), cells.unroll(both, params, x)]
    jax.tree.map(np.testing.assert_array_equal, *alike)
    for wrong in ({'dropout': 1.0}, {'dropout': -0.1}, {'dropout': 0.1, 'reverse': False}):
        with pytest.raises(ValueError, match='dropout'):
            cells.lstm(V, H, **{'reverse': True} | wrong)
    with pytest.raises(ValueError, match='rounded to a dtype'):
        cells.lstm(V, H, dtype=jnp.bfloat16)


def test_skip_connections(x64):
    """What is left of a stack of two, when the one or the other way into the second layer is shut."""
    first, second = cells.lstm(V, 3), cells.lstm(V, 4, 3)
    both, xs = cells.stack(first, second), symbols()
    p, q = params_of(both)
    _, ys = cells.unroll(both, (p, q), xs)
    assert ys.shape == (T, both.size) == (T, 7)
    _, h1 = cells.unroll(first, p, xs)
    assert_allclose(ys[:, :3], h1, rtol=1e-12)

    _, no_way_up = cells.unroll(both, (p, q | {'W_h': q['W_h'].at[:, :3].set(0)}), xs)
    _, alone = cells.unroll(cells.lstm(V, 4), q | {'W_h': q['W_h'][:, 3:]}, xs)
    assert_allclose(no_way_up[:, 3:], alone, rtol=1e-12)

    _, no_input = cells.unroll(both, (p, q | {'W_x': 0 * q['W_x']}), xs)
    _, alone = cells.unroll(cells.lstm(3, 4), q | {'W_x': q['W_h'][:, :3], 'W_h': q['W_h'][:, 3:]}, h1)
    assert_allclose(no_input[:, 3:], alone, rtol=1e-12)


def test_weights_are_as_many_as_in_graves_2013():
    """Of which it gives 4.3 M and 54 M for Penn Treebank; those for handwriting are counted where its nets are."""

    def count(n):
        net = model.sequence_model(cells.lstm(n, 1000), outputs.categorical(n), cells.gaussian)
        return model.size(jax.eval_shape(net.init, jax.random.key(0)))

    assert (count(49), count(10_000)) == (4_252_049, 54_017_000)


def test_lstm_weights_begin_as_stated():
    p = cells.lstm(50, 60).init(jax.random.key(0))
    for name, inputs in (('W_x', 50), ('W_h', 60), ('w_c', 60)):
        assert_allclose(p[name].std(), inputs**-0.5, rtol=0.2)
    assert (p['b'] == 0).all()
