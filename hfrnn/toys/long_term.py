"""A net learns a problem with long-term dependencies (Martens & Sutskever 2011; Sutskever 2013, thesis, ch. 4)."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from hfrnn.bundle import Bundle, fit
from hfrnn.nets import cells
from hfrnn.nets.cells import SCALE
from hfrnn.nets.model import Model, sequence_model, size
from hfrnn.toys import tasks
from hfrnn.train import optimizers
from hfrnn.train.devices import check_memory, count, spread
from hfrnn.train.experiment import Experiment, summary
from hfrnn.train.loss import eval_step, padded_batches, sum_metrics
from hfrnn.train.optimizers import HESSIAN_FREE, HessianFree, Optimization
from hfrnn.train.settings import SEEDS, check, replace, setting
from hfrnn.train.steps import init_state

NAME = 'long_term'
TEST = (0, 0, 1)  # a stream of sequences that no step has


@dataclasses.dataclass(frozen=True)
class LongTerm:
    """Problem, net and training, which define a run.

    Where no damping is given, it is 0.1; without structural damping 0.3; for permutation 0.1 T.
    """

    task: str = setting('addition', 'The problem.', choices=tuple(tasks.TASKS))
    T: int = setting(30, "The problem's minimum lag, in time steps.", low=1)
    form: str = setting(
        'thesis', 'The problem as in the thesis, or as in the code released in 2011.', choices=tasks.FORMS
    )
    hidden: int = setting(100, 'Hidden units, H.', low=1, high=10**6)
    input_scale: float = setting(1.0, 'The standard deviation of W_hx at the start.', low=0.0)
    bias_scale: float = setting(SCALE, 'The standard deviation of the biases at the start.', low=0.0)
    seed: int = setting(
        0, 'Seed of initial weights and batches; the test sequences are always the same.', low=0, high=SEEDS - 1
    )
    batch: int = setting(10_000, 'HF: sequences for a gradient.', low=1)
    first_order_batch: int = setting(100, 'First order: sequences for a gradient.', low=1)
    optimization: Optimization = Optimization(optimizer=HESSIAN_FREE, clip_norm=1.0)  # noqa: RUF009
    hessian_free: HessianFree = HessianFree(mu=1 / 30, cg_iterations=300, curvature_batch=1_000)  # noqa: RUF009
    test_sequences: int = setting(10_000, 'Test sequences that decide whether the task is solved.', low=1)
    solved_below: float = setting(0.01, 'It is solved when less than this share of them is wrong.', low=0.0)


def method(s: LongTerm) -> str:
    """The optimiser; 'hf_undamped' without structural damping."""
    by_hf = s.optimization.optimizer == HESSIAN_FREE
    return 'hf_undamped' if by_hf and not s.hessian_free.mu else s.optimization.optimizer


def resolved(s: LongTerm) -> LongTerm:
    """The settings with the damping that goes with them, where none is given."""
    if s.hessian_free.damping is not None:
        return s
    return replace(s, damping=0.1 * s.T if s.task == 'permutation' else 0.1 if s.hessian_free.mu else 0.3)


def check_settings(s: LongTerm, devices: int | None = None) -> None:
    """Checks that the task exists at this lag, and the devices divide the batches.

    Raises:
      DataError, SettingsError: if not.
    """
    check(s)
    tasks.make(s.task, s.T, s.form)
    optimizers.check_sizes(s.optimization.optimizer, _batch(s), s.hessian_free, devices)


def _batch(s):
    return s.batch if s.optimization.optimizer == HESSIAN_FREE else s.first_order_batch


class _Parts(NamedTuple):
    """What the seeds of a problem and a method share, so that it is compiled once."""

    task: tasks.Task
    net: Model
    optimizer: Any
    step: Callable
    measure: Callable  # params -> {'wrong': share of the test sequences, 'nats': per target}


@functools.lru_cache(maxsize=2)
def _parts(s, chunk, devices):
    task = tasks.make(s.task, s.T, s.form)
    cell = cells.rnn(task.inputs, s.hidden, input_scale=s.input_scale, bias_scale=s.bias_scale)
    net = sequence_model(cell, task.output, bias_scale=s.bias_scale)
    weights = size(jax.eval_shape(net.init, jax.random.key(0)))
    check_memory(weights, optimizers.copies_of_weights(s.optimization.optimizer, s.hessian_free), devices=devices)
    optimizer, step = optimizers.optimizer_and_step(net, s.optimization, s.hessian_free, chunk)
    answers = spread(eval_step(net, wrong=tasks.wrong_sequences(task.wrong)), devices)
    test = task.draw(np.random.default_rng(TEST), s.test_sequences)
    rows = count(devices) * min(chunk, -(-s.test_sequences // count(devices)))

    def measure(params):
        sums = sum_metrics(answers, params, padded_batches(test, rows))
        return {'wrong': sums['wrong'] / sums['sequences'], 'nats': sums['nats'] / sums['targets']}

    return _Parts(task, net, optimizer, step, measure)


def long_term(s: LongTerm, *, chunk: int = 1_000, devices: int | None = None) -> Experiment:
    """The experiment of these settings: it ends when the task is solved.

    As in the thesis, the sequences that say whether it is solved are also those that its figure is of.

    Args:
      chunk: sequences in memory at once for a gradient, on each device.
      devices: how many it will run on; all if None.

    Raises:
      DataError, SettingsError: for settings that do not go together.
    """
    check_settings(s, devices)
    s = resolved(s)
    parts = _parts(replace(s, seed=0), chunk, devices)
    by_hf = s.optimization.optimizer == HESSIAN_FREE

    def batch(i):
        if not by_hf:
            return parts.task.draw(np.random.default_rng((s.seed, i, 0)), s.first_order_batch)
        return optimizers.batches(
            lambda stream, n: parts.task.draw(np.random.default_rng((s.seed, i, stream)), n),
            s.optimization.optimizer,
            s.batch,
            s.hessian_free,
        )

    def solved(row):
        return row.get('valid_wrong') is not None and row['valid_wrong'] < s.solved_below

    def stop(history):
        return 'the task is solved' if any(solved(row) for row in history) else None

    def bundle(params, history):
        model = {'kind': NAME, 'cell': 'rnn', 'hidden': s.hidden, 'task': s.task, 'T': s.T, 'form': s.form}
        return Bundle(model, {}, summary(NAME, s, history), params)

    def report(bundle, history):
        params = fit(bundle, jax.eval_shape(parts.net.init, jax.random.key(0)))
        found = parts.measure(params)
        results = {
            **{name: getattr(s, name) for name in ('task', 'T', 'form', 'seed')},
            'method': method(s),
            'solved': found['wrong'] < s.solved_below,
            'wrong': found['wrong'],
            'test_nats': found['nats'],
            'finite': all(row.get('finite', True) for row in history),
        }
        outcome = (
            f'{"solved" if results["solved"] else "not solved"}: {found["wrong"]:.2%} of {s.test_sequences:,} test '
            f'sequences wrong after {history[-1]["step"]} steps\n'
        )
        return {'results.json': results, 'report.txt': outcome}

    return Experiment(
        name=NAME,
        settings=s,
        init=functools.partial(init_state, parts.net, parts.optimizer),
        step=parts.step,
        batch=batch,
        evaluate=parts.measure,
        bundle=bundle,
        report=report,
        stop=stop,
        log_every=1 if by_hf else 500,
        title=f'{s.task}, T = {s.T}, seed {s.seed}, by {method(s)}',
    )


def shares_solved(results: Sequence[dict], methods: Iterable[str]) -> list[dict]:
    """Of each task, method and T: how many ``nets`` have results, and how many of them ``solved`` the task.

    Nets that differ in other settings, the seed for one, count together.
    """
    methods = list(methods)
    return [
        {'task': task, 'method': name, 'T': T, 'nets': len(group), 'solved': sum(row['solved'] for row in group)}
        for task in tasks.TASKS
        for name in methods
        for T in sorted({row['T'] for row in results})
        if (group := [row for row in results if (row['task'], row['method'], row['T']) == (task, name, T)])
    ]
