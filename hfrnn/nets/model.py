"""A model = a cell, a linear readout, an output layer.  For one sequence; a batch is a ``vmap``."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hfrnn.nets.cells import Cell, sparse, unroll
from hfrnn.nets.outputs import Output


class Prediction(NamedTuple):
    """What a model says of one sequence.

    Attributes:
      z: (T, size of the output layer) before the output's non-linearity.
      h: (T, H) hidden activations, which structural damping holds on to.
    """

    z: jax.Array
    h: jax.Array


class Model(NamedTuple):
    """A recurrent net with its output layer.

    Attributes:
      init: ``init(key) -> params``.
      initial_state: ``initial_state(params) -> state``.
      predict: ``predict(params, xs) -> Prediction``, over a whole sequence.
      step: ``step(params, state, x) -> (state, z)``, one input at a time.
      output: the output layer.
      run: ``run(params, state, xs, key=None) -> (state, Prediction)``: ``predict`` from a state, and the state behind
        it; so that two sequences, the second from the first one's state, are one long one.  From the initial state if
        that is None.  The key: see ``unroll``.
    """

    init: Callable[[jax.Array], Any]
    initial_state: Callable[[Any], Any]
    predict: Callable[[Any, jax.Array], Prediction]
    step: Callable[[Any, Any, jax.Array], tuple[Any, jax.Array]]
    output: Output
    run: Callable[..., tuple[Any, Prediction]]


def sequence_model(
    cell: Cell,
    output: Output,
    weights: Callable[[jax.Array, tuple[int, int]], jax.Array] = sparse,
    *,
    bias_scale: float = 0.0,
) -> Model:
    """o_t = W_oh h_t + b_o on top of a cell, Sutskever, Martens & Hinton 2011 eq. 2 and 9, Graves 2013 eq. 3.

    Args:
      weights: ``weights(key, shape)`` draws W_oh.
      bias_scale: the standard deviation of b_o at the start.
    """

    def init(key):
        k_cell, k_oh, k_b = jax.random.split(key, 3)
        W_oh = weights(k_oh, (output.size, cell.size))
        readout = {'W_oh': W_oh, 'b_o': bias_scale * jax.random.normal(k_b, (output.size,))}
        return {'cell': cell.init(k_cell), 'readout': readout}

    def read(p, h):
        return p['W_oh'] @ h + p['b_o']

    def run(params, state, xs, key=None):
        state, h = unroll(cell, params['cell'], xs, state, key)
        return state, Prediction(jax.vmap(read, (None, 0))(params['readout'], h), h)

    def predict(params, xs):
        return run(params, None, xs)[1]

    def step(params, state, x):
        state, h = cell.step(params['cell'], state, x)
        return state, read(params['readout'], h)

    return Model(init, lambda params: cell.initial_state(params['cell']), predict, step, output, run)


class Conditioned(NamedTuple):
    """The input of a conditional model.

    Attributes:
      x: a sequence for ``predict``, one input for ``step``.
      context: what the sequence depends on as a whole, any pytree: a line's text, say.
    """

    x: Any
    context: Any


def conditional(given: Callable[[Any], Model]) -> Model:
    """A model whose predictions depend on more than its inputs: ``given(context)`` is the model for one condition.

    All of them have the same parameters and the same states.  What this returns takes ``Conditioned`` inputs where
    they take plain ones, so that a batch, each sequence with a condition of its own, is a ``vmap`` as ever.

    Args:
      given: also called with None, for what no condition has a part in.
    """

    def predict(params, xs):
        return given(xs.context).predict(params, xs.x)

    def step(params, state, x):
        return given(x.context).step(params, state, x.x)

    def run(params, state, xs, key=None):
        return given(xs.context).run(params, state, xs.x, key)

    any_of_them = given(None)
    return Model(any_of_them.init, any_of_them.initial_state, predict, step, any_of_them.output, run)


def size(params: Any) -> int:
    """The number of weights."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def continue_sequence(
    model: Model,
    params: Any,
    key: jax.Array,
    prompt: jax.Array,
    length: int,
    draw: Callable[[jax.Array, jax.Array], jax.Array],
) -> jax.Array:
    """A sequence that a net goes on with by itself, each output the next input.

    Args:
      prompt: (P, ...) inputs that the model reads first, P >= 1.
      length: how many to make.
      draw: ``draw(key, z)``, the next input.

    Returns:
      (length, ...) inputs.
    """

    def body(carry, key):
        state, z = carry
        x = draw(key, z)
        return model.step(params, state, x), x

    state, read = model.run(params, None, jnp.asarray(prompt))
    _, xs = jax.lax.scan(body, (state, read.z[-1]), jax.random.split(key, length))
    return xs
