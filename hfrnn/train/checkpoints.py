"""Checkpoints of a run's state, by orbax: the last two, each written whole or not at all."""

import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from hfrnn.bundle import places
from hfrnn.errors import RunError
from hfrnn.train.run_folder import RunFolder, writes

_OTHER_MODEL = 'checkpoint {} in {} is of another model'


class Checkpoints(NamedTuple):
    """The checkpoints of a run.

    Attributes:
      path: the folder of the run.
      manager: orbax's.
      trains: whether this process trains in the folder, and may rename what is damaged.
    """

    path: pathlib.Path
    manager: ocp.CheckpointManager
    trains: bool


def open_checkpoints(run: RunFolder) -> Checkpoints:
    """The checkpoints of a run; if it is open to train, removes what killed saves have left."""
    own = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=own, active_processes={own}, barrier_sync_key_prefix=str(own)
    )
    options = ocp.CheckpointManagerOptions(
        max_to_keep=2,
        create=False,
        cleanup_tmp_directories=run.lock is not None,
        enable_async_checkpointing=False,
        multiprocessing_options=alone,
    )
    manager = ocp.CheckpointManager(run.path / 'checkpoints', options=options)
    return Checkpoints(run.path, manager, run.lock is not None)


def have_begun(folder: str | os.PathLike) -> bool:
    """Whether a folder holds a run with a checkpoint to go on from."""
    path = pathlib.Path(folder).resolve()
    if not (path / 'checkpoints').is_dir():
        return False
    return open_checkpoints(RunFolder(path)).manager.latest_step() is not None


def save(checkpoints: Checkpoints, state: Any, step: int, seconds: float) -> None:
    """Saves a checkpoint, whole or not at all: orbax writes it under another name and renames it at the end.

    It is the newest one from then on: those of later steps, if any, are removed.
    """
    if not writes():
        return
    manager = checkpoints.manager
    for later in manager.all_steps():
        if later > step:
            manager.delete(later)
    if step not in manager.all_steps():
        content = {'state': _without_empty(jax.device_get(state)), 'seconds': np.float64(seconds)}
        try:
            manager.save(step, args=ocp.args.StandardSave(content), force=True)
        except (OSError, ValueError) as e:  # tensorstore has a ValueError for a full disk
            reason = (str(e).splitlines() or [type(e).__name__])[0][:200]
            raise RunError(f'cannot write a checkpoint in {checkpoints.path}: {reason}') from e


def restore_or_begin(checkpoints: Checkpoints, like: Any, begin: Callable[[], Any]) -> tuple[Any, float]:
    """The newest whole checkpoint, as (state, seconds of training); of a run without, ``begin()``, saved, and 0.

    A damaged checkpoint is passed over with a warning; where the run trains, and goes on from an older one, it is
    renamed to STEP.damaged-PID.

    Args:
      like: a state, or the shapes of one, of the structure that is to be found.
      begin: makes the first state.  It is saved at once, so that what it was made from, such as the weights of another
        run, is not needed when this run goes on.

    Raises:
      RunError: if none can be read, or they are another model's, or not the same in all processes.
    """
    found, step = _newest(checkpoints, like)
    if jax.process_count() > 1:
        own = np.asarray([step, found is not None])
        if (multihost_utils.process_allgather(own) != own).any():
            raise RunError(
                f'the processes find different checkpoints in {checkpoints.path}; give them one folder to share'
            )
    if found is None:
        found = begin(), 0.0
        save(checkpoints, found[0], 0, 0.0)
    return found


def _newest(checkpoints, like):
    manager, path = checkpoints.manager, checkpoints.path
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
    target = {'state': _without_empty(zeros), 'seconds': np.float64(0)}
    steps = sorted(manager.all_steps(), reverse=True)
    damaged = []
    for step in steps:
        try:
            content = manager.restore(step, args=ocp.args.StandardRestore(target))
        except Exception as e:  # orbax and tensorstore raise many kinds for a damaged folder
            if not _may_be_damaged(manager, step, target):
                raise RunError(_OTHER_MODEL.format(step, path)) from e
            reason = f'{type(e).__name__}: {(str(e).splitlines() or [""])[0][:200]}'
            print(f'warning: checkpoint {step} is damaged and passed over ({reason})', file=sys.stderr)
            damaged.append(step)
            continue
        found = _with_empty(content['state'], zeros)
        same = jax.tree.map(lambda a, b: a.shape == b.shape and a.dtype == b.dtype, found, zeros)
        if not jax.tree.all(same):
            raise RunError(_OTHER_MODEL.format(step, path))
        if checkpoints.trains:  # only now, when an older one was found to go on from
            for later in damaged:
                place = path / 'checkpoints' / str(later)
                place.rename(place.with_name(f'{later}.damaged-{os.getpid()}'))
            manager.reload()
        return (found, float(content['seconds'])), step
    if steps:
        raise RunError(f'none of the checkpoints in {path} can be read')
    return None, 0


def _may_be_damaged(manager, step, target):
    """Whether what cannot be read as the target may be a damaged one of its kind: not if it is whole and of another."""
    try:
        content = manager.restore(step, args=ocp.args.StandardRestore())
    except Exception:  # as above
        return True
    return places(content).keys() == places(target).keys()


def _without_empty(state):
    """The state without its arrays of no size, which orbax refuses."""
    return jax.tree.map(lambda leaf: leaf if np.size(leaf) else None, state)


def _with_empty(found, zeros):
    leaves = iter(jax.tree.leaves(found))
    return jax.tree.map(lambda leaf: next(leaves) if leaf.size else leaf, zeros)
