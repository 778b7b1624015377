import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hfrnn import cells, evaluation, model, outputs, sampling

V = 4
NET = model.sequence_model(cells.rnn(V, 6), outputs.categorical(V))
PARAMS = jax.tree.map(lambda p: 1.5 * p, NET.init(jax.random.key(1)))
PROMPT = jnp.array([1, 0])
draw = jax.jit(functools.partial(sampling.continue_text, NET), static_argnames='length')


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
    wanted = -sum(log_p[t][whole[t + 1]] for t in range(len(PROMPT) - 1, len(whole) - 1))
    np.testing.assert_allclose(evaluation.text_nats(NET, PARAMS, PROMPT, symbols, piece), wanted, rtol=1e-5)
