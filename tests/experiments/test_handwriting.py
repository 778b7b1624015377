"""Handwriting as its users call it: training, writing, looking, exporting; refusals in one line."""

import json
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from experiments import handwriting, handwriting_prediction, handwriting_synthesis
from hfrnn import bundle
from hfrnn.handwriting import ink
from tests.scripts import ROOT, in_process, read, refused

SMALL = '--flagfile=experiments/flags/handwriting_ci.flags'


def strokes_in(path):
    return len(ET.parse(path).getroot().findall('{http://www.w3.org/2000/svg}path'))


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
    return f'--cache={tmp_path_factory.mktemp("lines")}'


@pytest.fixture(scope='module')
def run(tmp_path_factory, cache):
    """The folder of a run of two steps of synthesis."""
    folder = tmp_path_factory.mktemp('runs') / 'run'
    in_process(handwriting_synthesis, SMALL, cache, '--devices=1', '--steps=2', f'--workdir={folder}')
    return folder


@pytest.mark.slow
def test_a_text_becomes_svg_png_and_json_and_can_be_written_on(pen_weights, capsys, tmp_path):
    """The same seed writes the same; what was written serves as a primer; the figures are drawn."""
    text = ['--text=ab @ c\nsecond line', f'--weights={pen_weights}', '--seed=3']

    def write(*flags):
        in_process(handwriting_synthesis, *flags)
        captured = capsys.readouterr()
        assert captured.err == ''
        return captured.out

    first = write(*text, f'--output={tmp_path}/one')
    write(*text, f'--output={tmp_path}/two.svg')
    write(*text, f'--output={tmp_path}/deep/er/three.svg', '--animate', '--copies=2', '--seed=4')
    assert "'@' as ' at '" in first and first.count('one.') == 3
    assert (tmp_path / 'one.svg').read_bytes() == (tmp_path / 'two.svg').read_bytes()
    assert (tmp_path / 'one.png').read_bytes().startswith(b'\x89PNG')
    strokes = ink.parse_json((tmp_path / 'one.json').read_bytes())
    assert len(strokes) == strokes_in(tmp_path / 'one.svg') > 1
    assert b'<animate' in (tmp_path / 'deep' / 'er' / 'three.svg').read_bytes()

    write('--mode=inspect', f'--weights={pen_weights}', f'--output={tmp_path}/look')
    write(*text, '--mode=inspect', f'--output={tmp_path}/own')
    for name in ('density', 'window', 'comparison'):
        assert (tmp_path / f'look_{name}.png').stat().st_size > 5000
    assert sorted(path.name for path in tmp_path.glob('own*')) == ['own_density.png', 'own_window.png']

    own = [[[40 * i, 0], [40 * i + 5, 40], [40 * i + 15, 0], [40 * i + 25, 40]] for i in range(3)]
    (tmp_path / 'own.json').write_text(json.dumps(own))
    primers = ([f'--prime={tmp_path}/own.json', '--prime_text=nnn'], ['--prime=pen-0-3', '--prime_text=' + 'x' * 99])
    for i, prime in enumerate(primers):
        write(*text, *prime, f'--output={tmp_path}/primed{i}.svg')
    svgs = [(tmp_path / name).read_bytes() for name in ('primed0.svg', 'primed1.svg', 'one.svg')]
    assert len(set(svgs)) == 3 and strokes_in(tmp_path / 'primed0.svg') > 0 < strokes_in(tmp_path / 'primed1.svg')


def test_the_place_of_the_net_after_a_primer_is_said_if_it_is_off(capsys):
    said = []
    for place in range(1, 10):
        handwriting.say_place('abcd', place)
        said.append(capsys.readouterr().out)
    assert [bool(out) for out in said] == [True] * 3 + [False] * 3 + [True] * 3
    assert "has read 'abc': it may" in said[2] and 'go on for longer' in said[6]


def test_a_text_alone_is_written_by_the_shipped_net_whose_terms_are_named(environment, tmp_path):
    command = [sys.executable, '-m', 'experiments.handwriting_synthesis', '--text=Hi', f'--output={tmp_path}/hi.svg']
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stdout == f'{tmp_path}/hi.svg\n'
    assert 'by the net iamondb' in done.stderr and done.stderr.endswith('iamondb.md\n')
    assert done.stderr.count('\n') == 1 and strokes_in(tmp_path / 'hi.svg') > 0


@pytest.mark.slow
def test_a_net_is_a_run_a_file_or_a_shipped_name_wherever_one_is_named(run, cache, capsys, tmp_path):
    """--workdir, --weights and --init_from take the same; an exported file is the run's best weights, rounded."""
    in_process(handwriting_synthesis, '--mode=export', f'--workdir={run}', f'--output={tmp_path}/small')
    small, best = bundle.load(tmp_path / 'small.npz'), bundle.load(run)
    assert (small.model, small.data, small.history) == (best.model, best.data, best.history)
    for place, leaf in bundle.places(small.params).items():
        np.testing.assert_array_equal(leaf, bundle.places(best.params)[place].astype(np.float16))
    outputs = []
    for i, net in enumerate((f'--workdir={run}', f'--weights={run}', f'--weights={tmp_path}/small.npz')):
        in_process(handwriting_synthesis, '--text=ab', '--points=9', net, f'--output={tmp_path}/{i}.json')
        outputs.append(np.concatenate(ink.parse_json((tmp_path / f'{i}.json').read_bytes())))
    np.testing.assert_array_equal(outputs[0], outputs[1])
    np.testing.assert_allclose(outputs[0], outputs[2], atol=2)
    before = read(run / 'results.json')
    for name in (run, tmp_path / 'small.npz'):
        flags = ['--learning_rate=0', '--steps=1', f'--init_from={name}', f'--workdir={tmp_path}/on{name.suffix}']
        in_process(handwriting_synthesis, SMALL, cache, '--devices=1', *flags)
        after = read(tmp_path / f'on{name.suffix}' / 'results.json')
        assert after['nats_per_line'] == pytest.approx(before['nats_per_line'], rel=1e-3)
        assert after['begun_from']['epochs'] == round(before['epochs'], 2)


def test_a_prediction_net_writes_what_it_likes_and_is_looked_at(cache, tmp_path):
    run = f'--workdir={tmp_path}/run'
    in_process(handwriting_prediction, SMALL, cache, '--devices=1', '--steps=1', run)
    in_process(handwriting_prediction, '--mode=sample', run, '--points=20', '--copies=2', f'--output={tmp_path}/a')
    assert strokes_in(tmp_path / 'a.svg') > 0
    in_process(handwriting_prediction, '--mode=inspect', run, '--points=20', f'--output={tmp_path}/b')
    assert sorted(path.name for path in tmp_path.glob('b*')) == ['b_comparison.png', 'b_density.png']
    in_process(handwriting_prediction, '--mode=export', run, f'--output={tmp_path}/c.npz')
    assert bundle.load(tmp_path / 'c.npz').model['task'] == 'prediction'


def test_bad_input_is_one_clear_line(pen_weights, run, capsys, tmp_path):
    (tmp_path / 'ink.json').write_text('[[[1, 2], [3')
    write = [f'--weights={pen_weights}', f'--output={tmp_path}/no']
    own = [*write[:1], '--text=a', f'--prime={tmp_path}/ink.json', '--prime_text=a']
    cases = {
        'not at both': [*write, '--mode=inspect', '--text=a', '--prime=pen-0-3'],
        'the text is empty': [*write, '--text= '],
        "cannot be written with this alphabet: '\N{SNOWMAN}'": [*write, '--text=\N{SNOWMAN}'],
        'no net of that name': ['--weights=/no/such', '--text=a', f'--output={tmp_path}/no'],
        '--prime_text': [*write, '--text=a', f'--prime={tmp_path}/ink.json'],
        '100,000 characters: strokes': [*write, '--text=a', '--prime=pen-0-3', '--prime_text=' + 'a' * 100_000],
        'nothing that this net can read': [
            *write,
            '--text=a',
            '--prime=pen-0-3',
            '--prime_text=' + 9 * '\N{ACUTE ACCENT}',
        ],
        '--mode=export does nothing with --text': [f'--output={tmp_path}/no', '--text=a', '--mode=export'],
        'has no readable strokes': [*write, '--text=a', f'--prime={tmp_path}/ink.json', '--prime_text=a'],
        'would replace --prime': [*own, f'--output={tmp_path}/ink'],
        'is no name of a file': [write[0], '--text=a', '--output=.'],
        'ink.json is a file': [*write, '--mode=inspect', f'--prime={tmp_path}/ink.json'],
        '--bias=nan is no number': [*write, '--text=a', '--bias=nan'],
        '--bias=-1': [*write, '--text=a', '--bias=-1'],
        'at most 64': [*write, '--text=a', '--copies=65'],
        'name the folder': [*write, '--mode=inspect', '--source=iamondb', '--data='],
        'is empty': ['--text=', f'--output={tmp_path}/no', write[0]],
        'names no file and no line': [*write, '--text=a', '--prime='],
        'not by both': [*write, '--text=a', f'--text_file={tmp_path}/ink.json'],
        'fewer than 3 points': [*write, '--mode=inspect', '--text=a', '--points=1'],
        'write with one net': ['--text=a', write[0], f'--workdir={run}'],
        '--weights names nothing': ['--text=a', '--weights='],
        '--mode=train does nothing with --weights': ['--mode=train', f'--workdir={tmp_path}/no', write[0]],
        'say from which run': ['--mode=export', f'--output={tmp_path}/no'],
        "'task'": ['--task=prediction', f'--workdir={tmp_path}/no'],
        'needs the folder of IAM-OnDB': ['--source=iamondb', '--data=', f'--workdir={tmp_path}/no'],
        'log variances': ['--optimizer=muon', '--noise=adaptive', f'--workdir={tmp_path}/no'],
    }
    for said, flags in cases.items():
        assert said in refused(capsys, handwriting_synthesis, *flags)
    assert not list(tmp_path.glob('no*')) and [path.name for path in tmp_path.glob('ink*')] == ['ink.json']
    of_synthesis = f'--workdir={run}', '--mode=sample', f'--output={tmp_path}/no'
    assert 'its task is synthesis, not prediction' in refused(capsys, handwriting_prediction, *of_synthesis)
    assert 'say with which net' in refused(capsys, handwriting_prediction, '--mode=sample', f'--output={tmp_path}/no')


@pytest.mark.parametrize('script', [handwriting_prediction, handwriting_synthesis])
def test_the_run_of_another_task_is_refused(script, run, cache, capsys, tmp_path):
    flags = [SMALL, cache, '--devices=1', f'--workdir={run}']
    if script is handwriting_synthesis:
        in_process(script, *flags, '--mode=evaluate')
        return
    for mode in ('train', 'evaluate'):
        assert 'a run of another experiment, handwriting_synthesis' in refused(capsys, script, f'--mode={mode}', *flags)
