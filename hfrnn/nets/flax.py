"""A door to flax: our cells as ``nnx`` modules, and what ``hessian_free`` needs of an ``nnx`` model.

A cell inside ``nnx.RNN``, for batches of sequences::

    cell = RNNCell(cells.mrnn(n_in, 100, 100), rngs=nnx.Rngs(0))
    ys = nnx.RNN(cell)(xs)                            # (B, T, n_in) -> (B, T, 100)

A Hessian-Free step of any ``nnx`` model::

    optimizer = nnx.Optimizer(model, hessian_free(1.0), wrt=nnx.Param)

    params, merge = pure(model)
    predict = lambda params: merge(params)(xs)
    f = lambda params: loss(predict(params))
    grads = nnx.grad(lambda model: loss(model(xs)))(model)
    optimizer.update(model, grads, curvature=gauss_newton(predict, loss, params), value_fn=f)

and what happened is ``optax.tree.get(nnx.as_pure(optimizer.opt_state), 'rho')``.  The step as a whole may stand under
``nnx.jit``.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from hfrnn.nets import cell as cells
from hfrnn.nets.cell import Cell


class RNNCell(nnx.RNNCellBase):
    """A cell as a module: a step of it for a batch, as ``nnx.RNN`` calls it.

    The carry is the cell's state; the learned initial state is the first carry.

    Attributes:
      cell: the pair of pure functions.
      params: its parameters, each array an ``nnx.Param``.
      num_feature_axes: 0 if inputs are symbols, 1 if they are vectors.
    """

    def __init__(self, cell: Cell, *, symbols: bool = False, rngs: nnx.Rngs):
        """Draws the parameters.

        Args:
          symbols: inputs are (..., T) symbols, not (..., T, D) vectors.
        """
        self.cell = nnx.static(cell)
        self.symbols = symbols
        self.params = nnx.data(jax.tree.map(nnx.Param, cell.init(rngs.params())))

    @property
    def num_feature_axes(self) -> int:
        return 0 if self.symbols else 1

    def initialize_carry(self, input_shape, rngs=None, carry_init=None):
        """The initial state for each sequence of a batch.

        Raises:
          ValueError: for a carry_init, as the cell has an initial state of its own.
        """
        if carry_init is not None:
            raise ValueError('a cell has its own initial state: pass initial_carry to nnx.RNN, not a carry_init')
        batch = input_shape[: len(input_shape) - self.num_feature_axes]
        state = self.cell.initial_state(nnx.as_pure(self.params))
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (*batch, *leaf.shape)), state)

    def __call__(self, carry, inputs):
        params = nnx.as_pure(self.params)

        def step(state, x):
            return self.cell.step(params, state, x)

        for _ in range(jnp.ndim(inputs) - self.num_feature_axes):
            step = jax.vmap(step)
        return step(carry, inputs)


def unroll(module: RNNCell, xs: jax.Array, state: Any = None, key: jax.Array | None = None):
    """``cells.unroll`` for a module and one sequence: the fast loops, and dropout.  A batch is a ``vmap``."""
    return cells.unroll(module.cell, nnx.as_pure(module.params), xs, state, key)


def pure(module: nnx.Module, wrt: Any = nnx.Param) -> tuple[Any, Callable[[Any], nnx.Module]]:
    """The arrays of a module's parameters, and the module as a function of them.

    Args:
      wrt: which variables are parameters, as for ``nnx.Optimizer``.
    """
    graph, params, rest = nnx.split(module, wrt, ...)
    return nnx.as_pure(params), lambda params: nnx.merge(graph, params, rest)
