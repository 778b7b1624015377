"""The folder of a run: its flags, metrics, checkpoints and results.

    flags.json      the flags that define the run
    about.json      what the data must be for the run to go on: alphabet, sizes
    metrics.jsonl   a line for each step
    checkpoints/    the last two states (orbax)
    results.json    at the end

Of several processes only the first writes; all of them read.
"""

import json
import os
import pathlib
import shutil
import sys
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp


class RunError(ValueError):
    """A folder that cannot be used as it was asked to; one line for the user."""


class Run(NamedTuple):
    """An open run folder."""

    path: pathlib.Path
    manager: ocp.CheckpointManager

    @property
    def metrics(self) -> pathlib.Path:
        return self.path / 'metrics.jsonl'


def writes() -> bool:
    """Whether this process is the one that writes and prints."""
    return jax.process_index() == 0


def read_json(workdir: str, name: str) -> Any:
    """The content of a JSON file in a run folder.

    Raises:
      RunError: if there is none, or it is broken.
    """
    path = pathlib.Path(workdir) / name
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as e:
        raise RunError(f'{workdir} holds no run: there is no {name} in it; train one there first') from e
    except ValueError as e:
        raise RunError(f'{path} is damaged') from e


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes a JSON file so that a kill leaves the old one or the new one."""
    new = path.with_suffix(f'.{os.getpid()}.new')
    new.write_text(json.dumps(content, indent=1, ensure_ascii=False) + '\n')
    new.replace(path)


def open_run(workdir: str, flags: dict | None = None, about: dict | None = None) -> Run:
    """Opens a run folder: to train if its flags are given (made if need be), else to read.

    Raises:
      RunError: if it holds a run with other flags, or on other data (where they are given), or, to read, no run at all.
    """
    path = pathlib.Path(workdir).resolve()
    if flags is None:
        read_json(workdir, 'flags.json')
    elif (path / 'flags.json').exists():
        for name, mine in (('flags.json', flags), ('about.json', about)):
            theirs = read_json(workdir, name)
            differing = [k for k in mine or () if mine[k] != theirs.get(k)]
            if differing:
                what = ', '.join(f'{k} ({_short(theirs.get(k))}, not {_short(mine[k])})' for k in differing)
                raise RunError(f'{workdir} holds a run with other {what}; repeat its flags or name another --workdir')
    elif path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise RunError(f'{workdir} is there and holds no run; name a new or an empty folder')
    elif writes():
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / 'about.json', about)
        write_json(path / 'flags.json', flags)
    me = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(primary_host=me, active_processes={me}, barrier_sync_key_prefix=str(me))
    options = ocp.CheckpointManagerOptions(
        max_to_keep=2, create=False, enable_async_checkpointing=False, multiprocessing_options=alone
    )
    if writes():
        (path / 'checkpoints').mkdir(exist_ok=True)
    return Run(path, ocp.CheckpointManager(path / 'checkpoints', options=options))


def _short(value):
    text = json.dumps(value)
    return text if len(text) < 40 else text[:36] + ' ...'


def save(run: Run, state: Any, step: int, seconds: float) -> None:
    """A checkpoint, whole or not at all: orbax writes it beside and renames it at the end."""
    if writes() and step not in run.manager.all_steps():
        content = {'state': _not_empty(jax.device_get(state)), 'seconds': np.float64(seconds)}
        run.manager.save(step, args=ocp.args.StandardSave(content))


def _not_empty(state):
    """The state without its arrays of no size, which orbax refuses."""
    return jax.tree.map(lambda leaf: leaf if np.size(leaf) else None, state)


def _with_empty(found, zeros):
    leaves = iter(jax.tree.leaves(found))
    return jax.tree.map(lambda leaf: next(leaves) if leaf.size else leaf, zeros)


def restore(run: Run, state: Any) -> tuple[Any, float] | None:
    """The newest whole checkpoint, as (state, seconds of training), or None.

    A half-written one is passed over with a warning, and what it left removed.

    Args:
      state: a state, or the shapes of one, of the structure that is to be found.
    """
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), state)
    like = {'state': _not_empty(zeros), 'seconds': np.float64(0)}
    for step in sorted(run.manager.all_steps(), reverse=True):
        try:
            content = run.manager.restore(step, args=ocp.args.StandardRestore(like))
            return _with_empty(content['state'], zeros), float(content['seconds'])
        except Exception as e:  # orbax and tensorstore raise many kinds for a damaged folder
            reason = (str(e).splitlines() or [''])[0][:200]
            print(
                f'warning: checkpoint {step} is damaged and passed over ({type(e).__name__}: {reason})', file=sys.stderr
            )
            if writes():
                shutil.rmtree(run.path / 'checkpoints' / str(step), ignore_errors=True)
                run.manager.reload()
    return None


def log(run: Run, metrics: dict) -> None:
    """Adds a line to metrics.jsonl."""
    if writes():
        with run.metrics.open('a') as f:
            f.write(json.dumps(metrics) + '\n')


def history(run: Run, step: int | None = None) -> list[dict]:
    """The metrics so far; with ``step``, first drops the lines after it and a last line that was broken off."""
    lines = run.metrics.read_text().splitlines(keepends=True) if run.metrics.exists() else []
    rows = [json.loads(line) for line in lines if line.endswith('\n')]
    if step is not None:
        rows = [row for row in rows if row['step'] <= step]
        if writes() and len(rows) < len(lines):
            run.metrics.write_text(''.join(json.dumps(row) + '\n' for row in rows))
    return rows
