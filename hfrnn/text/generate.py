"""Text that a net writes: samples, and the most probable text by beam search."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hfrnn.errors import SettingsError
from hfrnn.nets.model import Model, continue_sequence
from hfrnn.text import words
from hfrnn.text.models import Trained
from hfrnn.train.settings import SEEDS, setting

MOST_HELD = 10**8  # symbols, of all texts of a beam


@dataclasses.dataclass(frozen=True)
class Sampling:
    """A prompt, and what the net writes after it."""

    prompt: str | None = setting(None, 'What the net reads first; the end of a line if not given.')
    sample_length: int = setting(500, 'How many symbols it writes.', low=1, high=10**7)
    temperature: float = setting(1.0, '0 takes the most probable symbol.', low=0.0)
    beam: int = setting(0, 'The most probable text that a beam of this width finds; 0 for a sample.', low=0, high=10**4)
    sample_seed: int = setting(0, 'Another seed, another text.', low=0, high=SEEDS - 1)


def check_sampling(s: Sampling) -> None:
    """That memory can hold the beam.

    Raises:
      SettingsError: if not.
    """
    if s.beam * s.sample_length > MOST_HELD:
        raise SettingsError(
            f'beam={s.beam} of sample_length={s.sample_length}: a beam holds {MOST_HELD:,} symbols at the most'
        )


def prompt_symbols(prompt: str | None, alphabet: str | tuple[str, ...]) -> np.ndarray:
    """The symbols (P,) of a prompt; of none, the end of a line, or the first symbol where the alphabet has no end.

    Raises:
      SettingsError: if it is empty.
      DataError: for what the alphabet lacks.
    """
    if prompt is None:
        end = '\n' if isinstance(alphabet, str) else words.END
        return np.array([alphabet.index(end) if end in alphabet else 0], np.int32)
    symbols = words.symbols_of(prompt, alphabet)
    if not len(symbols):
        raise SettingsError('the prompt is empty; give at least one symbol')
    return symbols.astype(np.int32)


def sample(net: Trained, s: Sampling) -> str:
    """A prompt, and the text with which a net continues it.

    Raises:
      SettingsError: for an empty prompt, or a beam that is too large.
      DataError: for a prompt that the alphabet lacks something of.
    """
    check_sampling(s)
    prompt = prompt_symbols(s.prompt, net.alphabet)
    if s.beam:
        search = jax.jit(functools.partial(beam_search, net.model), static_argnames=('length', 'width'))
        symbols = search(net.params, prompt, length=s.sample_length, width=s.beam)[0][0]
    else:
        go_on = jax.jit(functools.partial(continue_text, net.model), static_argnames='length')
        key = jax.random.key(s.sample_seed)
        symbols = go_on(net.params, key, prompt, length=s.sample_length, temperature=s.temperature)
    return words.text_of(np.concatenate([prompt, symbols]), net.alphabet)


def continue_text(
    model: Model, params: Any, key: jax.Array, prompt: jax.Array, length: int, temperature: float = 1.0
) -> jax.Array:
    """Symbols drawn one after the other, each the next input (Sutskever, Martens & Hinton 2011).

    Args:
      prompt: (P,) symbols that the model reads first, P >= 1.
      length: how many to draw.
      temperature: 1 draws from the model's own distribution, 0 takes the most probable symbol.

    Returns:
      (length,) symbols.
    """
    return continue_sequence(
        model, params, key, prompt, length, lambda key, z: model.output.sample(key, z, temperature)
    )


def beam_search(model: Model, params: Any, prompt: jax.Array, length: int, width: int) -> tuple[jax.Array, jax.Array]:
    """The most probable continuations that a beam finds: after every symbol it keeps the ``width`` best.

    With V symbols and a width of V^(length - 1) or more none is dropped: the first is then the most probable of all.

    Args:
      prompt: (P,) symbols that the model reads first, P >= 1.
      length: of the continuations.

    Returns:
      (width, length) symbols and their log P (width,) in nats, from the best; log P is -inf where there are fewer.
    """
    V = model.output.size

    def each(leaf):
        return jnp.broadcast_to(leaf, (width, *leaf.shape))

    def extend(beam, t):
        state, z, log_p, texts = beam
        both = log_p[:, None] + jax.nn.log_softmax(z)
        log_p, place = jax.lax.top_k(both.reshape(-1), width)
        parent, x = place // V, place % V
        state = jax.tree.map(lambda leaf: leaf[parent], state)
        state, z = jax.vmap(model.step, (None, 0, 0))(params, state, x)
        return (state, z, log_p, texts[parent].at[:, t].set(x)), None

    state, read = model.run(params, None, jnp.asarray(prompt))
    log_p = jnp.full(width, -jnp.inf, read.z.dtype).at[0].set(0.0)  # one of them at first, not width times the same
    beam = jax.tree.map(each, state), each(read.z[-1]), log_p, jnp.zeros((width, length), jnp.int32)
    (_, _, log_p, texts), _ = jax.lax.scan(extend, beam, jnp.arange(length))
    return texts, log_p
