"""The same work by other libraries: Hessian-Free by hessianfree (NumPy) and somax (JAX), an LSTM's training by torch.

What all of them have is a tanh RNN with linear outputs and squared error.  Its params are as in hessianfree: weights
and biases, and b_rec in place of the recurrent product at t = 1.
"""

import importlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hfrnn import gauss_newton, hessian_free
from hfrnn.errors import Unavailable

D = 10  # inputs and outputs
DAMPING = 1.0  # lambda
NAMES = ('W_in', 'b_in', 'W_out', 'b_out', 'W_rec', 'b_rec')  # in the order of hessianfree's one vector


class Problem(NamedTuple):
    """The RNN's params and a vector v like them, as dicts; xs and targets (B, T, D)."""

    params: dict
    v: dict
    xs: np.ndarray
    targets: np.ndarray


class Peer(NamedTuple):
    """What a library does: (G + lambda) v as one vector, ``products(n)``, a Hessian-Free ``step()``."""

    product: np.ndarray
    products: Callable
    step: Callable
    note: str = ''


def problem(H, T, B):
    """Random weights and data: H units, B sequences of T."""
    rng = np.random.default_rng(0)
    shapes = {'W_in': (D, H), 'b_in': (H,), 'W_out': (H, D), 'b_out': (D,), 'W_rec': (H, H), 'b_rec': (H,)}
    params = {name: (rng.normal(size=s) / s[0] ** 0.5).astype(np.float32) for name, s in shapes.items()}
    v = {name: np.random.default_rng(1).normal(size=s).astype(np.float32) for name, s in shapes.items()}
    return Problem(params, v, *rng.normal(size=(2, B, T, D)).astype(np.float32))


def predict(params, xs):
    """Outputs (B, T, D)."""

    def step(recurrent, x):
        h = jnp.tanh(x @ params['W_in'] + params['b_in'] + recurrent)
        return h @ params['W_rec'], h

    def outputs(xs):
        _, h = jax.lax.scan(step, params['b_rec'], xs)
        return h @ params['W_out'] + params['b_out'][None]

    return jax.vmap(outputs)(xs)


def squared_error(z, targets):
    return 0.5 * jnp.sum((z - targets) ** 2) / len(targets)


def curvature(p, params):
    """``product(v, lam)`` of the problem's Gauss-Newton matrix at these params."""
    return gauss_newton(lambda w: predict(w, p.xs), lambda z: squared_error(z, p.targets), params)


def flat(params):
    return np.concatenate([np.ravel(params[name]) for name in NAMES])


def repeat(product, v, n, scale=1e-3):
    """n products, each of the scaled result of the last one."""
    return jax.lax.fori_loop(0, n, lambda _, v: jax.tree.map(lambda leaf: scale * leaf, product(v)), v)


def require(name, extra):
    """The module of this name; Unavailable, with the extra that installs it, if it cannot be imported."""
    try:
        return importlib.import_module(name)
    except ImportError as e:
        raise Unavailable(f"{e}; pip install -e '.[{extra}]'") from e


# -- Hessian-Free -----------------------------------------------------------------------------------------------------


def in_jax(p, product_at, step):
    """A Peer, with ``product_at(params) -> (v -> (G + lambda) v)``."""
    products = jax.jit(lambda params, n: repeat(product_at(params), p.v, n), static_argnums=1)
    product = jax.jit(lambda params: product_at(params)(p.v))(p.params)
    return Peer(flat(product), lambda n: products(p.params, n), step)


def by_hfrnn(p, cg_iterations):
    optimizer = hessian_free(DAMPING, cg_iterations=cg_iterations, tolerance=0.0)

    def objective(params):
        return squared_error(predict(params, p.xs), p.targets)

    def product_at(params):
        product = curvature(p, params)
        return lambda v: product(v, DAMPING)

    @jax.jit
    def step(params, state):
        grads = jax.grad(objective)(params)
        return optimizer.update(grads, state, params, curvature=curvature(p, params), value_fn=objective)

    state = optimizer.init(p.params)
    return in_jax(p, product_at, lambda: step(p.params, state))


def by_hessianfree(p, cg_iterations):
    """hessianfree 0.4.0: CG, backtracking and line search as here; its CG may stop sooner, by a rule of its own."""
    hf = require('hessianfree', 'compare')
    net = hf.RNNet(
        [D, p.params['b_in'].size, D],
        layers=[hf.nl.Linear(), hf.nl.Tanh(), hf.nl.Linear()],
        loss_type=hf.loss_funcs.SquaredError(),
        load_weights=flat(p.params),
    )
    net.cache_minibatch(p.xs, p.targets)
    v, calc_G, calls = flat(p.v), net.calc_G, []

    def products(n):
        return [calc_G(v, damping=DAMPING) for _ in range(n)]

    def step():
        net.cache_minibatch(p.xs, p.targets)
        net.optimizer = hf.opt.HessianFree(CG_iter=cg_iterations, init_damping=DAMPING, plotting=False)
        return net.optimizer.compute_update()

    def counted(*args, **kwargs):
        calls.append(1)
        return calc_G(*args, **kwargs)

    net.calc_G = counted
    step()
    net.calc_G = calc_G
    n = len(calls) - 2  # of its products one is for CG's start, and one for rho
    return Peer(products(1)[0], products, step, f'hessianfree takes {n} CG iterations')


def by_somax(p, cg_iterations):
    """somax: a step is a gradient and CG, without backtracking, line search, or a check of the objective."""
    somax, ggn = require('somax', 'compare'), require('somax.curvature.ggn_mse', 'compare')
    operator, batch = ggn.GGNMSE(predict_fn=predict), {'x': p.xs, 'y': p.targets}

    def product_at(params):
        state, _ = operator.init(params, batch)
        return lambda v: jax.tree.map(lambda Gv, v: Gv + DAMPING * v, operator.matvec(params, state, v), v)

    method = somax.sgn_mse(predict_fn=predict, lam0=DAMPING, tol=0.0, maxiter=cg_iterations)
    step = jax.jit(lambda params, state: method.step(params, batch, state, jax.random.PRNGKey(0)))
    state = method.init(p.params)
    return in_jax(p, product_at, lambda: step(p.params, state))


PEERS = {'hfrnn': by_hfrnn, 'hessianfree': by_hessianfree, 'somax': by_somax}

# -- an LSTM language model -------------------------------------------------------------------------------------------


def training_by_torch(symbols, size, H, B, T, learning_rate):
    """A step of training on symbols (B T + 1,) of an alphabet of this size; the LSTM has no peepholes."""
    if jax.default_backend() != 'cpu':
        raise Unavailable('it is compared with JAX on a CPU only: JAX_PLATFORMS=cpu')
    torch = require('torch', 'torch')
    F = torch.nn.functional
    lstm, readout = torch.nn.LSTM(size, H), torch.nn.Linear(H, size)
    adam = torch.optim.Adam([*lstm.parameters(), *readout.parameters()], lr=learning_rate)
    text = torch.from_numpy(symbols.astype(np.int64))
    xs, targets = (part.reshape(B, T).T for part in (text[:-1], text[1:]))
    state = [torch.zeros(1, B, H) for _ in range(2)]

    def step():
        adam.zero_grad()
        ys, _ = lstm(F.one_hot(xs, size).float(), state)
        F.cross_entropy(readout(ys).reshape(-1, size), targets.reshape(-1)).backward()
        adam.step()

    return step
