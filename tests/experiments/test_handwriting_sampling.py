"""The measurements of handwriting_sampling, through its real command line."""

import json

from tests.scripts import assert_refused

SCRIPT = 'experiments.handwriting_sampling'


def test_the_measurements_are_made(pen_weights, call, tmp_path):
    few = ['--sentences=3', '--biases=0,1', '--batches=1', '--speed_points=20', '--repeats=1']
    status, _, err = call(*few, f'--weights={pen_weights}', f'--workdir={tmp_path}')
    assert (status, err) == (0, '')
    results = json.loads((tmp_path / 'results.json').read_text())
    assert [row['bias'] for row in results['stops']] == [0, 1]
    assert all(row['stopped'] == 3 - len(row['cut_off']) for row in results['stops'])
    assert results['speed'][0]['cpu_ms_per_point'] > 0 and 'learning' not in results

    small = ['--mode=speed', '--layers=2', '--hidden=8', '--batch=4', '--learn_points=10']
    assert_refused(call(*few, *small, f'--workdir={tmp_path}'), 'other weights')
    status, _, err = call(*few, *small, f'--workdir={tmp_path}/net')
    assert (status, err) == (0, '')
    results = json.loads((tmp_path / 'net' / 'results.json').read_text())
    assert [row['products'] for row in results['learning']] == ['float32', 'bfloat16'] and 'stops' not in results
    assert all(row['points_per_cpu_second'] > 0 for row in results['learning'])


def test_pages_are_written_and_what_was_read_on_them_is_counted(pen_weights, call, tmp_path):
    here = f'--workdir={tmp_path}/pages'
    pages = ['--mode=pages', f'--weights={pen_weights}', '--points=20', '--sentences=12']
    assert call(*pages, here)[0] == call(*pages, f'--workdir={tmp_path}/again')[0] == 0
    names = sorted(path.name for path in (tmp_path / 'pages').iterdir())
    assert names == ['page0.png', 'page1.png', 'results.json']
    for name in names[:2]:
        assert (tmp_path / 'pages' / name).read_bytes() == (tmp_path / 'again' / name).read_bytes()
    said = json.loads((tmp_path / 'pages' / 'results.json').read_text())['pages']['said']
    (tmp_path / 'read').write_text('\n'.join(['', *said[1:-1], said[-1] + ' More.']))
    status, out, _ = call('--mode=legible', here, f'--read={tmp_path}/read')
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
        (['--prime=pen-0-3'], 'does nothing with --prime'),
        (legible, '--read'),
        ([*legible, '--read=/no'], 'No such file'),
        ([*legible, f'--read={tmp_path}'], 'directory'),
        ([*legible, f'--read={tmp_path}/short'], '2 lines'),
        ([*legible, f'--read={tmp_path}/latin'], 'UTF-8'),
    ):
        called = call(*args)
        assert_refused(called, told)
        assert called[1] == ''
    assert (tmp_path / 'other' / 'results.json').read_text() == '{"experiment": "penn_treebank"}'
