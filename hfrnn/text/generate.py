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
    """Sampling after a prompt."""

    prompt: str | None = setting(None, 'What the net reads first; the end of a line if not given.')
    sample_length: int = setting(500, 'How many symbols the net writes.', low=1, high=10**7)
    temperature: float = setting(
        1.0, "1 samples from the net's distribution; lower is safer; 0 takes the most probable symbol.", low=0.0
    )
    beam: int = setting(
        0, 'Search for the most probable text with a beam of this width; 0 for a sample.', low=0, high=10**4
    )
    sample_seed: int = setting(0, 'Seed of the sample.', low=0, high=SEEDS - 1)


def check_sampling(s: Sampling) -> None:
    """Checks that memory can hold the beam.

    Raises:
      SettingsError: if not.
    """
    if s.beam * s.sample_length > MOST_HELD:
        raise SettingsError(
            f'beam={s.beam} of sample_length={s.sample_length}: a beam holds {MOST_HELD:,} symbols at the most'
        )


def sample(
    net: Trained,
    prompt: str | None = None,
    length: int = 500,
    *,
    temperature: float = 1.0,
    beam: int = 0,
    seed: int = 0,
) -> str:
    """A prompt, and the text with which a net continues it.

    Args:
      prompt: the end of a line if None.
      length: how many symbols the net writes.
      temperature: 0 takes the most probable symbol each time.
      beam: not 0: the most probable text that a beam of this width finds.
      seed: another seed, another text.

    Raises:
      DataError: for an empty prompt, or one that the alphabet lacks something of.
    """
    read = words.prompt_symbols(prompt, net.alphabet)
    if beam:
        search = jax.jit(functools.partial(beam_search, net.model), static_argnames=('length', 'width'))
        symbols = search(net.params, read, length=length, width=beam)[0][0]
    else:
        go_on = jax.jit(functools.partial(continue_text, net.model), static_argnames='length')
        symbols = go_on(net.params, jax.random.key(seed), read, length=length, temperature=temperature)
    return words.text_of(np.concatenate([read, symbols]), net.alphabet)


def sample_as(s: Sampling, net: Trained) -> str:
    """``sample`` by settings.

    Raises:
      SettingsError: for a beam that is too large.
      DataError: as in ``sample``.
    """
    check_sampling(s)
    return sample(net, s.prompt, s.sample_length, temperature=s.temperature, beam=s.beam, seed=s.sample_seed)


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
