"""Output layers: the distribution that a net's last linear map z parameterises, as pairs of pure functions.

Sources: Sutskever, Martens & Hinton 2011; Graves 2013 (G13).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from hfrnn.nets.scans import clip_cotangent


class Output(NamedTuple):
    """A distribution whose parameters are a net's outputs.

    Attributes:
      size: the length of ``z``.
      nll: ``nll(z, target) -> nats``.
      sample: ``sample(key, z, ...) -> target``.
      nonconvex: the name of an nll that is not convex in z, whose Hessian Hessian-Free cannot use; empty for a convex
        one.
    """

    size: int
    nll: Callable[[jax.Array, jax.Array], jax.Array]
    sample: Callable[..., jax.Array]
    nonconvex: str = ''


def categorical(n_symbols: int) -> Output:
    """P(symbol) = softmax(z), Sutskever, Martens & Hinton 2011 sec. 4.

    ``sample`` takes a temperature: P^(1/temperature), renormalised; 0 gives the most probable symbol.
    """

    def nll(z, target):
        return jax.nn.logsumexp(z) - z[target]

    def sample(key, z, temperature=1.0):
        drawn = jax.random.categorical(key, z / jnp.maximum(temperature, 1e-6))
        return jnp.where(temperature > 0, drawn, jnp.argmax(z))

    return Output(n_symbols, nll, sample)


def gaussian(n_units: int) -> Output:
    """n independent Gaussians of variance 1 and mean z: squared error, 1/2 sum (z - target)^2.

    These are nats without the constant n/2 log(2 pi).  Targets are (n,).  The Hessian is the identity.
    """

    def nll(z, target):
        return 0.5 * jnp.sum((z - target) ** 2)

    def sample(key, z):
        return z + jax.random.normal(key, z.shape, z.dtype)

    return Output(n_units, nll, sample)


def bernoulli(n_units: int) -> Output:
    """n independent bits, P(1) = sigmoid(z): nats = sum log(1 + e^z) - target z.

    Targets are (n,) numbers from 0 to 1.  The Hessian is diag(p (1 - p)).
    """

    def nll(z, target):
        return jnp.sum(jax.nn.softplus(z) - target * z)

    def sample(key, z):
        return jax.random.bernoulli(key, jax.nn.sigmoid(z)).astype(z.dtype)

    return Output(n_units, nll, sample)


def clipped(output: Output, limit: float | None) -> Output:
    """The same output, with dL/dz clipped to [-limit, limit], element by element, in backpropagation.

    G13 sec. 4 clips at 100 for handwriting, on the scale of one sequence's nats, summed over time: divide the gradient
    by the batch or length, not the loss.
    """
    return output._replace(nll=lambda z, target: output.nll(clip_cotangent(z, limit), target))


class Mixture(NamedTuple):
    """The next point of a pen: a mixture of M bivariate Gaussians for its offset, the probability of a stroke's end.

    Attributes:
      ehat: a stroke ends with the probability e = sigmoid(-ehat), with the paper's sign.
      log_pi: (M,) logarithms of the components' weights.
      mu: (2, M) means.
      log_sigma: (2, M) logarithms of the standard deviations.
      rhohat: (M,) with rho = tanh(rhohat) the correlations.
    """

    ehat: jax.Array
    log_pi: jax.Array
    mu: jax.Array
    log_sigma: jax.Array
    rhohat: jax.Array


def mixture(z: jax.Array, bias: float = 0.0) -> Mixture:
    """The mixture with the parameters z, 1 + 6 M numbers, G13 eq. 15-22::

        z = ehat, pihat (M), muhat (2, M), sigmahat (2, M), rhohat (M)
        e = 1 / (1 + exp(ehat)),  pi = softmax(pihat),  mu = muhat,  sigma = exp(sigmahat),  rho = tanh(rhohat)

    Args:
      bias: b >= 0 favours probable samples (G13 sec. 5): sigma = exp(sigmahat - b) and pi = softmax((1 + b) pihat).
        It changes neither e nor rho.
    """
    pihat, mu, sigmahat, rhohat = jnp.split(z[1:].reshape(6, -1), [1, 3, 5])
    return Mixture(z[0], jax.nn.log_softmax(pihat[0] * (1 + bias)), mu, sigmahat - bias, rhohat[0])


# Bounds that keep the density and its derivatives finite in float32 for offsets of 50 and more: sigma >= 3e-7 and
# 1 - |rho| >= 4e-9.
LOG_SIGMA, RHOHAT = -15.0, 10.0


def log_density(m: Mixture, x: jax.Array) -> jax.Array:
    """log sum_j pi_j N(x | mu_j, sigma_j, rho_j) in nats, for an offset x (2,); G13 eq. 23-25::

        N = exp(-Z / (2 (1 - rho^2))) / (2 pi sigma_1 sigma_2 sqrt(1 - rho^2))
        Z = u^2 + v^2 - 2 rho u v,    u = (x_1 - mu_1) / sigma_1,  v = (x_2 - mu_2) / sigma_2

    1 - rho^2 and Z lose all their digits as |rho| nears 1.  With 1 -+ rho = 2 sigmoid(-+ 2 rhohat) nothing cancels:

        Z / (1 - rho^2) = 1/2 [ (u - v)^2 / (1 - rho) + (u + v)^2 / (1 + rho) ]
    """
    log_sigma = jnp.maximum(m.log_sigma, LOG_SIGMA)
    r = 2 * jnp.clip(m.rhohat, -RHOHAT, RHOHAT)
    u, v = (x[:, None] - m.mu) * jnp.exp(-log_sigma)
    Z = 0.25 * ((u - v) ** 2 * (1 + jnp.exp(r)) + (u + v) ** 2 * (1 + jnp.exp(-r)))
    log_determinant = 2 * jnp.sum(log_sigma, 0) + jnp.log(4) + jax.nn.log_sigmoid(r) + jax.nn.log_sigmoid(-r)
    return jax.nn.logsumexp(m.log_pi - 0.5 * (Z + log_determinant)) - jnp.log(2 * jnp.pi)


def pen(n_mixtures: int = 20) -> Output:
    """Offsets of a pen: a mixture density for dx and dy, a Bernoulli variable for the end of a stroke, G13 eq. 15-26.

    A target is (3,): dx, dy, and 1 at the last point of a stroke, else 0.  ``sample`` takes the ``bias`` of
    ``mixture``.  The nll is not convex in z.
    """

    def nll(z, target):
        m = mixture(z)
        end = target[2]
        log_end = end * jax.nn.log_sigmoid(-m.ehat) + (1 - end) * jax.nn.log_sigmoid(m.ehat)
        return -log_density(m, target[:2]) - log_end

    def sample(key, z, bias=0.0):
        k_component, k_place, k_end = jax.random.split(key, 3)
        m = mixture(z, bias)
        j = jax.random.categorical(k_component, m.log_pi)
        n_1, n_2 = jax.random.normal(k_place, (2,), z.dtype)
        rho = jnp.tanh(m.rhohat[j])
        n = jnp.stack([n_1, rho * n_1 + n_2 / jnp.cosh(m.rhohat[j])])  # 1 / cosh^2 = 1 - rho^2
        end = jax.random.bernoulli(k_end, jax.nn.sigmoid(-m.ehat))
        return jnp.append(m.mu[:, j] + jnp.exp(m.log_sigma[:, j]) * n, end.astype(z.dtype))

    return Output(1 + 6 * n_mixtures, nll, sample, nonconvex='the mixture density of a pen')


def pen_mean(z: jax.Array) -> jax.Array:
    """The mean of the next offset, sum_j pi_j mu_j (2,), from which squared errors are measured.

    G13 reports squared errors without stating the prediction; the mean minimises them.
    """
    m = mixture(z)
    return m.mu @ jnp.exp(m.log_pi)
