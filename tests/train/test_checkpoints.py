"""Laws of checkpoints: states come back, damaged ones are passed over and never lost, others' are refused."""

import jax.numpy as jnp
import numpy as np
import pytest

from hfrnn.errors import RunError
from hfrnn.train import checkpoints, run_folder

STATE = {'params': jnp.arange(3.0), 'step': jnp.array(7), 'empty': jnp.zeros((0, 2))}


def state_of(step):
    return STATE | {'step': jnp.array(step)}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / 'run'


@pytest.fixture
def saved(folder):
    return trains(folder)


def trains(folder):
    identity = {'experiment': 'toy', 'settings': {}, 'data': {}}
    run = run_folder.open_to_train(folder, identity)
    run_folder.close(run)  # the lock; it may be opened again
    return checkpoints.open_checkpoints(run)


def restore(saved, like=STATE):
    def begin():
        raise AssertionError('there is a checkpoint')

    return checkpoints.restore_or_begin(saved, like, begin)


def reader(folder):
    return checkpoints.open_checkpoints(run_folder.open_to_read(folder))


def test_a_run_begins_and_what_it_begins_with_is_saved(saved, folder):
    assert not checkpoints.have_begun(folder)
    assert checkpoints.restore_or_begin(saved, STATE, lambda: STATE) == (STATE, 0.0)
    assert checkpoints.have_begun(folder)
    assert restore(reader(folder))[0]['step'] == 7


def test_states_come_back_and_two_are_kept(saved, folder):
    for step in (1, 2, 3):
        checkpoints.save(saved, state_of(step), step, 0.5 * step)
    checkpoints.save(saved, STATE, 3, 9.0)  # there already
    state, seconds = restore(reader(folder))
    assert (state['step'], seconds, state['empty'].shape) == (3, 1.5, (0, 2))
    np.testing.assert_array_equal(state['params'], STATE['params'])
    assert list(saved.manager.all_steps()) == [2, 3]


def test_what_a_killed_save_leaves_goes_when_training_goes_on(saved, folder):
    """And not before: a reader may see a save that is under way."""
    checkpoints.save(saved, STATE, 1, 0.0)
    left = folder / 'checkpoints' / '2.orbax-checkpoint-tmp'
    left.mkdir()
    assert restore(reader(folder))[0]['step'] == 7 and left.exists()
    assert checkpoints.have_begun(folder) and left.exists()
    assert restore(trains(folder))[0]['step'] == 7 and not left.exists()


def damage(folder, step):
    for path in (folder / 'checkpoints' / str(step)).rglob('*'):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_damaged_checkpoints_are_passed_over_and_never_removed(saved, folder, capfd):
    for step in (1, 2):
        checkpoints.save(saved, state_of(step), step, 0.0)
    damage(folder, 2)
    before = sorted(folder.rglob('*'))
    assert restore(reader(folder))[0]['step'] == 1
    assert 'checkpoint 2 is damaged' in capfd.readouterr().err
    assert sorted(folder.rglob('*')) == before  # a reader leaves all as it is
    assert restore(saved)[0]['step'] == 1
    assert [p for p in (folder / 'checkpoints').iterdir() if 'damaged' in p.name]
    damage(folder, 1)
    for _ in range(2):  # it is not taken for a run without
        with pytest.raises(RunError, match='none of the checkpoints'):
            restore(saved)


def test_another_models_checkpoint_is_refused(saved):
    checkpoints.save(saved, STATE, 1, 0.0)
    for other in ({'params': jnp.zeros(4)}, {'params': {'w': jnp.zeros(3)}}, {'more': jnp.zeros(3)}):
        with pytest.raises(RunError, match='another model'):
            restore(saved, STATE | other)
    assert restore(saved)[0]['step'] == 7  # none of them has touched it


def test_an_earlier_state_takes_the_place_of_later_ones(saved, folder):
    for step in (4, 5, 3):
        checkpoints.save(saved, state_of(step), step, 0.0)
    assert restore(reader(folder))[0]['step'] == 3


@pytest.mark.parametrize(
    'error', [OSError(28, 'No space left on device'), ValueError('RESOURCE_EXHAUSTED: zarr\nmore')]
)
def test_a_full_disk_is_one_line(saved, monkeypatch, error):
    def save(*args, **kwargs):
        raise error

    monkeypatch.setattr(saved.manager, 'save', save)
    with pytest.raises(
        RunError, match=r'cannot write a checkpoint in .*: (RESOURCE_EXHAUSTED: zarr|.*No space left)'
    ) as e:
        checkpoints.save(saved, STATE, 1, 0.0)
    assert '\n' not in str(e.value)
