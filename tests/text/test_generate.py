import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hfrnn.errors import DataError, SettingsError
from hfrnn.nets import cells, model, outputs
from hfrnn.text import generate, scoring, words
from hfrnn.text.generate import Sampling
from hfrnn.text.models import Trained

V = 4
NET = model.sequence_model(cells.rnn(V, 6), outputs.categorical(V))
PARAMS = jax.tree.map(lambda p: 1.5 * p, NET.init(jax.random.key(1)))
PROMPT = jnp.array([1, 0])
draw = jax.jit(functools.partial(generate.continue_text, NET), static_argnames='length')


def test_every_symbol_is_put_back_in():
    """At temperature 0: the most probable symbol after everything before it."""
    text = list(PROMPT)
    for x in draw(PARAMS, jax.random.key(0), PROMPT, length=8, temperature=0.0):
        z = NET.predict(PARAMS, jnp.array(text)).z[-1]
        assert x == jnp.argmax(z)
        text.append(x)


@pytest.mark.parametrize('temperature', [1.0, 0.5])
def test_draws_have_the_models_frequencies(temperature):
    keys = jax.random.split(jax.random.key(0), 4000)
    first = jax.vmap(lambda key: draw(PARAMS, key, PROMPT, length=1, temperature=temperature)[0])(keys)
    p = jax.nn.softmax(NET.predict(PARAMS, PROMPT).z[-1] / temperature)
    np.testing.assert_allclose(np.bincount(first, minlength=V) / 4000, p, atol=0.03)


def test_the_same_key_draws_the_same_text():
    one, again, other = (draw(PARAMS, jax.random.key(k), PROMPT, length=20) for k in (0, 0, 1))
    assert (one == again).all()
    assert (one != other).any()


@pytest.mark.parametrize('piece', [3, 5, 100])
def test_the_bits_of_a_text_are_those_of_one_unroll(piece):
    symbols = np.random.default_rng(0).integers(0, V, 13)
    whole = np.concatenate([PROMPT, symbols])
    log_p = jax.nn.log_softmax(NET.predict(PARAMS, jnp.asarray(whole[:-1])).z)
    wanted = [-log_p[t][whole[t + 1]] for t in range(len(PROMPT) - 1, len(whole) - 1)]
    found = scoring.static_reader(NET, piece)(PARAMS, symbols, PROMPT).nll
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    np.testing.assert_allclose(found.sum(), sum(wanted), rtol=1e-5)


LETTERS = model.sequence_model(cells.lstm(3, 5), outputs.categorical(3), cells.gaussian)
WEIGHTS = jax.tree.map(lambda p: 8 * p, LETTERS.init(jax.random.key(2)))
letters = jax.jit(lambda w, xs: jax.nn.log_softmax(LETTERS.predict(w, xs).z))
search = jax.jit(functools.partial(generate.beam_search, LETTERS), static_argnames=('length', 'width'))


def log_p(text):
    """log P of a text of three letters behind the prompt 1, 0."""
    whole = jnp.array([1, 0, *text])
    z = np.asarray(letters(WEIGHTS, whole[:-1]))
    return sum(float(z[1 + t][x]) for t, x in enumerate(text))


def test_a_beam_of_full_width_is_brute_force():
    texts, found = search(WEIGHTS, PROMPT, length=4, width=81)
    every = {text: log_p(text) for text in itertools.product(range(3), repeat=4)}
    best = sorted(every, key=every.get, reverse=True)
    assert [tuple(map(int, text)) for text in texts[:3]] == best[:3]
    np.testing.assert_allclose(found, [every[tuple(map(int, text))] for text in texts], rtol=1e-4)
    assert len({tuple(map(int, text)) for text in texts}) == 81
    np.testing.assert_allclose(np.exp(found).sum(), 1, rtol=1e-4)


@pytest.mark.parametrize('width', [1, 2, 9])
def test_a_beam_says_what_its_texts_are_worth(width):
    texts, found = search(WEIGHTS, PROMPT, length=6, width=width)
    np.testing.assert_allclose(found, [log_p(tuple(text)) for text in texts], rtol=1e-4)
    assert (np.diff(found) <= 0).all()
    if width == 1:
        greedy = generate.continue_text(LETTERS, WEIGHTS, jax.random.key(0), PROMPT, 6, 0.0)
        np.testing.assert_array_equal(texts[0], greedy)


def test_a_beam_wider_than_all_there_is_says_so():
    _, found = search(WEIGHTS, PROMPT, length=1, width=5)
    assert np.isfinite(found[:3]).all()
    assert (found[3:] == -np.inf).all()


def test_a_sample_is_its_prompt_and_what_the_net_writes():
    net = Trained(NET, PARAMS, 'ab\nc')
    said = generate.sample(net, 'ba', 20)
    assert said.startswith('ba') and len(said) == 22
    assert said == generate.sample_as(Sampling('ba', 20), net) != generate.sample(net, 'ba', 20, seed=1)
    greedy = generate.sample(net, 'ba', 20, temperature=0.0)
    assert greedy == generate.sample(net, 'ba', 20, beam=1) == generate.sample(net, 'ba', 20, temperature=0.0, seed=1)
    assert generate.sample(net, length=3)[0] == '\n'  # the end of a line
    assert scoring.bits_per_symbol(net, 'abc') > 0
    for function, error, said in (
        (lambda: generate.sample(net, ''), DataError, 'prompt is empty'),
        (lambda: generate.sample(net, 'x'), DataError, 'not in the alphabet'),
        (lambda: generate.sample_as(Sampling(beam=9000, sample_length=20_000), net), SettingsError, 'a beam holds'),
        (lambda: scoring.bits_per_symbol(net, ''), DataError, 'text is empty'),
    ):
        with pytest.raises(error, match=said):
            function()


def test_a_prompt_that_is_not_given_is_the_end_of_a_line():
    for alphabet, symbol in (('ab\n', 2), (('<eos>', 'cat'), 0), ('ab', 0)):
        assert words.prompt_symbols(None, alphabet).tolist() == [symbol]
