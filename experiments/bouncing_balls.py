"""Bouncing balls, an RNN by Hessian-Free against an LSTM by gradient descent: Martens & Sutskever 2011, natural data.

    python -m experiments.bouncing_balls --flagfile=experiments/flags/balls_rnn_hf.flags --workdir=runs/balls/rnn_hf
    python -m experiments.bouncing_balls --flagfile=experiments/flags/balls_lstm_adam.flags --workdir=runs/balls/lstm
    python -m experiments.bouncing_balls --mode=compare --runs=runs/balls/rnn_hf,runs/balls/lstm --workdir=runs/balls

--mode=train trains a net to predict the next frame of videos that are made as it goes, goes on if --workdir holds the
same run, and ends by measuring it on videos that it has not seen, beside predictors that learn nothing, and by drawing
what it predicts and what it dreams: frames.png.  --mode=evaluate repeats that end.  --mode=compare puts finished runs
side by side.
"""

import dataclasses
import sys

from experiments import cli
from experiments.cli import Machine, Mode, say
from hfrnn import io, plots
from hfrnn.errors import RunError, SettingsError
from hfrnn.toys.bouncing_balls import NAME, BouncingBalls, bouncing_balls, table
from hfrnn.train import experiment, run_folder
from hfrnn.train.settings import setting

COMPARED = 'bouncing_balls, compared'  # the experiment of a comparison's results.json


@dataclasses.dataclass(frozen=True)
class Common:
    """Folder, memory and figure"""

    workdir: str | None = setting(None, "The run's folder, or where to keep a comparison.")
    chunk: int = setting(100, 'Videos in memory at once for a gradient, on each device.', low=1)
    shown: int = setting(20, 'How many frames to draw of a prediction and of a dream.', low=1)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """--mode=compare"""

    runs: tuple[str, ...] = setting((), 'The folders of the runs.')


GROUPS = {
    'common': Common(),
    'limits': experiment.Limits(steps=200, evaluate_every=5),
    'comparison': Comparison(),
    'run': BouncingBalls(),
    'machine': Machine(),
}


def make(o, settings):
    return bouncing_balls(settings, chunk=o.common.chunk, shown=o.common.shown, devices=o.machine.devices)


def train(o):
    folder = cli.folder_of(o.common.workdir, 'where to keep the run')
    experiment.run(make(o, o.run), folder, o.limits, devices=o.machine.devices, say=say)


def evaluate(o):
    folder = cli.folder_of(o.common.workdir)
    experiment.evaluate(make(o, cli.settings_of_run(o, folder, NAME)), folder, say=say)


def compare(o):
    """results.json, error.png and a table, of finished runs."""
    runs = o.comparison.runs
    if not runs:
        raise SettingsError('say which runs: --runs=FOLDER,FOLDER')
    path, _ = cli.results_so_far(cli.folder_of(o.common.workdir, 'where to keep the comparison'), COMPARED)
    results, boxes, curves = [], [], {}
    for name in runs:
        identity = run_folder.read_identity(name)
        if identity['experiment'] != NAME:
            raise RunError(f'{name} holds no run of bouncing balls')
        videos = ('size', 'balls', 'radius', 'speed', 'length', 'test_videos')
        boxes.append({key: identity['settings'].get(key) for key in videos})
        if boxes[-1] != boxes[0]:
            raise RunError(f'{runs[0]} and {name} have other videos: {boxes[0]}, {boxes[-1]}')
        results.append(cli.results_of(name))
        if not {'cell', 'optimizer', 'test_error', 'test_nats', 'without_learning'} <= results[-1].keys():
            raise RunError(f'results.json in {name} is damaged')
        rows = run_folder.read_metrics(name)
        curves[f'{results[-1]["cell"]} by {results[-1]["optimizer"]}, {name}'] = [
            (row['seconds'] / 60, row['valid_error']) for row in rows if 'valid_error' in row
        ]
    io.write_json(path, {'experiment': COMPARED, 'runs': results})
    plots.save(path.with_name('error.png'), plots.curves(curves, 'minutes of training', 'squared error a frame'))
    say(table(results).rstrip())


MODES = {
    'train': Mode(train, ('run', 'limits')),
    'evaluate': Mode(evaluate, ('run', 'limits')),
    'compare': Mode(compare, ('comparison',)),
}


def main(argv):
    cli.main(argv, __doc__, MODES, **GROUPS)


if __name__ == '__main__':
    main(sys.argv)
