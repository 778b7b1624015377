"""The measurements of handwriting_sampling, as its users make them."""

import subprocess
import sys

import pytest

from experiments import handwriting_sampling
from tests.scripts import ROOT, in_process, read, refused


@pytest.mark.slow
def test_the_measurements_are_made(pen_weights, environment, capsys, tmp_path):
    few = ['--sentences=3', '--biases=0,1', '--batches=1', '--speed_points=20', '--repeats=1']
    command = [sys.executable, '-m', 'experiments.handwriting_sampling', *few, f'--weights={pen_weights}']
    done = subprocess.run(
        [*command, f'--workdir={tmp_path}'], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, '')
    results = read(tmp_path / 'results.json')
    assert [row['bias'] for row in results['stops']] == [0, 1]
    assert all(row['stopped'] == 3 - len(row['cut_off']) for row in results['stops'])
    assert results['speed'][0]['cpu_ms_per_point'] > 0 and 'learning' not in results

    small = ['--mode=speed', *few[2:], '--layers=2', '--hidden=8', '--batch=4', '--learn_points=10']
    assert 'another net' in refused(capsys, handwriting_sampling, *small, f'--workdir={tmp_path}')
    in_process(handwriting_sampling, *small, f'--workdir={tmp_path}/net')
    results = read(tmp_path / 'net' / 'results.json')
    assert [row['products'] for row in results['learning']] == ['float32', 'bfloat16'] and 'stops' not in results
    assert all(row['points_per_cpu_second'] > 0 for row in results['learning'])


def test_pages_are_written_and_their_transcription_is_counted(pen_weights, capsys, tmp_path):
    workdir = f'--workdir={tmp_path}/pages'
    pages = ['--mode=pages', f'--weights={pen_weights}', '--points=20', '--sentences=12']
    for folder in ('pages', 'again'):
        in_process(handwriting_sampling, *pages, f'--workdir={tmp_path}/{folder}')
    names = sorted(path.name for path in (tmp_path / 'pages').iterdir())
    assert names == ['page0.png', 'page1.png', 'results.json']
    for name in names[:2]:
        assert (tmp_path / 'pages' / name).read_bytes() == (tmp_path / 'again' / name).read_bytes()
    lines = read(tmp_path / 'pages' / 'results.json')['pages']['lines']
    (tmp_path / 'read').write_text('\n'.join(['', *lines[1:-1], lines[-1] + ' More.']))
    capsys.readouterr()
    in_process(handwriting_sampling, '--mode=legible', workdir, f'--read={tmp_path}/read')
    assert 'and 1 others; 10 of 12 lines whole' in capsys.readouterr().out
    results = read(tmp_path / 'pages' / 'results.json')
    row = results['legible']
    assert row['words'] - row['found'] == len(lines[0].split()) and results['pages']['lines'] == lines

    (tmp_path / 'other').mkdir()
    (tmp_path / 'other' / 'results.json').write_text('{"experiment": "penn_treebank"}')
    (tmp_path / 'short').write_text('a\nb')
    (tmp_path / 'latin').write_bytes(b'\xe9')
    legible = ['--mode=legible', workdir]
    for flags, said in (
        (pages, '--workdir'),
        ([*pages, workdir], 'pages already'),
        ([*pages, f'--workdir={tmp_path}/other'], 'something else'),
        (['--mode=legible', f'--workdir={tmp_path}/other', f'--read={tmp_path}/read'], 'something else'),
        (['--mode=legible', f'--read={tmp_path}/read'], '--workdir'),
        (['--prime=pen-0-3'], "'prime'"),
        (['--mode=speed', '--bias=1'], '--mode=speed does nothing with --bias'),
        (['--biases=0,much'], '--biases=0,much'),
        (legible, '--read'),
        ([*legible, '--read=/no'], 'No such file'),
        ([*legible, f'--read={tmp_path}'], 'directory'),
        ([*legible, f'--read={tmp_path}/short'], '2 lines'),
        ([*legible, f'--read={tmp_path}/latin'], 'UTF-8'),
    ):
        assert said in refused(capsys, handwriting_sampling, *flags)
        assert capsys.readouterr().out == ''
    assert (tmp_path / 'other' / 'results.json').read_text() == '{"experiment": "penn_treebank"}'
