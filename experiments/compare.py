"""Runs beside each other: what each had reached at equal time, and at equal characters read.

    python -m experiments.compare --runs=runs/mrnn_hf,runs/mrnn_adam --workdir=runs/compare

It reads the runs' metrics.jsonl and results.json, prints a table, and writes it with a plot to --workdir.  Time is all
that a run has spent: compiling, evaluating and saving, too.
"""

import dataclasses
import pathlib
import sys

from experiments import cli
from experiments.cli import Mode
from hfrnn import io, plots
from hfrnn.errors import RunError, SettingsError
from hfrnn.text.alphabet import letter_of
from hfrnn.text.experiment import NAME
from hfrnn.train import run_folder
from hfrnn.train.settings import setting

VALID = 'valid_bits_per_char'


@dataclasses.dataclass(frozen=True)
class Options:
    """Runs and output"""

    runs: tuple[str, ...] = setting((), 'Folders of runs of nets of text.')
    workdir: str | None = setting(None, 'Where to write the table and the plot.')


def main(argv):
    cli.main(argv, __doc__, {'compare': Mode(lambda o: compare(o.options), ('options',))}, options=Options())


def compare(s):
    if not s.runs or not s.workdir:
        raise SettingsError('say --runs=FOLDER,FOLDER,... and --workdir=FOLDER')
    paths, workdir = list(dict.fromkeys(map(pathlib.Path, s.runs))), pathlib.Path(s.workdir)
    identity = check_alike(paths)
    names = [path.resolve().name for path in paths]
    if len(set(names)) < len(names):
        names = list(map(str, paths))
    histories = {}
    for name, path in zip(names, paths, strict=True):
        histories[name] = [row for row in run_folder.read_metrics(path) if row.get(VALID) is not None]
        if not histories[name]:
            raise RunError(f'{path} has not been evaluated on validation text yet')
    check_symbols(histories)
    shared = {x: min(rows[-1][x] for rows in histories.values()) for x in ('seconds', 'characters')}
    table = []
    for path, (name, rows) in zip(paths, histories.items(), strict=True):
        row = {'run': name, 'seconds': rows[-1]['seconds'], 'characters': rows[-1]['characters']}
        row |= {f'at_equal_{x}': reached(rows, x, limit) for x, limit in shared.items()}
        results = cli.results_of(str(path)) if (path / 'results.json').exists() else {}
        row['test'], row['test_symbols'] = (results.get(name) for name in ('test_bits_per_char', 'test_symbols'))
        table.append(row)
    most = max(row['test_symbols'] or 0 for row in table)
    for row in table:
        if (row['test_symbols'] or 0) < most:  # of less test text, and not comparable
            row['test'] = None

    path, _ = cli.results_so_far(str(workdir), 'compare')
    io.write_json(path, {'experiment': 'compare', 'equal': shared, 'runs': table})
    letter = letter_of(identity['data']['alphabet'])
    for x in shared:
        plots.save(workdir / f'{x}.png', plots.learning_curve(histories, x, label=f'bits per {letter}'))
    millions = shared['characters'] / 1e6
    print(
        f'bits per {letter}: validation at {shared["seconds"]:.0f} s, at {millions:.1f} M characters\n'
        f'test at the end\n{"run":28s} {"seconds":>8s} {"M chars":>8s} {"=time":>7s} {"=chars":>7s} {"test":>7s}'
    )
    for row in table:
        columns = (row['at_equal_seconds'], row['at_equal_characters'], row['test'])
        shown = ' '.join(f'{"-" if bits is None else f"{bits:.3f}":>7s}' for bits in columns)
        print(f'{row["run"]:28s} {row["seconds"]:8.0f} {row["characters"] / 1e6:8.1f} {shown}')


def check_alike(paths):
    """The identity of the first run.  Checks that all are of the same text, and timed by the same clock."""
    identities = [run_folder.read_identity(path) for path in paths]
    for path, identity in zip(paths, identities, strict=True):
        if identity['experiment'] != NAME:
            raise RunError(f'{path} holds no run of a net of text')
        for name in ('train_crc32', 'valid_crc32', 'test_crc32'):
            if identity['data'].get(name) != identities[0]['data'].get(name):
                raise RunError(f'{path} has another {name} than {paths[0]}; they cannot be compared')
        if identity.get('clock') != identities[0].get('clock'):
            raise RunError(f'{path} has another clock than {paths[0]}; they cannot be compared')
    return identities[0]


def check_symbols(histories):
    """Checks that all runs were validated on the same number of symbols."""
    symbols = {name: {row.get('valid_symbols') for row in rows} for name, rows in histories.items()}
    if len(set().union(*symbols.values())) > 1:
        found = ', '.join(f'{name} {" and ".join(map(str, sorted(n, key=str)))}' for name, n in symbols.items())
        raise RunError(f'validation figures are of other numbers of symbols ({found}); they cannot be compared')


def reached(rows, x, limit):
    """The lowest validation value up to a limit of x; None if there is none."""
    return min((row[VALID] for row in rows if row[x] <= limit), default=None)


if __name__ == '__main__':
    main(sys.argv)
