"""The benchmark, at a size at which it says nothing of speed."""

import subprocess
import sys

from tests.scripts import ROOT

SCRIPT = 'experiments.benchmark'


def test_it_measures_what_it_names(call):
    status, out, err = call('--hidden=8', '--batch=4', '--length=5', '--repeats=1')
    assert status == 0, err
    for word in ('GFLOP/s', 'a gradient', 'a product', 'product : gradient', 'memory', '1 device', '2 devices'):
        assert word in out


def test_bad_input_is_one_line(call):
    for flag, said in (('--batch=3', 'even'), ('--hidden=0', '--hidden'), ('stray', 'flags begin')):
        status, _, err = call(flag)
        assert status == 1
        assert said in err
        assert 'Traceback' not in err


def test_the_lstm_beside_torch(environment):
    """torch's line, or a word that it is not installed."""
    sizes = ['--hidden=4', '--batch=2', '--length=3', '--segments=2', '--segment=2', '--repeats=1']
    command = [sys.executable, '-m', 'experiments.benchmark_lstm', *sizes]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for word in ('training ', 'torch', 'static evaluation', 'dynamic evaluation, sgd', 'dynamic evaluation, rms'):
        assert word in done.stdout
