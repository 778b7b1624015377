"""How fast the parts are on this machine, all measured in one run, so that their ratios hold on a noisy one.

    python -m experiments.benchmark
    python -m experiments.benchmark --hidden=1500 --batch=300 --length=250

A curvature product against a gradient of the same batch; characters per second; the share of the machine's speed at
matrix products; memory; an HF step on 1 and on 2 devices.
"""

import functools
import os
import platform

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments import cli
from hfrnn.errors import SettingsError
from hfrnn.nets import cells, model, outputs
from hfrnn.optim import hessian_free
from hfrnn.optim.curvature import gauss_newton, tanh_distance
from hfrnn.text.batches import random_substrings
from hfrnn.train.devices import replicate, spread
from hfrnn.train.loss import loss_and_weight, predict_batch, sum_nll
from hfrnn.train.steps import HessianFreeBatches, hessian_free_step, init_state

HIDDEN = flags.DEFINE_integer('hidden', 350, 'Hidden units, and factors.', lower_bound=1)
BATCH = flags.DEFINE_integer('batch', 200, 'Sequences.', lower_bound=2)
LENGTH = flags.DEFINE_integer('length', 100, 'Symbols of each.', lower_bound=1)
REPEATS = flags.DEFINE_integer('repeats', 7, 'The best of so many.', lower_bound=1)
SYMBOLS = 50


def main(argv):
    cli.begin(argv)
    with cli.errors_in_a_line('nothing is kept'):
        measure()


def measure():
    if BATCH.value % 2:
        raise SettingsError(f'--batch is even, as two devices divide it, and not {BATCH.value}')
    jax.config.update('jax_num_cpu_devices', 2)  # they share the cores; no word to an accelerator
    B, T, H = BATCH.value, LENGTH.value, HIDDEN.value
    net = model.sequence_model(cells.mrnn(SYMBOLS, H, H), outputs.categorical(SYMBOLS))
    params = net.init(jax.random.key(0))
    symbols = np.random.default_rng(0).integers(0, SYMBOLS, 100_000).astype(np.uint8)
    batch = random_substrings(symbols, np.random.default_rng(1), B, T, 0)

    gradient = jax.jit(jax.grad(lambda params: loss_and_weight(net, params, batch)[0]))
    products = jax.jit(functools.partial(repeated_products, net, batch), static_argnums=1)
    M = jnp.ones((2048, 2048))
    matmul = jax.jit(lambda M: M @ M)

    few, many = 1, 6
    times = best_of(
        {
            'gradient': lambda: gradient(params),
            'few': lambda: products(params, few),
            'many': lambda: products(params, many),
            'matmul': lambda: matmul(M),
        }
    )
    product = (times['many'] - times['few']) / (many - few)
    peak = 2 * 2048**3 / times['matmul']
    weights = 2 * H * H + SYMBOLS * H  # in matrix products; the input's columns are looked up
    gradient_flops, product_flops = 6 * weights * B * T, 8 * weights * B * T
    print(f'{jax.devices()[0].device_kind}, {os.cpu_count()} CPU cores, {platform.machine()}, JAX {jax.__version__}')
    print(f'MRNN of {H} units and factors, {model.size(params):,} weights, {B} sequences of {T}')
    print(f'a matrix product of 2048       {peak / 1e9:8.0f} GFLOP/s')
    for name, seconds, flops in (('gradient', times['gradient'], gradient_flops), ('product', product, product_flops)):
        speed = flops / seconds
        print(
            f'a {name:28s} {seconds * 1e3:8.1f} ms   {B * T / seconds:10,.0f} characters/s   '
            f'{speed / 1e9:6.0f} GFLOP/s, {speed / peak:.0%} of that'
        )
    print(f'product : gradient             {product / times["gradient"]:8.2f}')
    for name, compiled in (('gradient', gradient.lower(params)), ('products', products.lower(params, many))):
        memory = compiled.compile().memory_analysis()
        if memory is not None:
            print(f'memory of the {name:16s} {memory.temp_size_in_bytes / 2**20:8.0f} MiB')
    steps_on_devices(net, batch)


def best_of(functions):
    """Seconds of each function, the best of --repeats rounds in which they take turns."""
    return {name: wall for name, (wall, _) in cli.best_times(functions, REPEATS.value).items()}


def repeated_products(net, batch, params, n):
    """n curvature products with structural damping, each on the last one's result, after one linearisation."""
    product = gauss_newton(
        lambda params: predict_batch(net, params, batch),
        lambda prediction: sum_nll(net, prediction.z, batch),
        params,
        lambda moved, here: 0.1 * tanh_distance(moved.h, here.h),
    )
    return jax.lax.fori_loop(0, n, lambda _, v: jax.tree.map(lambda leaf: 1e-6 * leaf, product(v, 1.0)), params)


def steps_on_devices(net, batch):
    """An HF step of exactly 10 CG iterations, on 1 and on 2 devices."""
    optimizer = hessian_free.martens2010(1.0, 10, tolerance=0.0)
    state = init_state(net, optimizer, jax.random.key(0))
    batches = HessianFreeBatches(batch, batch)
    step = hessian_free_step(net, optimizer, len(batch.xs), 0.1)
    times = best_of(
        {
            d: functools.partial(spread(step, d), replicate(state, d), batches)
            for d in range(1, 1 + min(2, jax.device_count()))
        }
    )
    for d, seconds in times.items():
        print(f'an HF step, 10 CG, {d} device{"s" if d > 1 else " "}   {seconds * 1e3:8.0f} ms')


if __name__ == '__main__':
    cli.run(main)
