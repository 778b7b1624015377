import errno
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hfrnn.errors import RunError
from hfrnn.optim import weight_noise
from hfrnn.train import run_folder

FLAGS, ABOUT = {'hidden': 3, 'corpus': 'a'}, {'alphabet': 'xyz', 'train': 10}
STATE = {'params': jnp.arange(3.0), 'step': jnp.array(7)}


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path / 'run')


def test_file_names_of_any_bytes(tmp_path):
    odd = {'corpus': 'caf\udce9.txt'}  # as Python has the arguments that are no UTF-8
    run_folder.close(run_folder.train_in(str(tmp_path / 'run'), odd, ABOUT))
    assert run_folder.read_json(str(tmp_path / 'run'), 'flags.json') == odd


def test_it_opens_again_with_the_same_flags_alone(folder):
    run = run_folder.train_in(folder, FLAGS, ABOUT)
    assert run_folder.open_run(folder).path == run.path
    with pytest.raises(RunError, match='another process is training'):
        run_folder.train_in(folder, FLAGS, ABOUT)
    run_folder.close(run)
    run_folder.close(run_folder.train_in(folder, FLAGS, ABOUT))
    with pytest.raises(RunError, match=r'other hidden \(3, not 4\)'):
        run_folder.train_in(folder, FLAGS | {'hidden': 4}, ABOUT)
    with pytest.raises(RunError, match='other train'):
        run_folder.train_in(folder, FLAGS, ABOUT | {'train': 11})
    with pytest.raises(RunError, match='other new'):
        run_folder.train_in(folder, FLAGS | {'new': 1}, ABOUT)


def test_what_is_no_run_is_refused(folder, tmp_path):
    with pytest.raises(RunError, match='holds no run'):
        run_folder.open_run(folder)
    (tmp_path / 'file').write_text('')
    with pytest.raises(RunError, match='holds no run'):
        run_folder.train_in(str(tmp_path / 'file'), FLAGS, ABOUT)
    with pytest.raises(RunError, match='holds no run'):
        run_folder.train_in(str(tmp_path), FLAGS, ABOUT)
    run = run_folder.train_in(folder, FLAGS, ABOUT)
    for content in ('{"hid', '[1]', '[' * 100_000):
        (run.path / 'flags.json').write_text(content)
        with pytest.raises(RunError, match='damaged'):
            run_folder.open_run(folder)


def test_states_come_back_and_two_are_kept(folder):
    run = run_folder.train_in(folder, FLAGS, ABOUT)
    with pytest.raises(RunError, match='no checkpoint yet'):
        run_folder.restore(run, STATE)
    for step in (1, 2, 3):
        run_folder.save(run, STATE | {'step': jnp.array(step)}, step, 0.5 * step)
    run_folder.save(run, STATE, 3, 9.0)  # there already
    state, seconds = run_folder.restore(run_folder.open_run(folder), STATE)
    assert (state['step'], seconds) == (3, 1.5)
    np.testing.assert_array_equal(state['params'], STATE['params'])
    assert list(run.manager.all_steps()) == [2, 3]


def test_what_a_killed_save_leaves_goes_when_training_goes_on(folder):
    """And not before: a reader may see a save that is under way."""
    run = run_folder.train_in(folder, FLAGS, ABOUT)
    run_folder.save(run, STATE, 1, 0.0)
    run_folder.close(run)
    left = run.path / 'checkpoints' / '2.orbax-checkpoint-tmp'
    left.mkdir()
    assert run_folder.restore(run_folder.open_run(folder), STATE)[0]['step'] == 7 and left.exists()
    assert run_folder.has_begun(folder) and left.exists()
    assert run_folder.restore(run_folder.train_in(folder, FLAGS, ABOUT), STATE)[0]['step'] == 7 and not left.exists()


class Killed(BaseException):
    pass


@pytest.mark.parametrize('where', ['log', 'save', 'save_best', None])
def test_the_best_is_kept_wherever_a_kill_comes(folder, monkeypatch, where):
    """Gone on with from the newest checkpoint, rows and best.npz are those of a run that was not killed."""

    def take(run, rows, step, loss):
        state = {'params': jnp.full(3, float(step)), 'step': jnp.array(step)}
        run_folder.log_and_keep(run, rows, {'step': step, 'loss': loss}, 'loss', state, state['params'], 1.0 * step)

    def killed(*args):
        raise Killed

    losses, rows = [3.0, 2.0, math.nan, 2.5, 1.0], []
    run = run_folder.train_in(folder, FLAGS, ABOUT)
    for step, loss in enumerate(losses[:4], 1):
        take(run, rows, step, loss)
    assert [row['step'] for row in rows] == [1, 2, 3, 4] and run.manager.latest_step() == 2
    np.testing.assert_array_equal(run_folder.load_best(folder, STATE['params']), np.full(3, 2.0))
    if where:
        monkeypatch.setattr(run_folder, where, killed)
        with pytest.raises(Killed):
            take(run, rows, 5, losses[4])
        monkeypatch.undo()
    else:
        take(run, rows, 5, losses[4])
    run_folder.close(run)

    run = run_folder.train_in(folder, FLAGS, ABOUT)
    state, _ = run_folder.restore(run, STATE)
    reached = int(state['step'])
    assert reached == {None: 5, 'save_best': 5}.get(where, 2)
    rows = run_folder.history_and_best(run, reached, 'loss', state['params'])
    for step, loss in enumerate(losses[reached:], reached + 1):
        take(run, rows, step, loss)
    assert [row['step'] for row in rows] == [row['step'] for row in run_folder.read_metrics(folder)] == [1, 2, 3, 4, 5]
    np.testing.assert_array_equal(run_folder.load_best(folder, STATE['params']), np.full(3, 5.0))


def test_a_folder_that_cannot_be_locked_is_no_busy_one(folder, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(run_folder.fcntl, 'flock', flock)
    with pytest.raises(RunError, match='cannot be locked against other processes: No locks available'):
        run_folder.train_in(folder, FLAGS, ABOUT)


def test_metrics_are_rewound_to_the_checkpoint(folder):
    run = run_folder.train_in(folder, FLAGS, ABOUT)
    for step in (1, 2, 3):
        run_folder.log(run, {'step': step})
    with (run.path / 'metrics.jsonl').open('a') as f:
        f.write('{"step": 4, "bi')
    assert [row['step'] for row in run_folder.history(run)] == [1, 2, 3]
    assert [row['step'] for row in run_folder.history(run, step=2)] == [1, 2]
    assert [json.loads(line)['step'] for line in (run.path / 'metrics.jsonl').read_text().splitlines()] == [1, 2]


def test_what_a_kill_leaves_of_a_beginning_is_begun_anew(folder, tmp_path):
    run_folder.close(run_folder.train_in(folder, FLAGS, ABOUT))
    (tmp_path / 'run' / 'flags.json').unlink()
    assert run_folder.restore_or_begin(run_folder.train_in(folder, FLAGS, ABOUT), STATE, lambda: STATE) == (STATE, 0.0)


def damage(run, step):
    for path in (run.path / 'checkpoints' / str(step)).rglob('*'):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_damaged_checkpoints_are_passed_over_and_never_removed(folder, capfd):
    run = run_folder.train_in(folder, FLAGS, ABOUT)
    for step in (1, 2):
        run_folder.save(run, STATE | {'step': jnp.array(step)}, step, 0.0)
    damage(run, 2)
    before = sorted(run.path.rglob('*'))
    assert run_folder.restore(run_folder.open_run(folder), STATE)[0]['step'] == 1
    assert 'checkpoint 2 is damaged' in capfd.readouterr().err
    assert sorted(run.path.rglob('*')) == before  # a reader leaves all as it is
    assert run_folder.restore(run, STATE)[0]['step'] == 1
    assert [p for p in (run.path / 'checkpoints').iterdir() if 'damaged' in p.name]
    damage(run, 1)
    for _ in range(2):  # it is not taken for a run without
        with pytest.raises(RunError, match='none of the checkpoints'):
            run_folder.restore(run, STATE)


def test_another_models_checkpoint_is_refused(folder):
    run = run_folder.train_in(folder, FLAGS, ABOUT)
    run_folder.save(run, STATE, 1, 0.0)
    with pytest.raises(RunError, match='another model'):
        run_folder.restore(run, STATE | {'params': jnp.zeros(4)})
    for other in ({'params': {'w': jnp.zeros(3)}}, {'more': jnp.zeros(3)}):
        with pytest.raises(RunError, match='another model'):
            run_folder.restore(run, STATE | other)
    assert run_folder.restore(run, STATE)[0]['step'] == 7  # none of them has touched it


def test_an_earlier_state_takes_the_place_of_later_ones(folder):
    run = run_folder.train_in(folder, FLAGS, ABOUT)
    for step in (4, 5, 3):
        run_folder.save(run, STATE | {'step': jnp.array(step)}, step, 0.0)
    assert run_folder.restore(run_folder.open_run(folder), STATE)[0]['step'] == 3


def test_the_best_weights_come_back_and_no_others(tmp_path):
    run = run_folder.train_in(str(tmp_path / 'run'), {}, {})
    params = {'a': (jnp.arange(3.0), {'b': jnp.ones((2, 2))})}
    with pytest.raises(RunError, match=r'no best\.npz'):
        run_folder.load_best(run.path, params)
    run_folder.save_best(run, params)
    jax.tree.map(np.testing.assert_array_equal, run_folder.load_best(run.path, jax.eval_shape(lambda: params)), params)
    posterior = weight_noise.posterior(params)
    with pytest.raises(RunError, match='another model'):
        run_folder.load_best(run.path, posterior)
    run_folder.save_best(run, posterior)
    jax.tree.map(np.testing.assert_array_equal, run_folder.load_best(run.path, posterior), posterior)
    (run.path / 'best.npz').write_bytes((run.path / 'best.npz').read_bytes()[:100])
    with pytest.raises(RunError, match='damaged'):
        run_folder.load_best(run.path, params)


def test_numbers_that_are_not_finite_are_null(folder):
    run = run_folder.train_in(folder, FLAGS, ABOUT)
    run_folder.log(run, {'step': 1, 'rho': float('-inf')})
    assert run_folder.history(run) == [{'step': 1, 'rho': None}]
    run_folder.write_json(run.path / 'results.json', {'b': [math.nan, 1.5], 'a': {'c': math.inf}})
    assert (run.path / 'results.json').read_text() == json.dumps({'b': [None, 1.5], 'a': {'c': None}}, indent=1) + '\n'
