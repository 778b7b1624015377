import itertools

import numpy as np
import pytest

from hfrnn.rivals import ngram, pitman_yor
from tests.reading import total_bits

V = 3
CONTEXTS = [c for n in range(4) for c in itertools.product(range(V), repeat=n)]


def random_text(n, seed=0):
    return np.random.default_rng(seed).choice(V, n, p=(0.6, 0.3, 0.1)).astype(np.uint16)


def kneser_ney(text, order):
    """(counts, probability) from the definitions: sets of strings, nothing shared with the tree."""
    text = tuple(text)

    def places(gram):
        return [i for i in range(len(text) - len(gram) + 1) if text[i : i + len(gram)] == gram]

    def count(gram):
        if len(gram) == order:
            return len(places(gram))
        return len({text[i - 1] if i else None for i in places(gram)})  # what stands to its left, if only nothing

    counts = [{gram: count(gram) for gram in itertools.product(range(V), repeat=n)} for n in range(1, order + 1)]
    n1, n2 = (np.array([list(of.values()).count(times) for of in counts]) for times in (1, 2))
    discounts = (n1 + 0.5) / (n1 + 2 * n2 + 1)

    def probability(context, symbol):
        context = context[max(len(context) - order + 1, 0) :]
        above = probability(context[1:], symbol) if context else 1 / V
        d, of = discounts[len(context)], [counts[len(context)][(*context, s)] for s in range(V)]
        if not sum(of):
            return above
        return (max(of[symbol] - d, 0) + d * np.count_nonzero(of) * above) / sum(of)

    return np.stack([n1, n2], 1), probability


@pytest.mark.parametrize('order', [1, 2, 3, 4])
def test_equals_the_definition(order):
    text = random_text(60)
    counts, probability = kneser_ney(text.tolist(), order)
    model = ngram.train(text, V, order)
    np.testing.assert_array_equal(ngram.counts_of_counts(model), counts)
    for context in CONTEXTS:
        exact = [probability(context, s) for s in range(V)]
        np.testing.assert_allclose(pitman_yor.distribution(model, context), exact, rtol=1e-12)


def test_a_count_by_hand():
    # abab: ab twice and ba once, so D = (1 + 1/2) / (1 + 2 + 1) = 3/8; a follows b and nothing, b follows a: again 3/8
    model = ngram.train(np.array([0, 1, 0, 1]), 2, order=2)
    a = (2 - 3 / 8) / 3 + 3 / 8 * 2 / 3 / 2
    np.testing.assert_allclose(pitman_yor.distribution(model, []), [a, 1 - a])
    np.testing.assert_allclose(pitman_yor.distribution(model, [0])[1], (2 - 3 / 8) / 2 + 3 / 8 / 2 * (1 - a))


@pytest.mark.parametrize('order', [1, 3, 6])
def test_probabilities_sum_to_one(order):
    model = ngram.train(random_text(200), V, order)
    for context in CONTEXTS:
        p = pitman_yor.distribution(model, context)
        assert p.min() > 0
        np.testing.assert_allclose(p.sum(), 1, rtol=1e-12)


@pytest.mark.parametrize('order', [1, 4])
def test_bulk_equals_symbol_by_symbol(order):
    model, text = ngram.train(random_text(300), V, order), random_text(150, seed=1)
    predictor = pitman_yor.static(model)
    _, bits = total_bits(predictor, predictor.init(), text)
    np.testing.assert_allclose(pitman_yor.static_bits(model, text), bits, rtol=1e-12)
    predictor = pitman_yor.online(model)
    _, bits = total_bits(predictor, predictor.init(), text)
    np.testing.assert_allclose(pitman_yor.online_bits(model, text)[1], bits, rtol=1e-12)


def test_online_counts_are_those_of_the_whole_text():
    text = random_text(300)
    whole = ngram.train(text, V, 4)
    later, _ = pitman_yor.online_bits(ngram.train(text[:100], V, 4), text[100:])
    np.testing.assert_array_equal(ngram.counts_of_counts(later), ngram.counts_of_counts(whole))


def test_refuses_an_order_of_none():
    with pytest.raises(ValueError, match='at least one'):
        ngram.train(random_text(10), V, 0)
