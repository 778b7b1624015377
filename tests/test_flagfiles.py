"""Every flagfile is read whole by its script."""

import subprocess
import sys

import pytest

from tests.scripts import ROOT

FLAGS = ROOT / 'experiments' / 'flags'
SCRIPTS = {
    'text_mrnn': ('mrnn_', 'quickstart', 'ptb_mrnn', 'ptb_rnn', 'wiki_'),
    'penn_treebank': ('language_', 'ptb_lstm', 'ptb_words'),
    'wikipedia': ('enwik8_',),
    'handwriting_prediction': ('handwriting_prediction', 'handwriting_ci', 'handwriting_two_cores'),
    'handwriting_synthesis': ('handwriting_synthesis', 'handwriting_ci', 'handwriting_two_cores'),
    'long_term': ('long_term',),
    'bouncing_balls': ('balls_',),
}
READ = """
import sys
from absl import flags
import experiments.{script}
for name in sys.argv[1:]:
    flags.FLAGS.unparse_flags()
    assert flags.FLAGS(['script', f'--flagfile={{name}}']) == ['script'], name
"""


@pytest.mark.parametrize('script', SCRIPTS)
def test_a_script_reads_its_flagfiles(script, environment):
    mine = [path for path in sorted(FLAGS.iterdir()) if path.name.startswith(SCRIPTS[script])]
    command = [sys.executable, '-c', READ.format(script=script), *map(str, mine)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert mine and done.returncode == 0, done.stderr


def test_every_flagfile_has_a_script():
    starts = tuple(start for starts in SCRIPTS.values() for start in starts)
    assert all(path.suffix == '.flags' and path.name.startswith(starts) for path in FLAGS.iterdir())
