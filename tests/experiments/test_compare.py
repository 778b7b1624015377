"""Comparing runs, from their folders alone."""

import json

import pytest

from experiments import compare
from hfrnn.text.experiment import NAME
from hfrnn.train import run_folder
from tests.scripts import in_process, read, refused


@pytest.fixture
def folder(tmp_path):
    """A folder with two runs, the second of which began late."""

    def begin(name, rows, text=1, experiment=NAME, clock='wall', **more):
        data = {'train_crc32': text, 'alphabet': 'ab'}
        identity = {'experiment': experiment, 'settings': {}, 'data': data, 'clock': clock}
        run = run_folder.open_to_train(tmp_path / name, identity)
        for i, (seconds, characters, valid) in enumerate(rows):
            row = {'step': i + 1, 'seconds': seconds, 'characters': characters, 'bits_per_char': 2.0}
            run_folder.log(run, row | more | ({} if valid is None else {'valid_bits_per_char': valid}))
        run_folder.close(run)

    begin('fast', [(1, 100, 3.0), (2, 200, None), (3, 300, 2.5), (4, 400, 2.7)])
    begin('slow', [(5, 50, 2.0), (9, 150, 1.5)])
    begin('bare', [(1, 100, None)])
    begin('other', [(1, 100, 3.0)], text=2)
    begin('processor', [(1, 100, 3.0)], clock='processor')
    begin('balls', [(1, 100, 3.0)], experiment='bouncing_balls')
    begin('near', [(1, 100, 3.0)], valid_symbols=50_000)
    begin('far', [(1, 100, 3.0)], valid_symbols=100_000)
    for name, n in (('near', 500), ('slow', 400), ('fast', 500)):
        (tmp_path / name / 'results.json').write_text(json.dumps({'test_bits_per_char': 1.0, 'test_symbols': n}))
    begin('broken', [(1, 100, 3.0)])
    (tmp_path / 'broken' / 'results.json').write_text('{"test')
    return tmp_path


def test_what_was_reached_by_then_and_nothing_later(folder, capsys):
    in_process(compare, f'--runs={folder}/fast,{folder}/slow', f'--workdir={folder}/out')
    out = capsys.readouterr().out
    results = read(folder / 'out' / 'results.json')
    assert results['equal'] == {'seconds': 4, 'characters': 150}
    fast, slow = results['runs']
    assert (fast['at_equal_seconds'], fast['at_equal_characters']) == (2.5, 3.0)
    assert (slow['at_equal_seconds'], slow['at_equal_characters']) == (None, 1.5)
    assert (fast['test'], slow['test']) == (1.0, None)  # of the beginning of that text
    for name in ('seconds.png', 'characters.png'):
        assert (folder / 'out' / name).exists()
    assert 'fast' in out


def test_bad_input_is_one_line(folder, capsys):
    for flags, said in (
        ([], '--runs'),
        ([f'--runs={folder}/nowhere', f'--workdir={folder}/out'], 'holds no run'),
        ([f'--runs={folder}/bare', f'--workdir={folder}/out'], 'not been evaluated'),
        ([f'--runs={folder}/fast', f'--workdir={folder}/fast'], 'name another --workdir'),
        ([f'--runs={folder}/fast,{folder}/other', f'--workdir={folder}/out'], 'another train_crc32'),
        ([f'--runs={folder}/fast,{folder}/processor', f'--workdir={folder}/out'], 'another clock'),
        ([f'--runs={folder}/fast,{folder}/balls', f'--workdir={folder}/out'], 'no run of a net of text'),
        ([f'--runs={folder}/near,{folder}/far', f'--workdir={folder}/out'], 'near 50000, far 100000'),
        ([f'--runs={folder}/broken', f'--workdir={folder}/out'], 'is damaged'),
    ):
        assert said in refused(capsys, compare, *flags)
