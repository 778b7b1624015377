"""Pictures of what happened."""

import pathlib
import warnings
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from hfrnn.data.strokes import to_strokes


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


def surprise(path: pathlib.Path, symbols: Sequence[str], bits: Sequence[float], width: int = 100) -> None:
    """How little a model expected each symbol of a text: the symbols below bars of -log2 P, as PNG.

    Args:
      symbols: what is written below each bar.
      width: how many stand in a row, at most; of words, as many as have that many characters.
    """
    rows, room = [[]], width
    for i, symbol in enumerate(symbols):
        if rows[-1] and room < len(symbol):
            rows.append([])
            room = width
        rows[-1].append(i)
        room -= len(symbol)
    figure = Figure(figsize=(0.13 * width + 1, 1.1 * len(rows) + 0.4), layout='constrained')
    highest = max(8.0, *bits)
    shown = {'\n': '\N{RETURN SYMBOL}', ' ': '\N{OPEN BOX}'}
    for axes, row in zip(figure.subplots(len(rows), 1, squeeze=False)[:, 0], rows, strict=True):
        lengths = np.array([len(symbols[i]) for i in row])
        centres = np.cumsum(lengths) - lengths / 2
        heights = np.array([bits[i] for i in row])
        axes.bar(centres, heights, 0.9 * lengths, color=colormaps['viridis_r'](heights / highest))
        axes.set(xlim=(0, width), ylim=(0, highest))
        axes.set_xticks(centres, [shown.get(symbols[i], symbols[i]) for i in row])
        axes.tick_params(axis='x', length=0, labelsize='small', labelfontfamily='monospace')
        axes.tick_params(axis='y', labelsize='x-small')
        axes.spines[['top', 'right']].set_visible(False)
    figure.supylabel('bits', fontsize='small')
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='Glyph')  # what the font lacks is an empty box
        figure.savefig(path, dpi=120)


def solved(path: pathlib.Path, rows: Sequence[dict]) -> None:
    """The share of nets that solved each task against its lag, a line for each method, as PNG.

    Args:
      rows: dicts of task, method, T, and how many ``nets`` there were and how many of them ``solved`` it.
    """
    names, methods = (list(dict.fromkeys(row[key] for row in rows)) for key in ('task', 'method'))
    across = min(4, len(names))
    down = -(-len(names) // across)
    figure = Figure(figsize=(2.6 * across + 0.6, 2.3 * down + 0.6), layout='constrained')
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
    figure.savefig(path, dpi=120)


# -- handwriting ------------------------------------------------------------------------------------------------------

MM = 0.025  # millimetres in a unit of the pen: a line comes out as high as one writes on paper
PEN = 12.0  # units, its width
MARGIN = 60.0  # units around and between lines
SECONDS = 1 / 75  # between two points


def _placed(lines: Sequence[np.ndarray]) -> tuple[list[list[np.ndarray]], float, float]:
    """The strokes of each line, one line below the other, and the width and height of all, in units."""
    drawn = [to_strokes(np.asarray(line)) for line in lines]
    placed, top, right = [], MARGIN, 0.0
    for strokes in drawn:
        points = np.concatenate([*strokes, np.zeros((int(not strokes), 2))])
        low, high = points.min(axis=0), points.max(axis=0)
        placed.append([stroke - low + (MARGIN, top) for stroke in strokes])
        top, right = top + (high - low)[1] + MARGIN, max(right, (high - low)[0])
    return placed, right + 2 * MARGIN, top


def strokes_svg(lines: Sequence[np.ndarray], animate: bool = False) -> str:
    """Handwriting as SVG: one path for each stroke, in the order of writing, so that a plotter draws it as a pen would.

    Args:
      lines: (T, 3) offsets each, in units; drawn one below the other.
      animate: the picture draws itself, at the speed of the pen; without a program that can animate it stays empty.

    Returns:
      The file's text; nothing but the offsets goes into it.
    """
    placed, width, height = _placed(lines)
    paths, clock = [], 0.0
    for stroke in (stroke for strokes in placed for stroke in strokes):
        points = np.rint(stroke * 10).astype(int)
        if np.all(points == points[0]):
            points = np.array([points[0], points[0] + (1, 0)])  # a dot needs some length to be drawn
        path = 'M' + ' '.join(f'{x / 10:g},{y / 10:g}' for x, y in points)
        if animate:
            begin, lasts = f'begin="{clock:.2f}s"', SECONDS * len(stroke)
            paths.append(
                f'<path d="{path}" pathLength="1" stroke-dasharray="1 2" stroke-dashoffset="1" visibility="hidden">'
                f'<set attributeName="visibility" to="visible" {begin}/>'
                f'<animate attributeName="stroke-dashoffset" to="0" {begin} dur="{lasts:.2f}s" fill="freeze"/></path>'
            )
            clock += lasts + 2 * SECONDS
        else:
            paths.append(f'<path d="{path}"/>')
    return '\n'.join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.1f} {height:.1f}" '
            f'width="{width * MM:.2f}mm" height="{height * MM:.2f}mm" fill="none" stroke="black" '
            f'stroke-width="{PEN:g}" stroke-linecap="round" stroke-linejoin="round">',
            *paths,
            '</svg>\n',
        ]
    )


def strokes_png(path: pathlib.Path, lines: Sequence[np.ndarray], dpi: int = 150) -> None:
    """Handwriting as PNG: as ``strokes_svg`` draws it, on white."""
    placed, width, height = _placed(lines)
    inch = MM / 25.4
    figure = Figure(figsize=(width * inch, height * inch))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis('off')
    points = [np.concatenate([stroke, np.add(stroke[-1:], (1, 0))]) for strokes in placed for stroke in strokes]
    axes.add_collection(LineCollection(points, colors='black', linewidths=PEN * inch * 72, capstyle='round'))
    figure.savefig(path, dpi=dpi)
