"""The life of every run: begin or go on, fit, log, keep the best, evaluate, report.

An ``Experiment`` is a record of pure functions; ``run`` trains it in a folder.  A new kind of run is settings, batches,
a model and a report.
"""

import dataclasses
import functools
import math
import os
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from hfrnn import bundle as bundles
from hfrnn import io
from hfrnn.bundle import Bundle
from hfrnn.errors import RunError
from hfrnn.train import checkpoints, run_folder
from hfrnn.train.devices import describe_machine, replicate, spread
from hfrnn.train.loop import CLOCKS, NotFinite, fit
from hfrnn.train.settings import flatten, setting
from hfrnn.train.steps import TrainState, kept_params

History = list[dict]  # the rows of metrics.jsonl


class Experiment(NamedTuple):
    """What a run is.

    Attributes:
      name: of the experiment.
      settings: a frozen dataclass, the only thing that defines a run: equal settings, equal run.
      init: ``init(key) -> state``, a TrainState or what has its fields, with random weights.
      step: ``step(state, batch) -> (state, metrics)``, one device's part; metrics are scalars, ``finite`` one of them.
      batch: ``batch(i)``, what step i (from 0) sees: of the seed and i alone.
      evaluate: ``evaluate(params) -> {name: number}`` on validation data, logged as valid_NAME; the first, the lower
        the better, chooses the weights.
      bundle: ``bundle(params, history) -> Bundle``; params may be None, where only its model and data are read.
      report: ``report(bundle, history) -> {file name: content}``: 'results.json' a dict, 'report.txt' what is also
        printed, other text, and figures of matplotlib for names in .png.
      describe: ``describe(i, metrics) -> {name: number}``, what is logged of step i; the metrics are empty in the row
        of the last evaluation.  None logs the metrics as they are.
      warm_start: ``warm_start(state) -> (state, origin)``: the state to begin with in place of a random one, and where
        it is from, JSON.  None for a random start.
      stop: ``stop(history)``, the reason to end before the limits, or None to go on.
      steps_per_epoch: 0 where there are no epochs.
      log_every: log every so many steps, where the limits do not say.
      title: what is printed first.
    """

    name: str
    settings: Any
    init: Callable[[jax.Array], TrainState]
    step: Callable[[TrainState, Any], tuple[TrainState, dict]]
    batch: Callable[[int], Any]
    evaluate: Callable[[Any], dict[str, float]]
    bundle: Callable[[Any, History], Bundle]
    report: Callable[[Bundle, History], dict[str, Any]]
    describe: Callable[[int, dict], dict] | None = None
    warm_start: Callable[[TrainState], tuple[TrainState, dict]] | None = None
    stop: Callable[[History], str | None] | None = None
    steps_per_epoch: int = 0
    log_every: int = 1
    title: str = ''


@dataclasses.dataclass(frozen=True)
class Limits:
    """How long to train, and how often to save, evaluate and log.

    None of it defines the run.
    """

    steps: int = setting(10**7, 'Train for so many steps in all.', low=0)
    epochs: float = setting(math.inf, 'Train for so many epochs in all.', low=0.0, infinite=True)
    minutes: float = setting(math.inf, 'Train for so many minutes in all.', low=0.0, infinite=True)
    save_minutes: float = setting(5.0, 'Save a checkpoint every so many minutes.', low=0.0, infinite=True)
    evaluate_every: int = setting(0, 'Evaluate every so many steps; 0 for every epoch.', low=0)
    log_every: int = setting(0, 'Log every so many steps; 0 for every step of HF, fewer of other optimisers.', low=0)
    patience: int = setting(0, 'End after so many evaluations that found nothing better; 0 for never.', low=0)
    clock: str = setting(
        'wall',
        "The clock of --minutes and of logged seconds. processor: this process's CPU time, summed over cores.",
        choices=CLOCKS,
    )


def run(
    experiment: Experiment,
    folder: str | os.PathLike,
    limits: Limits = Limits(),
    *,
    devices: int | None = None,
    say: Callable[[str], None] = print,
) -> Bundle:
    """Trains in a folder, or goes on with what it holds, to the limits; then evaluates, and writes the report.

    A kill at any moment loses no more than the steps since the last checkpoint: the same call goes on, and comes to the
    same numbers.

    Args:
      devices: how many to use; all if None.
      say: called with each line of progress.

    Returns:
      The net with the best weights by validation.

    Raises:
      RunError: if the folder holds another run or something else, or no weights had a finite validation.
      Interrupted: after a signal; the state is saved.
      NotFinite: if training diverged; the last good state has been saved and evaluated.
    """
    begin = functools.partial(experiment.init, jax.random.key(experiment.settings.seed))
    origin = None
    if not checkpoints.have_begun(folder):  # before the folder is made, so that a mistake leaves none
        experiment.batch(0)  # raises if memory cannot hold it
        if experiment.warm_start is not None:
            first, origin = experiment.warm_start(begin())
            begin = lambda: first  # noqa: E731
    open_run = run_folder.open_to_train(folder, {**_identity(experiment), 'clock': limits.clock})
    try:
        saved = checkpoints.open_checkpoints(open_run)
        state, seconds = checkpoints.restore_or_begin(saved, jax.eval_shape(experiment.init, jax.random.key(0)), begin)
        history = run_folder.rewind_metrics(open_run, int(state.step))
        say(f'{experiment.title or experiment.name}; {_count(kept_params(state)):,} numbers to learn')
        if int(state.step):
            say(f'goes on from step {int(state.step)}, after {clock(seconds)}')
        elif origin is not None and not history:
            history.append({'step': 0, 'seconds': 0.0, 'begun_from': origin})
            run_folder.log(open_run, history[0])
        if run_folder.best_row(history, _objective(history)).get('step') == int(state.step):
            _keep_best(experiment, open_run, state, history)  # a kill may have come before that
        state, seconds, failure = _fit(experiment, open_run, saved, state, seconds, history, limits, devices, say)
        if failure is not None or not _is_evaluated(history, int(state.step)):
            row = _row(experiment, int(state.step), seconds, {}) | _evaluate(experiment, state)
            row |= {'finite': False} if failure is not None else {}
            _log_and_keep(experiment, open_run, saved, state, history, row, seconds)
        run_folder.wait('the training is written down')
        bundle = _report(experiment, folder, history, say)
    finally:
        run_folder.close(open_run)
    if failure is not None:
        raise failure
    return bundle


def evaluate(experiment: Experiment, folder: str | os.PathLike, *, say: Callable[[str], None] = print) -> Bundle:
    """Reports once more on the weights that a run kept, without further training.

    Raises:
      RunError: if the folder holds another run, or none, or one that has kept no weights.
    """
    run_folder.check_identity(folder, _identity(experiment))
    return _report(experiment, folder, run_folder.read_metrics(folder), say)


def summary(name: str, settings: Any, history: History) -> dict:
    """The ``history`` of a bundle: how the best weights so far came to be."""
    content = flatten(settings)
    if content.get('init_from'):
        content['init_from'] = pathlib.Path(content['init_from']).name  # a bundle may ship; folders are private
    best = run_folder.best_row(history, _objective(history))
    return {'experiment': name, 'settings': content, **best, **_origin(history)}


def clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    if not np.isfinite(seconds):
        return '?'
    minutes, seconds = divmod(int(seconds), 60)
    return f'{minutes // 60}:{minutes % 60:02d}:{seconds:02d}'


# -- parts ------------------------------------------------------------------------------------------------------------


def _identity(experiment):
    data = experiment.bundle(None, []).data
    return {'experiment': experiment.name, 'settings': flatten(experiment.settings), 'data': data}


def _count(params):
    return sum(np.size(leaf) for leaf in jax.tree.leaves(params))


def _objective(history):
    """The name of the validation value that chooses the weights: the first in any row; empty if there is none."""
    return next((key for row in history for key in row if key.startswith('valid_')), '')


def _origin(history):
    """What the run began from, as the first row has it."""
    return next(({'begun_from': row['begun_from']} for row in history if 'begun_from' in row), {})


def _is_evaluated(history, step):
    objective = _objective(history)
    return bool(objective) and any(row['step'] == step and objective in row for row in history)


def _row(experiment, i, seconds, metrics):
    described = metrics if experiment.describe is None else experiment.describe(i, metrics)
    row = {'step': i, 'seconds': round(seconds, 2)}
    if experiment.steps_per_epoch:
        row['epochs'] = round(i / experiment.steps_per_epoch, 4)
    return row | {name: np.asarray(value).item() for name, value in described.items() if name != 'seconds'}


def _evaluate(experiment, state):
    return {f'valid_{name}': value for name, value in experiment.evaluate(kept_params(state)).items()}


def _keep_best(experiment, open_run, state, history):
    if run_folder.writes():
        bundles.save(open_run.path / bundles.BEST, experiment.bundle(jax.device_get(kept_params(state)), history))


def _log_and_keep(experiment, open_run, saved, state, history, row, seconds):
    """Logs a row; where its validation is the best so far, keeps the weights.

    The order, row, checkpoint, weights, is safe against a kill: a run that goes on from the newest checkpoint knows
    from the rows which step the best weights are of.
    """
    objective = _objective([*history, row])
    value = row.get(objective)
    better = value is not None and value < run_folder.best_row(history, objective).get(objective, math.inf)
    history.append(row)
    run_folder.log(open_run, row)
    if better:
        checkpoints.save(saved, state, row['step'], seconds)
        _keep_best(experiment, open_run, state, history)


def _impatient(history, limits, every):
    """Whether the last ``patience`` regular evaluations found nothing better; one that ended a run does not count."""
    objective = _objective(history)
    values = [row[objective] for row in run_folder.with_finite(history, objective) if row['step'] % every == 0]
    return bool(limits.patience and values) and len(values) - 1 - int(np.argmin(values)) >= limits.patience


def _fit(experiment, open_run, saved, state, seconds, history, limits, devices, say):
    """(state, seconds, NotFinite or None) after the steps that are left."""
    every = limits.evaluate_every or experiment.steps_per_epoch or 1
    log_every = limits.log_every or experiment.log_every
    steps = limits.steps
    if experiment.steps_per_epoch and math.isfinite(limits.epochs):
        steps = round(min(steps, limits.epochs * experiment.steps_per_epoch))

    def reason_to_end():
        if _impatient(history, limits, every):
            return f'nothing better in {limits.patience} evaluations (--patience)'
        return experiment.stop(history) if experiment.stop is not None else None

    def on_step(state, metrics, seconds):
        i = int(state.step)
        evaluated = i % every == 0
        if not evaluated and i % log_every:
            return False
        row = _row(experiment, i, seconds, metrics)
        if evaluated:
            row |= _evaluate(experiment, state)
        _log_and_keep(experiment, open_run, saved, state, history, row, seconds)
        left = min(limits.minutes * 60 - seconds, (steps - i) * seconds / i)
        say(f'{_line(row)}  elapsed {clock(seconds)}  remaining {clock(max(left, 0))}')
        return evaluated and bool(reason_to_end())

    failure = None
    reason = reason_to_end()
    try:
        state, seconds = fit(
            spread(experiment.step, devices),
            replicate(state, devices),
            experiment.batch,
            steps=0 if reason else steps,
            seconds=limits.minutes * 60,
            elapsed=seconds,
            save=lambda state, seconds: checkpoints.save(saved, state, int(state.step), seconds),
            save_every=limits.save_minutes * 60,
            on_step=on_step,
            clock=CLOCKS[limits.clock],
        )
    except NotFinite as e:
        say(f'warning: {e}')
        state, seconds, failure = e.state, e.seconds, e
    reason = reason_to_end()
    if reason:
        say(f'ends at step {int(state.step)}: {reason}')
    return state, seconds, failure


def _line(row):
    shown = (f'{name} {_number(value)}' for name, value in row.items() if name not in ('step', 'seconds'))
    return f'step {row["step"]:5d}  ' + '  '.join(shown)


def _number(value):
    return f'{value:,}' if isinstance(value, int) else f'{value:.4g}'


def _report(experiment, folder, history, say):
    objective = _objective(history)
    best = run_folder.best_row(history, objective)
    if not best:
        raise RunError(f'no weights of the run in {folder} have a finite validation; none are kept')
    bundle = bundles.load(bundles.run_name(folder))
    files = experiment.report(bundle, history)
    files['results.json'] = {
        'experiment': experiment.name,
        **files.get('results.json', {}),
        'parameters': _count(bundles.without_noise(bundle).params),
        'steps': history[-1]['step'],
        'best_step': best['step'],
        'seconds': round(history[-1]['seconds'], 1),
        **_origin(history),
        **describe_machine(),
    }
    if run_folder.writes():
        for name, content in files.items():
            _write(run_folder.open_to_read(folder).path / name, content)
    if 'report.txt' in files:
        say(files['report.txt'].rstrip())
    say(f'  (weights of step {best["step"]:,} of {history[-1]["step"]:,}; {clock(history[-1]["seconds"])}; {folder})')
    return bundle


def _write(path, content):
    if isinstance(content, dict):
        io.write_json(path, content)
    elif isinstance(content, str):
        io.write_bytes(path, content.encode())
    else:
        from hfrnn import plots  # needs matplotlib, which a run without figures does not

        plots.save(path, content)
