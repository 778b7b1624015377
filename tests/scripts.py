"""Experiments as processes of their own, and what they leave in their folders."""

import json
import pathlib
import shutil
import signal
import time

import jax
import numpy as np

from hfrnn.train import run_folder

ROOT = pathlib.Path(__file__).parent.parent


def assert_refused(called, said):
    """That a script, called with something bad, ended with one line that says this."""
    status, _, err = called
    assert (status, err.count('\n')) == (1, 1), err
    assert err.startswith('error: ') and said in err


def read(path):
    return json.loads(path.read_text())


def last_params(workdir):
    """The arrays of the newest checkpoint, in a fixed order."""
    run = run_folder.open_run(str(workdir))
    content = run.manager.restore(run.manager.latest_step())
    return [np.asarray(leaf) for leaf in jax.tree.leaves(content['state'])]


def assert_same_run(a, b):
    timing = {'seconds': 0, 'points_per_second': 0}
    for left, right in zip(last_params(a), last_params(b), strict=True):
        np.testing.assert_array_equal(left, right)
    rows = [[json.loads(line) for line in (w / 'metrics.jsonl').read_text().splitlines()] for w in (a, b)]
    for left, right in zip(*rows, strict=True):
        assert left | timing == right | timing
    assert (a / 'best.npz').exists() == (b / 'best.npz').exists()
    if (a / 'best.npz').exists():
        with np.load(a / 'best.npz') as left, np.load(b / 'best.npz') as right:
            assert left.files == right.files
            for place in left.files:
                np.testing.assert_array_equal(left[place], right[place])


def kill_between(start, flags, workdir, step, last):
    """Starts a run of so many steps and kills it behind this one; again, where it had come to its last before that."""
    for _ in range(5):
        process = start(*flags, f'--workdir={workdir}')
        wait_for_step(workdir, step, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if newest(workdir) < last:
            return
        shutil.rmtree(workdir)
    raise AssertionError(f'it is always at step {last} when it is killed')


def newest(workdir):
    """The step of the newest checkpoint."""
    return max(int(path.name) for path in (workdir / 'checkpoints').iterdir() if path.name.isdigit())


def wait_for_step(workdir, step, process):
    """Waits until a checkpoint of this step or a later one is there."""
    for _ in range(3000):
        names = [p.name for p in (workdir / 'checkpoints').iterdir()] if (workdir / 'checkpoints').exists() else []
        if any(name.isdigit() and int(name) >= step for name in names):
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    raise AssertionError(f'no checkpoint of step {step}')
