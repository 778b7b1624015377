"""Pictures of what happened."""

import pathlib

from matplotlib.figure import Figure


def learning_curve(path: pathlib.Path, runs: dict[str, list[dict]], x: str = 'seconds') -> None:
    """Bits per character against seconds, steps or characters, as PNG.

    Args:
      path: where to.
      runs: the rows of each run's metrics.jsonl by its name; dashed where a row has a training value, solid with dots
        where it has a validation value.
    """
    figure = Figure(figsize=(7, 4.5), layout='constrained')
    axes = figure.subplots()
    for i, (name, rows) in enumerate(runs.items()):
        for key, style in (('bits_per_char', '--'), ('valid_bits_per_char', '.-')):
            points = [(row[x], row[key]) for row in rows if row.get(key) is not None]
            if points:
                label = f'{name} {"validation" if key.startswith("valid") else "training batches"}'.strip()
                axes.plot(*zip(*points, strict=True), style, color=f'C{i}', label=label, linewidth=1)
    lowest = min((row['bits_per_char'] for rows in runs.values() for row in rows), default=1.0)
    axes.set(xlabel=x, ylabel='bits per character', ylim=(0.9 * lowest, min(3 * lowest, lowest + 3)))
    axes.grid(alpha=0.3)
    axes.legend(fontsize='small')
    figure.savefig(path, dpi=120)
