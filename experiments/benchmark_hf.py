"""Hessian-Free's costs on this machine, measured in one run, so that their ratios hold on a noisy one.

    pip install -e '.[compare]' && python -m experiments.benchmark_hf --part=libraries --hidden=200 --batch=100
    python -m experiments.benchmark_hf --part=scaling

libraries: the same RNN and the same batch in hessianfree (NumPy) and somax (JAX): a curvature product, a step.
scaling: an iteration of conjugate gradient as units, length and batch grow, with the exponents of its cost.
"""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments import benchmark, cli
from experiments.benchmark import best_of
from hfrnn import gauss_newton, hessian_free
from hfrnn.optim.conjugate_gradient import conjugate_gradient

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(benchmark)

PART = flags.DEFINE_enum('part', 'libraries', ['libraries', 'scaling'], 'What to measure.')
CG = flags.DEFINE_integer('cg_iterations', 20, 'libraries: of a step; hessianfree may take fewer.', lower_bound=1)
OUTPUTS = 10  # of the net, and its inputs
LAMBDA = 1.0


def main(argv):
    cli.begin(argv)
    print(f'{jax.devices()[0].device_kind}, {os.cpu_count()} CPU cores, JAX {jax.__version__}')
    with cli.errors_in_a_line('nothing is kept'):
        {'libraries': libraries, 'scaling': scaling}[PART.value]()


# -- the net: a tanh RNN with linear outputs and squared error, which all libraries have -------------------------------


def problem(H, T, B):
    """(params, xs (B, T, 10), targets (B, T, 10)), as hessianfree has them: weights and biases, an own one at t = 1."""
    rng = np.random.default_rng(0)

    def weights(*shape):
        return rng.normal(size=shape).astype(np.float32) / np.float32(shape[0] ** 0.5)

    D = OUTPUTS
    params = {'W_in': weights(D, H), 'b_in': weights(H), 'W_out': weights(H, D), 'b_out': weights(D)}
    params |= {'W_rec': weights(H, H), 'b_rec': weights(H)}
    return params, *(rng.normal(size=(B, T, D)).astype(np.float32) for _ in range(2))


def predict(params, xs):
    """Outputs (B, T, 10)."""

    def step(from_before, x):
        h = jnp.tanh(x @ params['W_in'] + params['b_in'] + from_before)
        return h @ params['W_rec'], h

    def outputs(xs):
        _, h = jax.lax.scan(step, params['b_rec'], xs)
        return h @ params['W_out'] + params['b_out'][None]

    return jax.vmap(outputs)(xs)


def squared_error(z, targets):
    return 0.5 * jnp.sum((z - targets) ** 2) / len(targets)


def flat(params):
    """One vector, in the order of hessianfree's."""
    names = ('W_in', 'b_in', 'W_out', 'b_out', 'W_rec', 'b_rec')
    return np.concatenate([np.ravel(params[name]) for name in names])


def repeated(product, v):
    """``n -> v`` after n products, each on the last one's result."""
    return lambda n: jax.lax.fori_loop(0, n, lambda _, v: jax.tree.map(lambda leaf: 1e-3 * leaf, product(v)), v)


# -- against other libraries ------------------------------------------------------------------------------------------

FEW, MANY = 1, 6


def libraries():
    H, T, B = FLAGS.hidden, FLAGS.length, FLAGS.batch
    params, xs, targets = problem(H, T, B)
    print(
        f'RNN of {H} tanh units, {len(flat(params)):,} weights, {B} sequences of {T}, {CG.value} CG iterations a step'
    )
    v = jax.tree.map(lambda leaf: np.random.default_rng(1).normal(size=leaf.shape).astype(np.float32), params)
    measured = {'hfrnn': ours(params, xs, targets, v)}
    for name, extra in (('hessianfree', theirs_numpy), ('somax', theirs_jax)):
        try:
            measured[name] = extra(params, xs, targets, v)
        except ImportError as e:
            print(f"{name} is not measured: {e}; pip install -e '.[compare]'")
    times = best_of({(name, what): run for name, (_, runs) in measured.items() for what, run in runs.items()})
    seconds = {
        name: (
            times[name, 'product']
            if (name, 'product') in times
            else (times[name, 'many'] - times[name, 'few']) / (MANY - FEW),
            times[name, 'step'],
        )
        for name in measured
    }
    first = measured['hfrnn'][0]
    print(f'{"":14s}{"a product":>12s}{"a step":>12s}{"times hfrnn":>16s}   products differ by')
    for name, (product, step) in seconds.items():
        ratios = [other / own for other, own in zip((product, step), seconds['hfrnn'], strict=True)]
        difference = np.abs(measured[name][0] - first).max() / np.abs(first).max()
        print(
            f'{name:14s}{product * 1e3:9.1f} ms{step * 1e3:9.0f} ms{ratios[0]:8.2f}{ratios[1]:8.2f}   {difference:.1e}'
        )


def ours(params, xs, targets, v):
    """(a product as one vector, what to time)."""

    def curvature(params):
        return gauss_newton(lambda p: predict(p, xs), lambda z: squared_error(z, targets), params)

    def objective(params):
        return squared_error(predict(params, xs), targets)

    @functools.partial(jax.jit, static_argnums=1)
    def products(params, n):
        product = curvature(params)
        return repeated(lambda v: product(v, LAMBDA), v)(n)

    optimizer = hessian_free(LAMBDA, cg_iterations=CG.value, tolerance=0.0)

    @jax.jit
    def step(params, state):
        grads = jax.grad(objective)(params)
        return optimizer.update(grads, state, params, curvature=curvature(params), value_fn=objective)

    state = optimizer.init(params)
    once = flat(jax.jit(lambda params: curvature(params)(v, LAMBDA))(params))
    return once, {
        'few': lambda: products(params, FEW),
        'many': lambda: products(params, MANY),
        'step': lambda: step(params, state),
    }


def theirs_numpy(params, xs, targets, v):
    """hessianfree 0.4.0: CG, backtracking and line search as ours; its CG may stop sooner, by a rule of its own."""
    import hessianfree

    layers = [hessianfree.nl.Linear(), hessianfree.nl.Tanh(), hessianfree.nl.Linear()]
    net = hessianfree.RNNet(
        [OUTPUTS, params['b_in'].size, OUTPUTS],
        layers=layers,
        loss_type=hessianfree.loss_funcs.SquaredError(),
        load_weights=flat(params),
    )
    net.cache_minibatch(xs, targets)
    vector = flat(v)

    def step():
        net.cache_minibatch(xs, targets)
        net.optimizer = hessianfree.opt.HessianFree(CG_iter=CG.value, init_damping=LAMBDA, plotting=False)
        return net.optimizer.compute_update()

    once = net.calc_G(vector, damping=LAMBDA)
    print(f'hessianfree takes {cg_iterations_of(net, step)} CG iterations')
    return once, {'product': lambda: net.calc_G(vector, damping=LAMBDA), 'step': step}


def cg_iterations_of(net, step):
    """How many a step of hessianfree takes: its products but the one for CG's start and the one for rho."""
    product, calls = net.calc_G, []

    def counted(*args, **kwargs):
        calls.append(1)
        return product(*args, **kwargs)

    net.calc_G = counted
    step()
    net.calc_G = product
    return len(calls) - 2


def theirs_jax(params, xs, targets, v):
    """somax: a step is a gradient and CG, without backtracking, line search, or a check of the objective."""
    import somax
    from somax.curvature.ggn_mse import GGNMSE

    batch = {'x': xs, 'y': targets}
    operator = GGNMSE(predict_fn=predict)

    def product_at(params):
        state, _ = operator.init(params, batch)

        def product(v):
            return jax.tree.map(lambda Gv, v: Gv + LAMBDA * v, operator.matvec(params, state, v), v)

        return product

    @functools.partial(jax.jit, static_argnums=1)
    def products(params, n):
        return repeated(product_at(params), v)(n)

    method = somax.sgn_mse(predict_fn=predict, lam0=LAMBDA, tol=0.0, maxiter=CG.value)
    step = jax.jit(lambda params, state: method.step(params, batch, state, jax.random.PRNGKey(0)))
    state = method.init(params)
    once = flat(jax.jit(lambda params: product_at(params)(v))(params))
    return once, {
        'few': lambda: products(params, FEW),
        'many': lambda: products(params, MANY),
        'step': lambda: step(params, state),
    }


# -- as things grow ---------------------------------------------------------------------------------------------------


def scaling():
    """From half of --hidden, --length and --batch to twice that, one at a time."""
    base = {'units': FLAGS.hidden, 'length': FLAGS.length, 'batch': FLAGS.batch}
    sizes = {name: [max(1, round(value * factor)) for factor in (0.5, 1, 2)] for name, value in base.items()}
    cases = {(name, value): base | {name: value} for name in base for value in sizes[name]}
    distinct = {tuple(case.values()) for case in cases.values()}
    times = best_of({(case, n): run for case in distinct for n, run in iterations(*case).items()})
    print(f'a CG iteration of an RNN of {base["units"]} tanh units on {base["batch"]} sequences of {base["length"]}')
    for name in base:
        costs = []
        for value in sizes[name]:
            case = tuple(cases[name, value].values())
            costs.append(max((times[case, MANY] - times[case, 0]) / MANY, 1e-9))
        row = ''.join(
            f'{value:>7d}: {seconds * 1e3:8.2f} ms' for value, seconds in zip(sizes[name], costs, strict=True)
        )
        print(f'{name:8s}{row}   ~ {name}^{slope(sizes[name], costs):.2f}', end='')
        if name == 'units':
            weights = [H * (H + 2 * OUTPUTS) for H in sizes[name]]
            print(f' = weights^{slope(weights, costs):.2f}', end='')
        print()


def slope(sizes, costs):
    if len(set(sizes)) < 2:
        return float('nan')
    return np.polyfit(np.log(sizes), np.log(costs), 1)[0]


def iterations(H, T, B):
    """No iteration of CG and MANY of them, as functions to time; where b is 0 it ends before the first."""
    params, xs, targets = problem(H, T, B)

    @jax.jit
    def run(params, b):
        product = gauss_newton(lambda p: predict(p, xs), lambda z: squared_error(z, targets), params)
        zeros = jax.tree.map(jnp.zeros_like, b)
        return conjugate_gradient(lambda v: product(v, LAMBDA), b, zeros, max_iterations=MANY, tolerance=0.0).x

    return {0: lambda: run(params, jax.tree.map(jnp.zeros_like, params)), MANY: lambda: run(params, params)}


if __name__ == '__main__':
    cli.run(main)
