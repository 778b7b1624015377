"""Runs beside each other: what each had reached at equal time, and at equal characters read.

    python -m experiments.compare --runs=runs/mrnn_hf,runs/mrnn_adam --workdir=runs/compare

It reads the runs' metrics.jsonl and results.json, prints a table, and writes it with a plot to --workdir.  Time is all
that a run has spent: compiling, evaluating and saving, too.
"""

import pathlib

from absl import flags

from experiments import cli
from hfrnn import plots
from hfrnn.errors import RunError, SettingsError
from hfrnn.text import models
from hfrnn.text.alphabet import letter_of
from hfrnn.train import run_folder

RUNS = flags.DEFINE_list('runs', [], 'Folders of runs of nets of text, with commas between.')
WORKDIR = flags.DEFINE_string('workdir', None, 'Where to write the table and the plot.')


def main(argv):
    cli.begin(argv)
    with cli.errors_in_a_line():
        if not RUNS.value or not WORKDIR.value:
            raise SettingsError('say --runs=FOLDER,FOLDER,... and --workdir=FOLDER')
        compare(list(dict.fromkeys(map(pathlib.Path, RUNS.value))), pathlib.Path(WORKDIR.value))


def compare(paths, workdir):
    check_alike(paths)
    names = [path.resolve().name for path in paths]
    if len(set(names)) < len(names):
        names = list(map(str, paths))
    histories = {}
    for name, path in zip(names, paths, strict=True):
        rows = run_folder.history(run_folder.open_run(str(path)))
        histories[name] = [row for row in rows if row.get('valid_bits_per_char') is not None]
        if not histories[name]:
            raise RunError(f'{path} has not been evaluated on validation text yet')
    check_symbols(histories)
    shared = {x: min(rows[-1][x] for rows in histories.values()) for x in ('seconds', 'characters')}

    letter = letter_of(models.alphabet_of(run_folder.read_json(str(paths[0]), 'about.json')))
    table = []
    for path, (name, rows) in zip(paths, histories.items(), strict=True):
        row = {'run': name, 'seconds': rows[-1]['seconds'], 'characters': rows[-1]['characters']}
        for x, limit in shared.items():
            row[f'at_equal_{x}'] = reached(rows, x, limit)
        results = run_folder.read_json(str(path), 'results.json') if (path / 'results.json').exists() else {}
        row['test'], row['test_symbols'] = (results.get(name) for name in ('test_bits_per_char', 'test_symbols'))
        table.append(row)
    most = max(row['test_symbols'] or 0 for row in table)
    for row in table:
        if (row['test_symbols'] or 0) < most:  # of the text's beginning: nothing to put beside the others
            row['test'] = None

    path, _ = cli.results_so_far(str(workdir), 'compare')
    run_folder.write_json(path, {'experiment': 'compare', 'equal': shared, 'runs': table})
    for x in shared:
        plots.save(workdir / f'{x}.png', plots.learning_curve(histories, x, label=f'bits per {letter}'))
    print(
        f'bits per {letter}: validation at {shared["seconds"]:.0f} s, at {shared["characters"] / 1e6:.1f} M characters'
    )
    print(f'test at the end\n{"run":28s} {"seconds":>8s} {"M chars":>8s} {"=time":>7s} {"=chars":>7s} {"test":>7s}')
    for row in table:
        columns = (row['at_equal_seconds'], row['at_equal_characters'], row['test'])
        print(
            f'{row["run"]:28s} {row["seconds"]:8.0f} {row["characters"] / 1e6:8.1f} '
            + ' '.join(f'{shown(bits):>7s}' for bits in columns)
        )


def check_alike(paths):
    """The runs read the same text, and their seconds are of one clock."""

    def facts(path):
        return (
            {'clock': 'wall'}
            | run_folder.read_json(str(path), 'flags.json')
            | run_folder.read_json(str(path), 'about.json')
        )

    first = facts(paths[0])
    for path in paths[1:]:
        other = facts(path)
        for name in ('clock', 'train_crc32', 'valid_crc32', 'test_crc32'):
            if other.get(name) != first.get(name):
                raise RunError(f'{path} has another {name} than {paths[0]}; they cannot be compared')


def check_symbols(histories):
    """The validation text was read as far by all, where they tell how far."""
    told = {name: {row['valid_symbols'] for row in rows if 'valid_symbols' in row} for name, rows in histories.items()}
    if len(set().union(*told.values())) > 1:
        far = ', '.join(f'{name} {" and ".join(map(str, sorted(n)))}' for name, n in told.items() if n)
        raise RunError(f'validation figures are of other numbers of symbols ({far}); they cannot be compared')


def reached(rows, x, limit):
    """The lowest validation value that was there by the limit, None if there was none."""
    return min((row['valid_bits_per_char'] for row in rows if row[x] <= limit), default=None)


def shown(bits):
    return '-' if bits is None else f'{bits:.3f}'


if __name__ == '__main__':
    cli.run(main)
