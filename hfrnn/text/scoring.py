"""Reading a text from beginning to end, as one stream: static and dynamic evaluation.

Static is a net that is frozen while it reads.  Dynamic is one that goes on learning: its weights change after every
segment, by the derivative of the segment's nats, once they have been counted; so that nothing is learnt from before it
is scored (Graves 2013 sec. 3; Krause et al. 2018, "Dynamic Evaluation of Neural Sequence Models", K18).
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
from hfrnn.text.batches import shifted_inputs

Params = Any


class Reading(NamedTuple):
    """What a net made of a text.

    Attributes:
      nats: (N,) float64, -log P of every symbol given all before it.
      wrong: (N,) whether another one seemed the likeliest.
    """

    nats: np.ndarray
    wrong: np.ndarray


def _read(model, params, state, xs, targets):
    """(the state behind it, nats (T,), wrong (T,)) of one sequence."""
    state, prediction = model.run(params, state, xs)
    nats = jax.vmap(model.output.nll)(prediction.z, targets)
    return state, nats, jnp.argmax(prediction.z, axis=-1) != targets


# -- static -----------------------------------------------------------------------------------------------------------


def static_reader(model: Model, piece: int = 100) -> Callable:
    """``read(params, symbols, null, B=1, context=0) -> Reading``, compiled once for every number B of streams.

    With one stream the whole text is read from its beginning.  B of them read a B-th of it each, at once, from
    ``context`` symbols earlier; with a context that reaches to the beginning that is the same.

    Args:
      piece: how many symbols of each stream are read at a time.
    """

    @jax.jit
    def go(params, state, xs, targets):
        return jax.vmap(functools.partial(_read, model), (None, 0, 0, 0))(params, state, xs, targets)

    def read(params, symbols, null, B=1, context=0):
        n, B = len(symbols), min(B, len(symbols))
        edges = np.arange(B + 1) * n // B
        starts = np.maximum(edges[:-1] - context, 0)
        length = -(-int(np.max(edges[1:] - starts)) // piece) * piece
        state = jax.tree.map(lambda s: jnp.broadcast_to(s, (B, *s.shape)), model.initial_state(params))
        nats, wrong = np.zeros(n), np.zeros(n, bool)
        for first in range(0, length, piece):
            where = starts[:, None] + first + np.arange(piece)
            inside = np.minimum(where, n - 1)
            xs, targets = shifted_inputs(symbols, inside, null), symbols[inside].astype(np.int32)
            state, *found = go(params, state, xs, targets)
            scored = (where >= edges[:-1, None]) & (where < edges[1:, None])
            nats[where[scored]], wrong[where[scored]] = (np.asarray(f)[scored] for f in found)
        return Reading(nats, wrong)

    return read


# -- dynamic ----------------------------------------------------------------------------------------------------------


class Rule(NamedTuple):
    """How the weights change while a text is read.

    Attributes:
      rate: eta; 0 is static.
      decay: lambda, how fast they come back to the trained ones; 0 for never.
      rms: a pytree of the root mean squares of training segments' derivatives, by which those of the test are divided,
        and with which the decay goes; None for gradient descent.
    """

    rate: jax.Array
    decay: jax.Array
    rms: Any = None


LONGEST = 3.0  # a step of the rms rule, in root mean squares of training's


def learn(rule: Rule, trained: Params, params: Params, grads: Params) -> Params:
    """The weights after a segment, whose nats have the derivatives ``grads``.

    Gradient descent::

        w = w - eta g + lambda (w_0 - w)

    and, where ``rule.rms`` is given, after K18::

        w = w - eta s g / (r + e) + min(lambda r / e, 1) (w_0 - w)

    with r the rms, and e its mean over all weights, where K18 has a small constant: a weight that hardly mattered in
    training, of a rare symbol say, learns no faster than by gradient descent at the rate eta / e.  s <= 1 shortens a
    step to ``LONGEST`` times the root mean square of those that training segments would make, which K18 does not.
    """
    if rule.rms is None:
        return jax.tree.map(lambda w, w_0, g: w - rule.rate * g + rule.decay * (w_0 - w), params, trained, grads)
    e = optax.tree.sum(rule.rms) / optax.tree.size(rule.rms)
    scaled = jax.tree.map(lambda g, r: g / (r + e), grads, rule.rms)
    longest = LONGEST * optax.tree.norm(jax.tree.map(lambda r: r / (r + e), rule.rms))
    s = longest / jnp.maximum(optax.tree.norm(scaled), longest)

    def change(w, w_0, d, r):
        back = jnp.minimum(rule.decay * r / e, 1.0)
        return w - rule.rate * s * d + back * (w_0 - w)

    return jax.tree.map(change, params, trained, scaled, rule.rms)


def optimizer(rule: Rule) -> optax.GradientTransformation:
    """``learn`` for whoever steps by optax; the trained weights are those that it is initialised with.

    What counts are segments' nats; for derivatives of mean nats, scale ``rule.rms`` as these are scaled.
    """

    def update(grads, trained, params):
        return optax.tree.sub(learn(rule, trained, params, grads), params), trained

    return optax.GradientTransformation(lambda params: params, update)


def segments(symbols: np.ndarray, null: int, T: int, block: int) -> list[tuple[np.ndarray, ...]]:
    """A text as (inputs, targets, weights), each (block, T), one after the other; behind its end the weight is 0.

    Of a text that does not fill one block, that is as small as will hold it.
    """
    block = min(block, -(-len(symbols) // T))
    where = np.arange(-(-len(symbols) // (T * block)) * T * block).reshape(-1, block, T)
    inside = np.minimum(where, len(symbols) - 1)
    xs, targets = shifted_inputs(symbols, inside, null), symbols[inside].astype(np.int32)
    return list(zip(xs, targets, (where < len(symbols)).astype(np.float32), strict=True))


def _segment_grad(model, params, state, xs, targets, weights):
    """((state, nats, wrong), derivatives of the segment's nats)."""

    def loss(params):
        after, nats, wrong = _read(model, params, state, xs, targets)
        return jnp.sum(nats * weights), (after, nats, wrong)

    grads, found = jax.grad(loss, has_aux=True)(params)
    return found, grads


def dynamic_reader(model: Model, segment: int = 20, block: int = 250) -> Callable:
    """``read(params, symbols, null, rule, on_block=None) -> Reading``, compiled once for each kind of rule.

    One scan over ``block`` segments at a time; ``on_block(symbols read)`` is called after each.  ``symbols``, (N,), are
    a text, ``null`` is what is read before the first.

    Args:
      segment: symbols between two changes of the weights.
    """

    @jax.jit
    def go(trained, rule, carry, xs, targets, weights):
        def body(carry, data):
            params, state = carry
            (state, nats, wrong), grads = _segment_grad(model, params, state, *data)
            return (learn(rule, trained, params, grads), state), (nats, wrong)

        return jax.lax.scan(body, carry, (xs, targets, weights))

    def read(params, symbols, null, rule, on_block=None):
        carry, found = (params, model.initial_state(params)), []
        for i, data in enumerate(segments(symbols, null, segment, block)):
            carry, new = go(params, rule, carry, *data)
            found.append([np.asarray(part).reshape(-1) for part in new])
            if on_block is not None:
                on_block(min((i + 1) * block * segment, len(symbols)))
        nats, wrong = (np.concatenate(parts)[: len(symbols)] for parts in zip(*found, strict=True))
        return Reading(nats.astype(np.float64), wrong)

    return read


def root_mean_squares(model: Model, params: Params, symbols: np.ndarray, null: int, segment: int, block: int = 50):
    """The root of the mean, over the segments of a training text, of their squared derivatives: a pytree as params.

    Args:
      symbols: (N,) of the text.
      null: what is read before the first.
      segment: symbols of one, whose nats are summed.
      block: segments of a scan, which changes nothing.
    """

    @jax.jit
    def go(carry, xs, targets, weights):
        def body(carry, data):
            state, total = carry
            (state, _, _), grads = _segment_grad(model, params, state, *data)
            return (state, jax.tree.map(lambda t, g: t + g**2, total, grads)), None

        return jax.lax.scan(body, carry, (xs, targets, weights))[0]

    carry = model.initial_state(params), optax.tree.zeros_like(params)
    n = 0
    for data in segments(symbols, null, segment, block):
        carry = go(carry, *data)
        n += int(np.sum(data[2].any(-1)))
    return jax.tree.map(lambda t: jnp.sqrt(t / n), carry[1])


def tune(measure: Callable[[float], float], start: float, factor: float = 3.0, most: int = 12, gain: float = 0.0):
    """The argument > 0 of the least value that a walk finds, as (argument, value).

    From ``start`` by ``factor`` up or down as long as that gains more than ``gain``, and at last by its root to both
    sides.  What is not finite counts as infinite.
    """
    seen = {}

    def value(k):
        if k not in seen:
            found = measure(start * factor**k)
            seen[k] = found if math.isfinite(found) else math.inf
        return seen[k]

    best = min((0, 1, -1), key=value)
    while math.isinf(value(best)) and len(seen) < most:  # nothing but divergence so far
        best = min(seen) - 1
    step = math.copysign(1, best)
    while best and len(seen) < most and value(best + step) < value(best) - gain:
        best += step
    best = min((best, best - 0.5, best + 0.5), key=value)
    return start * factor**best, seen[best]


def tuned(bits: Callable[[float, float], float], with_rms: bool, gain: float = 2e-4) -> tuple[float, float]:
    """(rate, decay) of the rule with the fewest ``bits(rate, decay)`` of validation text; descent has no decay.

    Args:
      gain: what is worth another step of the search, in bits per character.

    Raises:
      DataError: if the weights come apart at every rate.
    """
    rate, without = tune(lambda rate: bits(rate, 0.0), 3e-4 if with_rms else 1e-3, gain=gain)
    if math.isinf(without):
        raise DataError(f'the weights come apart on validation text, down to a rate of {rate:.2g}')
    if not with_rms:
        return rate, 0.0
    decay, value = tune(lambda decay: bits(rate, decay), 1e-3, gain=gain)
    return rate, decay if value < without else 0.0


def surprise(model: Model, params: Any, prompt: np.ndarray, symbols: np.ndarray, piece: int = 100) -> np.ndarray:
    """-log P of every symbol, given the prompt and those before it, in nats (N,) float64.

    Args:
      prompt: (P,) symbols, P >= 1.
      symbols: (N,) of a text of any length, N >= 1.
      piece: how many are read at a time.
    """
    text = np.concatenate([prompt, symbols])
    return static_reader(model, piece)(params, text[1:], int(text[0])).nats[len(prompt) - 1 :]


SHORTEST = 1_000  # a validation text, in symbols, that a rate can be chosen on


def check_tuning_text(symbols: np.ndarray) -> None:
    """That there is enough validation text to choose a learning rate on.

    Raises:
      DataError: if not.
    """
    if len(symbols) < SHORTEST:
        raise DataError(
            f'{len(symbols):,} validation symbols are too few to tune dynamic evaluation on ({SHORTEST:,} are needed)'
        )
