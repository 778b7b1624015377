"""The folder of a run.

    run.json        what the run is: experiment, settings, fingerprint of its data; and the clock of its seconds
    metrics.jsonl   a line for each step that is logged
    checkpoints/    the last two states; STEP.damaged-PID is one that could not be read
    best.npz        the best weights so far by validation, a ``Bundle``
    results.json    and other reports, at the end
    lock            held by the process that trains

Of several processes only the first writes; all of them read.
"""

import fcntl
import json
import math
import os
import pathlib
from typing import Any, NamedTuple

import jax
from jax.experimental import multihost_utils

from hfrnn import io
from hfrnn.errors import CorruptFile, OtherRun, RunError

FORMAT = 2  # hfrnn 0.1 had no number
_OLD = '{} holds a run of hfrnn 0.1, which that version reads'


class RunFolder(NamedTuple):
    """An open folder of a run.

    Attributes:
      path: the folder.
      lock: the descriptor of the file that keeps other processes from training in it; None where it is only read.
    """

    path: pathlib.Path
    lock: int | None = None


def writes() -> bool:
    """Whether this process is the one that writes and prints."""
    return jax.process_index() == 0


def wait(what: str) -> None:
    """Waits until all processes are here, so that all can read what the first one has written."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def read_identity(folder: str | os.PathLike) -> dict:
    """What the run in a folder is: 'experiment', 'settings' and 'data'.

    Raises:
      RunError: if there is no run, it is damaged, or of another version.
    """
    path = pathlib.Path(folder)
    try:
        content = io.read_json(path / 'run.json')
    except (FileNotFoundError, NotADirectoryError) as e:
        if (path / 'flags.json').exists():
            raise RunError(_OLD.format(folder)) from e
        raise RunError(f'{folder} holds no run: there is no run.json in it') from e
    except CorruptFile as e:
        raise RunError(str(e)) from e
    if content.get('format') != FORMAT:
        raise RunError(f'{folder} holds a run in format {content.get("format")}; this version reads format {FORMAT}')
    kinds = {'experiment': str, 'settings': dict, 'data': dict}
    if not all(isinstance(content.get(name), kind) for name, kind in kinds.items()):
        raise RunError(f'{path / "run.json"} is damaged')
    return content


def check_identity(folder: str | os.PathLike, identity: dict) -> None:
    """Checks that a folder holds this run; and that its clock is this one, if ``identity`` names one.

    Raises:
      RunError: if not, with what differs.
    """
    saved = read_identity(folder)
    if saved['experiment'] != identity['experiment']:
        raise RunError(f'{folder} holds a run of another experiment, {saved["experiment"]}')
    for part in ('settings', 'data'):
        current = json.loads(json.dumps(identity[part]))
        differing = [k for k in {**current, **saved[part]} if current.get(k) != saved[part].get(k)]
        if differing:
            changes = ', '.join(f'{k} ({_short(saved[part].get(k))}, not {_short(current.get(k))})' for k in differing)
            raise OtherRun(f'{folder} holds a run with other {changes}')
    if identity.get('clock', saved.get('clock')) != saved.get('clock'):
        raise OtherRun(f'{folder} holds a run with another clock ({saved.get("clock")}, not {identity["clock"]})')


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 40 else text[:36] + ' ...'


def open_to_train(folder: str | os.PathLike, identity: dict) -> RunFolder:
    """Opens a folder to train in, or to go on in; it is made if need be.

    Args:
      identity: 'experiment', 'settings' and 'data', JSON each; and the 'clock' of its seconds.

    Raises:
      RunError: if it holds another run, or something else, or another process trains in it.
    """
    path = pathlib.Path(folder).resolve()
    try:
        str(path).encode()
    except UnicodeEncodeError as e:
        raise RunError(f'{str(path)!r} is no UTF-8, which the checkpoints of a run need') from e
    if (path / 'run.json').exists():
        check_identity(folder, identity)
    elif (path / 'flags.json').exists():
        raise RunError(_OLD.format(folder))
    elif path.exists() and (not path.is_dir() or any(not _may_be_ours(p.name) for p in path.iterdir())):
        raise RunError(f'{folder} exists and holds no run; name a new or an empty folder')
    lock = None
    if writes():
        (path / 'checkpoints').mkdir(parents=True, exist_ok=True)
        lock = os.open(path / 'lock', os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # a process that ends, however it ends, frees it
        except OSError as e:
            os.close(lock)
            if isinstance(e, BlockingIOError):
                raise RunError(f'another process is training in {folder}') from e
            raise RunError(f'{folder} cannot be locked against other processes: {e.strerror}') from e
        if not (path / 'run.json').exists():
            io.write_json(path / 'run.json', {'format': FORMAT, **identity})
    wait('the folder is there')
    return RunFolder(path, lock)


def _may_be_ours(name):
    """Whether a file may be the beginning of a run: what a kill left of it, or another process has just written."""
    return name in ('run.json', 'lock', 'checkpoints') or name.endswith('.new')


def open_to_read(folder: str | os.PathLike) -> RunFolder:
    """Opens the folder of a run to read.

    Raises:
      RunError: if it holds none.
    """
    read_identity(folder)
    return RunFolder(pathlib.Path(folder).resolve())


def close(run: RunFolder) -> None:
    """Lets others train in the folder; the end of the process does so too."""
    if run.lock is not None:
        os.close(run.lock)


# -- metrics ----------------------------------------------------------------------------------------------------------


def log(run: RunFolder, row: dict) -> None:
    """Adds a line to metrics.jsonl; a number that is not finite becomes null."""
    if writes():
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        with (run.path / 'metrics.jsonl').open('a') as f:
            f.write(json.dumps(finite, allow_nan=False) + '\n')


def read_metrics(folder: str | os.PathLike) -> list[dict]:
    """The rows of metrics.jsonl, to the first broken line; none if there is no such file."""
    path = pathlib.Path(folder) / 'metrics.jsonl'
    rows = []
    for line in path.read_text('utf-8', 'replace').splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except ValueError:
            break
        if not (isinstance(row, dict) and isinstance(row.get('step'), int)):
            break
        rows.append(row)
    return rows


def rewind_metrics(run: RunFolder, step: int) -> list[dict]:
    """Removes from metrics.jsonl all rows after the step from which the run goes on, and returns the others."""
    rows = [row for row in read_metrics(run.path) if row['step'] <= step]
    path = run.path / 'metrics.jsonl'
    kept = ''.join(json.dumps(row) + '\n' for row in rows)
    if writes() and path.exists() and kept != path.read_text('utf-8', 'replace'):
        io.write_bytes(path, kept.encode())
    return rows


def with_finite(rows: list[dict], key: str) -> list[dict]:
    """The rows in which ``key`` has a finite number."""
    return [row for row in rows if row.get(key) is not None and math.isfinite(row[key])]


def best_row(rows: list[dict], key: str) -> dict:
    """The row with the least finite ``key``; empty if no row has one."""
    return min(with_finite(rows, key), key=lambda row: row[key], default={})
