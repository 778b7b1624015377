"""From a net and a text to lines of handwriting, in units of the pen.

    writer = generate.open_writer(bundle.load('iamondb'))
    lines, replaced = generate.to_lines('Hello', writer.alphabet)
    written = generate.write(writer, lines, seed=0, bias=0.5)    # a notebook shows it

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
from hfrnn.bundle import Bundle
from hfrnn.errors import DataError
from hfrnn.handwriting import models, render, sampling, spelling, strokes
from hfrnn.nets import attention
from hfrnn.nets.model import Conditioned, Model
from hfrnn.nets.outputs import Mixture, mixture
from hfrnn.text.alphabet import encode
from hfrnn.train.settings import check, replace

WIDTH = 40  # characters in a line; the lines of IAM-OnDB have 29 on average, 64 at most
MOST_LINES = 64  # lines in one text
BIAS_AFTER = 15  # points; the likeliest beginning is a pen at rest, which a bias from the start makes nearly certain
FINISH = 20  # points; the rule ends a line a little before people do, often within its last letter
POINTS_PER_CHARACTER = 50  # in the cap of a line; IAM-OnDB has 21
PRIMER_FACTOR = 2.4  # the cap allows so many times the primer's points per character, if that is more
EXTRA_POINTS = 100  # in the cap of every line


class Writer(NamedTuple):
    """A net that writes.

    Attributes:
      model: the net, which clips no derivatives.
      params: its weights.
      alphabet: of its texts; '' for a prediction net.
      scale: of its offsets.
      source: the name of the data set whose handwriting it has learnt.
    """

    model: Model
    params: Any
    alphabet: str
    scale: strokes.Scale
    source: str


class Primer(NamedTuple):
    """A line whose hand is imitated.

    Attributes:
      offsets: (P, 3) in units.
      text: its text; '' for a prediction net.
    """

    offsets: np.ndarray
    text: str


class Written(NamedTuple):
    """Lines that a net has written; a notebook shows them.

    Attributes:
      lines: (T, 3) offsets in units, of each line, without its primer.
      stopped: (B,) whether the net's own stop rule ended the line, and not the cap.
    """

    lines: list[np.ndarray]
    stopped: np.ndarray

    def _repr_svg_(self) -> str:
        return render.strokes_svg(self.lines)


# -- nets -------------------------------------------------------------------------------------------------------------


def open_writer(net: Bundle) -> Writer:
    """The writer in a bundle; of a net with adaptive weight noise, the means of its weights.

    Raises:
      DataError: if the net is not one of handwriting, or its weights do not fit its description.
    """
    bundle.check_kind(net, models.KIND)
    try:
        if net.model['layers'] > len(bundle.places(net.params)):
            raise ValueError('every layer has at least one array')
        task, sizes = net.model['task'], {name: n for name, n in net.model.items() if name not in ('kind', 'task')}
        if task not in models.TASKS:
            raise ValueError(f'no task {task!r}')
        settings = replace(models.Net(clip=0.0, output_clip=0.0), **sizes)
        check(settings)
        alphabet = str(net.data['alphabet']) if task == models.SYNTHESIS else ''
        model = models.make(task, settings, len(alphabet))
        source = str(net.data['source'])
        scale = strokes.Scale(*(np.array(net.data['scale'][name], np.float64).reshape(2) for name in ('mean', 'sd')))
        like = jax.eval_shape(model.init, jax.random.key(0))
        if not np.isfinite(scale).all() or np.min(scale.sd) <= 0:
            raise ValueError('a scale has finite means and positive deviations')
    except (ArithmeticError, KeyError, TypeError, ValueError) as e:
        raise DataError(f'{net.name} does not describe the net of its weights') from e
    return Writer(model, bundle.fit(bundle.without_noise(net), like), alphabet, scale, source)


# -- texts ------------------------------------------------------------------------------------------------------------


def to_lines(text: str, alphabet: str, width: int = WIDTH) -> tuple[list[str], dict[str, str]]:
    """A text as lines of at most ``width`` characters of an alphabet, broken between words.

    A new line in the text starts a new line.  A word that is wider than a line is broken anywhere.

    Returns:
      The lines, none of them blank, and the replacement of each character that the alphabet lacks
      (``spelling.spell``), to be shown to the user.

    Raises:
      DataError: if the text is blank or too long, or a character cannot be written at all.
    """
    spelt, replaced = spelling.spell('\n'.join(' '.join(part.split()) for part in text.splitlines()), alphabet + '\n')
    parts = [' '.join(part.split()) for part in spelt.splitlines()]
    lines = [line for part in parts for line in textwrap.wrap(part, width, break_on_hyphens=False)]
    if not lines:
        raise DataError('the text is empty')
    if len(lines) > MOST_LINES:
        raise DataError(
            f'the text is too long: {len(lines)} lines of {width} characters; at most {MOST_LINES} are written'
        )
    return lines, replaced


def encode_lines(lines: Sequence[str], alphabet: str) -> attention.Text:
    """Lines as the window reads them, (B, U) and (B,); a character outside the alphabet is its unknown symbol.

    Raises:
      DataError: if the alphabet has no unknown symbol.
    """
    U = -(-max(map(len, lines)) // 8) * 8
    characters = np.zeros((len(lines), U), np.int32)
    for row, line in zip(characters, lines, strict=True):
        row[: len(line)] = encode(line, alphabet, strict=False)
    return attention.Text(characters, np.array([len(line) for line in lines], np.int32))


def encode_line(line: str, alphabet: str) -> attention.Text:
    """One line as the window reads it, (U,) and ()."""
    return jax.tree.map(lambda leaf: leaf[0], encode_lines([line], alphabet))


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
      lines: in the writer's alphabet; see ``to_lines``.
      seed: line i is a function of the seed and i alone, apart from rounding.
      bias: b >= 0 (G13 sec. 5.4).
      bias_after: the number of points that are drawn without the bias in a line without a primer; 0 in G13.
      finish: the largest number of points to add until the current stroke is finished, once the rule has ended a line;
        0 in G13.
      cap: the largest number of points in a line; None for ``max_points`` of each.
    """
    start = '' if primer is None else f'{primer.text} '
    texts = encode_lines([start + line for line in lines], writer.alphabet)
    caps = [cap or max_points(line, primer) for line in lines]
    return _written(writer, caps, seed, bias, bias_after, primer, texts, attention.finished, finish)


def max_points(line: str, primer: Primer | None = None) -> int:
    """A cap on the points of a line: more than it should take, and more still if the pen of its primer is slow."""
    as_primer = 0 if primer is None else PRIMER_FACTOR * len(primer.offsets) / max(len(primer.text), 1)
    return round(max(POINTS_PER_CHARACTER, as_primer) * len(line)) + EXTRA_POINTS


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
    """Lines from a prediction net, which writes what it likes (G13 sec. 4.3), of ``points`` each; see ``write``."""
    return _written(writer, [points] * lines, seed, bias, bias_after, primer, None, None)


def _written(writer, caps, seed, bias, bias_after, primer, texts, stop, finish=0):
    prefix = np.zeros((1, 3), np.float32) if primer is None else strokes.normalise(primer.offsets, writer.scale)
    first = 0 if primer is None else len(prefix)  # without a primer the null vector is the first point of the line
    n, to_draw = len(caps), np.array(caps) + first - len(prefix)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), jnp.arange(n))
    drawn = _draw(
        writer.model,
        writer.params,
        keys,
        jnp.broadcast_to(prefix, (n, *prefix.shape)),
        jnp.full(n, len(prefix)),
        texts,
        cap=int(to_draw.max()),
        caps=to_draw,
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


def place_after(writer: Writer, primer: Primer, line: str) -> int:
    """The place of the window (``attention.place``) after a primer, where ``write`` goes on.

    If the primer's text is that of its strokes, this is the space after the text, or a neighbour of that.

    Args:
      line: what is to be written after the primer.
    """
    context = encode_line(f'{primer.text} {line}', writer.alphabet)
    points = jnp.asarray(strokes.normalise(primer.offsets, writer.scale))
    return int(_place_after(writer.model, writer.params, Conditioned(points, context)))


@functools.partial(jax.jit, static_argnames='model')
def _place_after(model, params, xs):
    state, _ = model.run(params, None, xs)
    return attention.place(state, xs.context)


# -- inspection -------------------------------------------------------------------------------------------------------


class Inspection(NamedTuple):
    """What a net predicts along a line.

    Attributes:
      mixture: ``outputs.Mixture`` of the next point, normalised, at each of the T - 1 points before the last.
      window: (T - 1, U) the weight of each character; None for a prediction net.
    """

    mixture: Mixture
    window: np.ndarray | None


def inspect(writer: Writer, offsets: np.ndarray, text: str = '') -> Inspection:
    """What a net predicts along an existing line, and where its window is (G13 fig. 10 and 13).

    Args:
      offsets: (T, 3) in units.
      text: of the line, for a synthesis net.

    Raises:
      DataError: if a synthesis net gets no text.
    """
    if writer.alphabet and not text:
        raise DataError('a synthesis net needs the text of the line')
    points = strokes.normalise(offsets, writer.scale)[:-1]
    context = encode_line(text, writer.alphabet) if writer.alphabet else None
    m, weight = _inspect(writer.model, writer.params, jnp.asarray(points), context)
    return Inspection(jax.device_get(m), None if context is None else np.asarray(weight)[:, : len(text)])


@functools.partial(jax.jit, static_argnames='model')
def _inspect(model, params, points, context):
    def step(state, x):
        state, z = model.step(params, state, x if context is None else Conditioned(x, context))
        u = None if context is None else jnp.arange(1.0, 1 + len(context.characters))
        return state, (mixture(z), None if context is None else attention.phi(state, u))

    return jax.lax.scan(step, model.initial_state(params), points)[1]
