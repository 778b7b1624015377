"""Laws of every script that trains: a new one is a row of SCRIPTS."""

import importlib
import json
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from hfrnn import bundle
from hfrnn.train import checkpoints, experiment, run_folder
from tests.scripts import ROOT, in_process, read, refused, wait_for_step

F = 'experiments/flags'
SCRIPTS = {  # its flags, small enough for a test; its steps are of the first four
    'bouncing_balls': [f'--flagfile={F}/balls_ci.flags'],
    'long_term': [f'--flagfile={F}/long_term_ci.flags', '--steps=4'],
    'text_mrnn': [
        *(f'--flagfile={F}/mrnn_ci.flags', '--steps=4', '--nocompressors'),
        *('--preset=sutskever2011', '--own_batches'),
    ],
    'penn_treebank': [f'--flagfile={F}/language_ci.flags', '--steps=4', '--epochs=inf', '--dynamic=sgd'],
    'handwriting_prediction': [f'--flagfile={F}/handwriting_ci.flags'],
    'handwriting_synthesis': [
        *(f'--flagfile={F}/handwriting_ci.flags', '--optimizer=graves_rmsprop'),
        *('--average=0.9', '--decay_steps=9', '--distort=0.2'),
    ],
}
OTHER = dict.fromkeys(SCRIPTS, '--hidden=9')
each_script = pytest.mark.parametrize('script', SCRIPTS)
TIMING = {'seconds': 0, 'points_per_second': 0}
TIED = {'backtracked': 0, 'rho': 0}  # rounding chooses among iterates that are equally good, and rho is a ratio


def module_of(script):
    return importlib.import_module(f'experiments.{script}')


def call(script, *flags):
    in_process(module_of(script), *SCRIPTS[script], '--log_every=1', '--save_minutes=0', *flags)


def refusal(capsys, script, *flags):
    return refused(capsys, module_of(script), *SCRIPTS[script], *flags)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """``whole(script)``: the folder of a finished run of it."""
    folders = {}

    def run(script):
        if script not in folders:
            folders[script] = tmp_path_factory.mktemp(script) / 'run'
            call(script, f'--workdir={folders[script]}', '--devices=1')
        return folders[script]

    return run


def last_state(folder):
    manager = checkpoints.open_checkpoints(run_folder.open_to_read(folder)).manager
    return [np.asarray(leaf) for leaf in jax.tree.leaves(manager.restore(manager.latest_step())['state'])]


def assert_same_run(a, b):
    """Everything that two runs leave is the same to the bit, but for times."""
    for left, right in zip(last_state(a), last_state(b), strict=True):
        np.testing.assert_array_equal(left, right)
    rows = [[row | TIMING for row in run_folder.read_metrics(folder)] for folder in (a, b)]
    assert rows[0] == rows[1]
    left, right = (bundle.places(bundle.load(folder).params) for folder in (a, b))
    assert left.keys() == right.keys()
    for place, array in left.items():
        np.testing.assert_array_equal(array, right[place])
    assert comparable(a) == comparable(b)


def comparable(folder):
    """results.json, but for times."""

    def without_times(value):
        if isinstance(value, dict):
            return {k: without_times(v) for k, v in value.items() if 'second' not in k}
        return value

    return without_times(read(folder / 'results.json'))


def assert_close(a, b):
    """Two rows of metrics are the same to rounding, but for times."""
    numbers = [{k: v for k, v in (row | TIMING | TIED).items() if isinstance(v, (int, float))} for row in (a, b)]
    assert a.keys() == b.keys() and numbers[1] == pytest.approx(numbers[0], rel=2e-3, abs=1e-4)


class Killed(BaseException):
    """As if the process had ended there."""


@pytest.mark.slow
@each_script
def test_killed_at_any_moment_it_goes_on_bit_for_bit(script, whole, tmp_path, monkeypatch):
    """Wherever it comes: before a line of metrics, a checkpoint or the best weights are written."""
    moments = [(run_folder, 'log'), (checkpoints, 'save'), (experiment.bundles, 'save')]
    counts = {'calls': 0, 'last': 0}

    def counted(function):
        def write(*args, **kwargs):
            counts['calls'] += 1
            if counts['calls'] > counts['last']:
                raise Killed
            return function(*args, **kwargs)

        return write

    for module, name in moments:
        monkeypatch.setattr(module, name, counted(getattr(module, name)))
    for last in (0, 2, 3, 4):
        counts.update(calls=0, last=last)
        with pytest.raises(Killed):
            call(script, f'--workdir={tmp_path}/run', '--devices=1')
    monkeypatch.undo()
    call(script, f'--workdir={tmp_path}/run', '--devices=1')
    assert_same_run(whole(script), tmp_path / 'run')


@each_script
def test_evaluation_is_the_end_of_training(script, whole, capsys):
    """And adds nothing to what was trained; so does training that has nothing left to do."""
    folder = whole(script)
    before, metrics, results = comparable(folder), (folder / 'metrics.jsonl').read_bytes(), folder / 'results.json'
    results.unlink()
    call(script, '--mode=evaluate', f'--workdir={folder}', '--devices=1')
    assert comparable(folder) == before
    call(script, f'--workdir={folder}', '--devices=1')
    assert comparable(folder) == before and (folder / 'metrics.jsonl').read_bytes() == metrics
    assert 'goes on from step' in capsys.readouterr().out


@pytest.mark.slow
@each_script
@pytest.mark.four_devices
@pytest.mark.parametrize('devices', [2, 4])
def test_devices_change_no_number(script, devices, whole, tmp_path):
    call(script, f'--workdir={tmp_path}/run', f'--devices={devices}', '--steps=2')
    rows = [run_folder.read_metrics(folder) for folder in (whole(script), tmp_path / 'run')]
    for one, several in zip(rows[0][:2], rows[1][:2], strict=True):
        assert_close(one, several)


@each_script
def test_a_run_with_other_settings_is_refused_and_not_touched(script, whole, capsys):
    folder = whole(script)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    for mode in ('train', 'evaluate'):
        said = refusal(capsys, script, OTHER[script], f'--mode={mode}', f'--workdir={folder}')
        assert 'other ' + OTHER[script].strip('-').split('=')[0] in said
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


@each_script
def test_folders_that_hold_no_run_are_refused(script, capsys, tmp_path):
    (tmp_path / 'busy').mkdir()
    (tmp_path / 'busy' / 'precious').write_text('mine')
    (tmp_path / 'old').mkdir()
    (tmp_path / 'old' / 'flags.json').write_text('{}')
    assert 'say where to keep the run: --workdir' in refusal(capsys, script, '--workdir=')
    assert 'holds no run' in refusal(capsys, script, f'--workdir={tmp_path}/busy')
    assert 'holds no run' in refusal(capsys, script, '--mode=evaluate', f'--workdir={tmp_path}/nowhere')
    assert 'hfrnn 0.1' in refusal(capsys, script, '--mode=evaluate', f'--workdir={tmp_path}/old')
    assert (tmp_path / 'busy' / 'precious').read_text() == 'mine' and not (tmp_path / 'nowhere').exists()


@each_script
def test_bad_flags_are_one_clear_line(script, capsys, tmp_path):
    for flags, said in (
        (['--hidden=0'], '--hidden=0: at least 1'),
        (['--hidden=many'], '--hidden'),
        (['--learning_rate=nan'], '--learning_rate=nan is no number'),
        (['--nonsense=1'], 'nonsense'),
        (['stray'], "unknown argument 'stray'"),
        (['--mode=dance'], '--mode'),
        (['--flagfile=/no/such.flags'], 'such.flags'),
        (['--devices=9'], '--devices=9: there are'),
        (['--processes=2'], '--coordinator'),
        (['--processes=2', '--coordinator=localhost:1', '--minutes=1'], 'clocks differ'),
    ):
        assert said in refusal(capsys, script, f'--workdir={tmp_path}/run', *flags)
    assert not (tmp_path / 'run').exists()  # the flags, put right, find nothing in their way


@each_script
def test_help_has_every_flag(script, capsys):
    call(script, '--help')
    out = capsys.readouterr().out
    for flag in ('--mode', '--workdir', '--steps', '--hidden', '--optimizer', '--devices'):
        assert f'{flag}:' in out


# -- as processes -----------------------------------------------------------------------------------------------------


def start(script, environment, *flags):
    command = [sys.executable, '-m', f'experiments.{script}', *SCRIPTS[script], '--log_every=1', *flags]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
@each_script
def test_a_process_killed_by_the_system_goes_on(script, environment, whole, tmp_path):
    folder = tmp_path / 'run'
    process = start(script, environment, f'--workdir={folder}', '--save_minutes=0')
    wait_for_step(folder, 2, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    process = start(script, environment, f'--workdir={folder}', '--save_minutes=0')
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    rows = [run_folder.read_metrics(path) for path in (whole(script), folder)]
    for one, other in zip(*rows, strict=True):
        assert_close(one, other)


@pytest.mark.slow
@each_script
def test_two_processes_are_one_run(script, start_two_processes, whole, tmp_path):
    both = start_two_processes(script, *SCRIPTS[script], '--log_every=1', f'--workdir={tmp_path}/run')
    ends = [(*process.communicate(timeout=300), process.returncode) for process in both]
    assert [end[2] for end in ends] == [0, 0], ends
    assert [line for line in ends[1][0].splitlines() if '[Gloo]' not in line] == []
    rows = [run_folder.read_metrics(path) for path in (whole(script), tmp_path / 'run')]
    for one, other in zip(*rows, strict=True):
        assert_close(one, other)


@pytest.mark.slow
@each_script
def test_a_signal_saves_first(script, environment, tmp_path):
    folder = tmp_path / 'run'
    flags = [f'--workdir={folder}', '--steps=1000000', '--save_minutes=100', '--evaluate_every=1000000']
    process = start(script, environment, *flags)
    while len(run_folder.read_metrics(folder)) < 2:
        assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT and 'SIGINT' in err and 'Traceback' not in err
    steps = [int(path.name) for path in (folder / 'checkpoints').iterdir() if path.name.isdigit()]
    assert max(steps) >= 2
    assert json.loads((folder / 'run.json').read_text())['experiment']
