"""The library by subject: arrows only downward, and a net that is only used loads nothing of training."""

import ast
import pydoc
import re
import subprocess
import sys

import pytest

from tests.scripts import ROOT

# From the bottom: a package or module imports those of lower rank alone, and modules of its own package.
FLOORS = ['errors xla_flags', 'io nets', 'optim bundle plots', 'train', 'text', 'rivals handwriting toys']
RANKS = {name: rank for rank, names in enumerate(FLOORS) for name in names.split()}


def imports_of(path):
    """The packages and modules below hfrnn that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or '').split('.')[0] == 'hfrnn':
            parts = node.module.split('.')[1:]
            yield from [parts[0]] if parts else [alias.name for alias in node.names]


def test_arrows_go_only_downward():
    wrong = []
    for path in sorted((ROOT / 'hfrnn').rglob('*.py')):
        first = path.relative_to(ROOT / 'hfrnn').parts[0].removesuffix('.py')
        if first == '__init__':  # the door opens on all of it
            continue
        upward = [other for other in imports_of(path) if other != first and RANKS[other] >= RANKS[first]]
        wrong += [f'{path.relative_to(ROOT)} imports {other}' for other in upward]
    assert not wrong
    packages = {p.stem for p in (ROOT / 'hfrnn').iterdir() if p.suffix == '.py' or (p / '__init__.py').exists()}
    assert packages - {'__init__'} == set(RANKS)


def test_every_module_that_a_document_names_exists():
    for path in [ROOT / 'README.md', ROOT / 'BUILD.md', *sorted((ROOT / 'hfrnn' / 'weights').glob('*.md'))]:
        for name in set(re.findall(r'(?<![\w.-])hfrnn(?:\.[a-z_]+)+', path.read_text('utf-8'))):
            assert pydoc.locate(name) is not None, f'{path.name} names {name}'


@pytest.mark.slow
def test_what_only_uses_a_net_loads_nothing_of_training():
    code = """
import sys
import hfrnn
hfrnn.write('a', seed=0)
hfrnn.sample('penn_treebank', prompt='the ', length=3)
hfrnn.score('penn_treebank', 'the company')
heavy = {'orbax', 'matplotlib', 'flax', 'numba', 'hfrnn.train.run_folder', 'hfrnn.train.checkpoints'}
print(sorted(name for name in heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, '[]\n'), done.stderr
