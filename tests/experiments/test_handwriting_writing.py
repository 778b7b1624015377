"""Writing through its real command line, with weights from a file."""

import json
import xml.etree.ElementTree as ET

from experiments import handwriting_writing
from hfrnn.handwriting import ink
from tests.scripts import assert_refused

SCRIPT = 'experiments.handwriting_synthesis'


def strokes_in(path):
    return len(ET.parse(path).getroot().findall('{http://www.w3.org/2000/svg}path'))


def test_a_text_becomes_svg_png_and_json_and_can_be_written_on(pen_weights, start, tmp_path):
    """The same seed writes the same; what was written serves as a primer; the figures are drawn."""
    text = ['--text=ab @ c\nsecond line', f'--weights={pen_weights}', '--seed=3']

    def run(*commands):
        started = [start(*command) for command in commands]
        ends = [(*process.communicate(timeout=300), process.returncode) for process in started]
        assert [(err, status) for _, err, status in ends] == [('', 0)] * len(ends)
        return [out for out, _, _ in ends]

    first, *_ = run(
        [*text, f'--output={tmp_path}/one'],
        [*text, f'--output={tmp_path}/two.svg'],
        [*text, f'--output={tmp_path}/deep/er/three.svg', '--animate', '--copies=2', '--seed=4'],
        ['--mode=look', f'--weights={pen_weights}', f'--output={tmp_path}/look'],
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


def test_bad_input_is_one_clear_line(pen_weights, start, tmp_path):
    (tmp_path / 'ink.json').write_text('[[[1, 2], [3')
    write = [f'--weights={pen_weights}', f'--output={tmp_path}/no']
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
        'has no readable strokes': [*write, '--text=a', f'--prime={tmp_path}/ink.json', '--prime_text=a'],
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
        assert_refused((process.returncode, out, err), said)
    assert not list(tmp_path.glob('no*')) and [path.name for path in tmp_path.glob('ink*')] == ['ink.json']
