"""No process that imports hfrnn computes with the wrong sums of some versions of jaxlib."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hfrnn import xla_flags
from tests.scripts import ROOT

SUMS = """
import sys, jax, jax.numpy as jnp
i = jnp.arange(32_769.0)
f = jax.vmap(lambda row: jnp.sum((jnp.eye(3) @ row) ** 2))
found = jax.jit(f)(jnp.stack((i, 0 * i, 0 * i), 1))
sys.exit(int((abs(found - i ** 2) > 1e-6 * i ** 2).any()))
"""
affected = pytest.mark.skipif(xla_flags.jaxlib.__version__ not in xla_flags.AFFECTED, reason='for jaxlib 0.10.2')


def python(code, flags='', **variables):
    """A process with these XLA_FLAGS alone; (exit status, stderr)."""
    kept = {k: v for k, v in os.environ.items() if k not in ('JAX_COMPILATION_CACHE_DIR', 'XLA_FLAGS')}
    environment = kept | {'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': flags, 'PYTHONPATH': str(ROOT)} | variables
    done = subprocess.run([sys.executable, '-c', code], env=environment, cwd=ROOT, capture_output=True, text=True)
    return done.returncode, done.stderr


def test_sums_are_right_in_this_process(x64):
    for dtype, n in ((jnp.float32, 32_769), (jnp.float64, 16_385)):
        i = jnp.arange(n, dtype=dtype)
        rows, matrix = jnp.stack((i, 0 * i, 0 * i), 1), jnp.eye(3, dtype=dtype)
        found = jax.jit(jax.vmap(lambda row, matrix=matrix: jnp.sum((matrix @ row) ** 2)))(rows)
        np.testing.assert_allclose(found, np.arange(n, dtype=float) ** 2, rtol=1e-6)


@pytest.mark.parametrize('module', ['hfrnn', 'hfrnn.nets.cells', 'hfrnn.text.alphabet', 'hfrnn.io'])
def test_sums_are_right_where_any_of_hfrnn_is_imported(module):
    """Before jax or after it, but before the first computation."""
    assert python(f'import {module}\n{SUMS}') == (0, '')
    assert python(f'import jax, jax.numpy\nimport {module}\n{SUMS}') == (0, '')


def test_a_program_that_was_compiled_without_the_flag_is_not_used(tmp_path):
    cache = {'JAX_COMPILATION_CACHE_DIR': str(tmp_path), 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0'}
    python(SUMS, **cache)
    assert any(tmp_path.iterdir())
    assert python(f'import hfrnn\n{SUMS}', **cache)[0] == 0


@affected
def test_other_flags_stay_and_a_choice_of_ones_own_too():
    show = 'import os, hfrnn; print(os.environ["XLA_FLAGS"], file=__import__("sys").stderr)'
    ours, fast = f'--{xla_flags.NAME}=', '--xla_cpu_enable_fast_math=false'
    assert python(show)[1] == f'{ours}\n'
    assert python(show, fast)[1] == f'{fast} {ours}\n'
    assert python(show, f'{ours}dot')[1] == f'{ours}dot\n'


@affected
def test_where_it_is_too_late_one_line_says_what_to_do():
    status, err = python('import jax\njax.devices()\nimport hfrnn, hfrnn.nets.cells')
    assert status == 0
    assert err.count('Warning') == 1
    assert 'import hfrnn before the first computation, or set XLA_FLAGS=--' in err
