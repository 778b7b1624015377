"""The benchmarks, at sizes at which they say nothing of speed, and how they measure time."""

from experiments import cli
from tests.scripts import assert_refused

SCRIPT = 'experiments.benchmark'


def test_time_is_of_work_that_is_done_and_of_the_best_round(monkeypatch):
    """Functions take turns; the first call of each, which compiles, is not counted, and what goes on is waited for."""
    now, calls = [0.0], []

    class Result:
        def __init__(self, seconds):
            self.seconds = seconds

        def block_until_ready(self):
            now[0] += self.seconds
            return self

    def function(name, seconds):
        left = iter(seconds)

        def call():
            calls.append(name)
            return Result(next(left))

        return call

    monkeypatch.setattr(cli.time, 'perf_counter', lambda: now[0])
    monkeypatch.setattr(cli.time, 'process_time', lambda: 2 * now[0])
    best = cli.best_times({'a': function('a', [0.5, 3, 1, 2]), 'b': function('b', [0.25, 4, 6, 5])}, 3)
    assert best == {'a': (1, 2), 'b': (4, 8)}
    assert calls == ['a', 'b'] * 4


def test_it_measures_what_it_names(call):
    status, out, err = call('--hidden=8', '--batch=4', '--length=5', '--repeats=1')
    assert status == 0, err
    for word in ('GFLOP/s', 'a gradient', 'a product', 'product : gradient', 'memory', '1 device', '2 devices'):
        assert word in out


def test_bad_input_is_one_line(call):
    for flag, said in (
        ('--batch=3', 'even'),
        ('--hidden=0', '--hidden'),
        ('--length=100000', 'too few for sequences'),
        ('stray', 'flags begin'),
    ):
        assert_refused(call(flag), said)


def test_the_lstm_beside_torch(call):
    """torch's line, or a word that it is not installed."""
    sizes = ['--hidden=4', '--batch=2', '--length=3', '--segments=2', '--segment=2', '--repeats=1']
    status, out, err = call(*sizes, script='experiments.benchmark_lstm')
    assert status == 0, err
    for word in ('training ', 'torch', 'static evaluation', 'dynamic evaluation, sgd', 'dynamic evaluation, rms'):
        assert word in out
