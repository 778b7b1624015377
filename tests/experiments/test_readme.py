"""The README's example, as it stands there."""

import re
import subprocess
import sys

from tests.scripts import ROOT


def test_hessian_free_in_your_own_work(environment):
    (code,) = re.findall(r'```python\n(.*?)```', (ROOT / 'README.md').read_text('utf-8'), re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) < 30
    done = subprocess.run(
        [sys.executable, '-W', 'error', '-c', code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    rows = [re.findall(r'-?[0-9.]+(?:e-?[0-9]+)?|-?inf', line) for line in done.stdout.splitlines()]
    assert [int(row[0]) for row in rows] == list(range(15))
    nats = [float(row[1]) for row in rows]
    assert max(nats[-5:]) < 2.6 < nats[0] - 1.5
