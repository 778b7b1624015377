"""The benchmark, at sizes at which it says nothing of speed, and how it measures time."""

import importlib.util
import re
import sys

import pytest

from experiments import benchmark
from tests.scripts import in_process, refused

SCRIPT = 'experiments.benchmark'
SMALL = ('--hidden=8', '--batch=4', '--length=5', '--repeats=1')
LSTM = ('--mode=lstm', '--hidden=4', '--batch=2', '--length=3', '--segments=2', '--segment=2', '--repeats=1')


def said(capsys, *flags):
    in_process(benchmark, *flags)
    return capsys.readouterr().out


def table_of(out):
    """The rows of the comparison of libraries, by their first words."""
    return {line.split()[0]: line for line in out.split('products differ by\n')[1].splitlines()}


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

    monkeypatch.setattr(benchmark.time, 'perf_counter', lambda: now[0])
    monkeypatch.setattr(benchmark.time, 'process_time', lambda: 2 * now[0])
    best = benchmark.best_times({'a': function('a', [0.5, 3, 1, 2]), 'b': function('b', [0.25, 4, 6, 5])}, 3)
    assert best == {'a': (1, 2), 'b': (4, 8)}
    assert calls == ['a', 'b'] * 4


def test_every_mode_has_sizes_of_its_own(capsys, monkeypatch):
    """Where none are given; a flag changes its own alone."""
    measured = []
    for name, defaults in (('mrnn', benchmark.SIZES), ('lstm', benchmark.LSTM_SIZES)):
        mode = benchmark.Mode(lambda o, defaults=defaults: measured.append(benchmark.sizes(o, defaults)), ('lstm',))
        monkeypatch.setitem(benchmark.MODES, name, mode)
    for flags in ((), ('--mode=lstm',), ('--mode=lstm', '--batch=3')):
        in_process(benchmark, *flags)
    found = [(s.hidden, s.batch, s.length, s.repeats) for s in measured]
    assert found == [(350, 200, 100, 7), (1000, 64, 100, 5), (1000, 3, 100, 5)]


@pytest.mark.slow
@pytest.mark.four_devices
def test_it_measures_what_it_names(capsys):
    out = said(capsys, *SMALL)
    for word in ('GFLOP/s', 'a gradient', 'a product', 'product : gradient', 'memory', '1 device ', '2 devices'):
        assert word in out


@pytest.mark.four_devices
@pytest.mark.parametrize('devices', [1, 2])
def test_an_lstm_language_model(devices, capsys):
    """With torch's line, or the reason that there is none."""
    out = said(capsys, *LSTM, f'--cpu_devices={devices}')
    rows = (
        'training  ',
        'training, bfloat16',
        'static evaluation',
        'dynamic evaluation, sgd',
        'dynamic evaluation, rms',
    )
    for word in rows:
        assert re.search(rf'{word} +[\d,]+ +[\d,]+\n', out), out
    if importlib.util.find_spec('torch'):
        assert re.search(r'training, torch.nn.LSTM +[\d,]+ +[\d,]+\n', out)
    else:
        assert re.search(r"\ntorch is not measured: .*; pip install -e '\.\[torch\]'\n", out)


def test_the_cost_of_an_iteration_as_things_grow(capsys):
    out = said(capsys, '--mode=scaling', *SMALL)
    for name, sizes in (('units', (4, 8, 16)), ('length', (2, 5, 10)), ('batch', (2, 4, 8))):
        (line,) = (line for line in out.splitlines() if line.startswith(name))
        assert [int(n) for n in re.findall(r'(\d+): ', line)] == list(sizes)
        assert re.search(rf'~ {name}\^-?[0-9.]+', line)


def test_an_exponent_is_that_of_a_power():
    assert benchmark.slope([2, 4, 8], [3 * n**1.5 for n in (2, 4, 8)]) == pytest.approx(1.5)


@pytest.mark.filterwarnings('default')  # what other libraries warn of is theirs
def test_products_agree_with_other_libraries(capsys):
    """To 1e-5 of the largest element, in float32."""
    out = said(capsys, '--mode=libraries', *SMALL, '--cg_iterations=3')
    assert re.search(r'^hessianfree takes [123] CG iterations$', out, re.MULTILINE)
    rows = table_of(out)
    assert list(rows) == ['hfrnn', 'hessianfree', 'somax']
    for line in rows.values():
        assert float(line.split()[-1]) < 1e-5
        assert line.count(' ms') == 2


def test_a_library_that_is_not_installed_is_left_out(capsys, monkeypatch):
    for name in ('hessianfree', 'somax'):
        monkeypatch.setitem(sys.modules, name, None)
    out = said(capsys, '--mode=libraries', *SMALL, '--cg_iterations=3')
    assert list(table_of(out)) == ['hfrnn']
    for name in ('hessianfree', 'somax'):
        assert re.search(rf"^{name} is not measured: .*{name}.*; pip install -e '\.\[compare\]'$", out, re.MULTILINE)


@pytest.mark.parametrize(
    'flags, words',
    [
        (['--batch=3'], '--batch=3 does not divide among 2 devices'),
        (['--mode=lstm', '--cpu_devices=2', '--batch=3'], '--batch=3 does not divide among 2 devices'),
        (['--hidden=0'], '--hidden=0: at least 1'),
        (['--length=100000'], 'too few for sequences'),
        (['--mode=speed'], '--mode'),
        (['--segment=3'], '--mode=mrnn does nothing with --segment'),
        (['--mode=scaling', '--cg_iterations=3'], '--mode=scaling does nothing with --cg_iterations'),
        (['stray'], 'flags begin'),
    ],
    ids=lambda v: v[0] if isinstance(v, list) else '',
)
@pytest.mark.four_devices
def test_bad_input_is_one_line(flags, words, capsys):
    assert words in refused(capsys, benchmark, *flags)


@pytest.mark.slow
def test_a_process_makes_the_devices_that_it_needs(call):
    status, out, err = call(*SMALL)
    assert status == 0, err
    assert '1 device ' in out and '2 devices' in out
