"""Curvature without a matrix: products of the Gauss-Newton matrix with a vector.

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
    with respect to the outputs (M10 sec. 4.2; MS11 sec. 3.2).  The net is linearised here, once, and the linearisation
    stays in memory; a product is then one forward and one reverse sweep.

    Args:
      predict: outputs of the whole batch, any pytree.
      loss: a scalar function of the outputs, convex in them, so that the matrix is positive semi-definite:
        cross-entropy of logits, squared error, Bernoulli.  For a non-convex one pass the result of ``fisher_loss``.
      params: where to linearise.
      distance: D(outputs, outputs_n), zero with zero gradient where both are equal; including its weight mu.

    Returns:
      ``product(v, lam)``; lam = 0 is the undamped matrix.
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


def fisher_loss(
    nll: Callable[[jax.Array, Any], jax.Array], z: jax.Array, samples: Any, weights: jax.Array | None = None
) -> Callable[[jax.Array], jax.Array]:
    """A replacement for a loss that is not convex in the outputs: its Hessian is their Fisher matrix.

    With y_s drawn from the model's own distribution at z_n (the data's targets would give another matrix)::

        loss(z') = 1/2 sum_n w_n mean_s (grad nll(z_n, y_s) . z'_n)^2
        H        = sum_n w_n mean_s grad nll(z_n, y_s) grad nll(z_n, y_s)'

    H is positive semi-definite for any nll, and its mean over samples is the Fisher matrix F.  For outputs that match
    their loss (categorical, Bernoulli, Gaussian) F is the nll's Hessian.

    Args:
      nll: nats of one target, given one output vector (size,).
      z: (..., size) outputs at the params.
      samples: S targets for each output, (S, ..., target).
      weights: (...), the weight of each output's nll in the loss; 1 if None.
    """
    lead, S = z.shape[:-1], len(jax.tree.leaves(samples)[0])
    flat = jax.tree.map(lambda leaf: jnp.reshape(leaf, (S, -1, *leaf.shape[1 + len(lead) :])), samples)
    g = jax.vmap(jax.vmap(jax.grad(nll)), (None, 0))(z.reshape(-1, z.shape[-1]), flat)
    g = jax.lax.stop_gradient(g.reshape(S, *z.shape))
    weights = jnp.ones(lead, z.dtype) if weights is None else jnp.asarray(weights)
    return lambda moved: 0.5 / S * jnp.sum(weights * jnp.sum(jnp.sum(g * moved[None], -1) ** 2, 0))


def tanh_distance(h: jax.Array, h_n: jax.Array) -> jax.Array:
    """The distance that matches tanh units, for structural damping: 1/2 sum (h - h_n)^2 / (1 - h_n^2).

    MS11 states the curvature in the units' total inputs x, J_x' diag(1 - h^2) J_x (S13 eq. 4.7).  As
    J_h = diag(1 - h^2) J_x, it is also J_h' diag(1 / (1 - h^2)) J_h, which needs only the activations of a cell.
    A unit so saturated that 1 - h^2 rounds to 0 has J_h = 0, and adds nothing in either form.

    Args:
      h, h_n: activations within [-1, 1], of one shape.
    """
    metric = 1.0 / jnp.maximum((1.0 + h_n) * (1.0 - h_n), jnp.finfo(h_n.dtype).tiny)
    metric = jnp.where(jnp.abs(h_n) < 1.0, metric, 0.0)
    return 0.5 * jnp.sum(metric * (h - h_n) ** 2)
