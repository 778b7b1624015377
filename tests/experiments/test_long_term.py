"""The long-term problems: what runs and grids leave; the laws of all scripts are in tests/laws."""

import pytest

from experiments import long_term
from hfrnn.train import checkpoints, run_folder
from tests.scripts import in_process, read, refused

SMALL = ['--flagfile=experiments/flags/long_term_ci.flags', '--devices=1']


def call(*flags):
    in_process(long_term, *SMALL, *flags)


def test_a_run_leaves_what_it_promises(tmp_path, capsys):
    call('--steps=6', f'--workdir={tmp_path}/run')
    out = capsys.readouterr().out
    for word in (
        'xor, T = 10',
        'rho',
        'damping',
        'cg_iterations',
        'wrong',
        'elapsed',
        'remaining',
        'of 50 test sequences',
    ):
        assert word in out
    result, rows = read(tmp_path / 'run' / 'results.json'), run_folder.read_metrics(tmp_path / 'run')
    assert (result['experiment'], result['method'], result['T'], result['steps']) == ('long_term', 'hf', 10, 6)
    assert 0 <= result['wrong'] <= 1 and result['solved'] is (result['wrong'] < 0.01)
    assert [row['step'] for row in rows] == [1, 2, 3, 4, 5, 6]
    wrong = {row['step']: row['valid_wrong'] for row in rows if 'valid_wrong' in row}
    assert list(wrong) == [2, 4, 6] and result['wrong'] == min(wrong.values()) == wrong[result['best_step']]


@pytest.mark.four_devices
def test_it_ends_when_the_task_is_solved_and_does_not_go_on(tmp_path, capsys):
    """On one device and on two."""
    flags = ['--optimizer=adam', '--solved_below=1']
    for _ in range(2):
        call(*flags, f'--workdir={tmp_path}/one')
        assert 'ends at step 2: the task is solved' in capsys.readouterr().out
        assert [row['step'] for row in run_folder.read_metrics(tmp_path / 'one')] == [2]
    call(*flags, f'--workdir={tmp_path}/two', '--devices=2')
    one, two = (read(tmp_path / name / 'results.json') for name in ('one', 'two'))
    assert one['solved'] and one['steps'] == two['steps'] == 2
    assert abs(one['test_nats'] - two['test_nats']) < 1e-4


def test_weights_that_come_apart_are_an_answer_too(tmp_path):
    call('--optimizer=sgd', '--learning_rate=1e38', f'--workdir={tmp_path}')
    result = read(tmp_path / 'results.json')
    assert (result['finite'], result['solved']) == (False, False) and 0 <= result['steps'] < 3


class Killed(BaseException):
    pass


@pytest.mark.slow
def test_a_killed_grid_goes_on_and_a_finished_one_rests(tmp_path, capsys, monkeypatch):
    folder, methods, save = tmp_path / 'grid', ('hf', 'hf_undamped', 'sgd'), checkpoints.save
    flags = ['--mode=grid', '--tasks=xor', f'--methods={",".join(methods)}', f'--workdir={folder}']

    def kill_at_the_second_net(saved, state, step, seconds):
        save(saved, state, step, seconds)
        if saved.path.name == 'xor-10-hf-1' and step == 3:
            raise Killed

    monkeypatch.setattr(checkpoints, 'save', kill_at_the_second_net)
    with pytest.raises(Killed):
        call(*flags)
    monkeypatch.undo()
    capsys.readouterr()
    call(*flags)
    out = capsys.readouterr().out
    assert 'seed 0, by hf;' not in out
    names = [f'xor-10-{method}-{seed}' for method in methods for seed in (0, 1)]
    assert {p.name for p in folder.iterdir() if p.suffix != '.new'} == {*names, 'results.json', 'solved.png'}
    content = read(folder / 'results.json')
    shares = [(row['task'], row['T'], row['method'], row['nets'], row['solved']) for row in content['shares']]
    assert shares == [('xor', 10, method, 2, 0) for method in methods]
    assert len(content['runs']) == 6
    assert (folder / 'solved.png').read_bytes().startswith(b'\x89PNG')
    assert '0/2' in out
    damped, undamped = (read(folder / f'xor-10-{method}-0' / 'run.json')['settings'] for method in methods[:2])
    assert (damped['mu'], damped['damping'], undamped['mu'], undamped['damping']) == (1 / 30, 0.1, 0, 0.3)

    call(*flags)
    again = capsys.readouterr().out
    assert 'step' not in again
    (folder / 'other').mkdir()
    (folder / 'other' / 'results.json').write_text('{"experiment": "text_mrnn"}')
    call('--mode=draw', f'--workdir={folder}')
    assert capsys.readouterr().out == again
    one = folder / names[0] / 'results.json'  # is not to be lost to a grid's
    kept = one.read_bytes()
    said = refused(capsys, long_term, *SMALL, *flags[:-1], f'--workdir={folder / names[0]}')
    assert 'something else' in said and one.read_bytes() == kept
    call(*flags, '--steps=4', '--methods=hf')  # more may be spent on what is not solved
    assert capsys.readouterr().out.count('goes on from step 3') == 2


@pytest.mark.parametrize(
    'flags, said',
    [
        (['--task=chess'], '--task'),
        (['--T=9'], 'xor: this task needs a lag T of 10'),
        (['--mode=grid', '--seeds=0,x'], '--seeds=0,x'),
        (['--mode=grid', '--methods=hf,magic'], "--methods='magic' is none of"),
        (['--mode=grid', '--lengths=10,3'], 'lag T of'),
        (['--mode=grid', '--tasks='], '--tasks names none'),
        (['--damping=-1'], '--damping=-1.0: at least'),
        (['--mode=draw'], 'no results yet'),
        (['--mode=grid', '--workdir='], '--workdir'),
    ],
    ids=lambda v: v[-1] if isinstance(v, list) else '',
)
def test_bad_input_is_one_clear_line(flags, said, capsys, tmp_path):
    assert said in refused(capsys, long_term, *SMALL, f'--workdir={tmp_path}/run', *flags)
    assert not (tmp_path / 'run').exists()
