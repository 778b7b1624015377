import functools
import itertools
import math
import random

import numpy as np
import pytest

from hfrnn.rivals import context_tree, memoizer, pitman_yor, tables
from tests.reading import total_bits

V = 3
CONTEXTS = [np.array(c, np.uint16) for n in range(4) for c in itertools.product(range(V), repeat=n)]
DISCOUNTS, CONCENTRATION = (0.3, 0.6, 0.7, 0.8), 2.0


def letters(text):
    return np.array(['abc'.index(c) for c in text], np.uint16)


def random_letters(n, seed=0):
    """Letters that often repeat what stood some places before."""
    rng = np.random.default_rng(seed)
    text = list(rng.integers(0, V, 5))
    while len(text) < n:
        text.append(text[-4] if rng.random() < 0.6 else rng.integers(0, V))
    return np.array(text, np.uint16)


def train(symbols, seed=0, **options):
    return memoizer.train(symbols, V, discounts=DISCOUNTS, concentration=CONCENTRATION, seed=seed, **options)


def is_a_node(model, context):
    """Whether the longest known part of a context is a restaurant of the tree, not a place on an edge."""
    path = np.zeros(model.prior.longest + 2, np.int32)
    _, child, _ = context_tree.descend(model.tree, model.prior, context, len(context), path)
    return child < 0


# -- the hierarchical Pitman-Yor process, restaurant by restaurant, with nothing collapsed ----------------------------


def discount(depth):
    return DISCOUNTS[min(depth, len(DISCOUNTS) - 1)]


def concentration(depth):
    return CONCENTRATION * math.prod(map(discount, range(depth + 1)))


def probability(restaurants, context, symbol):
    """G_context(symbol), context being a tuple and restaurants {context: {symbol: [customers of a table, ...]}}."""
    above = probability(restaurants, context[1:], symbol) if context else 1 / V
    served = restaurants.get(context)
    if not served:
        return above
    d, theta = discount(len(context)), concentration(len(context))
    customers = sum(map(sum, served.values()))
    tables = sum(map(len, served.values()))
    mine = served.get(symbol, [])
    return (sum(mine) - d * len(mine) + (theta + d * tables) * above) / (theta + customers)


def seat(restaurants, context, symbol, rng):
    """One customer; rng None for one table a symbol."""
    served = restaurants.setdefault(context, {})
    mine = served.setdefault(symbol, [])
    above = probability(restaurants, context[1:], symbol) if context else 1 / V
    d, theta = discount(len(context)), concentration(len(context))
    new = (theta + d * sum(map(len, served.values()))) * above
    if mine and rng is None:
        mine[0] += 1
        return
    weights = [size - d for size in mine]
    chosen = rng.choices(range(len(mine) + 1), [*weights, new])[0] if rng else 0
    if chosen < len(mine):
        mine[chosen] += 1
        return
    mine.append(1)
    if context:
        seat(restaurants, context[1:], symbol, rng)


def brute_force(symbols, rng):
    restaurants = {}
    for i, symbol in enumerate(symbols):
        seat(restaurants, tuple(symbols[:i]), symbol, rng)
    return restaurants


# -- laws -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_equals_brute_force_in_the_mean_of_the_seatings():
    symbols = letters('abcabcabcabcaccbaabab')
    runs = 1500
    contexts = [c for c in CONTEXTS if is_a_node(train(symbols), c)]
    assert len(contexts) > 10
    mine, theirs = (np.zeros((runs, len(contexts), V)) for _ in range(2))
    rng = random.Random(0)
    for run in range(runs):
        model = train(symbols, seed=run)
        restaurants = brute_force(symbols.tolist(), rng)
        for i, context in enumerate(contexts):
            mine[run, i] = pitman_yor.distribution(model, context)
            theirs[run, i] = [probability(restaurants, tuple(context.tolist()), s) for s in range(V)]
    error = np.sqrt((mine.var(0) + theirs.var(0)) / runs)
    assert np.all(np.abs(mine.mean(0) - theirs.mean(0)) < 4.5 * error + 1e-9)
    assert error.max() > 1e-4  # there was something to compare


def test_half_way_down_an_edge_it_is_near_to_brute_force():
    """There the restaurant is the one expected, of tables of equal size: an approximation, good to 0.03."""
    symbols = letters('abcabcabcabcaccbaabab')
    contexts = [c for c in CONTEXTS if not is_a_node(train(symbols), c)]
    assert len(contexts) > 5
    runs, rng = 400, random.Random(0)
    difference = np.zeros((len(contexts), V))
    for run in range(runs):
        model = train(symbols, seed=run)
        restaurants = brute_force(symbols.tolist(), rng)
        for i, context in enumerate(contexts):
            difference[i] += pitman_yor.distribution(model, context) / runs
            difference[i] -= [probability(restaurants, tuple(context.tolist()), s) / runs for s in range(V)]
    assert np.abs(difference).max() < 0.04  # of which 0.01 is the sampling's
    assert np.sqrt(np.mean(difference**2)) < 0.015


@pytest.mark.parametrize('longest', [0, 1, 4, 40])
def test_with_one_table_a_symbol_equals_brute_force(longest):
    symbols = random_letters(40)
    prior = pitman_yor.prior(V, longest, DISCOUNTS, CONCENTRATION, one_table=True)
    model = pitman_yor.learn(pitman_yor.empty(prior), symbols)
    restaurants = {}
    for i, symbol in enumerate(symbols.tolist()):
        seat(restaurants, tuple(symbols[max(i - longest, 0) : i].tolist()), symbol, None)
    for context in CONTEXTS:
        known = tuple(context[max(len(context) - longest, 0) :].tolist())
        exact = [probability(restaurants, known, s) for s in range(V)]
        np.testing.assert_allclose(pitman_yor.distribution(model, context), exact, rtol=1e-12)


def test_probabilities_sum_to_one():
    model = train(random_letters(300))
    online = pitman_yor.online(model)
    for context in CONTEXTS:
        p = pitman_yor.distribution(model, context)
        state = online.init()
        for symbol in context:
            state = online.update(state, symbol)
        for q in (p, online.probs(state)):
            assert q.min() > 0
            np.testing.assert_allclose(q.sum(), 1, rtol=1e-12)


@pytest.mark.parametrize('kind', ['static', 'online'])
def test_bulk_equals_symbol_by_symbol(kind):
    model, text = train(random_letters(400)), random_letters(200, seed=1)
    predictor = getattr(pitman_yor, kind)(model)
    state, bits = total_bits(predictor, predictor.init(), text)
    if kind == 'static':
        bulk = pitman_yor.static_bits(model, text)
    else:
        learnt, bulk = pitman_yor.online_bits(model, text)
        for a, b in zip(learnt.tree, state.tree, strict=True):
            n = min(len(a), len(b))
            np.testing.assert_array_equal(a[:n], b[:n])
    np.testing.assert_allclose(bulk, bits, rtol=1e-12)


def test_static_scoring_changes_nothing():
    model = train(random_letters(300))
    before = [array.tobytes() for array in model.tree]
    bits = pitman_yor.static_bits(model, random_letters(100, seed=1))
    pitman_yor.distribution(model, letters('abc'))
    assert [array.tobytes() for array in model.tree] == before
    assert pitman_yor.static_bits(model, random_letters(100, seed=1)) == bits


def test_of_the_seed_and_nothing_else():
    text = random_letters(5000)

    def content(model):
        return [array[:n].tobytes() for array, n in zip(model.tree, model.tree.used, strict=False)]

    once = train(text, seed=3)
    in_pieces = train(text[:1], seed=3)
    for first in range(1, len(text), 900):
        in_pieces = pitman_yor.learn(in_pieces, text[first : first + 900])
    assert content(once) == content(in_pieces)
    assert content(once) != content(train(text, seed=4))


def test_learns_and_is_never_far_above_the_uniform():
    noise = np.random.default_rng(0).integers(0, V, 20_000).astype(np.uint16)
    text = random_letters(20_000)  # of 1.103 bits a letter
    for symbols, least, most in ((noise, 1.58, 1.70), (text, 1.10, 1.30), (np.zeros(3000, np.uint16), 0, 0.02)):
        _, bits = pitman_yor.online_bits(memoizer.train(symbols[:0], V), symbols)
        assert least < bits / len(symbols) < most


def test_memory_is_linear():
    for text in (random_letters(20_000), np.zeros(20_000, np.uint16), np.tile(letters('ab'), 5000)):
        tree = train(text, longest=100).tree
        assert tree.used[context_tree.NODES] <= 2 * len(text) + 1
        assert tree.used[context_tree.ENTRIES] <= 4 * len(text)


def test_refuses_foreign_symbols():
    with pytest.raises(ValueError, match='alphabet of 3'):
        train(np.array([0, 3]))
    model = train(np.array([0, 1]))
    frozen = pitman_yor.static(model)
    for reads in (functools.partial(pitman_yor.static_bits, model), functools.partial(frozen.read, frozen.init())):
        with pytest.raises(ValueError, match='alphabet of 3'):
            reads(np.array([1, 3]))
    with pytest.raises(ValueError, match='65,536'):
        memoizer.train(np.array([0]), 65_537)


def test_refuses_impossible_discounts():
    for wrong in ((0.5, 1.0), (0.0,), (0.1,)):
        with pytest.raises(ValueError, match='discounts'):
            memoizer.train(letters('abc'), V, discounts=wrong)


# -- tables -----------------------------------------------------------------------------------------------------------


def test_expected_fragments_are_the_mean():
    generator = np.array([7], np.uint64)
    for size, d_up, d_low in ((1, 0.5, 0.5), (4, 0.7, 0.9), (30, 0.3, 0.6)):
        drawn = [tables.fragments(size, d_low, d_up * d_low, generator) for _ in range(20_000)]
        error = np.std(drawn) / math.sqrt(len(drawn))
        assert abs(np.mean(drawn) - tables.expected_fragments(size, d_low, d_up * d_low)) < 4 * error + 1e-9


def test_table_sizes_have_their_distribution():
    customers, d = 6, 0.4
    generator = np.array([7], np.uint64)
    for n in range(1, customers + 1):
        weights = {}
        for seats in itertools.product(range(n), repeat=customers):
            sizes = tuple(sorted(np.bincount(seats, minlength=n).tolist()))
            if 0 not in sizes:
                weights[sizes] = weights.get(sizes, 0) + math.prod(math.gamma(size - d) for size in sizes)
        draws = 4000
        drawn = [tuple(sorted(tables.table_sizes(customers, n, d, generator).tolist())) for _ in range(draws)]
        assert set(drawn) <= set(weights)
        for sizes, weight in weights.items():
            p = weight / sum(weights.values())
            assert abs(drawn.count(sizes) / draws - p) < 4.5 * math.sqrt(p * (1 - p) / draws) + 1e-9


def test_tables_in_groups_break_up_like_all_at_once():
    def mean(customers, tables_, cells):
        generator = np.array([7], np.uint64)
        drawn = [tables.broken_up(customers, tables_, 0.7, 0.35, generator, cells) for _ in range(3000)]
        assert tables_ <= min(drawn) and max(drawn) <= customers
        return np.mean(drawn)

    for customers, n in ((40, 10), (90, 30), (30, 29), (50, 1), (7, 7)):
        assert abs(mean(customers, n, 100) / mean(customers, n, 10**6) - 1) < 0.05
