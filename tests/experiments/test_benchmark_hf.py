"""Hessian-Free beside other libraries, at sizes at which it says nothing of speed."""

import importlib.util
import re

import pytest

from tests.scripts import assert_refused

SCRIPT = 'experiments.benchmark_hf'
SMALL = ('--hidden=8', '--batch=4', '--length=5', '--repeats=1')


def test_the_cost_of_an_iteration_as_things_grow(call):
    status, out, err = call('--part=scaling', *SMALL)
    assert status == 0, err
    for name, sizes in (('units', (4, 8, 16)), ('length', (2, 5, 10)), ('batch', (2, 4, 8))):
        (line,) = (line for line in out.splitlines() if line.startswith(name))
        assert [int(n) for n in re.findall(r'(\d+): ', line)] == list(sizes)
        assert re.search(rf'~ {name}\^-?[0-9.]+', line)


def test_products_agree_with_other_libraries(call):
    """To 1e-5 of the largest element, in float32."""
    there = [name for name in ('hessianfree', 'somax') if importlib.util.find_spec(name)]
    if not there:
        pytest.skip('neither hessianfree nor somax is installed: the extra "compare" has them')
    status, out, err = call('--part=libraries', *SMALL, '--cg_iterations=3')
    assert status == 0, err
    for name in ('hessianfree', 'somax'):
        (line,) = (line for line in out.splitlines() if line.startswith(f'{name} '))
        if name in there:
            assert float(line.split()[-1]) < 1e-5
            assert line.count(' ms') == 2
        else:
            assert 'is not measured' in line


def test_bad_input_is_one_line(call):
    for flag, said in (('--part=speed', '--part'), ('stray', 'flags begin')):
        assert_refused(call(flag), said)
