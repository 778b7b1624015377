"""The laws of every recurrent cell; a new cell is one new row."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from numpy.testing import assert_allclose, assert_array_equal

from hfrnn.nets import attention, cells
from hfrnn.text import models
from tests.trees import assert_trees_close

V, H, F, T = 5, 7, 6, 9


class Row(NamedTuple):
    """A cell that takes symbols 0..V-1, or vectors of V numbers.

    Attributes:
      modes: the derivatives that it has.
      symbols: whether it takes symbols, too.
      random: whether a key makes it random.
    """

    cell: cells.Cell
    modes: tuple[str, ...] = ('fwd', 'rev')
    symbols: bool = True
    random: bool = False


def layers(**options):
    return cells.lstm(V, 3, **options), cells.lstm(V, 6, 3, **options)


def window(**options):
    text = attention.Text(jnp.array([2, 0, 1, 1, 3, 3], jnp.uint8), jnp.int32(4))
    return attention.attend(text, (cells.lstm(V, H, 4, **options), cells.lstm(V, 3, H + 4, **options)), 4, 2, 0.4)


REVERSE = {'reverse': True, 'clip': 0.3}
DROPOUT = {'reverse': True, 'dropout': 0.4}
CELLS = {
    'rnn': Row(cells.rnn(V, H)),
    'tensor_rnn': Row(cells.tensor_rnn(V, H)),
    'mrnn': Row(cells.mrnn(V, H, F)),
    'mrnn tanh': Row(cells.mrnn(V, H, F, gain='tanh')),
    'lstm': Row(cells.lstm(V, H)),
    'lstm reverse': Row(cells.lstm(V, H, **REVERSE), ('rev',)),
    'lstm dropout': Row(cells.lstm(V, H, **DROPOUT), ('rev',), random=True),
    'lstm dropout of fewer cells than symbols': Row(cells.lstm(V, 4, **DROPOUT), ('rev',), random=True),
    'stack': Row(cells.stack(*layers())),
    'stack reverse': Row(cells.stack(*layers(**REVERSE)), ('rev',)),
    'window': Row(window()),
    'window reverse': Row(window(**REVERSE), ('rev',), symbols=False),
}


def test_every_cell_of_text_has_a_row():
    assert {*models.CELLS, models.LSTM} <= {name.split()[0] for name in CELLS}


def each(table):
    return pytest.mark.parametrize('row', table.values(), ids=list(table))


each_cell = each(CELLS)
each_symbolic_cell = each({name: row for name, row in CELLS.items() if row.symbols})
each_random_cell = each({name: row for name, row in CELLS.items() if row.random})


def symbols(seed=0, n=T):
    return jnp.asarray(np.random.default_rng(seed).integers(0, V, n))


def params_of(cell, seed=0):
    """Random everywhere, the initial state included."""
    leaves, structure = jax.tree.flatten(cell.init(jax.random.key(seed)))
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    return structure.unflatten([p + 0.3 * jax.random.normal(k, p.shape) for p, k in zip(leaves, keys, strict=True)])


def inputs_of(row, seed=0):
    """T inputs, the null symbol among them."""
    xs = symbols(seed).at[3].set(V)
    return xs if row.symbols else 0.7 * jax.nn.one_hot(xs, V)


def loop(cell, params, xs, state):
    """The loop in the docstring of ``unroll``, by ``step`` alone."""
    return jax.lax.scan(lambda state, x: cell.step(params, state, x), state, xs)


def some_state(cell, params):
    return jax.tree.map(lambda s: s + 0.3, cell.initial_state(params))


@each_cell
def test_shapes(row):
    """A step keeps the state's shapes and types, and gives ``size`` outputs; another key gives other weights."""
    params = row.cell.init(jax.random.key(0))
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))
    state = row.cell.initial_state(params)
    xs = inputs_of(row)
    new_state, y = jax.eval_shape(row.cell.step, params, state, xs[0])
    assert jax.tree.map(jnp.shape, new_state) == jax.tree.map(jnp.shape, state)
    assert jax.tree.map(jnp.result_type, new_state) == jax.tree.map(jnp.result_type, state)
    assert (y.shape, y.dtype) == ((row.cell.size,), jnp.float32)
    last, ys = jax.eval_shape(functools.partial(cells.unroll, row.cell), params, xs)
    assert jax.tree.map(jnp.shape, last) == jax.tree.map(jnp.shape, state)
    assert ys.shape == (T, row.cell.size)
    jax.tree.map(assert_array_equal, params, row.cell.init(jax.random.key(0)))
    other = row.cell.init(jax.random.key(1))
    assert jax.tree.map(jnp.shape, other) == jax.tree.map(jnp.shape, params)
    assert any((a != b).any() for a, b in zip(*map(jax.tree.leaves, (params, other)), strict=True))


@each_cell
def test_unroll_is_the_loop(row, x64):
    params, xs = params_of(row.cell), inputs_of(row)
    found = cells.unroll(row.cell, params, xs)
    step = jax.jit(lambda s, x: row.cell.step(params, s, x))
    state, ys = row.cell.initial_state(params), []
    for x in xs:
        state, y = step(state, x)
        ys.append(y)
    assert_trees_close(found, (state, jnp.stack(ys)), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(
    'name, kind', [(name, kind) for name, row in CELLS.items() for kind in ('symbols', 'vectors')[not row.symbols :]]
)
def test_derivatives_are_those_of_the_loop(name, kind, x64):
    """In a batch of two, from a state that is not zero; by parameters and state, in every mode that the cell has."""
    row = CELLS[name]
    xs = jnp.stack([symbols(), symbols()[::-1]]).at[0, 0].set(V)
    xs = xs if kind == 'symbols' else 0.7 * jax.nn.one_hot(xs, V)
    params = params_of(row.cell)
    at = params, some_state(row.cell, params)

    def derivatives(run):
        def outputs(params, state):
            return jax.vmap(lambda xs: run(row.cell, params, xs, state))(xs)

        def loss(*at):
            state, ys = outputs(*at)
            return jnp.sum(ys**3) + sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(state))

        def all_modes(*at):
            forward = jax.jvp(outputs, at, jax.tree.map(jnp.cos, at)) if 'fwd' in row.modes else None
            return jax.value_and_grad(loss, (0, 1))(*at), forward

        return jax.jit(all_modes)(*at)

    assert_trees_close(derivatives(cells.unroll), derivatives(loop), rtol=1e-9, atol=1e-12)


@each_symbolic_cell
def test_a_symbol_is_its_one_hot_vector(row, x64):
    params, xs = params_of(row.cell), symbols().at[3].set(V)  # one of them the null symbol, a null vector
    _, by_symbol = cells.unroll(row.cell, params, xs)
    _, by_vector = cells.unroll(row.cell, params, jax.nn.one_hot(xs, V))
    assert_allclose(by_symbol, by_vector, rtol=1e-12)


@each_cell
def test_two_halves_are_the_whole(row, x64):
    params, xs = params_of(row.cell), inputs_of(row)
    whole = cells.unroll(row.cell, params, xs)
    state, first = cells.unroll(row.cell, params, xs[:4])
    state, second = cells.unroll(row.cell, params, xs[4:], state)
    assert_trees_close((state, jnp.concatenate([first, second])), whole, rtol=1e-12)


@each_cell
def test_a_batch_is_its_sequences(row, x64):
    """Each from a state of its own."""
    params = params_of(row.cell)
    batch = [(inputs_of(row, seed), some_state(row.cell, params_of(row.cell, seed))) for seed in (1, 2, 3)]
    run = jax.jit(lambda xs, state: cells.unroll(row.cell, params, xs, state))
    one_by_one = [run(*sequence) for sequence in batch]
    together = jax.vmap(run)(*jax.tree.map(lambda *leaves: jnp.stack(leaves), *batch))
    assert_trees_close(together, jax.tree.map(lambda *leaves: jnp.stack(leaves), *one_by_one), rtol=1e-10, atol=1e-14)


@each_cell
def test_nothing_looks_ahead(row, x64):
    params, xs = params_of(row.cell), jax.nn.one_hot(symbols(), V)
    jacobian = jax.jit(jax.jacrev(lambda xs: cells.unroll(row.cell, params, xs)[1]))(xs)  # (T, H, T, V)
    size = jnp.abs(jacobian).sum((1, 3))
    assert (size[jnp.triu_indices(T, 1)] == 0).all()
    assert (size[jnp.tril_indices(T)] > 0).all()


@each_cell
def test_only_a_key_makes_a_cell_random(row):
    """Without one it gives the same again; with one it differs if it has dropout."""
    params, xs = params_of(row.cell), inputs_of(row)
    run = jax.jit(functools.partial(cells.unroll, row.cell))
    plain, again = run(params, xs), run(params, xs)
    jax.tree.map(assert_array_equal, plain, again)
    keyed, other = (run(params, xs, None, jax.random.key(i)) for i in (3, 4))
    jax.tree.map(assert_array_equal, keyed, run(params, xs, None, jax.random.key(3)))
    for one in (keyed, other):
        assert (one[1] != plain[1]).any() == row.random
    assert (keyed[1] != other[1]).any() == row.random


@each_random_cell
@pytest.mark.parametrize('kind', ['symbols', 'vectors'])
def test_for_a_key_derivatives_are_those_of_one_function(row, kind, x64):
    """Against differences, in a batch."""
    xs = jnp.stack([symbols(), symbols()[::-1]])
    xs = xs if kind == 'symbols' else 0.7 * jax.nn.one_hot(xs, V)

    def loss(params, state):
        keys = jax.random.split(jax.random.key(3))
        state, ys = jax.vmap(lambda xs, key: cells.unroll(row.cell, params, xs, state, key))(xs, keys)
        return jnp.sum(ys**3) + sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(state))

    params = params_of(row.cell)
    at = params, some_state(row.cell, params)
    check_grads(jax.jit(loss), at, order=1, modes=row.modes, atol=1e-6, rtol=1e-6)
