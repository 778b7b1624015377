"""The long-term problems, through their real command line, in a process of its own."""

import signal

import pytest

from hfrnn.train import run_folder
from tests.scripts import assert_refused, assert_same_run, kill_between, newest, read, wait_for_step

SCRIPT = 'experiments.long_term'
SMALL = ['--flagfile=experiments/flags/long_term_ci.flags']


def test_killed_it_goes_on_bit_for_bit_and_leaves_what_it_promises(start, call, tmp_path):
    flags = [*SMALL, '--steps=6', '--save_minutes=0']
    status, out, err = call(*flags, f'--workdir={tmp_path}/whole')
    assert (status, err) == (0, '')
    for word in ('xor, T = 10', 'rho', 'lambda', 'CG', 'wrong', 'elapsed', 'remaining', 'of 50 test sequences wrong'):
        assert word in out
    kill_between(start, flags, tmp_path / 'cut', 3, newest(tmp_path / 'whole'))
    status, out, err = call(*flags, f'--workdir={tmp_path}/cut')
    assert status == 0, err
    assert 'goes on from step' in out
    assert_same_run(tmp_path / 'whole', tmp_path / 'cut')

    result, again = (read(tmp_path / name / 'results.json') for name in ('whole', 'cut'))
    assert result | {'seconds': 0} == again | {'seconds': 0}
    assert result['experiment'] == 'long_term'
    assert (result['method'], result['T'], result['steps']) == ('hf', 10, 6)
    assert 0 <= result['wrong'] <= 1
    assert result['solved'] is (result['wrong'] < 0.01)
    assert [row['step'] for row in run_folder.read_metrics(tmp_path / 'whole')] == [1, 2, 3, 4, 5, 6]
    assert [row['step'] for row in run_folder.read_metrics(tmp_path / 'whole') if 'wrong' in row] == [2, 4, 6]
    assert run_folder.read_metrics(tmp_path / 'whole')[-1]['wrong'] == result['wrong']


def test_it_ends_when_the_task_is_solved_and_does_not_go_on(call, tmp_path):
    """On one device and on two."""
    flags = [*SMALL, '--optimizer=adam', '--solved_below=1', f'--workdir={tmp_path}/run']
    for _ in range(2):
        status, out, _ = call(*flags)
        assert status == 0
        assert out.splitlines()[-1].startswith('solved')
        assert [row['step'] for row in run_folder.read_metrics(tmp_path / 'run')] == [2]
    two = f'--workdir={tmp_path}/two'
    assert call(*flags[:-1], two, '--cpu_devices=2')[0] == 0
    one, two = (read(tmp_path / name / 'results.json') for name in ('run', 'two'))
    assert one['solved']
    assert one['steps'] == two['steps'] == 2
    assert abs(one['test_nats'] - two['test_nats']) < 1e-4


def test_weights_that_come_apart_are_an_answer_too(call, tmp_path):
    status, _, err = call(*SMALL, '--optimizer=sgd', '--learning_rate=1e38', f'--workdir={tmp_path}')
    assert status == 0, err
    result = read(tmp_path / 'results.json')
    assert (result['finite'], result['solved']) == (False, False) and 0 <= result['steps'] < 3


def test_a_killed_grid_goes_on_and_a_finished_one_rests(start, call, tmp_path):
    folder = tmp_path / 'grid'
    methods = ('hf', 'hf_undamped', 'sgd')
    flags = [*SMALL, '--mode=grid', '--tasks=xor', f'--methods={",".join(methods)}', f'--workdir={folder}']
    process = start(*flags)
    wait_for_step(folder / 'xor-10-hf-1', 3, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    status, out, err = call(*flags)
    assert (status, err) == (0, '')
    assert 'seed 0: 105 weights by hf\n' not in out
    names = [f'xor-10-{method}-{seed}' for method in methods for seed in (0, 1)]
    there = {p.name for p in folder.iterdir() if p.suffix != '.new'}
    assert there == {*names, 'results.json', 'solved.png'}
    content = read(folder / 'results.json')
    shares = [(row['task'], row['T'], row['method'], row['nets'], row['solved']) for row in content['shares']]
    assert shares == [('xor', 10, method, 2, 0) for method in methods]
    assert len(content['runs']) == 6
    assert (folder / 'solved.png').read_bytes().startswith(b'\x89PNG')
    assert '0/2' in out
    damped, undamped = (read(folder / f'xor-10-{method}-0' / 'flags.json') for method in methods[:2])
    assert (damped['mu'], damped['damping'], undamped['mu'], undamped['damping']) == (1 / 30, 0.1, 0, 0.3)

    status, again, _ = call(*flags)
    assert status == 0
    assert 'step' not in again
    (folder / 'other').mkdir()
    (folder / 'other' / 'results.json').write_text('{"experiment": "text_mrnn"}')
    assert call('--mode=draw', f'--workdir={folder}')[1] == again
    one = folder / names[0] / 'results.json'  # is not to be lost to a grid's
    kept = one.read_bytes()
    status, _, err = call(*flags, f'--workdir={folder / names[0]}')
    assert status == 1 and 'something else' in err and err.count('\n') == 1 and one.read_bytes() == kept
    status, out, _ = call(*flags, '--steps=4', '--methods=hf')  # more may be spent on what is not solved
    assert status == 0
    assert out.count('goes on from step 3') == 2


@pytest.mark.parametrize(
    'flags, said',
    [
        (['--task=chess'], '--task'),
        (['--T=9'], 'xor: this task needs a lag T of 10'),
        (['--mode=grid', '--seeds=0,x'], '--seeds=0,x'),
        (['--mode=grid', '--methods=hf,magic'], "'magic' is none of"),
        (['--mode=grid', '--lengths=10,3'], 'lag T of'),
        (['--mode=grid', '--tasks='], '--tasks names none of'),
        (['--damping=-1'], '--damping'),
        (['--mode=draw'], 'no results yet'),
        (['--workdir='], '--workdir'),
    ],
    ids=lambda v: v[-1] if isinstance(v, list) else '',
)
def test_bad_input_is_one_clear_line(flags, said, call, tmp_path):
    assert_refused(call(*SMALL, f'--workdir={tmp_path}/run', *flags), said)
    assert not (tmp_path / 'run').exists()
