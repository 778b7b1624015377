"""One axis of devices, the only ``pmap``, and runs of several processes."""

import functools
import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from hfrnn.errors import SettingsError

AXIS = 'devices'


def join(coordinator: str, processes: int, process: int) -> None:
    """Joins this process to a run of several processes; to be called before JAX initialises its devices.

    Args:
      coordinator: host:port of process 0.
      processes: the number of processes.
      process: the number of this one, from 0.
    """
    jax.config.update('jax_cpu_collectives_implementation', 'gloo')  # has no effect on an accelerator
    jax.distributed.initialize(coordinator, processes, process)


def spread(function: Callable, devices: int | None = None) -> Callable:
    """Runs ``function(state, batch) -> result`` on several devices: the state is replicated, the batch is divided.

    Inside, ``psum`` over ``AXIS`` sums over the devices; the result must be the same on every device.

    Args:
      devices: the number of devices, of all processes together; all of them if None.

    Returns:
      ``spread_function(state, batch)``: every leaf of the batch is (B, ...), with the B of the whole run, the same in
      every process.

    Raises:
      ValueError: if the devices do not divide a batch, there are too few devices, or this process has none of them.
    """
    chosen = jax.devices()[:devices]
    if devices is not None and len(chosen) < devices:
        raise ValueError(f'{devices} devices were asked for, and JAX has {len(chosen)}')
    run = _pmap(function, tuple(chosen))
    local = [i for i, device in enumerate(chosen) if device.process_index == jax.process_index()]
    if not local:
        raise ValueError(f'none of the {len(chosen)} devices is of process {jax.process_index()}')

    def parts(leaf):
        leaf = np.asarray(leaf)
        if leaf.shape[0] % len(chosen):
            raise ValueError(f'a batch of {leaf.shape[0]} does not divide among {len(chosen)} devices')
        return leaf.reshape(len(chosen), -1, *leaf.shape[1:])[local[0] : local[-1] + 1]

    return lambda state, batch: run(state, jax.tree.map(parts, batch))


@functools.lru_cache(maxsize=16)
def _pmap(function, devices):
    """The one ``pmap``; what is spread a second time is not compiled again."""
    return jax.pmap(function, AXIS, in_axes=(None, 0), out_axes=None, devices=devices)


def replicate(state: Any, devices: int | None = None) -> Any:
    """The state in the layout that ``spread`` returns, so that the first call is compiled for all later ones."""
    return spread(_first, devices)(state, np.zeros(count(devices)))


def _first(state, _):
    return state


def count(devices: int | None = None) -> int:
    """The number of devices in use: all of them if None."""
    return devices or jax.device_count()


def check_batches(devices: int | None = None, **sizes: int) -> None:
    """Checks that the devices divide these batches.

    Raises:
      SettingsError: if not.
    """
    for name, size in sizes.items():
        if size % count(devices):
            raise SettingsError(f'{name}={size} does not divide among {count(devices)} devices')


def check_memory(weights: int, copies: int, others: int = 0, devices: int | None = None) -> None:
    """Checks that a CPU has memory for training: an allocation that is too large kills the process there.

    Args:
      weights: the number of weights of the net.
      copies: how many copies of them a device holds.
      others: how many other numbers a device holds at once.

    Raises:
      SettingsError: if not.
    """
    local = len(jax.local_devices())
    need = 4 * (weights * copies + others) * min(count(devices), local)
    have = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    if jax.devices()[0].platform == 'cpu' and need > have:
        raise SettingsError(
            f'a net of {weights:,} weights needs {need / 2**30:.0f} GiB for its training, and this machine has '
            f'{have / 2**30:.0f}; make it or its batches smaller'
        )


def describe_machine() -> dict:
    """The machine and the version of JAX, to be kept beside what is measured."""
    machine = f'{jax.device_count()} x {jax.devices()[0].device_kind}, {os.cpu_count()} CPU cores'
    return {'machine': machine, 'jax': jax.__version__}
