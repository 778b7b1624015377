"""What a model knows: judges against the model itself, and against models whose knowledge is known."""

import functools

import jax
import numpy as np

from hfrnn.nets import cells, model, outputs
from hfrnn.rivals import memoizer, ngram, pitman_yor
from hfrnn.text import probes

ALPHABET = ' (),.\nabcdefghijklmnopqrstuvwxyz'
V = len(ALPHABET)
RNG = np.random.default_rng(0)
NET = model.sequence_model(cells.mrnn(V, 10, 8), outputs.categorical(V))
PARAMS = jax.tree.map(
    lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(1), leaf.shape), NET.init(jax.random.key(0))
)


def judges():
    """(judge, the distribution that the model itself gives after a context) of each kind of model."""
    symbols = RNG.integers(0, 5, 300)
    predict = jax.jit(NET.predict)

    def by_net(context):
        padded = np.zeros(32, np.int32)
        padded[: len(context)] = context
        return jax.nn.softmax(predict(PARAMS, padded).z[len(context) - 1])

    found = [(probes.net_judge(NET, PARAMS, rows=4, steps=8), by_net)]
    for tree in (memoizer.train(symbols, V), ngram.train(symbols, V, 3)):
        asked = functools.partial(pitman_yor.log2_probabilities, tree)
        found.append((asked, functools.partial(pitman_yor.distribution, tree)))
    return found


def test_a_judge_says_what_the_model_says():
    """Row by row, whatever the number of rows and their length; and of targets that are not what comes."""
    context = RNG.integers(0, V, 6)
    for judge, distribution in judges():
        for B, T in ((1, 1), (3, 8), (9, 13)):
            texts, targets = RNG.integers(0, 6, (2, B, T))
            said = judge(context, texts, targets)
            assert said.shape == (B, T)
            for b, t in np.ndindex(B, T):
                p = distribution(np.append(context, texts[b, :t]))
                np.testing.assert_allclose(np.exp2(said[b, t]), p[targets[b, t]], rtol=1e-4)


def knows(alphabet, likes):
    """A judge by which log2 P of a text falls by one for each character that ``likes`` does not say comes next."""

    def judge(context, texts, targets):
        rows = []
        for xs, ys in zip(texts, targets, strict=True):
            before = ''.join(alphabet[s] for s in [*context, *xs])
            n = len(context)
            rows.append([-float(not likes(before[: n + t], alphabet[y])) for t, y in enumerate(ys)])
        return np.array(rows)

    return judge


def test_bags_are_words_in_context():
    content = 'short line\n' + ' '.join(f'w{i}' for i in range(30)) + '\na b c d e f g h i j  k\n'
    (one, two) = probes.bags(content, 10)
    assert one.words == ('w2', 'w3', 'w4', 'w5', 'w6', 'w7', 'w8') and one.after == 'w9 w10'
    assert one.before.endswith('\nw0 w1 ') and one.before in content and len(one.before) <= 50
    assert two.words[0] == 'w13'
    texts = probes.orders(one)
    assert len(texts) == len(set(texts)) == 5040
    assert one.before + texts[0] in content
    assert len({tuple(sorted(order.split())) for order in texts}) == 1
    assert len(probes.bags(content, 1)) == 1


def test_debagging_finds_who_knows_the_text():
    content = 'one two three four five six seven eight nine ten eleven'
    (bag,) = probes.bags(content, 1)
    assert probes.is_debagged(knows(ALPHABET, lambda before, c: before[-6:] + c in content), bag, ALPHABET)
    assert not probes.is_debagged(knows(ALPHABET, lambda before, c: before[-6:] + c not in content), bag, ALPHABET)
    twice = bag._replace(words=('a', 'b', 'a', 'b', 'a', 'b', 'a'))  # only 35 orders differ, and the true one is best
    assert probes.is_debagged(knows(ALPHABET, lambda before, c: before[-2:] + c not in ' a a b b '), twice, ALPHABET)


def test_balance_tells_who_remembers_a_bracket():
    content = ''.join(''.join(RNG.choice(list('abc'), 4)) + ' ' * RNG.integers(1, 4) for _ in range(400))
    assert probes.pairs_in(ALPHABET, '(a) ' * 20 + '""' * 20) == ['()']
    passages = probes.fillers(content + ' (x) ' + content, '()', 7)
    assert len(passages) == 7 and all(len(one) == 256 and not set(one) & set('()') for one in passages)

    def remembers(before, c):
        return (c == ')') == ('(' in before and before[-1] != ' ')  # only where a word has just ended

    curves = probes.balance(knows(ALPHABET, remembers), '()', passages, ALPHABET)
    for opened, none, distance in zip(curves['open'], curves['none'], probes.DISTANCES, strict=True):
        if distance < 4:  # no word is so short
            assert opened is None and none is None
        else:
            assert (opened, none) == (1, 0.5)


def test_places_next_is_a_probability():
    """A memoizer that has seen nothing says V^-n of n symbols."""
    tree = memoizer.train(np.zeros(0, int), V)

    def judge(*args):
        return pitman_yor.log2_probabilities(tree, *args)

    prompt = probes.PROMPTS['list']
    assert probes.spelt(prompt, ALPHABET) == prompt.lower()
    assert probes.spelt(prompt, ' aeng') == 'engan an ane gean '
    others = [place for place in probes.PLACES if place not in prompt]
    assert len(others) == len(probes.PLACES) - 4
    expected = sum(4 * V ** -(len(place) + 1.0) for place in others)
    np.testing.assert_allclose(probes.places_next(judge, prompt, ALPHABET), expected)
    assert probes.places_next(judge, prompt, 'acgt') == 0  # no word ever ends


def test_new_words():
    contents = ['x cu the cat sat on Xanadu, the dgo tu', 'gh and the caat; dgo mat yc']
    assert probes.new_words(contents, 'the cat sat on and mat') == (11, 3 / 11, ['dgo', 'caat'])
    assert probes.new_words([''], 'a') == (0, 0, [])
