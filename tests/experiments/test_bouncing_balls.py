"""Bouncing balls: what its runs leave, and runs compared; the laws of all scripts are in tests/laws."""

import pytest

from experiments import bouncing_balls
from tests.scripts import in_process, read, refused

SMALL = ['--flagfile=experiments/flags/balls_ci.flags', '--devices=1']


def call(*flags):
    in_process(bouncing_balls, *SMALL, *flags)


@pytest.mark.slow
def test_runs_leave_what_they_promise_and_two_are_compared(tmp_path, capsys):
    hf, lstm, both = (tmp_path / name for name in ('hf', 'lstm', 'both'))
    call(f'--workdir={hf}')
    out = capsys.readouterr().out
    for word in (
        'rho',
        'damping',
        'cg_iterations',
        'error',
        'elapsed',
        'remaining',
        'the last frame',
        'the mean frame',
    ):
        assert word in out
    assert (hf / 'frames.png').read_bytes().startswith(b'\x89PNG')
    assert (hf / 'report.txt').read_text().strip() in out

    call('--cell=lstm', '--optimizer=adam', f'--workdir={lstm}')
    in_process(bouncing_balls, '--mode=compare', f'--runs={hf},{lstm}', f'--workdir={both}')
    results = read(both / 'results.json')['runs']
    assert [(r['cell'], r['optimizer'], r['steps']) for r in results] == [('rnn', 'hf', 4), ('lstm', 'adam', 4)]
    assert results[0] == read(hf / 'results.json')
    assert results[0]['test_nats'] < results[1]['test_nats']
    assert (both / 'error.png').read_bytes().startswith(b'\x89PNG')
    for runs, folder, said in ((hf, lstm, 'something else'), (both, tmp_path / 'new', 'both holds no run')):
        flags = ['--mode=compare', f'--runs={runs}', f'--workdir={folder}']
        assert said in refused(capsys, bouncing_balls, *flags)
    assert read(lstm / 'results.json') == results[1]
    call('--balls=1', '--steps=0', f'--workdir={tmp_path}/one')
    flags = ['--mode=compare', f'--runs={hf},{tmp_path}/one', f'--workdir={tmp_path}/new']
    assert 'have other videos' in refused(capsys, bouncing_balls, *flags)


@pytest.mark.parametrize(
    'flags, said',
    [
        (['--radius=0.6'], 'radius'),
        (['--speed=nan'], '--speed=nan is no number'),
        (['--batch=8', '--curvature_batch=9'], '--curvature_batch=9 is larger than --batch=8'),
        (['--cell=lstm', '--mu=0.1'], '--mu=0.1: structural damping is of tanh units'),
        (['--mode=compare'], '--runs'),
        (['--mode=compare', '--runs=nowhere'], 'holds no run'),
        (['--mode=compare', '--runs=a', '--hidden=3'], '--mode=compare does nothing with --'),
    ],
    ids=lambda v: v[-1] if isinstance(v, list) else '',
)
def test_bad_input_is_one_clear_line(flags, said, capsys, tmp_path):
    small = SMALL if '--mode=compare' not in flags else []
    assert said in refused(capsys, bouncing_balls, *small, f'--workdir={tmp_path}/run', *flags)
    assert not (tmp_path / 'run' / 'run.json').exists()
