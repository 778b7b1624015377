"""Speed on this machine.  What is compared takes turns in one run, so that ratios hold on a noisy machine.

    python -m experiments.benchmark
    python -m experiments.benchmark --hidden=1500 --batch=300 --length=250
    pip install -e '.[torch]'; python -m experiments.benchmark --mode=lstm --hidden=400 --batch=32
    pip install -e '.[compare]'; python -m experiments.benchmark --mode=libraries --hidden=200 --batch=100
    python -m experiments.benchmark --mode=scaling

--mode=mrnn: a curvature product and a gradient of the same batch, beside the machine's speed at matrix products; their
memory; a Hessian-Free step on one device and on two.
--mode=lstm: characters a second of a language model's training (a step is a gradient and Adam's update, the state
carried), in float32, in bfloat16, and by torch.nn.LSTM, which has no peepholes and clips no derivatives inside; of its
static and dynamic evaluation.
--mode=libraries: a curvature product and a Hessian-Free step of the same RNN and batch, by hessianfree and somax, too.
--mode=scaling: an iteration of conjugate gradient as units, length and batch grow, and the exponents of its cost.
"""

import dataclasses
import functools
import math
import os
import platform
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import benchmark_peers as peers
from experiments import cli
from experiments.cli import Mode, say
from hfrnn.errors import Unavailable
from hfrnn.nets import cells, model, outputs
from hfrnn.optim import hessian_free, weight_noise
from hfrnn.optim.conjugate_gradient import conjugate_gradient
from hfrnn.optim.curvature import gauss_newton, tanh_distance
from hfrnn.text import scoring
from hfrnn.text.batches import random_substrings, stream_batch
from hfrnn.train.devices import check_batches, replicate, spread
from hfrnn.train.loss import loss_and_weight, predict_batch, sum_nll
from hfrnn.train.settings import replace, setting
from hfrnn.train.steps import HessianFreeBatches, hessian_free_step, init_state
from hfrnn.train.truncated_bptt import init_carried_state, truncated_bptt_step

SYMBOLS = 50
FEW, MANY = 1, 6  # products; the difference of their times leaves out what happens once
SIZES = {'hidden': 350, 'batch': 200, 'repeats': 7}
LSTM_SIZES = {'hidden': 1000, 'batch': 64, 'repeats': 5}


def _size(name, help):
    return setting(None, f'{help} {SIZES[name]} if not given, {LSTM_SIZES[name]} with --mode=lstm.', low=1)


@dataclasses.dataclass(frozen=True)
class Common:
    """Sizes"""

    hidden: int | None = _size('hidden', 'Hidden units; MRNN: and factors.')
    batch: int | None = _size('batch', 'Sequences.')
    length: int = setting(100, 'Symbols of a sequence.', low=1)
    repeats: int | None = _size('repeats', 'Times are the best of so many.')


@dataclasses.dataclass(frozen=True)
class Lstm:
    """--mode=lstm"""

    segment: int = setting(20, 'Dynamic evaluation: symbols between two changes of the weights.', low=1)
    segments: int = setting(25, 'Dynamic evaluation: how many segments.', low=1)
    cpu_devices: int = setting(1, 'Divide a CPU into so many devices, and training among them.', low=1)


@dataclasses.dataclass(frozen=True)
class Libraries:
    """--mode=libraries"""

    cg_iterations: int = setting(20, 'CG iterations of a step; hessianfree may take fewer.', low=1)


def best_times(functions: dict[Any, Callable[[], Any]], repeats: int) -> dict[Any, tuple[float, float]]:
    """(seconds, CPU-seconds) of each function: the least of so many rounds in which they take turns.

    A call of each before the first round compiles it, and does not count.
    """
    for function in functions.values():
        jax.block_until_ready(function())
    best = dict.fromkeys(functions, (math.inf, math.inf))
    for _ in range(repeats):
        for name, function in functions.items():
            wall, cpu = time.perf_counter(), time.process_time()
            jax.block_until_ready(function())
            best[name] = tuple(map(min, best[name], (time.perf_counter() - wall, time.process_time() - cpu)))
    return best


def best_seconds(functions, repeats):
    return {name: wall for name, (wall, _) in best_times(functions, repeats).items()}


def sizes(o, defaults):
    """The sizes that are given, and for the others the defaults of a mode."""
    return replace(o.common, **{name: v for name, v in defaults.items() if getattr(o.common, name) is None})


def make_devices(n):
    """How many devices to use: n of a CPU, which they share, made if JAX has fewer; or all of an accelerator."""
    if jax.config.jax_num_cpu_devices < n:
        jax.config.update('jax_num_cpu_devices', n)
    return n if jax.default_backend() == 'cpu' else jax.device_count()


def say_machine():
    kind = jax.devices()[0].device_kind
    say(f'{kind}, {os.cpu_count()} CPU cores, {platform.machine()}, JAX {jax.__version__}')


# -- an MRNN and Hessian-Free -----------------------------------------------------------------------------------------


def mrnn(o):
    s, devices = sizes(o, SIZES), min(2, make_devices(2))
    check_batches(devices, batch=s.batch)
    B, T, H = s.batch, s.length, s.hidden
    net = model.sequence_model(cells.mrnn(SYMBOLS, H, H), outputs.categorical(SYMBOLS))
    params = net.init(jax.random.key(0))
    symbols = np.random.default_rng(0).integers(0, SYMBOLS, 100_000).astype(np.uint8)
    batch = random_substrings(symbols, np.random.default_rng(1), B, T, 0)
    say_machine()
    say(f'MRNN of {H} units and factors, {model.size(params):,} weights, {B} sequences of {T}')
    gradient = jax.jit(jax.grad(lambda params: loss_and_weight(net, params, batch)[0]))
    products = jax.jit(functools.partial(damped_products, net, batch), static_argnums=1)
    matmul, M = jax.jit(lambda M: M @ M), jnp.ones((2048, 2048))
    runs = {'gradient': functools.partial(gradient, params), 'matmul': functools.partial(matmul, M)}
    runs |= {n: functools.partial(products, params, n) for n in (FEW, MANY)}
    times = best_seconds(runs, s.repeats)
    times['product'] = (times[MANY] - times[FEW]) / (MANY - FEW)
    peak = 2 * 2048**3 / times['matmul']
    weights = 2 * H * H + SYMBOLS * H  # in matrix products; the input's columns are looked up
    say(f'a matrix product of 2048       {peak / 1e9:8.0f} GFLOP/s')
    for name, flops in (('gradient', 6 * weights * B * T), ('product', 8 * weights * B * T)):
        seconds, speed = times[name], flops / times[name]
        say(
            f'a {name:28s} {seconds * 1e3:8.1f} ms   {B * T / seconds:10,.0f} characters/s   '
            f'{speed / 1e9:6.0f} GFLOP/s, {speed / peak:.0%} of that'
        )
    say(f'product : gradient             {times["product"] / times["gradient"]:8.2f}')
    for name, lowered in (('gradient', gradient.lower(params)), ('products', products.lower(params, MANY))):
        memory = lowered.compile().memory_analysis()
        if memory is not None:
            say(f'memory of the {name:16s} {memory.temp_size_in_bytes / 2**20:8.0f} MiB')
    for d, seconds in best_seconds(steps_on_devices(net, batch, devices), s.repeats).items():
        say(f'an HF step, 10 CG, {d} device{"s" if d > 1 else " "}   {seconds * 1e3:8.0f} ms')


def damped_products(net, batch, params, n):
    """n curvature products with structural damping, after one linearisation."""
    product = gauss_newton(
        lambda params: predict_batch(net, params, batch),
        lambda prediction: sum_nll(net, prediction.z, batch),
        params,
        lambda moved, start: 0.1 * tanh_distance(moved.h, start.h),
    )
    return peers.repeat(lambda v: product(v, 1.0), params, n, scale=1e-6)


def steps_on_devices(net, batch, devices):
    """A Hessian-Free step of exactly 10 CG iterations, on 1, ..., ``devices`` devices."""
    optimizer = hessian_free.martens2010(1.0, 10, tolerance=0.0)
    state, batches = init_state(net, optimizer, jax.random.key(0)), HessianFreeBatches(batch, batch)
    step = hessian_free_step(net, optimizer, len(batch.xs), 0.1)
    return {d: functools.partial(spread(step, d), replicate(state, d), batches) for d in range(1, 1 + devices)}


# -- an LSTM language model -------------------------------------------------------------------------------------------


def lstm(o):
    s, devices = sizes(o, LSTM_SIZES), make_devices(o.lstm.cpu_devices)
    check_batches(devices, batch=s.batch)
    B, T, H, piece, optimizer = s.batch, s.length, s.hidden, 100, optax.adam(1e-3)
    start = np.array([SYMBOLS], np.int32)
    symbols = np.random.default_rng(0).integers(0, SYMBOLS, B * T + 1).astype(np.uint8)

    def make(dtype=None):
        cell = cells.lstm(SYMBOLS, H, clip=1.0, reverse=True, dtype=dtype)
        return model.sequence_model(cell, outputs.categorical(SYMBOLS))

    def training(net):
        state = replicate(init_carried_state(net, optimizer, weights, B), devices)
        step = spread(truncated_bptt_step(net, optimizer, weight_noise.noise('none'), jax.random.key(0), 1), devices)
        return functools.partial(step, state, stream_batch(symbols[:-1], B, T, 0, SYMBOLS))

    net = make()
    weights = net.init(jax.random.key(0))
    text = np.resize(symbols, o.lstm.segment * o.lstm.segments)
    whole = np.resize(symbols, -(-len(text) // piece) * piece)  # all that is read is counted
    static = scoring.static_reader(net, piece)
    dynamic = scoring.dynamic_reader(net, o.lstm.segment, o.lstm.segments)
    sgd, rms = scoring.Rule(1e-4, 0.0), scoring.Rule(1e-4, 1e-3, jax.tree.map(jnp.ones_like, weights))
    say_machine()
    say(f'LSTM of {H} cells, {model.size(weights):,} weights; training on {B} streams, sequences of {T}')
    runs = {'training': (B * T, training(net)), 'training, bfloat16': (B * T, training(make(jnp.bfloat16)))}
    try:
        runs['training, torch.nn.LSTM'] = B * T, peers.training_by_torch(symbols, SYMBOLS, H, B, T, 1e-3)
    except Unavailable as e:
        say(f'torch is not measured: {e}')
    runs['static evaluation'] = len(whole), lambda: static(weights, whole, start)
    runs['dynamic evaluation, sgd'] = len(text), lambda: dynamic(weights, text, start, sgd)
    runs['dynamic evaluation, rms'] = len(text), lambda: dynamic(weights, text, start, rms)
    best = best_times({name: run for name, (_, run) in runs.items()}, s.repeats)
    say(f'{"characters a second":28s} {"wall":>10s} {"CPU":>10s}')
    for name, (wall, cpu) in best.items():
        say(f'{name:28s} {runs[name][0] / wall:10,.0f} {runs[name][0] / cpu:10,.0f}')


# -- an RNN: against other libraries, and as sizes grow ---------------------------------------------------------------


def libraries(o):
    s, cg_iterations = sizes(o, SIZES), o.libraries.cg_iterations
    problem = peers.problem(s.hidden, s.length, s.batch)
    weights = len(peers.flat(problem.params))
    say_machine()
    what = f'RNN of {s.hidden} tanh units, {weights:,} weights, {s.batch} sequences of {s.length}'
    say(f'{what}, {cg_iterations} CG iterations a step')
    found, runs = {}, {}
    for name, peer in peers.PEERS.items():
        try:
            found[name] = peer(problem, cg_iterations)
        except Unavailable as e:
            say(f'{name} is not measured: {e}')
            continue
        if found[name].note:
            say(found[name].note)
        runs |= {(name, n): functools.partial(found[name].products, n) for n in (FEW, MANY)}
        runs[name, 'step'] = found[name].step
    times = best_seconds(runs, s.repeats)
    seconds = {name: ((times[name, MANY] - times[name, FEW]) / (MANY - FEW), times[name, 'step']) for name in found}
    own = found['hfrnn'].product
    say(f'{"":14s}{"a product":>12s}{"a step":>12s}{"times hfrnn":>16s}   products differ by')
    for name, (product, step) in seconds.items():
        ratios = [a / b for a, b in zip((product, step), seconds['hfrnn'], strict=True)]
        difference = np.abs(found[name].product - own).max() / np.abs(own).max()
        say(f'{name:14s}{product * 1e3:9.1f} ms{step * 1e3:9.0f} ms{ratios[0]:8.2f}{ratios[1]:8.2f}   {difference:.1e}')


def scaling(o):
    """From half of --hidden, --length and --batch to twice that, one at a time."""
    s = sizes(o, SIZES)
    base = {'units': s.hidden, 'length': s.length, 'batch': s.batch}
    grown = {name: [max(1, round(value * factor)) for factor in (0.5, 1, 2)] for name, value in base.items()}
    cases = {name: [tuple((base | {name: value}).values()) for value in grown[name]] for name in base}
    say_machine()
    say(f'a CG iteration of an RNN of {s.hidden} tanh units on {s.batch} sequences of {s.length}')
    distinct = {case for row in cases.values() for case in row}
    times = best_seconds({(case, n): run for case in distinct for n, run in cg(*case).items()}, s.repeats)
    for name, values in grown.items():
        costs = [max((times[case, MANY] - times[case, 0]) / MANY, 1e-9) for case in cases[name]]
        row = ''.join(f'{value:>7d}: {cost * 1e3:8.2f} ms' for value, cost in zip(values, costs, strict=True))
        row += f'   ~ {name}^{slope(values, costs):.2f}'
        if name == 'units':
            row += f' = weights^{slope([H * (H + 2 * peers.D) for H in values], costs):.2f}'
        say(f'{name:8s}{row}')


def slope(values, costs):
    """The exponent k of costs ~ values^k."""
    return np.polyfit(np.log(values), np.log(costs), 1)[0] if len(set(values)) > 1 else math.nan


def cg(H, T, B):
    """CG of no iteration and of MANY, to be timed; with b = 0 it ends before the first."""
    problem = peers.problem(H, T, B)
    zeros = jax.tree.map(np.zeros_like, problem.params)

    @jax.jit
    def run(params, b):
        A = functools.partial(peers.curvature(problem, params), lam=peers.DAMPING)
        return conjugate_gradient(A, b, zeros, max_iterations=MANY, tolerance=0.0).x

    return {0: lambda: run(problem.params, zeros), MANY: lambda: run(problem.params, problem.params)}


GROUPS = {'common': Common(), 'lstm': Lstm(), 'libraries': Libraries()}
MODES = {
    'mrnn': Mode(mrnn),
    'lstm': Mode(lstm, ('lstm',)),
    'libraries': Mode(libraries, ('libraries',)),
    'scaling': Mode(scaling),
}


def main(argv):
    cli.main(argv, __doc__, MODES, remains='nothing is kept', **GROUPS)


if __name__ == '__main__':
    main(sys.argv)
