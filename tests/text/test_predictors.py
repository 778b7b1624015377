"""Nets as Predictors, and mixtures: what is read at once is to the last bit what is read symbol by symbol."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hfrnn.nets import cells, model, outputs
from hfrnn.rivals import memoizer, ngram, pitman_yor
from hfrnn.text import mixing, predictors, scoring
from hfrnn.text.metrics import BITS
from hfrnn.text.predictors import Predictor, read, read_bits
from hfrnn.text.scoring import Rule
from tests.reading import total_bits

V = 7
MODEL = model.sequence_model(cells.mrnn(V, 12, 9), outputs.categorical(V))
PARAMS = jax.tree.map(
    lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(1), leaf.shape), MODEL.init(jax.random.key(0))
)


def periodic(n, seed=0):
    """Symbols that often repeat what stood some places before."""
    rng = np.random.default_rng(seed)
    symbols = list(rng.integers(0, V, 5))
    while len(symbols) < n:
        symbols.append(symbols[-5] if rng.random() < 0.8 else rng.integers(0, V))
    return np.array(symbols)


SYMBOLS = periodic(400)


def make(name):
    frozen = predictors.static(MODEL, PARAMS, SYMBOLS[:3])
    return {
        'static net': lambda: frozen,
        'online net': lambda: predictors.online(MODEL, PARAMS, SYMBOLS[:3], Rule(0.01, 0.0, clip=5.0), segment=20),
        'online memoizer': lambda: pitman_yor.online(memoizer.train(SYMBOLS[:50], V)),
        'forgetful memoizer': lambda: pitman_yor.online(memoizer.train(SYMBOLS[:150], V), most=90),
        'static n-gram': lambda: pitman_yor.static(ngram.train(SYMBOLS, V, 3)),
        'forgetful n-gram': lambda: pitman_yor.online(ngram.train(SYMBOLS[:60], V, 4), most=100),
        'mixture': lambda: mixing.mix(frozen, pitman_yor.online(memoizer.train(SYMBOLS[:0], V), most=70)),
    }[name]()


@pytest.mark.parametrize(
    'name',
    [
        'static net',
        'online net',
        'online memoizer',
        'forgetful memoizer',
        'static n-gram',
        'forgetful n-gram',
        'mixture',
    ],
)
def test_reading_at_once_is_reading_one_by_one(name):
    predictor = make(name)
    state, P = predictor.init(), []
    for symbol in SYMBOLS:
        P.append(predictor.probs(state))
        state = predictor.update(state, int(symbol))
    P = np.stack(P)
    np.testing.assert_allclose(P.sum(1), 1, atol=1e-12)
    assert P.min() > 0
    rng = np.random.default_rng(1)
    state, first, pieces = predictor.init(), 0, []
    while first < len(SYMBOLS):
        n = rng.integers(1, 150)
        state, piece = read(predictor, state, SYMBOLS[first : first + n])
        pieces.append(piece)
        first += n
    np.testing.assert_array_equal(np.concatenate(pieces), P)
    bits = -np.sum(np.log2(P[np.arange(len(SYMBOLS)), SYMBOLS]))
    np.testing.assert_allclose(read_bits(predictor, predictor.init(), SYMBOLS, piece=77)[1], bits, rtol=1e-12)
    np.testing.assert_allclose(total_bits(predictor, predictor.init(), SYMBOLS)[1], bits, rtol=1e-12)


@pytest.mark.parametrize('kind', ['static net', 'online net', 'memoizer', 'n-gram', 'mixture'])
def test_probabilities_sum_to_one_in_every_context(kind):
    """Of up to three of three letters."""
    three = model.sequence_model(cells.mrnn(3, 5, 4), outputs.categorical(3))
    params = jax.tree.map(lambda leaf: leaf + 0.5, three.init(jax.random.key(0)))
    frozen = predictors.static(three, params, [0])
    seen = SYMBOLS % 3
    predictor = {
        'static net': lambda: frozen,
        'online net': lambda: predictors.online(three, params, [0], Rule(0.1, 0.0), segment=2),
        'memoizer': lambda: pitman_yor.online(memoizer.train(seen, 3)),
        'n-gram': lambda: pitman_yor.online(ngram.train(seen, 3, 3)),
        'mixture': lambda: mixing.mix(frozen, pitman_yor.online(memoizer.train(seen, 3))),
    }[kind]()
    for n in range(4):
        for context in itertools.product(range(3), repeat=n):
            state = predictor.init()
            for symbol in context:
                state = predictor.update(state, symbol)
            p = predictor.probs(state)
            assert p.min() > 0
            np.testing.assert_allclose(p.sum(), 1, atol=1e-12)


def test_a_frozen_net_says_what_the_model_says():
    nats = scoring.static_reader(MODEL)(PARAMS, SYMBOLS, SYMBOLS[:3]).nll.sum()
    frozen = make('static net')
    np.testing.assert_allclose(read_bits(frozen, frozen.init(), SYMBOLS)[1], nats * BITS, rtol=1e-5)


def test_a_learning_net_takes_the_gradient_of_each_segment():
    """Against the definition: frozen for a segment, then one step on its nats from where it began."""
    rate, segment = 0.02, 4
    learning = predictors.online(MODEL, PARAMS, SYMBOLS[:1], Rule(rate, 0.0), segment)
    _, P = read(learning, learning.init(), SYMBOLS[1:13])

    def nats_of(params, carry, inputs, targets):
        zs = []
        for x in inputs:
            carry, z = MODEL.step(params, carry, x)
            zs.append(z)
        nats = jax.vmap(MODEL.output.nll)(jnp.stack(zs), targets)
        return jnp.sum(nats), (carry, jax.nn.softmax(jnp.stack(zs)))

    gradient = jax.jit(jax.value_and_grad(nats_of, has_aux=True))
    params, carry, expected = PARAMS, MODEL.initial_state(PARAMS), []
    for first in range(0, 12, segment):
        inputs, targets = SYMBOLS[first : first + segment], SYMBOLS[first + 1 : first + segment + 1]
        (_, (carry, ps)), grads = gradient(params, carry, inputs, targets)
        expected.append(ps)
        params = jax.tree.map(lambda w, g: w - rate * g, params, grads)
    np.testing.assert_allclose(P, np.concatenate(expected), atol=1e-5)
    frozen = predictors.static(MODEL, PARAMS, SYMBOLS[:1])
    assert read_bits(learning, learning.init(), SYMBOLS)[1] < read_bits(frozen, frozen.init(), SYMBOLS)[1]


@pytest.mark.parametrize('clipping', [False, True])
@pytest.mark.parametrize('with_rms', [False, True])
def test_a_learning_net_is_dynamic_evaluation(with_rms, clipping):
    """A predictor and ``dynamic_reader`` by the same rule say the same of every symbol, also after a prompt."""
    segment, learner, params, before = 20, MODEL, PARAMS, [V, 1, 2]
    if clipping:
        learner = model.sequence_model(cells.lstm(V, 12, clip=0.01), outputs.categorical(V))
        params = learner.init(jax.random.key(0))
    rms = scoring.root_mean_squares(learner, params, SYMBOLS[:200], [V], segment) if with_rms else None
    rule = Rule(0.01, 0.02, rms, clip=3.0)
    found = scoring.dynamic_reader(learner, segment, 3)(params, SYMBOLS, before, rule)
    learning = predictors.online(learner, params, before, rule, segment)
    _, P = read(learning, learning.init(), SYMBOLS)
    np.testing.assert_allclose(-np.log(P[np.arange(400), SYMBOLS]), found.nll, rtol=2e-4, atol=1e-5)


def test_memory_of_a_forgetful_memoizer_has_an_end():
    predictor = make('forgetful memoizer')
    state = predictor.init()
    sizes = []
    for _ in range(20):
        state, _ = read(predictor, state, SYMBOLS)
        sizes.append(sum(array.nbytes for array in state.tree))
    assert max(sizes[5:]) == max(sizes[:5])


def test_a_memoizer_remembers_two_symbols_at_least():
    with pytest.raises(ValueError, match='at least 2'):
        pitman_yor.online(memoizer.train(SYMBOLS, V), most=1)


def known_to(p):
    """A Predictor that always says p."""
    return Predictor(lambda: None, lambda state: np.array(p), lambda state, symbol: None)


def test_a_mixture_finds_the_one_who_knows():
    rng = np.random.default_rng(0)
    truth, other = [0.7, 0.2, 0.1], [0.1, 0.1, 0.8]
    symbols = rng.choice(3, 3000, p=truth)
    knows, errs = known_to(truth), known_to(other)
    bits = {name: read_bits(p, p.init(), symbols)[1] for name, p in
            {'knows': knows, 'mixed': mixing.mix(errs, knows)}.items()}  # fmt: skip
    assert bits['mixed'] < 1.02 * bits['knows']


def test_a_mixture_is_better_than_either_where_each_knows_a_part():
    """Two independent halves of a symbol, and two who know one half each: the product knows both."""
    rng = np.random.default_rng(0)
    p, q = np.array([0.9, 0.1]), np.array([0.2, 0.8])
    symbols = 2 * rng.choice(2, 2000, p=p) + rng.choice(2, 2000, p=q)
    left, right = np.outer(p, [0.5, 0.5]).ravel(), np.outer([0.5, 0.5], q).ravel()
    mixed = mixing.mix(known_to(left), known_to(right))
    entropy = -np.sum(np.log2(np.outer(p, q).ravel()[symbols]))
    assert read_bits(mixed, mixed.init(), symbols)[1] < 1.03 * entropy
