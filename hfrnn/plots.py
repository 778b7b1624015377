"""Pictures of what happened: each function draws one and returns it, and ``save`` writes it."""

import pathlib
import warnings
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from hfrnn import io

DPI = 120


def save(path: str | pathlib.Path, figure: Figure, dpi: int = DPI) -> None:
    """Writes a picture in the format that the end of the path names, whole or not at all."""
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(), io.atomic_write(path) as file:
        warnings.filterwarnings('ignore', message='Glyph')  # what the font lacks is an empty box
        figure.savefig(file, format=pathlib.Path(path).suffix[1:].lower(), dpi=dpi)


def learning_curve(
    runs: dict[str, list[dict]],
    x: str = 'seconds',
    y: str = 'bits_per_char',
    label: str = 'bits per character',
) -> Figure:
    """The value that training lowers, against seconds, steps or characters.

    Args:
      runs: the rows of each run's metrics.jsonl by its name; dashed where a row has a training value, solid with dots
        where it has a validation value.
      y: the name of the training value; that of the validation value has valid_ before it.
      label: of y, for people.
    """
    figure = Figure(figsize=(7, 4.5), layout='constrained', dpi=DPI)
    axes, keys = figure.subplots(), (y, f'valid_{y}')
    for i, (name, rows) in enumerate(runs.items()):
        for key, style in zip(keys, ('--', '.-'), strict=True):
            points = [(row[x], row[key]) for row in rows if row.get(key) is not None]
            if points:
                legend = f'{name} {"validation" if key.startswith("valid") else "training batches"}'.strip()
                axes.plot(*zip(*points, strict=True), style, color=f'C{i}', label=legend, linewidth=1)
    shown = [sorted(row[key] for rows in runs.values() for row in rows if row.get(key) is not None) for key in keys]
    shown = [values for values in shown if values] or [[1.0]]
    lowest = min(values[0] for values in shown)
    if lowest > 0:
        limits = 0.9 * lowest, min(3 * lowest, lowest + 3)
    else:  # a density's nats have no natural zero; the highest are those of the first steps
        span = max(values[int(0.9 * (len(values) - 1))] for values in shown) - lowest or 1.0
        limits = lowest - 0.1 * span, lowest + 1.3 * span
    axes.set(xlabel=x, ylabel=label, ylim=limits)
    axes.grid(alpha=0.3)
    axes.legend(fontsize='small')
    return figure


def surprise(symbols: Sequence[str], bits: Sequence[float], width: int = 100) -> Figure:
    """How little a model expected each symbol of a text: the symbols below bars of -log2 P.

    Args:
      symbols: what is written below each bar.
      width: the most characters in a row; a word counts all of its own.
    """
    rows, room = [[]], width
    for i, symbol in enumerate(symbols):
        if rows[-1] and room < len(symbol):
            rows.append([])
            room = width
        rows[-1].append(i)
        room -= len(symbol)
    figure = Figure(figsize=(0.13 * width + 1, 1.1 * len(rows) + 0.4), layout='constrained', dpi=DPI)
    highest = max(8.0, *bits)
    shown = {'\n': '\N{RETURN SYMBOL}', ' ': '\N{OPEN BOX}'}
    for axes, row in zip(figure.subplots(len(rows), 1, squeeze=False)[:, 0], rows, strict=True):
        lengths = np.array([len(symbols[i]) for i in row])
        centres = np.cumsum(lengths) - lengths / 2
        heights = np.array([bits[i] for i in row])
        axes.bar(centres, heights, 0.9 * lengths, color=colormaps['viridis_r'](heights / highest))
        axes.set(xlim=(0, width), ylim=(0, highest))
        axes.set_xticks(centres, [shown.get(symbols[i], symbols[i]) for i in row], parse_math=False)
        axes.tick_params(axis='x', length=0, labelsize='small', labelfontfamily='monospace')
        axes.tick_params(axis='y', labelsize='x-small')
        axes.spines[['top', 'right']].set_visible(False)
    figure.supylabel('bits', fontsize='small')
    return figure


def solved(rows: Sequence[dict]) -> Figure:
    """The share of nets that solved each task against its lag, a line for each method.

    Args:
      rows: dicts of task, method, T, and how many ``nets`` there were and how many of them ``solved`` it.
    """
    names, methods = (list(dict.fromkeys(row[key] for row in rows)) for key in ('task', 'method'))
    across = min(4, len(names))
    down = -(-len(names) // across)
    figure = Figure(figsize=(2.6 * across + 0.6, 2.3 * down + 0.6), layout='constrained', dpi=DPI)
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel()
    for axes in grid[len(names) :]:
        axes.set_visible(False)
    for axes, name in zip(grid, names, strict=False):
        for i, method in enumerate(methods):
            points = sorted(
                (r['T'], r['solved'] / r['nets']) for r in rows if (r['task'], r['method']) == (name, method)
            )
            if points:
                xs, ys = np.transpose(points)
                shifted = ys + 0.02 * (i - (len(methods) - 1) / 2)  # equal shares stay visible
                axes.plot(xs, shifted, 'os^v'[i % 4] + '-', color=f'C{i}', label=method, markersize=4, linewidth=1)
        axes.set(title=name.replace('_', ' '), ylim=(-0.07, 1.07))
        axes.title.set_fontsize('medium')
        axes.grid(alpha=0.3)
    figure.supxlabel('minimum lag T, in time steps')
    figure.supylabel('share of nets that solved it')
    handles = {label: h for axes in grid for h, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc='outside upper center', ncols=4, fontsize='small')
    return figure


def curves(lines: dict[str, Sequence[tuple[float, float]]], x: str, y: str) -> Figure:
    """A line of (x, y) points for each name, y on a logarithmic scale."""
    figure = Figure(figsize=(7, 4.5), layout='constrained', dpi=DPI)
    axes = figure.subplots()
    for name, points in lines.items():
        axes.plot(*np.reshape(points, (-1, 2)).T, '.-', label=name, linewidth=1)
    axes.set(xlabel=x, ylabel=y, yscale='log')
    axes.grid(alpha=0.3)
    axes.legend(fontsize='small')
    return figure


def bars(groups: dict[str, dict[str, float]], label: str) -> Figure:
    """A bar for each model in each group.

    Args:
      groups: {group: {model: value}}.
    """
    figure = Figure(figsize=(1.6 + 1.6 * len(groups) + 1.2 * len(groups), 3.6), layout='constrained', dpi=DPI)
    axes = figure.subplots()
    names = list(dict.fromkeys(name for values in groups.values() for name in values))
    for i, name in enumerate(names):
        xs = [j + 0.8 * (i + 0.5) / len(names) - 0.4 for j in range(len(groups))]
        axes.bar(xs, [values.get(name, 0.0) for values in groups.values()], 0.7 / len(names), label=name, color=f'C{i}')
    axes.set(ylabel=label, xticks=range(len(groups)), xticklabels=list(groups))
    axes.legend(fontsize='small')
    return figure


def balance(pairs: dict[str, dict[str, dict]], distances: Sequence[int]) -> Figure:
    """The probability of a closing sign against the distance from the opening one, solid, and without one, dashed.

    Args:
      pairs: {pair: {model: {'open': probabilities, 'none': probabilities}}}, None for a distance without any.
    """
    figure = Figure(figsize=(0.6 + 3.2 * len(pairs), 3.4), layout='constrained', dpi=DPI)
    for axes, (pair, models) in zip(figure.subplots(1, len(pairs), squeeze=False)[0], pairs.items(), strict=True):
        for i, (name, curves) in enumerate(models.items()):
            for which, style in (('open', 'o-'), ('none', 'x--')):
                points = [(d, p) for d, p in zip(distances, curves[which], strict=True) if p is not None]
                label = name if which == 'open' else None
                xs, ys = zip(*points, strict=True) if points else ((), ())
                axes.plot(xs, ys, style, color=f'C{i}', label=label, markersize=4, linewidth=1)
        axes.set(title=f'{pair[0]} ... {pair[1]}', xscale='log', yscale='log', xlabel='characters since')
        axes.grid(alpha=0.3)
        axes.legend(fontsize='small')
    figure.supylabel('probability of the closing sign')
    return figure


def frames(videos: dict[str, np.ndarray], size: int) -> Figure:
    """Videos, a row for each, from 0 (black) to 1 (white).

    Args:
      videos: (T, size * size) frames by name; they may differ in T.
    """
    longest = max(len(video) for video in videos.values())
    figure = Figure(figsize=(1.3 + 0.5 * longest, 0.6 * len(videos) + 0.2), layout='constrained', dpi=DPI)
    rows = figure.subplots(len(videos), 1, squeeze=False)[:, 0]
    for axes, (name, video) in zip(rows, videos.items(), strict=True):
        wall = np.full((longest, size + 1, size + 1), np.nan)  # a line between frames
        wall[: len(video), :size, :size] = np.reshape(video, (-1, size, size))
        axes.imshow(np.concatenate(wall, 1)[:size], cmap='gray', vmin=0, vmax=1)
        axes.set(xticks=[], yticks=[])
        axes.set_ylabel(name, rotation=0, ha='right', va='center')
        axes.spines[:].set_visible(False)
    return figure
