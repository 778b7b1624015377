import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from hfrnn import cells, model, outputs

V, H, F, T = 5, 7, 6, 9
CELLS = {
    'rnn': cells.rnn(V, H),
    'tensor_rnn': cells.tensor_rnn(V, H),
    'mrnn': cells.mrnn(V, H, F),
    'mrnn tanh': cells.mrnn(V, H, F, gain='tanh'),
}
each_cell = pytest.mark.parametrize('cell', CELLS.values(), ids=CELLS)


def symbols(seed=0, n=T):
    return jnp.asarray(np.random.default_rng(seed).integers(0, V, n))


def params_of(cell, seed=0):
    """Random everywhere, the initial state included."""
    params = cell.init(jax.random.key(seed))
    keys = jax.random.split(jax.random.key(seed + 1), len(params))
    return {n: p + 0.3 * jax.random.normal(k, p.shape) for (n, p), k in zip(params.items(), keys, strict=True)}


@each_cell
def test_unroll_is_the_loop(cell, x64):
    params, xs = params_of(cell), symbols()
    state, ys = cells.unroll(cell, params, xs)
    s, loop = cell.initial_state(params), []
    for x in xs:
        s, y = cell.step(params, s, x)
        loop.append(y)
    assert_allclose(ys, jnp.stack(loop), rtol=1e-12)
    assert_allclose(state, s, rtol=1e-12)


@each_cell
def test_two_halves_are_the_whole(cell, x64):
    params, xs = params_of(cell), symbols()
    _, whole = cells.unroll(cell, params, xs)
    state, first = cells.unroll(cell, params, xs[:4])
    _, second = cells.unroll(cell, params, xs[4:], state)
    assert_allclose(whole, jnp.concatenate([first, second]), rtol=1e-12)


@each_cell
def test_a_symbol_is_its_one_hot_vector(cell, x64):
    params, xs = params_of(cell), symbols()
    _, by_symbol = cells.unroll(cell, params, xs)
    _, by_vector = cells.unroll(cell, params, jax.nn.one_hot(xs, V))
    assert_allclose(by_symbol, by_vector, rtol=1e-12)


@each_cell
def test_nothing_looks_ahead(cell, x64):
    params, xs = params_of(cell), jax.nn.one_hot(symbols(), V)
    jacobian = jax.jacobian(lambda xs: cells.unroll(cell, params, xs)[1])(xs)  # (T, H, T, V)
    size = jnp.abs(jacobian).sum((1, 3))
    assert (size[jnp.triu_indices(T, 1)] == 0).all()
    assert (size[jnp.tril_indices(T)] > 0).all()


def test_mrnn_is_the_tensor_rnn_of_its_factored_tensor(x64):
    """SMH11 eq. 10: W_hh^(m) = W_hf diag(column m of W_fx) W_fh."""
    p = params_of(CELLS['mrnn'])
    dense = {
        'W_hx': p['W_hx'],
        'W_hh': jnp.einsum('hf,fm,fk->mhk', p['W_hf'], p['W_fx'], p['W_fh']),
        'b_h': jnp.zeros(H),
        'h_init': p['h_init'],
    }
    _, factored = cells.unroll(CELLS['mrnn'], p, symbols())
    _, tensor = cells.unroll(CELLS['tensor_rnn'], dense, symbols())
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
