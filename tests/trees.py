"""Trees of arrays: compared; saved and restored."""

import functools

import jax
from numpy.testing import assert_allclose

from hfrnn.train import checkpoints, run_folder


def assert_trees_close(a, b, **kwargs):
    jax.tree.map(functools.partial(assert_allclose, **kwargs), a, b)


def saved_and_restored(state, step, folder):
    """The state as a run that goes on finds it in its folder."""
    run = run_folder.open_to_train(folder, {'experiment': 'test', 'settings': {}, 'data': {}})
    checkpoints.save(checkpoints.open_checkpoints(run), state, step, 1.5)
    run_folder.close(run)
    reader = checkpoints.open_checkpoints(run_folder.open_to_read(folder))
    restored, seconds = checkpoints.restore_or_begin(reader, state, lambda: None)
    assert seconds == 1.5
    return restored
