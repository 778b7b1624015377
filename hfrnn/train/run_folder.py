"""The folder of a run: its flags, metrics, checkpoints and results.

    flags.json      the flags that define the run
    about.json      what the data must be for the run to go on
    metrics.jsonl   a line for each step that is logged
    checkpoints/    the last two states (orbax); STEP.damaged-PID is one that could not be read
    best.npz        the weights that validation found best, where a run keeps them
    results.json    at the end
    lock            held by the process that trains

Of several processes only the first writes; all of them read.
"""

import fcntl
import json
import math
import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from hfrnn import io
from hfrnn.bundle import places
from hfrnn.errors import CorruptFile, RunError


class Run(NamedTuple):
    """An open run folder.

    Attributes:
      path: the folder.
      manager: of its checkpoints.
      lock: the descriptor of the file that keeps others from training in it; None to read.
    """

    path: pathlib.Path
    manager: ocp.CheckpointManager
    lock: int | None = None


def writes() -> bool:
    """Whether this process is the one that writes and prints."""
    return jax.process_index() == 0


def read_json(workdir: str, name: str) -> dict:
    """The content of a JSON file in a run folder.

    Raises:
      RunError: if there is none, or it is broken.
    """
    path = pathlib.Path(workdir) / name
    try:
        content = json.loads(path.read_text('utf-8'))
    except FileNotFoundError as e:
        raise RunError(f'{workdir} holds no run: there is no {name} in it; train one there first') from e
    except (ValueError, RecursionError) as e:
        raise RunError(f'{path} is damaged') from e
    if not isinstance(content, dict):
        raise RunError(f'{path} is damaged')
    return content


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes a JSON file so that a kill leaves the old one or the new one; a number that is not finite is null."""
    _write(path, _dump(json.loads(json.dumps(content), parse_constant=lambda _: None)))


def _dump(content):
    return json.dumps(content, indent=1) + '\n'  # in ASCII, which can also say a file name that is no UTF-8


def _write(path, content):
    with io.whole(path) as file:
        file.write(content.encode())


def check(workdir: str, name: str, mine: dict, untold: dict | None = None) -> None:
    """That a JSON file of a run, its flags or what it is about, is the same as it would be now.

    Args:
      untold: what holds where the file, of an earlier version, tells nothing.

    Raises:
      RunError: if it is not.
    """
    theirs = (untold or {}) | read_json(workdir, name)
    differing = [k for k in mine if mine[k] != theirs.get(k)]
    if differing:
        what = ', '.join(f'{k} ({_short(theirs.get(k))}, not {_short(mine[k])})' for k in differing)
        raise RunError(f'{workdir} holds a run with other {what}; repeat its flags or name another --workdir')


def _short(value):
    text = json.dumps(value)
    return text if len(text) < 40 else text[:36] + ' ...'


def has_begun(workdir: str) -> bool:
    """Whether a folder holds a run that has a checkpoint to go on from."""
    path = pathlib.Path(workdir).resolve()
    return (path / 'checkpoints').is_dir() and _manager(path).latest_step() is not None


def train_in(workdir: str, flags: dict, about: dict, untold: dict | None = None) -> Run:
    """Opens a run folder to train in, or to go on in; made if need be.

    Args:
      untold: the flags and facts of a run that tells nothing of them.

    Raises:
      RunError: if it holds a run with other flags or on other data, or something else, or is being trained in.
    """
    path = pathlib.Path(workdir).resolve()
    if (path / 'flags.json').exists():
        check(workdir, 'flags.json', flags, untold)
        check(workdir, 'about.json', about, untold)
    elif path.exists() and (not path.is_dir() or any(not _ours(p.name) for p in path.iterdir())):
        raise RunError(f'{workdir} is there and holds no run; name a new or an empty folder')
    lock = None
    if writes():
        (path / 'checkpoints').mkdir(parents=True, exist_ok=True)
        lock = os.open(path / 'lock', os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # a process that ends, however it ends, frees it
        except OSError as e:
            os.close(lock)
            if isinstance(e, BlockingIOError):
                raise RunError(f'another process is training in {workdir}') from e
            raise RunError(f'{workdir} cannot be locked against other processes: {e.strerror}') from e
        if not (path / 'flags.json').exists():
            _write(path / 'about.json', _dump(about))
            _write(path / 'flags.json', _dump(flags))
    wait('the folder is there')
    return Run(path, _manager(path, cleans=lock is not None), lock)


def wait(what: str) -> None:
    """Until all processes have come here, each for the same: then what the first has written can be read by all."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def close(run: Run) -> None:
    """Lets others train in the folder; the end of the process does so too."""
    if run.lock is not None:
        os.close(run.lock)


def _ours(name):
    """Whether a file may be what a kill left of the beginning of a run, or another of its processes just wrote."""
    return name in ('about.json', 'flags.json', 'lock', 'checkpoints') or name.endswith('.new')


def open_run(workdir: str) -> Run:
    """Opens a run folder to read.

    Raises:
      RunError: if it holds no run.
    """
    read_json(workdir, 'flags.json')
    path = pathlib.Path(workdir).resolve()
    if not (path / 'checkpoints').is_dir():
        raise RunError(f'{workdir} has no checkpoints; train it first')
    return Run(path, _manager(path))


def _manager(path, cleans=False):
    """That of the checkpoints of a run; one that ``cleans`` removes what killed saves have left."""
    me = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(primary_host=me, active_processes={me}, barrier_sync_key_prefix=str(me))
    options = ocp.CheckpointManagerOptions(
        max_to_keep=2,
        create=False,
        cleanup_tmp_directories=cleans,
        enable_async_checkpointing=False,
        multiprocessing_options=alone,
    )
    return ocp.CheckpointManager(path / 'checkpoints', options=options)


def save(run: Run, state: Any, step: int, seconds: float) -> None:
    """A checkpoint, whole or not at all: orbax writes it beside and renames it at the end.

    It is the newest one from then on: those of later steps, if any, are removed.
    """
    if not writes():
        return
    for later in run.manager.all_steps():
        if later > step:
            run.manager.delete(later)
    if step not in run.manager.all_steps():
        content = {'state': _not_empty(jax.device_get(state)), 'seconds': np.float64(seconds)}
        run.manager.save(step, args=ocp.args.StandardSave(content), force=True)


def _not_empty(state):
    """The state without its arrays of no size, which orbax refuses."""
    return jax.tree.map(lambda leaf: leaf if np.size(leaf) else None, state)


def _with_empty(found, zeros):
    leaves = iter(jax.tree.leaves(found))
    return jax.tree.map(lambda leaf: next(leaves) if leaf.size else leaf, zeros)


def restore(run: Run, state: Any) -> tuple[Any, float]:
    """The newest whole checkpoint, as (state, seconds of training).

    A damaged one is passed over with a warning; where the run is open to train, and goes on from an older one, it is
    set aside as STEP.damaged-PID.

    Args:
      state: a state, or the shapes of one, of the structure that is to be found.

    Raises:
      RunError: if there is none, or none can be read, or they are another model's, or not the same in all processes.
    """
    found = _restored(run, state)
    if found is None:
        raise RunError(f'{run.path} has no checkpoint yet; train it first')
    return found


def _restored(run, state):
    """What ``restore`` gives; None of a run that never had a checkpoint."""
    found, step = _newest(run, state)
    if jax.process_count() > 1:
        mine = np.asarray([step, found is not None])
        if (multihost_utils.process_allgather(mine) != mine).any():
            raise RunError(f'the processes find different checkpoints in {run.path}; give them one folder to share')
    return found


def restore_or_begin(run: Run, state: Any, begin: Callable[[], Any]) -> tuple[Any, float]:
    """What ``restore`` gives; of a run without a checkpoint, ``begin()``, saved at once, and 0 seconds.

    So what it began with, the weights of another run say, need not be there when it goes on.
    """
    found = _restored(run, state)
    if found is None:
        found = begin(), 0.0
        save(run, found[0], 0, 0.0)
    return found


def _newest(run, state):
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), state)
    like = {'state': _not_empty(zeros), 'seconds': np.float64(0)}
    steps = sorted(run.manager.all_steps(), reverse=True)
    damaged = []
    for step in steps:
        try:
            content = run.manager.restore(step, args=ocp.args.StandardRestore(like))
        except Exception as e:  # orbax and tensorstore raise many kinds for a damaged folder
            if not _may_be(run, step, like):
                raise RunError(_OTHER_MODEL.format(step, run.path)) from e
            reason = (str(e).splitlines() or [''])[0][:200]
            why = f'{type(e).__name__}: {reason}'
            print(f'warning: checkpoint {step} is damaged and passed over ({why})', file=sys.stderr)
            damaged.append(step)
            continue
        found = _with_empty(content['state'], zeros)
        same = jax.tree.map(lambda a, b: a.shape == b.shape and a.dtype == b.dtype, found, zeros)
        if not jax.tree.all(same):
            raise RunError(_OTHER_MODEL.format(step, run.path))
        if run.lock is not None:  # only now that training can go on: else there is no more to lose than the names
            for later in damaged:
                place = run.path / 'checkpoints' / str(later)
                place.rename(place.with_name(f'{later}.damaged-{os.getpid()}'))
            run.manager.reload()
        return (found, float(content['seconds'])), step
    if steps:
        raise RunError(f'none of the checkpoints in {run.path} can be read; try again, or name another --workdir')
    return None, 0


_OTHER_MODEL = 'checkpoint {} in {} is of another model; name another --workdir'


def _may_be(run, step, like):
    """Whether a checkpoint that cannot be read as ``like`` may be one such, damaged; not if it is whole and another."""
    try:
        content = run.manager.restore(step, args=ocp.args.StandardRestore())
    except Exception:  # as above
        return True
    return places(content).keys() == places(like).keys()


def save_best(run: Run, params: Any) -> None:
    """Keeps weights as best.npz, whole or not at all, each array under its path in the tree."""
    if not writes():
        return
    arrays = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(params)}
    io.save_npz(run.path / 'best.npz', compressed=False, **arrays)


def load_best(workdir: str | os.PathLike, params: Any) -> Any:
    """The weights of best.npz in a run folder.

    Args:
      params: weights, or their shapes, of the structure that is to be found.

    Raises:
      RunError: if there are none, or they are damaged or of another structure.
    """
    path = pathlib.Path(workdir) / 'best.npz'
    try:
        found = io.read_npz(path)
    except FileNotFoundError as e:
        raise RunError(f'{workdir} holds no best.npz; train there first, to the first evaluation') from e
    except CorruptFile as e:
        raise RunError(str(e)) from e
    wanted = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(params)}
    if {k: v.shape for k, v in found.items()} != {k: v.shape for k, v in wanted.items()}:
        raise RunError(f'{path} holds the weights of another model')
    return jax.tree.unflatten(jax.tree.structure(params), [found[k] for k in wanted])


def restore_params(run: Run, params: Any) -> Any:
    """The weights alone, of the newest whole checkpoint; nothing need be known of the optimiser.

    Args:
      params: weights, or the shapes of some, of the structure that is to be found.

    Raises:
      RunError: if there are none, or none can be read, or they are another model's.
    """
    steps = sorted(run.manager.all_steps(), reverse=True)
    for step in steps:
        try:
            content = run.manager.restore(step, args=ocp.args.StandardRestore())
        except Exception as e:  # as above
            print(f'warning: checkpoint {step} is damaged and passed over ({type(e).__name__})', file=sys.stderr)
            continue
        found = jax.tree.map(np.asarray, content['state']['params'])
        shapes = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree) for tree in (found, params)]
        if shapes[0] != shapes[1]:
            raise RunError(f'checkpoint {step} in {run.path} is of another model')
        return found
    raise RunError(
        f'none of the checkpoints in {run.path} can be read' if steps else f'{run.path} has no checkpoint yet'
    )


def log(run: Run, metrics: dict) -> None:
    """Adds a line to metrics.jsonl; a number that is not finite is null there."""
    if writes():
        row = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in metrics.items()}
        with _metrics(run).open('a') as f:
            f.write(json.dumps(row, allow_nan=False) + '\n')


def read_metrics(workdir: str | os.PathLike) -> list[dict]:
    """The lines of metrics.jsonl in a folder, to the first that is broken; none if there is no such file."""
    path = pathlib.Path(workdir) / 'metrics.jsonl'
    rows = []
    for line in path.read_text('utf-8').splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def history(run: Run, step: int | None = None) -> list[dict]:
    """The metrics so far, to the first line that is broken; with ``step``, drops what is after it and after them."""
    rows = read_metrics(run.path)
    if step is not None:
        rows = [row for row in rows if row['step'] <= step]
        kept = ''.join(json.dumps(row) + '\n' for row in rows)
        if writes() and _metrics(run).exists() and kept != _metrics(run).read_text('utf-8'):
            _write(_metrics(run), kept)
    return rows


def log_and_keep(run: Run, rows: list[dict], row: dict, key: str, state: Any, params: Any, seconds: float) -> None:
    """Adds a row to the metrics and to ``rows``; where its number by this name is the least of them, keeps ``params``.

    In an order that a kill leaves whole: the row, the checkpoint, best.npz.  Who goes on from the newest checkpoint so
    knows of which step the best are, see ``history_and_best``.
    """
    better = key in row and row[key] < best_row(rows, key).get(key, math.inf)
    rows.append(row)
    log(run, row)
    if better:
        save(run, state, row['step'], seconds)
        save_best(run, params)


def history_and_best(run: Run, step: int, key: str, params: Any) -> list[dict]:
    """``history`` to the step of a checkpoint, from which a run goes on.

    Where its ``params`` are the best, best.npz is written again: a kill may have come before that.
    """
    rows = history(run, step)
    if best_row(rows, key).get('step') == step:
        save_best(run, params)
    return rows


def measured(rows: list[dict], key: str) -> list[dict]:
    """Those of the rows of metrics that have a finite number by this name."""
    return [row for row in rows if row.get(key) is not None and math.isfinite(row[key])]


def best_row(rows: list[dict], key: str) -> dict:
    """The row with the least number by this name; empty if none has one."""
    return min(measured(rows, key), key=lambda row: row[key], default={})


def _metrics(run):
    return run.path / 'metrics.jsonl'
