"""Models: a cell, a linear readout and an output layer, for one sequence.  A batch is a ``vmap``."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hfrnn.nets.cell import Cell, unroll
from hfrnn.nets.initializers import sparse
from hfrnn.nets.outputs import Output


class Prediction(NamedTuple):
    """The outputs of a model on one sequence.

    Attributes:
      z: (T, size of the output layer) before the output's non-linearity.
      h: (T, H) hidden activations, for structural damping.
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
      run: ``run(params, state, xs, key=None) -> (state, Prediction)``: ``predict`` from a state (None for the initial
        one), and the state after the last input.  Two sequences, the second from the state after the first, are one
        long sequence.  The key is that of ``unroll``.
      tanh_units: as of ``Cell``: whether structural damping is defined for the hidden activations.
    """

    init: Callable[[jax.Array], Any]
    initial_state: Callable[[Any], Any]
    predict: Callable[[Any, jax.Array], Prediction]
    step: Callable[[Any, Any, jax.Array], tuple[Any, jax.Array]]
    output: Output
    run: Callable[..., tuple[Any, Prediction]]
    tanh_units: bool = False


def sequence_model(
    cell: Cell,
    output: Output,
    weights: Callable[[jax.Array, tuple[int, int]], jax.Array] = sparse,
    *,
    bias_scale: float = 0.0,
) -> Model:
    """o_t = W_oh h_t + b_o on a cell, Sutskever, Martens & Hinton 2011 eq. 2 and 9, Graves 2013 eq. 3.

    Args:
      weights: ``weights(key, shape)`` draws W_oh.
      bias_scale: the standard deviation of the initial b_o.
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

    def initial_state(params):
        return cell.initial_state(params['cell'])

    return Model(init, initial_state, predict, step, output, run, cell.tanh_units)


class Conditioned(NamedTuple):
    """The input of a conditional model.

    Attributes:
      x: a sequence for ``predict``, one input for ``step``.
      context: what the whole sequence is conditioned on, any pytree, such as the text of a line.
    """

    x: Any
    context: Any


def conditional(model_for: Callable[[Any], Model]) -> Model:
    """A model that is conditioned on a context: ``model_for(context)`` is the model for one context.

    All of these have the same parameters and states.  The result takes ``Conditioned`` inputs where they take plain
    ones, so a batch of sequences with a context each is a ``vmap`` as usual.

    Args:
      model_for: is also called with None, for the parts that do not depend on the context.
    """

    def predict(params, xs):
        return model_for(xs.context).predict(params, xs.x)

    def step(params, state, x):
        return model_for(x.context).step(params, state, x.x)

    def run(params, state, xs, key=None):
        return model_for(xs.context).run(params, state, xs.x, key)

    common = model_for(None)
    return Model(common.init, common.initial_state, predict, step, common.output, run, common.tanh_units)


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
    """Samples a continuation of a prompt: each sample is the next input.

    Args:
      prompt: (P, ...) inputs that the model reads first, P >= 1.
      length: how many inputs to sample.
      draw: ``draw(key, z)`` samples the next input.

    Returns:
      (length, ...) inputs.
    """

    def body(carry, key):
        state, z = carry
        x = draw(key, z)
        return model.step(params, state, x), x

    state, prediction = model.run(params, None, jnp.asarray(prompt))
    _, xs = jax.lax.scan(body, (state, prediction.z[-1]), jax.random.split(key, length))
    return xs
