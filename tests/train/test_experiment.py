"""Laws of the driver, on the smallest experiment: one number that steps towards another."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hfrnn import bundle
from hfrnn.bundle import Bundle
from hfrnn.errors import RunError
from hfrnn.train import checkpoints, experiment, run_folder
from hfrnn.train.experiment import Experiment, Limits, summary
from hfrnn.train.loop import NotFinite
from hfrnn.train.settings import replace, setting
from hfrnn.train.steps import TrainState


@dataclasses.dataclass(frozen=True)
class Toy:
    """A toy"""

    seed: int = setting(0, 'Seed.')
    values: tuple[float, ...] = setting((), 'What validation says of each step, from step 1.')


def toy(values=(), **more):
    """Its params count the steps; validation is ``values``."""
    s = Toy(values=tuple(values))

    def step(state, batch):
        params = {'w': state.params['w'] + batch['x'][0]}
        metrics = {'nats': batch['x'][0], 'finite': jnp.isfinite(batch['x'][0])}
        return TrainState(params, state.opt_state, state.step + 1), metrics

    def evaluate(params):
        i = int(params['w'])
        loss = s.values[i - 1] if 0 < i <= len(s.values) else 10.0
        return {'loss': loss if loss >= 0 else math.nan, 'w': float(params['w'])}

    def make_bundle(params, history):
        return Bundle({'kind': 'toy'}, {'alphabet': 'ab'}, summary('toy', s, history), params)

    def report(b, history):
        return {
            'results.json': {'w': float(b.params['w'])},
            'report.txt': f'w is {b.params["w"]}\n',
            'sample.txt': 'hm',
        }

    def init(key):
        return TrainState({'w': jnp.zeros(())}, optax.EmptyState(), jnp.zeros((), jnp.int32))

    made = {'batch': lambda i: {'x': np.ones(4)}} | more
    return Experiment('toy', s, init, step, evaluate=evaluate, bundle=make_bundle, report=report, **made)


EACH_STEP = Limits(evaluate_every=1)


def run(folder, values, *, steps, limits=EACH_STEP, **more):
    said = []
    made = experiment.run(toy(values, **more), folder, replace(limits, steps=steps), devices=1, say=said.append)
    return made, said


def rows_of(folder, key='step'):
    return [row.get(key) for row in run_folder.read_metrics(folder)]


def test_the_best_weights_are_kept_and_reported(tmp_path):
    made, said = run(tmp_path, [3.0, 2.0, -1.0, 2.5, 2.0], steps=5)
    assert made.params['w'] == bundle.load(tmp_path).params['w'] == 2
    assert (made.history['step'], made.history['valid_loss'], made.history['experiment']) == (2, 2.0, 'toy')
    assert rows_of(tmp_path) == [1, 2, 3, 4, 5]
    results = experiment.io.read_json(tmp_path / 'results.json')
    assert [results[k] for k in ('experiment', 'w', 'parameters', 'steps', 'best_step')] == ['toy', 2.0, 1, 5, 2]
    assert {'seconds', 'machine', 'jax'} <= results.keys()
    assert 'w is 2.0' in said and (tmp_path / 'sample.txt').read_text() == 'hm'


def test_a_folder_named_like_a_shipped_net_holds_its_own_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made, _ = run('pens', [3.0, 2.0], steps=2)
    assert made.params['w'] == 2 and made.model == {'kind': 'toy'}
    assert experiment.evaluate(toy([3.0, 2.0]), 'pens', say=lambda line: None).params['w'] == 2


def test_what_memory_cannot_hold_leaves_nothing(tmp_path):
    def batch(i):
        raise MemoryError

    with pytest.raises(MemoryError):
        run(tmp_path / 'run', [], steps=1, batch=batch)
    assert not (tmp_path / 'run').exists()


def test_a_run_ends_by_an_evaluation_and_goes_on_from_there(tmp_path):
    limits = Limits(evaluate_every=3)
    made, _ = run(tmp_path, [9, 8, 7, 1, 5, 6], steps=4, limits=limits)
    assert rows_of(tmp_path) == [1, 2, 3, 4, 4] and made.params['w'] == 4
    made, said = run(tmp_path, [9, 8, 7, 1, 5, 6], steps=6, limits=limits)
    assert rows_of(tmp_path) == [1, 2, 3, 4, 4, 5, 6] and made.params['w'] == 4
    assert any('goes on from step 4' in line for line in said)
    _, _ = run(tmp_path, [9, 8, 7, 1, 5, 6], steps=6, limits=limits)  # nothing is left to do
    assert rows_of(tmp_path) == [1, 2, 3, 4, 4, 5, 6]


def test_patience_counts_evaluations_on_the_way(tmp_path):
    values = [5, 4, 4.5, 4.2, 4.1, 1]
    limits = Limits(evaluate_every=1, patience=3)
    made, said = run(tmp_path, values, steps=100, limits=limits)
    assert rows_of(tmp_path) == [1, 2, 3, 4, 5] and made.params['w'] == 2
    assert any('ends at step 5: nothing better in 3 evaluations' in line for line in said)
    run(tmp_path, values, steps=100, limits=limits)
    assert rows_of(tmp_path) == [1, 2, 3, 4, 5]
    made, _ = run(tmp_path, values, steps=6, limits=replace(limits, patience=0))
    assert made.params['w'] == 6


def test_epochs_and_reasons_end_a_run(tmp_path):
    run(tmp_path / 'epochs', [], steps=100, limits=Limits(epochs=1.5), steps_per_epoch=2)
    assert rows_of(tmp_path / 'epochs') == [1, 2, 3, 3]
    assert rows_of(tmp_path / 'epochs', 'epochs') == [0.5, 1.0, 1.5, 1.5]
    _, said = run(
        tmp_path / 'b', [3, 0.1, 0.1], steps=9, stop=lambda rows: rows and rows[-1]['valid_loss'] < 1 and 'done'
    )
    assert rows_of(tmp_path / 'b') == [1, 2] and any('ends at step 2: done' in line for line in said)


def test_what_is_logged_is_what_is_described(tmp_path):
    run(tmp_path, [], steps=4, limits=Limits(evaluate_every=4, log_every=2), describe=lambda i, m: {'two': 2 * i})
    assert rows_of(tmp_path) == [2, 4] and rows_of(tmp_path, 'two') == [4, 8]


def test_a_warm_start_is_where_it_begins_and_is_not_needed_again(tmp_path):
    def warm_start(state):
        return state._replace(params={'w': jnp.array(3.0)}), {'weights': 'w3'}

    def gone(state):
        raise RunError('the other run is gone')

    made, _ = run(tmp_path / 'a', [], steps=1, warm_start=warm_start)
    assert made.params['w'] == 4 and made.history['begun_from'] == {'weights': 'w3'}
    assert experiment.io.read_json(tmp_path / 'a' / 'results.json')['begun_from'] == {'weights': 'w3'}
    made, _ = run(tmp_path / 'a', [], steps=2, warm_start=gone)
    assert run_folder.read_metrics(tmp_path / 'a')[-1]['valid_w'] == 5
    with pytest.raises(RunError, match='is gone'):
        run(tmp_path / 'b', [], steps=1, warm_start=gone)
    assert not (tmp_path / 'b').exists()


def test_training_that_comes_apart_is_evaluated_and_says_so(tmp_path):
    def batch(i):
        return {'x': np.full(4, 1.0 if i < 2 else np.inf)}

    with pytest.raises(NotFinite, match='not finite at step 3'):  # of step 2 no finite loss was seen
        run(tmp_path, [3, 2, 1], steps=9, batch=batch)
    assert rows_of(tmp_path) == [1, 2, 1] and rows_of(tmp_path, 'finite') == [None, None, False]
    assert experiment.io.read_json(tmp_path / 'results.json')['w'] == 2


def test_without_a_finite_validation_nothing_is_reported(tmp_path):
    with pytest.raises(RunError, match=r'no weights of the run in .* have a finite validation'):
        run(tmp_path, [-1.0] * 2, steps=2)
    assert not (tmp_path / 'results.json').exists()


class Killed(BaseException):
    pass


@pytest.mark.parametrize('where', ['log', 'checkpoint', 'best'])
def test_the_best_is_kept_wherever_a_kill_comes(tmp_path, monkeypatch, where):
    """Gone on with from the newest checkpoint, rows and best weights are those of a run that was not killed."""
    module, name = {
        'log': (run_folder, 'log'),
        'checkpoint': (checkpoints, 'save'),
        'best': (experiment.bundles, 'save'),
    }[where]
    values, real = [3.0, 2.0, -1.0, 2.5, 1.0], getattr(module, name)

    def killed(*args, **kwargs):
        if any(row['step'] == 4 for row in run_folder.read_metrics(tmp_path)):
            raise Killed
        return real(*args, **kwargs)

    monkeypatch.setattr(module, name, killed)
    with pytest.raises(Killed):
        run(tmp_path, values, steps=5)
    monkeypatch.undo()
    made, _ = run(tmp_path, values, steps=5)
    assert made.params['w'] == 5
    assert rows_of(tmp_path) == [1, 2, 3, 4, 5] and rows_of(tmp_path, 'valid_w') == [1, 2, 3, 4, 5]


@pytest.mark.four_devices
def test_every_leaf_of_a_state_is_an_array_of_its_own(tmp_path):
    state = experiment.replicate(toy().init(jax.random.key(0)), 4)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))
