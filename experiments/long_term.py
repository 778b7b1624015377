"""Problems with long-term dependencies: Martens & Sutskever 2011, and chapter 4 of Sutskever's thesis of 2013 (S13).

    python -m experiments.long_term --flagfile=experiments/flags/long_term.flags \\
        --task=memorisation_5 --T=50 --workdir=runs/memorisation
    python -m experiments.long_term --flagfile=experiments/flags/long_term.flags --mode=grid --workdir=runs/grid \\
        --tasks=addition,memorisation_20 --lengths=30,100 --seeds=0,1,2 --methods=hf,hf_undamped,adam

--mode=train trains one net until it solves its task, or until --steps or --minutes are spent; a task is solved when
less than 1 % of 10,000 test sequences are wrong.  --mode=evaluate measures it again.  --mode=grid does that for
problems x lengths x seeds x methods, each in a folder of its own below --workdir, and draws the share solved against
the length; --mode=draw only draws the results so far.  Every mode goes on where it was stopped.
"""

import contextlib
import dataclasses
import pathlib
import sys

import jax

from experiments import cli
from experiments.cli import Machine, Mode, say
from hfrnn import io, plots
from hfrnn.errors import RunError, SettingsError
from hfrnn.toys import long_term, tasks
from hfrnn.toys.long_term import NAME, LongTerm
from hfrnn.train import experiment, run_folder
from hfrnn.train.loop import NotFinite
from hfrnn.train.optimizers import HESSIAN_FREE
from hfrnn.train.settings import SEEDS, flatten, replace, setting

GRID = 'long_term, a grid'  # the experiment of its results.json
METHODS = {
    'hf': {'optimizer': 'hf'},
    'hf_undamped': {'optimizer': 'hf', 'mu': 0.0},
    'adam': {'optimizer': 'adam'},
    'sgd': {'optimizer': 'sgd'},
}


@dataclasses.dataclass(frozen=True)
class Common:
    """Folder and memory"""

    workdir: str | None = setting(None, "The run's folder, or the grid's.")
    chunk: int = setting(1_000, 'Sequences in memory at once for a gradient, on each device.', low=1)


@dataclasses.dataclass(frozen=True)
class FirstOrderLimits:
    """How long to train by first-order methods"""

    first_order_steps: int = setting(50_000, 'First order: train for at most so many steps in all.', low=0)
    first_order_evaluate_every: int = setting(500, 'First order: evaluate every so many steps.', low=1)


@dataclasses.dataclass(frozen=True)
class Grid:
    """--mode=grid"""

    tasks: tuple[str, ...] = setting(tuple(tasks.TASKS), 'The problems.', choices=tuple(tasks.TASKS))
    lengths: tuple[int, ...] = setting((30, 50, 100, 150, 200), 'The lags T.', low=1, high=SEEDS - 1)
    seeds: tuple[int, ...] = setting((0, 1, 2), 'The seeds.', low=0, high=SEEDS - 1)
    methods: tuple[str, ...] = setting(
        ('hf', 'hf_undamped'), 'The methods; hf_undamped is --mu=0.', choices=tuple(METHODS)
    )


GROUPS = {
    'common': Common(),
    'limits': experiment.Limits(steps=500, evaluate_every=5),
    'first_order_limits': FirstOrderLimits(),
    'grid': Grid(),
    'run': LongTerm(),
    'machine': Machine(),
}


def limits_of(o, s):
    """The limits of a run with these settings."""
    if s.optimization.optimizer == HESSIAN_FREE:
        return o.limits
    own = o.first_order_limits
    return replace(o.limits, steps=own.first_order_steps, evaluate_every=own.first_order_evaluate_every)


def make(o, s):
    return long_term.long_term(s, chunk=o.common.chunk, devices=o.machine.devices)


def train(o):
    folder = cli.folder_of(o.common.workdir, 'where to keep the run')
    train_one(o, o.run, folder)


def train_one(o, s, folder):
    """Trains a net until it solves its task or its time is up; divergence is a result, too, and no error."""
    with contextlib.suppress(NotFinite):
        experiment.run(make(o, s), folder, limits_of(o, s), devices=o.machine.devices, say=say)


def evaluate(o):
    folder = cli.folder_of(o.common.workdir)
    experiment.evaluate(make(o, cli.settings_of_run(o, folder, NAME)), folder, say=say)


# -- the grid ---------------------------------------------------------------------------------------------------------


def grid(o):
    """Every net of the grid that is not finished; results.json and the figure after each.

    Several of these may share a folder, each with nets of its own.
    """
    if o.machine.processes > 1:
        raise SettingsError('a grid is of one process; start several, each with --tasks of its own, in one --workdir')
    for name, values in flatten(o.grid).items():
        if not values:
            raise SettingsError(f'--{name} names none')
    variants = [
        replace(o.run, task=task, T=T, **METHODS[name])
        for T in o.grid.lengths  # the short ones first: they are solved soonest
        for task in o.grid.tasks
        for name in o.grid.methods
    ]
    for s in variants:
        long_term.check_settings(s, o.machine.devices)
    folder = cli.folder_of(o.common.workdir, 'where to keep the grid')
    cli.results_so_far(folder, GRID)  # now, and not after the first net
    unfinished = []
    for s in variants:
        nets = ((replace(s, seed=n), f'{folder}/{s.task}-{s.T}-{long_term.method(s)}-{n}') for n in o.grid.seeds)
        unfinished.append([net for net in nets if not finished(o, *net)])
    for nets in unfinished:
        for net in nets:
            train_one(o, *net)
            collect(folder)
        jax.clear_caches()
    draw(o)


def finished(o, s, folder):
    """Whether this net has solved its task, or has spent all that it may."""
    if not (pathlib.Path(folder) / 'results.json').exists():
        return False
    result = cli.results_of(folder)
    if result.get('experiment') != NAME:
        raise RunError(f'{folder} holds the results of something else')
    identity = {'experiment': NAME, 'settings': flatten(long_term.resolved(s)), 'data': {}}
    run_folder.check_identity(folder, identity)
    limits = limits_of(o, s)
    spent = result['steps'] >= limits.steps or result['seconds'] >= limits.minutes * 60
    return result['solved'] or not result['finite'] or spent


def collect(folder):
    """results.json and solved.png, of all nets below a folder that have a result; returns the shares solved."""
    found = {path.parent: cli.results_of(path.parent) for path in sorted(pathlib.Path(folder).glob('*/results.json'))}
    rows = [row for place, row in found.items() if row.get('experiment') == NAME and run_folder.read_identity(place)]
    if not rows:
        raise RunError(f'{folder} holds no results yet')
    path, _ = cli.results_so_far(folder, GRID)
    shares = long_term.shares_solved(rows, METHODS)
    io.write_json(path, {'experiment': GRID, 'shares': shares, 'runs': rows})
    plots.save(path.with_name('solved.png'), plots.solved(shares))
    return shares


def draw(o):
    """What ``collect`` does, and the shares as a table."""
    shares = collect(cli.folder_of(o.common.workdir, 'which grid'))
    lengths = sorted({row['T'] for row in shares})
    table = {}
    for row in shares:
        table.setdefault((row['task'], row['method']), {})[row['T']] = f'{row["solved"]}/{row["nets"]}'
    say(f'\n{"solved":17s} {"by":12s}' + ''.join(f' {f"T={T}":>6s}' for T in lengths))
    for (task, name), row in table.items():
        say(f'{task:17s} {name:12s}' + ''.join(f' {row.get(T, ""):>6s}' for T in lengths))


ALL = ('run', 'limits', 'first_order_limits', 'grid')
MODES = {'train': Mode(train, ALL), 'evaluate': Mode(evaluate, ALL), 'grid': Mode(grid, ALL), 'draw': Mode(draw, ALL)}


def main(argv):
    cli.main(argv, __doc__, MODES, **GROUPS)


if __name__ == '__main__':
    main(sys.argv)
