"""Bouncing balls through their real command line, in a process of its own."""

import pytest

from tests.scripts import assert_refused, assert_same_run, kill_between, newest, read

SCRIPT = 'experiments.bouncing_balls'
SMALL = ['--flagfile=experiments/flags/balls_ci.flags']


def test_killed_it_goes_on_bit_for_bit_and_two_runs_are_compared(start, call, tmp_path):
    whole, cut, lstm = (tmp_path / name for name in ('whole', 'cut', 'lstm'))
    flags = [*SMALL, '--save_minutes=0']
    status, out, err = call(*flags, f'--workdir={whole}')
    assert (status, err) == (0, '')
    for word in ('rho', 'lambda', 'CG', 'error', 'elapsed', 'remaining', 'the last frame', 'the mean frame'):
        assert word in out
    kill_between(start, flags, cut, 2, newest(whole))
    status, out, err = call(*flags, f'--workdir={cut}')
    assert status == 0, err
    assert 'goes on from step' in out
    assert_same_run(whole, cut)
    assert (whole / 'frames.png').read_bytes().startswith(b'\x89PNG')

    assert call(*SMALL, '--cell=lstm', '--optimizer=adam', f'--workdir={lstm}')[0] == 0
    status, out, err = call('--mode=compare', f'--runs={whole},{lstm}', f'--workdir={tmp_path}/both')
    assert (status, err) == (0, '')
    results = read(tmp_path / 'both' / 'results.json')['runs']
    assert [(r['cell'], r['optimizer'], r['steps']) for r in results] == [('rnn', 'hf', 4), ('lstm', 'adam', 4)]
    assert results[0] == read(whole / 'results.json')
    assert results[0]['test_nats'] < results[1]['test_nats']
    assert (tmp_path / 'both' / 'error.png').exists()
    for runs, folder, said in (
        (whole, lstm, 'something else'),
        (tmp_path / 'both', tmp_path / 'new', 'both holds no run'),
    ):
        status, _, err = call('--mode=compare', f'--runs={runs}', f'--workdir={folder}')
        assert status == 1 and said in err and err.count('\n') == 1
    assert read(lstm / 'results.json') == results[1]


@pytest.mark.parametrize(
    'flags, said',
    [
        (['--workdir='], '--workdir'),
        (['--radius=0.6'], 'radius'),
        (['--speed=nan'], '--speed=nan is no number'),
        (['--batch=8', '--curvature_batch=9'], 'no part of'),
        (['--cell=lstm', '--mu=0.1'], 'structural damping is of tanh units'),
        (['--mode=compare'], '--runs'),
        (['--mode=compare', '--runs=nowhere'], 'holds no run'),
    ],
    ids=lambda v: v[-1] if isinstance(v, list) else '',
)
def test_bad_input_is_one_clear_line(flags, said, call, tmp_path):
    assert_refused(call(*SMALL, f'--workdir={tmp_path}/run', *flags), said)
    assert not (tmp_path / 'run').exists()
