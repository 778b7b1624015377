"""What the experiments' command lines share: devices, errors in one line, and what is said of a step."""

import contextlib
import math
import os
import pathlib
import re
import sys
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import jax
import numpy as np
from absl import app, flags, logging

from hfrnn import bundle
from hfrnn.errors import SettingsError, UserError
from hfrnn.optim import hessian_free
from hfrnn.train import run_folder
from hfrnn.train.devices import join, replicate
from hfrnn.train.loop import Interrupted, NotFinite

FLAGS = flags.FLAGS

# None of them defines a run.
FREE = (
    flags.DEFINE_integer('devices', None, 'How many devices to use; all if not given.', lower_bound=1),
    flags.DEFINE_integer('cpu_devices', None, 'Make so many devices of a CPU.', lower_bound=1),
    flags.DEFINE_string('coordinator', None, 'host:port of process 0, in a run of several processes.'),
    flags.DEFINE_integer('processes', 1, 'How many processes there are.', lower_bound=1),
    flags.DEFINE_integer('process', 0, 'Which of them this is.', lower_bound=0),
)


ENDLESS = ('minutes', 'save_minutes', 'clip')  # flags that may be infinite


def run(main: Callable[[list[str]], None]) -> None:
    """A script: ``main`` of the arguments that are no flags, once these are read."""
    app.run(main, flags_parser=_read_flags)


def _read_flags(argv):
    try:
        return FLAGS(argv)
    except flags.Error as e:
        fail(f'{" ".join(str(e).split())}; --helpshort lists the flags')


def main(argv: list[str], mode: Callable[[], None]) -> None:
    """Runs a mode of a script on the devices of the flags; what a user can have done wrong ends it with one line.

    A script that uses it adopts those of the flags above that it reads; --minutes is among those it imports.
    """
    begin(argv)
    with errors_in_a_line():
        for name in FLAGS:
            value = FLAGS[name].value
            if isinstance(value, float) and (math.isnan(value) or (math.isinf(value) and name not in ENDLESS)):
                raise SettingsError(f'--{name}={value} is no number')
        join_devices()
        mode()
    for name in _shipped_read:
        card = bundle.FOLDER / f'{name}.md'
        print(f'by the weights {name}; what they are, and their terms: {card}', file=sys.stderr, flush=True)


def begin(argv: list[str]) -> None:
    """What every script does first; a user who gives a flag that is not of this script, but of another, is told."""
    if len(argv) > 1:
        fail(f'unknown argument {argv[1]!r}; flags begin with --')
    mine = {flag.name for flag in FLAGS.get_key_flags_for_module(sys.modules['__main__'])}
    for name in FLAGS:
        others = FLAGS.find_module_defining_flag(name, '').startswith('experiments.')
        if FLAGS[name].present and others and name not in mine:
            fail(f'this script does nothing with --{name}')
    sys.stdout.reconfigure(errors='replace')  # a terminal that cannot show a character shows another
    if not FLAGS['verbosity'].present:
        logging.set_verbosity(logging.WARNING)  # orbax tells its life at every save


@contextlib.contextmanager
def errors_in_a_line(remains: str = '') -> Iterator[None]:
    """What a user can have done wrong, or no program can help, ends this one with one line and status 1.

    Args:
      remains: what holds of the work where it is not the user's input that ended it.
    """
    remains = f'; {remains}' if remains else ''
    try:
        yield
    except OSError as e:
        fail(f'{e.filename or ""}: {e.strerror or e}{remains}'.lstrip(': '))
    except (UserError, NotFinite, ModuleNotFoundError) as e:
        fail(str(e))
    except (MemoryError, jax.errors.JaxRuntimeError) as e:
        if isinstance(e, jax.errors.JaxRuntimeError) and 'RESOURCE_EXHAUSTED' not in str(e):
            raise
        reason = (str(e).splitlines() or ['no more can be had'])[0]
        sizes = [f'--{name}' for name in ('batch', 'curvature_batch', 'chunk', 'chunk_points') if name in FLAGS]
        advice = f'; make the net or {", ".join(sizes)} smaller' if sizes else ''
        fail(f'not enough memory{advice} ({reason}){remains}')
    except KeyboardInterrupt:
        fail(f'stopped{remains or "; the same command goes on"}')
    except Interrupted as e:
        saved = 'saved' if run_folder.writes() else 'process 0 saves'
        print(f'stopped by {e}; {saved}. The same command goes on.', file=sys.stderr, flush=True)
        os._exit(128 + e.signum)  # without waiting for the step in flight


def fail(message: str) -> None:
    print(f'error: {message}', file=sys.stderr)
    sys.exit(1)


def say(*args) -> None:
    if run_folder.writes():
        print(*args, flush=True)


_shipped_read = []  # names of weights that came with the package


def read_weights(name: str) -> bundle.Weights:
    """What ``weight_files.read`` gives; ``main`` tells in the end where the terms of what shipped stand."""
    weights = bundle.read(name)
    if name in bundle.shipped() and run_folder.writes():
        _shipped_read.append(name)
    return weights


def results_so_far(workdir: str | None, experiment: str) -> tuple[pathlib.Path | None, dict]:
    """results.json in a folder, made if need be, and what this experiment has written there; no path without a folder.

    Raises:
      SettingsError: if it holds a run, or the results of something else, which are not to be lost.
    """
    if not workdir:
        return None, {}
    path = pathlib.Path(workdir) / 'results.json'
    path.parent.mkdir(parents=True, exist_ok=True)
    results = run_folder.read_json(workdir, 'results.json') if path.exists() else {'experiment': experiment}
    if results.get('experiment') != experiment or (path.parent / 'flags.json').exists():
        raise SettingsError(f'{path.parent} holds a run, or the results of something else; name another --workdir')
    return path, results


def clock(seconds: float) -> str:
    if not np.isfinite(seconds):
        return '?'
    minutes, seconds = divmod(int(seconds), 60)
    return f'{minutes // 60}:{minutes % 60:02d}:{seconds:02d}'


def best_times(functions: dict[Any, Callable[[], Any]], repeats: int) -> dict[Any, tuple[float, float]]:
    """(seconds, CPU-seconds) of each function: the least of so many rounds in which they take turns.

    Every one is called once before, and may compile then.
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


def here() -> dict:
    """Where something was measured."""
    return {'machine': machine(), 'jax': jax.__version__}


def n_devices() -> int:
    """How many are used: --devices, or all."""
    return FLAGS.devices or jax.device_count()


def machine() -> str:
    return f'{jax.device_count()} x {jax.devices()[0].device_kind}, {os.cpu_count()} CPU cores'


def defining_flags(script: ModuleType, free: tuple) -> dict:
    """The flags that define a run of this script: all that it has but the ``free`` ones and those above."""
    names = {holder.name for holder in (*free, *FREE)}
    return {flag.name: flag.value for flag in FLAGS.get_key_flags_for_module(script) if flag.name not in names}


def defaults(flags: dict) -> dict:
    """What these flags are if nobody says: what holds of them in a run of before they were there."""
    return {name: FLAGS[name].default for name in flags}


def train_in(workdir: str, flags: dict, about: dict, untold: dict | None = None) -> run_folder.Run:
    """``runs.train_in``, also for a run of before some of these flags; ``untold`` is what else it need not tell."""
    return run_folder.train_in(workdir, flags, about, defaults(flags) | (untold or {}))


def workdir(what: str = 'which run') -> str:
    """--workdir.

    Raises:
      SettingsError: if there is none; it says ``what`` that is.
    """
    if not FLAGS.workdir:
        raise SettingsError(f'say {what}: --workdir=FOLDER')
    return FLAGS.workdir


def restore_or_begin(run: run_folder.Run, shapes: Any, begin: Callable[[], Any]) -> tuple[Any, float]:
    """(state, seconds of training) as in ``runs.restore_or_begin``, on every device; says so of one that goes on."""
    state, seconds = run_folder.restore_or_begin(run, shapes, begin)
    if int(state.step):
        say(f'goes on from step {int(state.step)}, after {clock(seconds)}')
    return replicate(state, FLAGS.devices), seconds


def take_flags(told: dict) -> None:
    """What a run's flags tell holds wherever the command line says nothing else."""
    for name, value in told.items():
        if name in FLAGS and not FLAGS[name].present:
            FLAGS[name].value = value


def check_flags(workdir: str, flags: dict) -> None:
    """That a run's flags are these; see ``runs.check``."""
    run_folder.check(workdir, 'flags.json', flags, defaults(flags))


def check_weights(mode: str) -> None:
    """That --weights, if it is given, names something, and to a mode that is not of a run.

    Raises:
      SettingsError: if not.
    """
    if FLAGS.weights == '':
        raise SettingsError('--weights names nothing')
    if FLAGS.weights is not None and mode in ('train', 'evaluate', 'export'):
        instead = ', or begin with them: --init_from' if mode == 'train' else ''
        raise SettingsError(f'--mode={mode} is of a run: leave out --weights{instead}')


def join_devices() -> None:
    if FLAGS.cpu_devices:
        jax.config.update('jax_num_cpu_devices', FLAGS.cpu_devices)
    if FLAGS.processes > 1:
        if FLAGS.devices:
            raise SettingsError('several --processes use all their devices: leave out --devices')
        if not re.fullmatch(r'[^:]+:\d+', FLAGS.coordinator or '') or FLAGS.process >= FLAGS.processes:
            raise SettingsError('several --processes need --coordinator=host:port, and each its --process, from 0')
        if np.isfinite(FLAGS.minutes):
            long = 'steps' if 'steps' in FLAGS else 'epochs'
            raise SettingsError(f'clocks differ between processes: say how long with --{long}, not --minutes')
        join(FLAGS.coordinator, FLAGS.processes, FLAGS.process)
    there = jax.device_count()
    if FLAGS.devices and FLAGS.devices > there:
        raise SettingsError(f'--devices={FLAGS.devices}: there are {there} (of a CPU, --cpu_devices makes more)')


def check_batches(*names: str) -> None:
    """The devices divide the batches that these flags size, and the curvature's is part of the first one's.

    Raises:
      SettingsError: if not.
    """
    devices = n_devices()
    sizes = {name: FLAGS[name].value for name in names}
    curvature = sizes.get('curvature_batch')
    if curvature and curvature > sizes['batch']:
        raise SettingsError(f'--curvature_batch={curvature} is no part of --batch={sizes["batch"]}')
    for name, size in sizes.items():
        if size % devices:
            raise SettingsError(f'--{name}={size} does not divide among {devices} devices')


def copies(optimizer: str, preset: str, cg_iterations: int | None) -> int:
    """How many copies of the weights a training holds: Hessian-Free keeps CG's iterates beside its vectors."""
    return 12 + hessian_free.saved_iterates(hessian_free.PRESETS[preset], cg_iterations) if optimizer == 'hf' else 6


def check_memory(weights: int, copies: int, others: int = 0) -> None:
    """A CPU has room for so many copies of the weights: there, too large an allocation is not refused, but kills.

    Args:
      others: how many other numbers a device holds at once.

    Raises:
      SettingsError: if not.
    """
    there = len(jax.local_devices())
    need = 4 * (weights * copies + others) * min(FLAGS.devices or there, there)
    have = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    if jax.devices()[0].platform == 'cpu' and need > have:
        raise SettingsError(
            f'a net of {weights:,} weights needs {need / 2**30:.0f} GiB for its training, and this machine has '
            f'{have / 2**30:.0f}; make it or its batches smaller'
        )


def hessian_free_row(opt_state) -> dict:
    """What happened in a Hessian-Free step, for metrics.jsonl.

    ``rho``, ``cg_iterations``, ``backtracked`` (how many of the iterates kept on their way were given up),
    ``step_size`` (alpha, 0 if rejected) and ``reduction`` are of this step, ``damping`` (lambda) is for the next.  Of
    the rest of a row, the loss is that of the weights before the step, and what is of validation or test text that of
    the weights after it.
    """
    happened = jax.device_get(opt_state._replace(start=None))
    names = ('rho', 'damping', 'cg_iterations', 'backtracked', 'step_size', 'reduction')
    return {name: getattr(happened, name).item() for name in names}


def hessian_free_line(row: dict) -> str:
    """The same, to be read: ``CG  80 -3`` are 80 CG iterations, and the last 3 of the iterates kept given up."""
    rejected = '' if row['step_size'] else '  rejected'
    return (
        f'  rho {row["rho"]:6.2f}  lambda {row["damping"]:8.2g}  CG {row["cg_iterations"]:3d}'
        f' -{row["backtracked"]}  alpha {row["step_size"]:.2f}{rejected}'
    )


def progress(done: int, steps: int, seconds: float) -> str:
    """Time spent, and left until so many steps or --minutes."""
    left = min(FLAGS.minutes * 60 - seconds, (steps - done) * seconds / done)
    return f'elapsed {clock(seconds)}  remaining {clock(max(left, 0))}'
