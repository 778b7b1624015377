"""Curvature that is never written down: products of the Gauss-Newton matrix with a vector.

Sources: Martens 2010 (M10); Martens & Sutskever 2011 (MS11); Sutskever's 2013 thesis (S13).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

Params = Any
Outputs = Any
Product = Callable[[Params, jax.Array], Params]


def gauss_newton(
    predict: Callable[[Params], Outputs],
    loss: Callable[[Outputs], jax.Array],
    params: Params,
    distance: Callable[[Outputs, Outputs], jax.Array] | None = None,
) -> Product:
    """The damped Gauss-Newton matrix at ``params``, as a function of a vector::

        product(v, lam) = J' (H_L + lam H_D) J v + lam v

    with J the Jacobian of ``predict``, H_L the Hessian of ``loss`` and H_D that of the structural distance, both
    with respect to the outputs (M10 sec. 4.2; MS11 sec. 3.2).  One forward and one reverse sweep a product: the net is
    linearised here, once, and what every product needs of it is kept in memory until the last of them.

    Args:
      predict: outputs of the whole batch, any pytree.
      loss: a scalar of the outputs and convex in them, so that the matrix is positive semi-definite.
      params: where to linearise.
      distance: D(outputs, outputs_n), zero with zero gradient where both are the same; its weight mu included.

    Returns:
      ``product(v, lam)``; with lam = 0 the undamped matrix.
    """
    outputs, jvp = jax.linearize(predict, params)
    vjp = jax.linear_transpose(jvp, params)
    _, hessian_loss = jax.linearize(jax.grad(loss), outputs)
    if distance is not None:
        _, hessian_distance = jax.linearize(jax.grad(lambda moved: distance(moved, outputs)), outputs)

    def product(v, lam):
        u = jvp(v)
        w = hessian_loss(u)
        if distance is not None:
            w = optax.tree.add_scale(w, lam, hessian_distance(u))
        (Gv,) = vjp(w)
        return optax.tree.add_scale(Gv, lam, v)

    return product


def tanh_distance(h: jax.Array, h_n: jax.Array) -> jax.Array:
    """The distance that matches tanh units, for structural damping: 1/2 sum (h - h_n)^2 / (1 - h_n^2).

    MS11 states the curvature in the units' total inputs x, J_x' diag(1 - h^2) J_x (S13 eq. 4.7).  As
    J_h = diag(1 - h^2) J_x, that is J_h' diag(1 / (1 - h^2)) J_h: a function of the activations alone, so that a cell
    need not show its insides.  A unit so saturated that 1 - h^2 rounds to 0 has J_h = 0, and adds nothing either way.

    Args:
      h, h_n: activations within [-1, 1], of one shape.
    """
    metric = 1.0 / jnp.maximum((1.0 + h_n) * (1.0 - h_n), jnp.finfo(h_n.dtype).tiny)
    metric = jnp.where(jnp.abs(h_n) < 1.0, metric, 0.0)
    return 0.5 * jnp.sum(metric * (h - h_n) ** 2)
