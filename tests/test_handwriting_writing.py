"""Writing through its real command line, with weights from a file."""

import json
import subprocess
import sys
import xml.etree.ElementTree as ET

import jax
import numpy as np
import pytest

from experiments import handwriting_writing
from hfrnn import weight_files, writing
from hfrnn.data import ink, pens
from tests.scripts import ROOT

SCRIPT = 'experiments.handwriting_synthesis'


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """A small file of weights that stops soon."""
    sizes = {'layers': 1, 'hidden': 6, 'mixtures': 2, 'gaussians': 2}
    scale = {'mean': [8.0, 0.1], 'sd': [40.0, 35.0]}
    alphabet = pens.PRINTABLE.replace('@', '').replace('~', '')
    facts = writing.facts('handwriting_synthesis', sizes, alphabet, scale, 'pens-0')
    params = writing.net(facts).init(jax.random.key(0))
    params['cell']['b_p'] = params['cell']['b_p'].at[-2:].set(np.log(0.1))
    path = tmp_path_factory.mktemp('weights') / 'small.npz'
    weight_files.save(path, params, facts)
    return path


def strokes_in(path):
    return len(ET.parse(path).getroot().findall('{http://www.w3.org/2000/svg}path'))


def test_a_text_becomes_svg_png_and_json_and_can_be_written_on(weights, start, tmp_path):
    """The same seed writes the same; what was written serves as a primer; the figures are drawn."""
    text = ['--text=ab @ c\nsecond line', f'--weights={weights}', '--seed=3']

    def run(*commands):
        started = [start(*command) for command in commands]
        ends = [(*process.communicate(timeout=300), process.returncode) for process in started]
        assert [(err, status) for _, err, status in ends] == [('', 0)] * len(ends)
        return [out for out, _, _ in ends]

    first, *_ = run(
        [*text, f'--output={tmp_path}/one'],
        [*text, f'--output={tmp_path}/two.svg'],
        [*text, f'--output={tmp_path}/deep/er/three.svg', '--animate', '--copies=2', '--seed=4'],
        ['--mode=look', f'--weights={weights}', f'--output={tmp_path}/look'],
        [*text, '--mode=look', f'--output={tmp_path}/own'],
    )
    assert "'@' as ' at '" in first and first.count('one.') == 3
    assert (tmp_path / 'one.svg').read_bytes() == (tmp_path / 'two.svg').read_bytes()
    assert (tmp_path / 'one.png').read_bytes().startswith(b'\x89PNG')
    drawn = ink.parse_json((tmp_path / 'one.json').read_bytes())
    assert len(drawn) == strokes_in(tmp_path / 'one.svg') > 1
    assert b'<animate' in (tmp_path / 'deep' / 'er' / 'three.svg').read_bytes()
    for name in ('density', 'window', 'beside'):
        assert (tmp_path / f'look_{name}.png').stat().st_size > 5000
    assert sorted(path.name for path in tmp_path.glob('own*')) == ['own_density.png', 'own_window.png']
    mine = [[[40 * i, 0], [40 * i + 5, 40], [40 * i + 15, 0], [40 * i + 25, 40]] for i in range(3)]
    (tmp_path / 'mine.json').write_text(json.dumps(mine))
    primers = ([f'--prime={tmp_path}/mine.json', '--prime_text=nnn'], ['--prime=pen-0-3', '--prime_text=' + 'x' * 99])
    run(*([*text, *prime, f'--output={tmp_path}/primed{i}.svg'] for i, prime in enumerate(primers)))
    svgs = [(tmp_path / name).read_bytes() for name in ('primed0.svg', 'primed1.svg', 'one.svg')]
    assert len(set(svgs)) == 3 and strokes_in(tmp_path / 'primed0.svg') > 0 < strokes_in(tmp_path / 'primed1.svg')


def test_where_the_net_is_behind_a_primer_is_told_if_it_is_off(capsys):
    told = []
    for place in range(1, 10):
        handwriting_writing.tell_place('abcd', place)
        told.append(capsys.readouterr().out)
    assert [bool(out) for out in told] == [True] * 3 + [False] * 3 + [True] * 3
    assert "has read 'abc': it may" in told[2] and 'go on for longer' in told[6]


def test_a_text_alone_is_written_by_what_ships_whose_terms_are_named(start, tmp_path):
    out, err = (process := start('--text=Hi', f'--output={tmp_path}/hi.svg')).communicate(timeout=300)
    assert process.returncode == 0 and out == f'{tmp_path}/hi.svg\n'
    assert 'by the weights iamondb' in err and err.endswith('iamondb.md\n') and err.count('\n') == 1
    assert strokes_in(tmp_path / 'hi.svg') > 0


def test_bad_input_is_one_clear_line(weights, start, tmp_path):
    (tmp_path / 'ink.json').write_text('[[[1, 2], [3')
    write = [f'--weights={weights}', f'--output={tmp_path}/no']
    mine = [*write[:1], '--text=a', f'--prime={tmp_path}/ink.json', '--prime_text=a']
    cases = {
        'not at both': [*write, '--mode=look', '--text=a', '--prime=pen-0-3'],
        'the text is empty': [*write, '--text= '],
        "cannot be written with this alphabet: '\N{SNOWMAN}'": [*write, '--text=\N{SNOWMAN}'],
        'no weights of that name': ['--weights=/no/such', '--text=a', f'--output={tmp_path}/no'],
        '--prime_text': [*write, '--text=a', f'--prime={tmp_path}/ink.json'],
        '100,000 characters: strokes': [*write, '--text=a', '--prime=pen-0-3', '--prime_text=' + 'a' * 100_000],
        'says nothing that': [*write, '--text=a', '--prime=pen-0-3', '--prime_text=' + 9 * '\N{ACUTE ACCENT}'],
        'writes no text': [*write, '--text=a', '--mode=export'],
        'holds no strokes': [*write, '--text=a', f'--prime={tmp_path}/ink.json', '--prime_text=a'],
        'would take the place of --prime': [*mine, f'--output={tmp_path}/ink'],
        'is no name of a file': [write[0], '--text=a', '--output=.'],
        'ink.json is a file': [*write, '--mode=look', f'--prime={tmp_path}/ink.json'],
        '--bias=nan is no number': [*write, '--text=a', '--bias=nan'],
        'flag --bias=-1': [*write, '--text=a', '--bias=-1'],
        'at most 64': [*write, '--text=a', '--copies=65'],
        'name the folder': [*write, '--mode=look', '--source=iamondb'],
        'tells no experiment': ['--weights=penn_treebank', '--text=a', f'--output={tmp_path}/no'],
        'is empty': ['--text=', f'--output={tmp_path}/no'],
        'names no file and no line': [*write, '--text=a', '--prime='],
        'not by both': [*write, '--text=a', f'--text_file={tmp_path}/ink.json'],
        'fewer than 3 points': [*write, '--mode=look', '--text=a', '--points=1'],
    }
    started = {said: start(*flags) for said, flags in cases.items()}
    for said, process in started.items():
        out, err = process.communicate(timeout=300)
        assert process.returncode in (1, 2) and said in err + out and 'Traceback' not in err
        assert err.count('\n') == 1
    assert not list(tmp_path.glob('no*')) and [path.name for path in tmp_path.glob('ink*')] == ['ink.json']


def test_the_measurements_are_made(weights, environment, tmp_path):
    script = [sys.executable, '-m', 'experiments.handwriting_sampling', f'--weights={weights}', f'--workdir={tmp_path}']
    few = ['--sentences=3', '--biases=0,1', '--batches=1', '--speed_points=20', '--repeats=1']
    done = subprocess.run([*script, *few], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, '')
    results = json.loads((tmp_path / 'results.json').read_text())
    assert [row['bias'] for row in results['stops']] == [0, 1]
    assert all(row['stopped'] == 3 - len(row['cut_off']) for row in results['stops'])
    assert results['speed'][0]['cpu_ms_per_point'] > 0 and 'learning' not in results

    small = ['--mode=speed', '--layers=2', '--hidden=8', '--batch=4', '--learn_points=10']
    script[3:] = [*small, f'--workdir={tmp_path}']
    done = subprocess.run([*script, *few], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and 'other weights' in done.stderr and done.stderr.count('\n') == 1
    script[-1] = f'--workdir={tmp_path}/net'
    done = subprocess.run([*script, *few], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, '')
    results = json.loads((tmp_path / 'net' / 'results.json').read_text())
    assert [row['products'] for row in results['learning']] == ['float32', 'bfloat16'] and 'stops' not in results
    assert all(row['points_per_cpu_second'] > 0 for row in results['learning'])


def test_pages_are_written_and_what_was_read_on_them_is_counted(weights, environment, tmp_path):
    def run(*args):
        command = [sys.executable, '-m', 'experiments.handwriting_sampling', *args]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
        return done.returncode, done.stdout + done.stderr

    here = f'--workdir={tmp_path}/pages'
    pages = ['--mode=pages', f'--weights={weights}', '--points=20', '--sentences=12']
    assert run(*pages, here)[0] == run(*pages, f'--workdir={tmp_path}/again')[0] == 0
    names = sorted(path.name for path in (tmp_path / 'pages').iterdir())
    assert names == ['page0.png', 'page1.png', 'results.json']
    for name in names[:2]:
        assert (tmp_path / 'pages' / name).read_bytes() == (tmp_path / 'again' / name).read_bytes()
    said = json.loads((tmp_path / 'pages' / 'results.json').read_text())['pages']['said']
    (tmp_path / 'read').write_text('\n'.join(['', *said[1:-1], said[-1] + ' More.']))
    status, out = run('--mode=legible', here, f'--read={tmp_path}/read')
    assert status == 0 and 'and 1 others; 10 of 12 lines whole' in out
    results = json.loads((tmp_path / 'pages' / 'results.json').read_text())
    row = results['legible']
    assert row['words'] - row['found'] == len(said[0].split()) and results['pages']['said'] == said

    (tmp_path / 'other').mkdir()
    (tmp_path / 'other' / 'results.json').write_text('{"experiment": "penn_treebank"}')
    (tmp_path / 'short').write_text('a\nb')
    (tmp_path / 'latin').write_bytes(b'\xe9')
    legible = ['--mode=legible', here]
    for args, told in (
        (pages, '--workdir'),
        ([*pages, here], 'pages already'),
        ([*pages, f'--workdir={tmp_path}/other'], 'something else'),
        (['--mode=legible', f'--workdir={tmp_path}/other', f'--read={tmp_path}/read'], 'something else'),
        (['--mode=legible', f'--read={tmp_path}/read'], '--workdir'),
        (legible, '--read'),
        ([*legible, '--read=/no'], 'No such file'),
        ([*legible, f'--read={tmp_path}'], 'directory'),
        ([*legible, f'--read={tmp_path}/short'], '2 lines'),
        ([*legible, f'--read={tmp_path}/latin'], 'UTF-8'),
    ):
        status, out = run(*args)
        assert status == 1 and told in out and out.count('\n') == 1
    assert (tmp_path / 'other' / 'results.json').read_text() == '{"experiment": "penn_treebank"}'
