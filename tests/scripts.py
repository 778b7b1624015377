"""Experiments as their users call them, in this process, and what they leave in their folders."""

import json
import pathlib
import time

import pytest

ROOT = pathlib.Path(__file__).parent.parent


def in_process(script, *flags):
    """Runs a script, a module, with these flags; its flags are its own, so that many may run in one process."""
    script.main([script.__name__, *flags])


def refused(capsys, script, *flags):
    """The one line with which a script refuses these flags, with status 1."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as e:
        in_process(script, *flags)
    err = capsys.readouterr().err
    assert (e.value.code, err.count('\n'), err[:7]) == (1, 1, 'error: '), err
    return err


def assert_refused(called, said):
    """That a process ended with status 1 and one line that says this."""
    status, _, err = called
    assert (status, err.count('\n')) == (1, 1), err
    assert err.startswith('error: ') and said in err


def read(path):
    return json.loads(path.read_text())


def wait_for_step(workdir, step, process):
    """Waits until a checkpoint of this step or a later one is there."""
    for _ in range(3000):
        names = [p.name for p in (workdir / 'checkpoints').iterdir()] if (workdir / 'checkpoints').exists() else []
        if any(name.isdigit() and int(name) >= step for name in names):
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    raise AssertionError(f'no checkpoint of step {step}')
