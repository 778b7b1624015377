"""Every command of the README and of the cards of weights, and every flagfile, is one that its script understands."""

import importlib
import re
import subprocess

import pytest

from experiments import cli
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


def complaint(script, arguments, capsys):
    """What a script says to a command, without acting on it; nothing if it understands."""
    try:
        importlib.import_module(script).main([script, *arguments])
    except SystemExit:
        return f'{script} {" ".join(arguments)}: {capsys.readouterr().err}'
    return ''


@pytest.fixture(autouse=True)
def nothing_is_run(monkeypatch):
    monkeypatch.setattr(cli, '_act', lambda mode, options: None)


@pytest.mark.parametrize('name', READERS)
def test_every_flagfile_is_understood(name, capsys):
    mine = [path for path in sorted(FLAGS.iterdir()) if path.name.startswith(READERS[name])]
    assert mine
    assert not [c for path in mine if (c := complaint(f'experiments.{name}', [f'--flagfile={path}'], capsys))]


@pytest.mark.parametrize('path', DOCUMENTS, ids=lambda path: path.name)
def test_every_command_is_understood(path, capsys):
    """And none is overlooked: loops and variables make more commands of what stands there."""
    commands, text = commands_of(path), path.read_text('utf-8')
    assert not [c for script, *arguments in commands if (c := complaint(script, arguments, capsys))]
    written = text.count('python -m experiments.') - text.count('python -m experiments.NAME')
    assert len(commands) >= written > 1


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


def test_every_flagfile_has_a_reader():
    starts = tuple(start for starts in READERS.values() for start in starts)
    assert all(path.suffix == '.flags' and path.name.startswith(starts) for path in FLAGS.iterdir())
