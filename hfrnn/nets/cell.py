"""What a recurrent cell is: a pair of pure functions, written for one sequence; and the loop over its steps.

Legend of the shapes, here and in the whole library:

    T  time steps        D  size of an input      H  hidden units
    F  factors           V  symbols               B  sequences in a batch

A symbol is a scalar integer, which selects a column of an input matrix; a vector of D numbers is multiplied by it.
A symbol and its one-hot vector therefore give the same result.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Params = Any
State = Any


class Cell(NamedTuple):
    """A recurrent layer.

    Attributes:
      size: the number of outputs, the length of ``y`` below.
      init: ``init(key) -> params``.
      initial_state: ``initial_state(params) -> state``, the (learned) state before the first input.
      step: ``step(params, state, x) -> (state, y)``.
      run: ``run(params, state, xs, key=None) -> (state, ys)``, the loop over steps, of cells that have a faster form of
        it, or whose training is random (the key); else None.
      run_with_feedback: ``run_with_feedback(params, state, xs, feedback, constants, U, b, feedback_state, below,
        key=None) -> (state, feedback_state, ys, belows)``, the loop of a layer whose second input depends on its own
        earlier outputs; None for cells that have no fast form of it.  It is this loop::

            for x in xs:
                state, y = step(params, state, (x, below))
                feedback_state, below = feedback(constants, feedback_state, U @ y + b)

        xs are vectors, U is (E, size), b is (E,).  ``below`` is the second input of the first step; ``belows`` are the
        values after each step.  ``constants`` get no derivatives.  The key is that of ``run``.
      tanh_units: whether y is the tanh of the units' total inputs, as structural damping takes it to be
        (``curvature.tanh_distance``).
    """

    size: int
    init: Callable[[jax.Array], Params]
    initial_state: Callable[[Params], State]
    step: Callable[[Params, State, Any], tuple[State, jax.Array]]
    run: Callable[..., tuple[State, jax.Array]] | None = None
    run_with_feedback: Callable[..., tuple[State, State, jax.Array, jax.Array]] | None = None
    tanh_units: bool = False


def unroll(
    cell: Cell, params: Params, xs: jax.Array, state: State = None, key: jax.Array | None = None
) -> tuple[State, jax.Array]:
    """Runs a cell over one sequence.  It is this loop, as one ``lax.scan``::

        state = cell.initial_state(params)
        ys = []
        for x in xs:
            state, y = cell.step(params, state, x)
            ys.append(y)
        return state, stack(ys)

    Args:
      xs: (T,) symbols or (T, D) vectors.
      state: the state to start from; the cell's own initial state if None.
      key: for the random part of training, if the cell has one (``dropout`` of ``lstm``); None turns it off.

    Returns:
      The state after the last input, and ys (T, size).
    """
    if state is None:
        state = cell.initial_state(params)
    if cell.run is not None:
        return cell.run(params, state, xs, key)
    return jax.lax.scan(lambda state, x: cell.step(params, state, x), state, xs)


def take(W: jax.Array, x: jax.Array) -> jax.Array:
    """W x for a vector x (D,), or column x of W for a symbol x.

    A symbol past the last column is the null vector, the first input of a text (G13 sec. 2).
    """
    return W.at[:, x].get(mode='fill', fill_value=0) if jnp.issubdtype(x.dtype, jnp.integer) else W @ x
