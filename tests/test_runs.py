import json

import jax.numpy as jnp
import numpy as np
import pytest

from hfrnn import runs

FLAGS, ABOUT = {'hidden': 3, 'corpus': 'a'}, {'alphabet': 'xyz', 'train': 10}
STATE = {'params': jnp.arange(3.0), 'step': jnp.array(7)}


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path / 'run')


def test_it_opens_again_with_the_same_flags_alone(folder):
    run = runs.open_run(folder, FLAGS, ABOUT)
    runs.open_run(folder, FLAGS, ABOUT)
    assert runs.open_run(folder).path == run.path
    with pytest.raises(runs.RunError, match=r'other hidden \(3, not 4\)'):
        runs.open_run(folder, FLAGS | {'hidden': 4}, ABOUT)
    with pytest.raises(runs.RunError, match='other train'):
        runs.open_run(folder, FLAGS, ABOUT | {'train': 11})
    with pytest.raises(runs.RunError, match='other new'):
        runs.open_run(folder, FLAGS | {'new': 1}, ABOUT)


def test_what_is_no_run_is_refused(folder, tmp_path):
    with pytest.raises(runs.RunError, match='holds no run'):
        runs.open_run(folder)
    (tmp_path / 'file').write_text('')
    with pytest.raises(runs.RunError, match='holds no run'):
        runs.open_run(str(tmp_path / 'file'), FLAGS, ABOUT)
    with pytest.raises(runs.RunError, match='holds no run'):
        runs.open_run(str(tmp_path), FLAGS, ABOUT)
    run = runs.open_run(folder, FLAGS, ABOUT)
    (run.path / 'flags.json').write_text('{"hid')
    with pytest.raises(runs.RunError, match='damaged'):
        runs.open_run(folder)


def test_states_come_back_and_two_are_kept(folder):
    run = runs.open_run(folder, FLAGS, ABOUT)
    assert runs.restore(run, STATE) is None
    for step in (1, 2, 3):
        runs.save(run, STATE | {'step': jnp.array(step)}, step, 0.5 * step)
    runs.save(run, STATE, 3, 9.0)  # there already
    state, seconds = runs.restore(runs.open_run(folder), STATE)
    assert (state['step'], seconds) == (3, 1.5)
    np.testing.assert_array_equal(state['params'], STATE['params'])
    assert list(run.manager.all_steps()) == [2, 3]


def test_metrics_are_rewound_to_the_checkpoint(folder):
    run = runs.open_run(folder, FLAGS, ABOUT)
    for step in (1, 2, 3):
        runs.log(run, {'step': step})
    with run.metrics.open('a') as f:
        f.write('{"step": 4, "bi')
    assert [row['step'] for row in runs.history(run)] == [1, 2, 3]
    assert [row['step'] for row in runs.history(run, step=2)] == [1, 2]
    assert [json.loads(line)['step'] for line in run.metrics.read_text().splitlines()] == [1, 2]
