"""-log P of a text, symbol by symbol: of a net that is frozen while it reads, or of one that learns as it reads.

    read = static_reader(model)
    reading = read(params, symbols, before)                             # the whole text as one stream
    reading = read(params, symbols, before, stride=200, context=50)     # in pieces, each with some context

Static evaluation leaves the weights alone.  Dynamic evaluation changes them after every segment, by the gradient of the
segment's nats and once these are counted, so that nothing is learnt from before it is scored.

Sources: Sutskever's code for Sutskever, Martens & Hinton 2011 (S11c); Graves 2013 (G13) sec. 3; Krause et al. 2018,
"Dynamic Evaluation of Neural Sequence Models" (K18).
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hfrnn.errors import DataError
from hfrnn.nets.model import Model
from hfrnn.text import words
from hfrnn.text.models import Trained

Params = Any
BITS = 1 / math.log(2)  # in a nat
STREAMS = 256  # read at once, at most
MOST_NUMBERS = 2**26  # of outputs z held at once: 256 MiB


class Reading(NamedTuple):
    """What a net predicts of a text.

    Attributes:
      nll: (N,) float64, -log P of every symbol given those before it, in nats.
      wrong: (N,) bool, whether another symbol was the most probable one.
    """

    nll: np.ndarray
    wrong: np.ndarray


def read_sequence(model: Model, params: Params, state: Any, xs: jax.Array, targets: jax.Array):
    """(state after it, -log P of the targets (T,), wrong (T,)) of one sequence of inputs (T,)."""
    state, prediction = model.run(params, state, xs)
    nll = jax.vmap(model.output.nll)(prediction.z, targets)
    return state, nll, jnp.argmax(prediction.z, axis=-1) != targets


def rows_reader(model: Model) -> Callable:
    """``read_sequence`` of the model, compiled, for B rows at once: ``(params, states, xs (B, T), targets (B, T))``."""
    return jax.jit(jax.vmap(functools.partial(read_sequence, model), (None, 0, 0, 0)))


def initial_states(model: Model, params: Params, rows: int) -> Any:
    """The initial state of the model for so many rows."""
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (rows, *leaf.shape)), model.initial_state(params))


def _joined(before, symbols):
    if not len(before):
        raise ValueError('the first symbol is predicted from one before it: give at least the start symbol')
    return np.concatenate([np.asarray(before, np.int32), np.asarray(symbols, np.int32)])


# -- static -----------------------------------------------------------------------------------------------------------


def static_reader(model: Model, length: int = 100) -> Callable[..., Reading]:
    """``read(params, symbols, before, *, stride=0, context=0) -> Reading`` of a text, with the weights as they are.

    Args of ``read``:
      symbols: (N,) the text to be scored.
      before: (K,) what precedes it, K >= 1; the start symbol, which is the size of the alphabet, if nothing does.
      stride: 0 reads ``before`` and the text as one stream.  Otherwise the text is cut into pieces that score so many
        symbols each, every symbol in exactly one of them, and that are read at once (S11c).
      context: how many symbols a piece reads before the first that it scores, at least 1; fewer where there are no
        more.

    Memory does not grow with the text: at most ``STREAMS`` pieces are read at once.

    Args:
      length: how many symbols of each stream are read in one call, at most.
    """
    read_rows = rows_reader(model)

    def read(params, symbols, before, *, stride=0, context=0):
        text, n, K = _joined(before, symbols), len(symbols), len(before)
        if not stride:
            stride, context = max(n, 1), K
        elif context < 1:
            raise ValueError('the first symbol of a piece is predicted from one before it: give a context')
        firsts = K + np.arange(0, n, stride)  # places in the text of the first symbols that pieces score
        ends = np.minimum(firsts + stride, len(text))
        starts = np.maximum(firsts - context, 0)
        nll, wrong = np.full(n, np.nan), np.zeros(n, bool)
        if not n:
            return Reading(nll, wrong)
        longest = int(np.max(ends - 1 - starts))
        T = math.ceil(longest / math.ceil(longest / length))
        groups = math.ceil(len(firsts) / max(1, min(STREAMS, MOST_NUMBERS // (T * model.output.size))))
        rows = math.ceil(len(firsts) / groups)
        for group in range(0, len(firsts), rows):
            which = np.minimum(np.arange(group, group + rows), len(firsts) - 1)  # the last group is filled up
            states = initial_states(model, params, rows)
            for t in range(0, longest, T):
                where = starts[which, None] + t + np.arange(T)
                inside = np.minimum(where, len(text) - 2)
                states, *found = read_rows(params, states, text[inside], text[inside + 1])
                scored = (where + 1 >= firsts[which, None]) & (where + 1 < ends[which, None])
                places = where[scored] + 1 - K
                nll[places], wrong[places] = (np.asarray(one)[scored] for one in found)
        return Reading(nll, wrong)

    return read


def bits_per_symbol(net: Trained, text: str, prompt: str | None = None) -> float:
    """-log2 P(text | prompt) / its symbols, by a net that is frozen.

    Args:
      prompt: the end of a line if None.

    Raises:
      DataError: for an empty text or prompt, or one that the alphabet lacks something of.
    """
    symbols = words.symbols_of(text, net.alphabet)
    if not len(symbols):
        raise DataError('the text is empty')
    before = words.prompt_symbols(prompt, net.alphabet)
    return float(static_reader(net.model)(net.params, symbols, before).nll.mean()) * BITS


# -- learning while reading -------------------------------------------------------------------------------------------


class Rule(NamedTuple):
    """How a net learns as it reads.

    Attributes:
      rate: eta; 0 is static.
      decay: lambda, how fast the weights return to the trained ones; 0 for never.
      rms: a pytree, root mean squares of the gradients of training segments, by which those of the text are divided,
        and with which the decay grows; None for gradient descent.
      clip: of gradient descent, the largest norm of a segment's gradient; a longer one is scaled to it.
    """

    rate: jax.Array | float
    decay: jax.Array | float
    rms: Any = None
    clip: jax.Array | float = math.inf


LONGEST = 3.0  # a step of the rms rule, in root mean squares of those of training


def learn(rule: Rule, trained: Params, params: Params, grads: Params) -> Params:
    """The weights after a segment, the sum of whose nats has the gradient ``grads``.

    Gradient descent::

        w = w - eta s g + lambda (w_0 - w),    s = min(1, clip / |g|)

    and, where ``rule.rms`` is given, after K18::

        w = w - eta s g / (r + e) + min(lambda r / e, 1) (w_0 - w)

    with r the rms, and e its mean over all weights, where K18 has a small constant: a weight that hardly mattered in
    training, of a rare symbol say, learns no faster than by gradient descent at the rate eta / e.  s <= 1 shortens a
    step to ``LONGEST`` times the root mean square of those that training segments would make, which K18 does not.
    """
    if rule.rms is None:
        s = jnp.minimum(1.0, rule.clip / optax.tree.norm(grads))
        return jax.tree.map(lambda w, w_0, g: w - rule.rate * s * g + rule.decay * (w_0 - w), params, trained, grads)
    e = optax.tree.sum(rule.rms) / optax.tree.size(rule.rms)
    scaled = jax.tree.map(lambda g, r: g / (r + e), grads, rule.rms)
    longest = LONGEST * optax.tree.norm(jax.tree.map(lambda r: r / (r + e), rule.rms))
    s = longest / jnp.maximum(optax.tree.norm(scaled), longest)

    def change(w, w_0, d, r):
        back = jnp.minimum(rule.decay * r / e, 1.0)
        return w - rule.rate * s * d + back * (w_0 - w)

    return jax.tree.map(change, params, trained, scaled, rule.rms)


def segment_gradient(model: Model, params: Params, state: Any, xs: jax.Array, targets: jax.Array, weights: jax.Array):
    """((state after it, nll, wrong), gradient of the weighted sum of nats) of one segment, back to its beginning."""

    def loss(params):
        after, nll, wrong = read_sequence(model, params, state, xs, targets)
        return jnp.sum(nll * weights), (after, nll, wrong)

    grads, found = jax.grad(loss, has_aux=True)(params)
    return found, grads


def segments(text: np.ndarray, T: int, block: int) -> list[tuple[np.ndarray, ...]]:
    """A text (N + 1,) as consecutive (inputs, targets, weights), each (block, T); what is past its end has weight 0.

    If the text does not fill one block, the block is only as large as it must be.
    """
    n = len(text) - 1
    block = min(block, -(-n // T))
    where = np.arange(-(-n // (T * block)) * T * block).reshape(-1, block, T)
    inside = np.minimum(where, n - 1)
    return list(zip(text[inside], text[inside + 1], (where < n).astype(np.float32), strict=True))


def dynamic_reader(model: Model, segment: int, block: int = 50) -> Callable[..., Reading]:
    """``read(params, symbols, before, rule, on_block=None) -> Reading``: the net learns by the rule as it reads.

    It is this loop, for ``before`` and the text as one stream::

        for xs, targets in segments:
            (state, nll, wrong), grads = segment_gradient(model, params, state, xs, targets)
            params = learn(rule, trained, params, grads)

    Args of ``read``:
      before: (K,) as in ``static_reader``; the net learns from it, too.
      on_block: is called with the number of symbols read, after every block.

    Args:
      segment: symbols between two changes of the weights.
      block: segments in one call, which changes nothing.
    """

    @jax.jit
    def go(trained, rule, carry, xs, targets, weights):
        def body(carry, data):
            params, state = carry
            (state, nll, wrong), grads = segment_gradient(model, params, state, *data)
            return (learn(rule, trained, params, grads), state), (nll, wrong)

        return jax.lax.scan(body, carry, (xs, targets, weights))

    def read(params, symbols, before, rule, on_block=None):
        text = _joined(before, symbols)
        carry, found = (params, model.initial_state(params)), []
        for i, data in enumerate(segments(text, segment, block)):
            carry, new = go(params, rule, carry, *data)
            found.append([np.asarray(part).reshape(-1) for part in new])
            if on_block is not None:
                on_block(min((i + 1) * block * segment, len(symbols)))
        scored = slice(len(before) - 1, len(text) - 1)
        nll, wrong = (np.concatenate(parts)[scored] for parts in zip(*found, strict=True))
        return Reading(nll.astype(np.float64), wrong)

    return read


def root_mean_squares(
    model: Model, params: Params, symbols: np.ndarray, before: np.ndarray, segment: int, block: int = 50
) -> Params:
    """The root of the mean, over the segments of a training text (N,), of their squared gradients.

    Args:
      before: (K,) as in ``static_reader``.
      segment: symbols of one, whose nats are summed.
      block: segments in one call, which changes nothing.
    """

    @jax.jit
    def go(carry, xs, targets, weights):
        def body(carry, data):
            state, total = carry
            (state, _, _), grads = segment_gradient(model, params, state, *data)
            return (state, jax.tree.map(lambda t, g: t + g**2, total, grads)), None

        return jax.lax.scan(body, carry, (xs, targets, weights))[0]

    carry = model.initial_state(params), optax.tree.zeros_like(params)
    n = 0
    for data in segments(_joined(before, symbols), segment, block):
        carry = go(carry, *data)
        n += int(np.sum(data[2].any(-1)))
    return jax.tree.map(lambda t: jnp.sqrt(t / n), carry[1])
