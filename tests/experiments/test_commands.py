"""Every command of the README and of the cards of weights, and every flagfile, is one that its script understands."""

import json
import re
import subprocess
import sys

import pytest

from hfrnn import bundle
from tests.scripts import ROOT

FLAGS = ROOT / 'experiments' / 'flags'
READERS = {
    'text_mrnn': ('mrnn_', 'quickstart', 'ptb_mrnn', 'ptb_rnn', 'wiki_'),
    'penn_treebank': ('language_', 'ptb_lstm', 'ptb_words'),
    'wikipedia': ('enwik8_',),
    'handwriting_prediction': ('handwriting_prediction', 'handwriting_ci', 'handwriting_two_cores'),
    'handwriting_synthesis': ('handwriting_synthesis', 'handwriting_ci', 'handwriting_two_cores'),
    'long_term': ('long_term',),
    'bouncing_balls': ('balls_',),
}
DOCUMENTS = [ROOT / 'README.md', *sorted((ROOT / 'hfrnn' / 'weights').glob('*.md'))]

# In a shell, with which loops and variables mean what they mean to a reader, what would be run is written down.
RECORD = """
python() { [ "$1" = -m ] && shift; printf '%s\\0' "$@"; printf '\\n\\0'; }
pip() { :; }
"""

# absl's flags are global to a process, so each script has one; what they share is imported once.
READ = """
import importlib, json, os, sys
import experiments.cli
from absl import flags
for script, commands in json.load(sys.stdin).items():
    child = os.fork()
    if not child:
        status = 1
        try:
            importlib.import_module(script)
            others = set(flags.FLAGS) - {flag.name for flag in flags.FLAGS.get_key_flags_for_module(script)}
            for command in commands:
                flags.FLAGS.unparse_flags()
                try:
                    assert flags.FLAGS([script, *command]) == [script], 'words that are no flags'
                    unread = [f'--{name}' for name in sorted(others) if flags.FLAGS[name].present]
                    assert not unread, f'it does nothing with {unread}'
                except (flags.Error, AssertionError) as e:
                    print(script, *command, ':', e)
            status = 0
        finally:
            sys.stdout.flush()
            os._exit(status)
    assert not os.waitpid(child, 0)[1], script
"""


def commands_of(path):
    """The scripts that a document tells to run, each with its arguments."""
    text = re.sub(r'^```.*?^```', '', path.read_text('utf-8'), flags=re.DOTALL | re.MULTILINE)
    blocks = re.findall(r'^ {4}.*', text, re.MULTILINE)
    blocks = [re.sub(r'^ {4}[A-Z] {2}', ' ' * 7, line) for line in blocks if 'the same with' not in line]
    prose = '\n'.join(line for line in text.splitlines() if not line.startswith(' ' * 4))
    quoted = [' '.join(code.split()) for code in re.findall(r'`([^`]+)`', prose)]
    quoted = [code for code in quoted if 'python -m experiments' in code and 'experiments.NAME' not in code]
    told = '\n'.join([RECORD, *blocks, *quoted])
    done = subprocess.run(['bash', '-c', told], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, ''), done.stderr
    found = [words.split('\0')[:-1] for words in done.stdout.split('\n\0')[:-1]]
    return [words for words in found if words[0].startswith('experiments.')]


@pytest.fixture(scope='module')
def complaints(environment):
    """What the scripts say to flagfiles and commands; and how many commands each document has."""
    told = {f'experiments.{name}': [] for name in READERS}
    for name, starts in READERS.items():
        mine = [path for path in sorted(FLAGS.iterdir()) if path.name.startswith(starts)]
        assert mine
        told[f'experiments.{name}'] += [[f'--flagfile={path}'] for path in mine]
    counts = {}
    for path in DOCUMENTS:
        commands = commands_of(path)
        counts[path.name] = len(commands)
        for script, *arguments in commands:
            told.setdefault(script, []).append(arguments)
    command = [sys.executable, '-c', READ]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, input=json.dumps(told), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), counts


def test_all_are_understood(complaints):
    assert complaints[0] == []


@pytest.mark.parametrize('path', DOCUMENTS, ids=lambda path: path.name)
def test_what_a_command_reads_another_makes(path):
    made, read = {'...', *bundle.shipped()}, set()
    for _, *arguments in commands_of(path):
        for name, value in (argument.removeprefix('--').split('=', 1) for argument in arguments if '=' in argument):
            if name in ('workdir', 'output'):
                made.add(value)
            elif name in ('init_from', 'nets', 'runs', 'weights'):
                read |= set(value.split(','))
    assert read - made == set()


def test_commands_that_train_in_one_folder_are_of_one_run():
    """Or the second would be refused."""
    runs = {}
    for script, *arguments in commands_of(ROOT / 'README.md'):
        flagfiles = [argument for argument in arguments if argument.startswith('--flagfile=')]
        for folder in (argument for argument in arguments if flagfiles and argument.startswith('--workdir=')):
            assert runs.setdefault(folder, (script, *flagfiles)) == (script, *flagfiles)
    assert len(runs) > 50


def test_none_is_overlooked(complaints):
    """Loops and variables make more commands of what stands there."""
    _, counts = complaints
    for path in DOCUMENTS:
        text = path.read_text('utf-8')
        written = text.count('python -m experiments.') - text.count('python -m experiments.NAME')
        assert counts[path.name] >= written > 1
    starts = tuple(start for starts in READERS.values() for start in starts)
    assert all(path.suffix == '.flags' and path.name.startswith(starts) for path in FLAGS.iterdir())
