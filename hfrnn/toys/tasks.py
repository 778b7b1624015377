"""Problems whose answer lies T steps back: made by rule, so that every batch is new.

Each is a Task at one minimum lag T.  'thesis' is the form of Sutskever's thesis of 2013 (ch. 4), 'release' that of the
code he released in 2011; the problems are Hochreiter & Schmidhuber's.  Times are steps 1, 2, ...; i[a, b] is a uniform
integer with both ends, and a fraction of a time is rounded down.

The sequences of a batch may differ in length.  They are padded to the longest that there may be, so that a net is
compiled once for a task: what follows a sequence's last target has the weight 0.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hfrnn.errors import DataError
from hfrnn.nets import outputs
from hfrnn.train.loss import Batch

TOLERANCE = 0.04  # a real answer further off than that is wrong


class Task(NamedTuple):
    """A problem at one lag.

    Attributes:
      inputs: D if the inputs are vectors (B, steps, D), V if they are symbols (B, steps).
      steps: the time steps of a batch, padding included.
      output: categorical: targets are symbols (B, steps); gaussian or bernoulli: (B, steps, 1).
      draw: ``draw(rng, n) -> Batch`` of n sequences.
      wrong: ``wrong(z, batch) -> (B,)`` whether a net that puts out z (B, steps, output.size) has a sequence wrong: at
        least one judged answer of it.  All weighted steps are judged, unless the task says otherwise.
    """

    inputs: int
    steps: int
    output: outputs.Output
    draw: Callable[[np.random.Generator, int], Batch]
    wrong: Callable[[Any, Batch], Any]


def real_wrong(z, batch: Batch):
    """A real answer is wrong by more than 0.04."""
    return (~(abs(z - batch.targets) <= TOLERANCE)[..., 0] & (batch.weights > 0)).any(1)


def bit_wrong(z, batch: Batch):
    """A bit is wrong if the other one is likelier."""
    return (((z > 0) != (batch.targets > 0.5))[..., 0] & (batch.weights > 0)).any(1)


def symbol_wrong(z, batch: Batch):
    """A symbol is wrong if another one is likelier."""
    return ((z.argmax(-1) != batch.targets) & (batch.weights > 0)).any(1)


def last_symbol_wrong(z, batch: Batch):
    """Only the last step's symbol is judged."""
    return z[:, -1].argmax(-1) != batch.targets[:, -1]


def _between(rng, low, high, size=None):
    """i[low, high]."""
    return rng.integers(low, high, size, endpoint=True)


def _need(least, T):
    if least > T:
        raise DataError(f'this task needs a lag T of {least} at least, not {T}')


# -- two marked inputs ------------------------------------------------------------------------------------------------


def _marked(
    answer: Callable, value: Callable, output: outputs.Output, wrong: Callable, short: bool = False
) -> Callable:
    """``(T, form) -> Task``: two of many numbers are marked, and the answer at the end is a function of these.

    Inputs are (number, marker), the marker 1 at steps I and J and else 0; the only target is at the last step, T'.

    thesis: T' ~ i[T, 1.1 T], I ~ i[1, T'/10], J ~ i[T'/10, T'/2].  Where I is the one step that both hold, J is a
    later one: two numbers are always marked.

    release: J - 1 ~ i[T/10, T/2] and I - 1 ~ i[T/100, T/10], at least 1; T' ~ i[T, 1.1 T]; the marker is -1 at the
    first step and three before the last.  ``short``: T' ~ i[T/2, 0.55 T] and J - 1 ~ i[0.15 T, 0.25 T].

    Args:
      answer: ``answer(a, b, form)`` of the marked numbers.
      value: ``value(rng, shape)``, the numbers.
    """

    def task(T, form):
        halved = short and form == 'release'
        _need(20 if halved else 10, T)
        shortest, steps = (T // 2, 55 * T // 100) if halved else (T, 11 * T // 10)

        def draw(rng, n):
            length = _between(rng, shortest, steps, n)
            if form == 'thesis':
                I = _between(rng, 1, length // 10)
                J = _between(rng, length // 10 + (length // 10 == I), length // 2)
            else:
                I = 1 + _between(rng, max(1, T // 100), T // 10, n)
                low, high = (15 * T // 100, 25 * T // 100) if halved else (T // 10, T // 2)
                J = 1 + _between(rng, low + (low + 1 == I), high)
            row = np.arange(n)
            xs = np.zeros((n, steps, 2), np.float32)
            xs[..., 0] = value(rng, (n, steps))
            xs[row, I - 1, 1] = xs[row, J - 1, 1] = 1
            if form == 'release':
                xs[:, 0, 1] = xs[row, length - 4, 1] = -1
            targets = np.zeros((n, steps, 1), np.float32)
            targets[row, length - 1, 0] = answer(xs[row, I - 1, 0], xs[row, J - 1, 0], form)
            weights = np.zeros((n, steps), np.float32)
            weights[row, length - 1] = 1
            xs[np.arange(steps) >= length[:, None]] = 0
            return Batch(xs, targets, weights)

        return Task(2, steps, output, draw, wrong)

    return task


def _uniform(rng, shape):
    return rng.random(shape, np.float32)


def _bits(rng, shape):
    return rng.integers(2, size=shape)


def _sum(a, b, form):
    """thesis: (a + b) / 2; release: a + b."""
    return (a + b) / 2 if form == 'thesis' else a + b


addition = _marked(_sum, _uniform, outputs.gaussian(1), real_wrong)
multiplication = _marked(lambda a, b, form: a * b, _uniform, outputs.gaussian(1), real_wrong)
xor = _marked(lambda a, b, form: a != b, _bits, outputs.bernoulli(1), bit_wrong, short=True)


# -- symbols ----------------------------------------------------------------------------------------------------------


def _temporal_order(thesis: Sequence[tuple[int, int]], release: Sequence[tuple[int, int]]) -> Callable:
    """``(T, form) -> Task``: which of two special symbols came at each of a few steps, in order?

    T symbols: 0 or 1 at a step of each window, i[low, high] per cent of T, and one of the others everywhere else.  The
    only target is at the last step: the class whose binary digits the special symbols are, first one first.

    thesis: 6 symbols.  release: 8, and other windows.  (What its code does with the others is not known to us.)
    """

    def task(T, form):
        _need(10, T)
        windows, n_symbols = (thesis, 6) if form == 'thesis' else (release, 8)

        def draw(rng, n):
            xs = rng.integers(2, n_symbols, (n, T), np.int32)
            classes = np.zeros(n, np.int32)
            for low, high in windows:
                at = _between(rng, max(1, low * T // 100), high * T // 100, n)
                bit = rng.integers(2, size=n, dtype=np.int32)
                xs[np.arange(n), at - 1] = bit
                classes = 2 * classes + bit
            targets = np.zeros((n, T), np.int32)
            targets[:, -1] = classes
            weights = np.zeros((n, T), np.float32)
            weights[:, -1] = 1
            return Batch(xs, targets, weights)

        return Task(n_symbols, T, outputs.categorical(2 ** len(windows)), draw, symbol_wrong)

    return task


temporal_order_2 = _temporal_order(((10, 20), (50, 60)), ((1, 10), (40, 50)))
temporal_order_3 = _temporal_order(((10, 20), (30, 40), (60, 70)), ((1, 10), (30, 40), (50, 60)))


def permutation(T: int, form: str) -> Task:
    """Random permutation: predict the next of 100 symbols; the last, T steps after the first, is the first again.

    The first is 0 or 1, those between are any of 2 .. 99.  Every step has its target, but only the last one can be
    known, and only it is judged.  Both forms are the same.
    """
    del form
    _need(2, T)

    def draw(rng, n):
        symbols = rng.integers(2, 100, (n, T + 1), np.int32)
        symbols[:, 0] = symbols[:, -1] = rng.integers(2, size=n)
        return Batch(symbols[:, :-1], symbols[:, 1:], np.ones((n, T), np.float32))

    return Task(100, T, outputs.categorical(100), draw, last_symbol_wrong)


def _memorisation(n_symbols: int, n_values: int, exhaustive: bool) -> Callable:
    """``(T, form) -> Task``: n symbols, T steps of nothing, of which the last is the trigger; then the symbols again.

    Inputs are the symbols 0 .. V-1, V for nothing, which is also what comes in during the answer, and V+1 for the
    trigger; targets 0 .. V-1 and V.  Every step has its target, and is judged.

    thesis: T + 2n steps.  release: T steps in all; ``exhaustive``: the rows are all V^n sequences, in turn.
    """

    def task(T, form):
        gap = T if form == 'thesis' else T - 2 * n_symbols
        _need(T - gap + 1, T)
        steps, nothing = gap + 2 * n_symbols, n_values

        def draw(rng, n):
            if exhaustive and form == 'release':
                patterns = np.arange(n)[:, None] // n_values ** np.arange(n_symbols) % n_values
            else:
                patterns = rng.integers(n_values, size=(n, n_symbols))
            xs = np.full((n, steps), nothing, np.int32)
            targets = xs.copy()
            xs[:, :n_symbols] = targets[:, -n_symbols:] = patterns
            xs[:, n_symbols + gap - 1] = nothing + 1
            return Batch(xs, targets, np.ones((n, steps), np.float32))

        return Task(n_values + 2, steps, outputs.categorical(n_values + 1), draw, symbol_wrong)

    return task


memorisation_5 = _memorisation(5, 2, exhaustive=True)
memorisation_20 = _memorisation(10, 5, exhaustive=False)

TASKS = {
    'addition': addition,
    'multiplication': multiplication,
    'xor': xor,
    'temporal_order_2': temporal_order_2,
    'temporal_order_3': temporal_order_3,
    'permutation': permutation,
    'memorisation_5': memorisation_5,
    'memorisation_20': memorisation_20,
}
FORMS = ('thesis', 'release')


def make(name: str, T: int, form: str = 'thesis') -> Task:
    """The task of this name with the minimum lag T.

    Raises:
      DataError: for a lag that is too short for it, or another name or form.
    """
    if name not in TASKS:
        raise DataError(f'no task {name!r}; there are {", ".join(TASKS)}')
    if form not in FORMS:
        raise DataError(f'a form is one of {", ".join(FORMS)}, not {form!r}')
    try:
        return TASKS[name](T, form)
    except DataError as e:
        raise DataError(f'{name}: {e}') from None


def wrong_sequences(wrong: Callable[[jax.Array, Batch], jax.Array]) -> Callable:
    """The number of wrong sequences, for ``loss.eval_step``, by the ``wrong`` of a Task; padding does not count."""
    return lambda z, batch: jnp.sum(wrong(z, batch) & (batch.weights > 0).any(1))
