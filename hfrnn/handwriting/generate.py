"""From a net and a text to lines of handwriting, in units of the pen.

    writer = generate.open_writer(bundle.read('iamondb'))
    said, replaced = generate.in_lines('Hello', writer.alphabet)
    lines = generate.write(writer, said, seed=0, bias=0.5).lines

Source: Graves 2013 (G13), sec. 4.3 and 5.3 to 5.5.
"""

import functools
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hfrnn import bundle
from hfrnn.errors import DataError
from hfrnn.handwriting import models, sampling, spelling, strokes
from hfrnn.nets import attention
from hfrnn.nets.model import Conditioned, Model
from hfrnn.nets.outputs import mixture
from hfrnn.text.alphabet import encode

WIDTH = 40  # characters in a line, of which the lines of IAM-OnDB have 29 on average, 64 at most
MOST_LINES = 64  # lines in one text
BIAS_AFTER = 15  # points; the likeliest beginning is a pen at rest, which a bias from the first on makes near certain
FINISH = 20  # points; the rule ends a line a little before people do, often within its last letter
POINTS_A_CHARACTER = 50  # of the cap; IAM-OnDB has 21
PRIMERS_POINTS = 2.4  # of the cap, against those of a primer's character, where that is more
MORE_POINTS = 100  # of the cap of a line, besides


class Writer(NamedTuple):
    """A net that writes.

    Attributes:
      model: its net; without the clipped derivatives of training.
      params: its weights.
      alphabet: that of its texts; '' for a prediction net.
      scale: of its offsets.
      source: whose handwriting it has learnt.
    """

    model: Model
    params: Any
    alphabet: str
    scale: strokes.Scale
    source: str


class Primer(NamedTuple):
    """A line that a hand is taken from.

    Attributes:
      offsets: (P, 3) in units.
      text: what it says; '' for a prediction net.
    """

    offsets: np.ndarray
    text: str


class Written(NamedTuple):
    """What came out.

    Attributes:
      lines: (T, 3) offsets in units, of each line; what it was begun with is left out.
      stopped: (B,) whether the net's own stop rule ended it, and not the cap.
    """

    lines: list[np.ndarray]
    stopped: np.ndarray


# -- nets -------------------------------------------------------------------------------------------------------------


def facts(experiment: str, sizes: dict, alphabet: str, scale: dict, source: str, **more: Any) -> dict:
    """What a file of weights must tell for ``open_writer``, and whatever else it should.

    Args:
      experiment: 'handwriting_prediction' or 'handwriting_synthesis'.
      sizes: layers, hidden, mixtures, and for synthesis gaussians.
      scale: 'mean' and 'sd', two numbers each.
      source: the name of the data set.
    """
    return {'experiment': experiment, 'sizes': sizes, 'alphabet': alphabet, 'scale': scale, 'source': source, **more}


def net(facts: dict) -> Model:
    """The net of such facts, to write and to look at; for training, see ``handwriting``."""
    sizes = {name: int(facts['sizes'][name]) for name in facts['sizes']}
    if facts['experiment'] == 'handwriting_prediction':
        return models.prediction_net(**sizes, clip=None, output_clip=None)
    return models.synthesis_net(len(facts['alphabet']), **sizes, clip=None, output_clip=None)


def open_writer(weights: bundle.Weights, experiment: str = 'handwriting_synthesis') -> Writer:
    """The net in a file of weights.

    Raises:
      DataError: if they are of another experiment, or do not fit what the file tells.
    """
    bundle.check(weights, experiment=experiment)
    told = weights.facts
    try:
        if told['sizes']['layers'] > len(weights.arrays):
            raise ValueError('a layer has an array at the least')
        model = net(told)
        alphabet = str(told['alphabet']) if experiment == 'handwriting_synthesis' else ''
        source = str(told['source'])
        scale = strokes.Scale(*(np.array(told['scale'][name], np.float64).reshape(2) for name in ('mean', 'sd')))
        like = jax.eval_shape(model.init, jax.random.key(0))
        if not np.isfinite(scale).all() or np.min(scale.sd) <= 0:
            raise ValueError('a scale is of finite numbers, and its deviations above 0')
    except (ArithmeticError, KeyError, TypeError, ValueError) as e:
        raise DataError(f'{weights.name} does not tell what net its weights are for') from e
    return Writer(model, bundle.restore(weights, like), alphabet, scale, source)


# -- texts ------------------------------------------------------------------------------------------------------------


def in_lines(text: str, alphabet: str, width: int = WIDTH) -> tuple[list[str], dict[str, str]]:
    """A text in lines of at most ``width`` characters, broken at words, in the characters of an alphabet.

    A line of the text begins a new one; what is wider than a line is a word broken anywhere.

    Returns:
      The lines, none of them blank, and what stands in them for each character that the alphabet lacks
      (``spelling.spell``): for the user to see.

    Raises:
      DataError: if the text is blank or too long, or a character cannot be written at all.
    """
    said, replaced = spelling.spell('\n'.join(' '.join(part.split()) for part in text.splitlines()), alphabet + '\n')
    parts = [' '.join(part.split()) for part in said.splitlines()]
    lines = [line for part in parts for line in textwrap.wrap(part, width, break_on_hyphens=False)]
    if not lines:
        raise DataError('the text is empty')
    if len(lines) > MOST_LINES:
        raise DataError(
            f'the text is too long: {len(lines)} lines of {width} characters; at most {MOST_LINES} are written'
        )
    return lines, replaced


def texts_of(lines: Sequence[str], alphabet: str) -> attention.Text:
    """Lines as the window reads them, (B, U) and (B,); what the alphabet lacks is its unknown symbol.

    Raises:
      DataError: if it lacks that, too.
    """
    U = -(-max(map(len, lines)) // 8) * 8
    characters = np.zeros((len(lines), U), np.int32)
    for row, line in zip(characters, lines, strict=True):
        row[: len(line)] = encode(line, alphabet, strict=False)
    return attention.Text(characters, np.array([len(line) for line in lines], np.int32))


def text_of(line: str, alphabet: str) -> attention.Text:
    """One line as the window reads it, (U,) and ()."""
    return jax.tree.map(lambda leaf: leaf[0], texts_of([line], alphabet))


# -- writing ----------------------------------------------------------------------------------------------------------

_draw = jax.jit(sampling.sample_lines, static_argnames=('model', 'cap', 'stop'))


def write(
    writer: Writer,
    lines: Sequence[str],
    *,
    seed: int = 0,
    bias: float = 0.0,
    bias_after: int = BIAS_AFTER,
    finish: int = FINISH,
    primer: Primer | None = None,
    cap: int | None = None,
) -> Written:
    """Writes lines, all of them together, with a synthesis net.

    With a primer each line is the end of a longer one, which begins with the primer and a space (G13 sec. 5.5).

    Args:
      lines: of the writer's characters; see ``in_lines``.
      seed: line i is of nothing but the seed and i, apart from rounding.
      bias: b >= 0 (G13 sec. 5.4).
      bias_after: how many points of a line without a primer are drawn without it; 0 is G13's way.
      finish: how many points more, at most, finish the stroke that is being drawn when the rule ends a line; 0 is
        G13's way.
      cap: the most points of a line; if None, that is ``cap_of`` each.
    """
    before = '' if primer is None else f'{primer.text} '
    texts = texts_of([before + line for line in lines], writer.alphabet)
    caps = [cap or cap_of(line, primer) for line in lines]
    return _written(writer, caps, seed, bias, bias_after, primer, texts, attention.finished, finish)


def cap_of(line: str, primer: Primer | None = None) -> int:
    """More points than a line should take; and more of a primer whose pen is slow."""
    theirs = 0 if primer is None else PRIMERS_POINTS * len(primer.offsets) / max(len(primer.text), 1)
    return round(max(POINTS_A_CHARACTER, theirs) * len(line)) + MORE_POINTS


def sample_unconditional(
    writer: Writer,
    lines: int,
    points: int,
    *,
    seed: int = 0,
    bias: float = 0.0,
    bias_after: int = BIAS_AFTER,
    primer: Primer | None = None,
) -> Written:
    """Lines out of a prediction net, which writes what it likes (G13 sec. 4.3), so many points each; see ``write``."""
    return _written(writer, [points] * lines, seed, bias, bias_after, primer, None, None)


def _written(writer, caps, seed, bias, bias_after, primer, texts, stop, finish=0):
    begun = np.zeros((1, 3), np.float32) if primer is None else strokes.normalise(primer.offsets, writer.scale)
    first = 0 if primer is None else len(begun)  # that counts: without a primer the null vector is a point of the line
    n, more = len(caps), np.array(caps) + first - len(begun)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), jnp.arange(n))
    drawn = _draw(
        writer.model,
        writer.params,
        keys,
        jnp.broadcast_to(begun, (n, *begun.shape)),
        jnp.full(n, len(begun)),
        texts,
        cap=int(more.max()),
        caps=more,
        bias=bias,
        bias_after=0 if primer else bias_after,
        stop=stop,
        finish=finish,
    )
    points, lengths, stopped = jax.device_get((drawn.points, drawn.lengths, drawn.stopped))
    lines = [strokes.denormalise(row[first:end], writer.scale) for row, end in zip(points, lengths, strict=True)]
    for line in lines:
        line[-1:, 2] = 1
    return Written(lines, stopped)


def place_behind(writer: Writer, primer: Primer, line: str) -> int:
    """Where the window is when a primer has been read and ``write`` goes on, as ``window.place`` tells.

    That is the space behind the primer's text, or a neighbour of that, if it says what its strokes say.

    Args:
      line: what is to be written behind it.
    """
    on = text_of(f'{primer.text} {line}', writer.alphabet)
    points = jnp.asarray(strokes.normalise(primer.offsets, writer.scale))
    return int(_place_behind(writer.model, writer.params, Conditioned(points, on)))


@functools.partial(jax.jit, static_argnames='model')
def _place_behind(model, params, xs):
    state, _ = model.run(params, None, xs)
    return attention.place(state, xs.context)


# -- looking ----------------------------------------------------------------------------------------------------------


class Seen(NamedTuple):
    """What a net has in mind along a line.

    Attributes:
      mixture: of the next point, at each of the T - 1 points before the last; ``outputs.Mixture``, normalised.
      window: (T - 1, U) the weight of each character; None for a prediction net.
    """

    mixture: Any
    window: np.ndarray | None


def inspect(writer: Writer, offsets: np.ndarray, text: str = '') -> Seen:
    """What a net predicts, and where its window is, along a line that is there (G13 fig. 10 and 13).

    Args:
      offsets: (T, 3) in units.
      text: what it says, for a net that reads it.

    Raises:
      DataError: if it says nothing then.
    """
    if writer.alphabet and not text:
        raise DataError('these weights read a text: tell what the line says')
    points = strokes.normalise(offsets, writer.scale)[:-1]
    on = text_of(text, writer.alphabet) if writer.alphabet else None
    m, weight = _inspect(writer.model, writer.params, jnp.asarray(points), on)
    return Seen(jax.device_get(m), None if on is None else np.asarray(weight)[:, : len(text)])


@functools.partial(jax.jit, static_argnames='model')
def _inspect(model, params, points, on):
    def step(state, x):
        state, z = model.step(params, state, x if on is None else Conditioned(x, on))
        u = None if on is None else jnp.arange(1.0, 1 + len(on.characters))
        return state, (mixture(z), None if on is None else attention.phi(state, u))

    return jax.lax.scan(step, model.initial_state(params), points)[1]
