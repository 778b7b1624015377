"""The README's examples, as they stand there."""

import re
import subprocess
import sys

import numpy as np
import pytest

from tests.scripts import ROOT

BLOCKS = re.findall(r'```python\n(.*?)```', (ROOT / 'README.md').read_text('utf-8'), re.DOTALL)
pytestmark = pytest.mark.slow


def output_of(environment, folder, block, *changes):
    code = BLOCKS[block]
    assert len([line for line in code.splitlines() if line.strip()]) < 35
    for old, new in changes:
        assert old in code, f'the example no longer says {old}'
        code = code.replace(old, new)
    (folder / 'example.py').write_text(code)
    done = subprocess.run(
        [sys.executable, '-W', 'error', 'example.py'],
        cwd=folder,
        env=environment | {'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_there_are_four_examples():
    assert len(BLOCKS) == 4


def test_what_ships_writes_samples_and_scores(environment, tmp_path):
    out = output_of(environment, tmp_path, 0)
    assert (tmp_path / 'mine.svg').read_text().startswith('<svg')
    assert out.startswith('the company ') and 'bits per character' in out
    assert 1.2 < float(out.split()[-1]) < 1.3


def test_an_mrnn_learns_a_text_of_ones_own(environment, tmp_path):
    words = np.random.default_rng(0).choice(['the', 'cat', 'sat', 'on', 'a', 'mat.'], 9000)
    (tmp_path / 'my_text.txt').write_text(' '.join(words))
    smaller = ('hidden=200', 'hidden=20'), ('factors=200', 'factors=20'), ('minutes=4', 'steps=5')
    out = output_of(environment, tmp_path, 1, *smaller)
    assert 'step     5' in out and (tmp_path / 'runs' / 'mine' / 'results.json').exists()


def test_a_cell_and_the_optimiser_in_a_flax_model(environment, tmp_path):
    out = output_of(environment, tmp_path, 2)
    assert float(out.split()[0]) < 0.1 < np.log(2)


def test_hessian_free_in_your_own_work(environment, tmp_path):
    out = output_of(environment, tmp_path, 3)
    rows = [re.findall(r'-?[0-9.]+(?:e-?[0-9]+)?|-?inf', line) for line in out.splitlines()]
    assert [int(row[0]) for row in rows] == list(range(15))
    nats = [float(row[1]) for row in rows]
    assert max(nats[-5:]) < 2.6 < nats[0] - 1.5
