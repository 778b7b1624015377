"""Figures of handwriting: strokes, the density of the next point, and the window over the text along a line.

Drawing functions return a matplotlib Figure, which the caller saves or shows.

Source: Graves 2013 (G13), figures 10, 13 and 14.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from hfrnn.handwriting.render import MM, PEN, layout
from hfrnn.handwriting.strokes import Scale, to_strokes
from hfrnn.nets.outputs import Mixture


def strokes_figure(lines: Sequence[np.ndarray]) -> Figure:
    """Handwriting as ``render.strokes_svg`` draws it, on white, at the size of paper.

    Args:
      lines: (T, 3) offsets each, in units.
    """
    page, width, height = layout(lines)
    inch = MM / 25.4
    figure = Figure(figsize=(width * inch, height * inch))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis('off')
    points = [np.concatenate([stroke, np.add(stroke[-1:], (1, 0))]) for strokes in page for stroke in strokes]
    axes.add_collection(LineCollection(points, colors='black', linewidths=PEN * inch * 72, capstyle='round'))
    return figure


# -- what a net predicts ----------------------------------------------------------------------------------------------

CELL = 6.0  # units, a cell of the map of the density


def density_map(offsets: np.ndarray, m: Mixture, scale: Scale) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """The densities of all next points of a line, summed over the page, G13 fig. 10.

    Args:
      offsets: (T, 3) in units.
      m: the mixture at each of its first T - 1 points, normalised by ``scale``.

    Returns:
      (rows, columns) the expected number of points in each cell, y downward, and its extent (left, right, bottom, top)
      in units.
    """
    points = np.cumsum(np.asarray(offsets, np.float64)[:, :2], axis=0)
    points -= points[0]
    sd = np.asarray(scale.sd)[:, None]
    centres = points[:-1, :, None] + m.mu * sd + np.asarray(scale.mean)[:, None]  # (T - 1, 2, M)
    sigmas = np.maximum(np.exp(m.log_sigma) * sd, CELL / 2)  # narrower ones would miss the cells
    low = points.min(axis=0) - 20 * CELL
    size = np.ceil((np.ptp(points, axis=0) + 40 * CELL) / CELL).astype(int)
    total = np.zeros(size[::-1])
    weights, rhos = np.exp(m.log_pi), np.tanh(m.rhohat)
    for t, j in np.argwhere(weights > 0.005):
        centre, sigma, rho = centres[t, :, j] - low, sigmas[t, :, j], np.clip(rhos[t, j], -0.98, 0.98)
        first, last = (np.clip((centre + side * 4 * sigma) // CELL, 0, size).astype(int) for side in (-1, 1))
        u, v = (((np.arange(a, b) + 0.5) * CELL - c) / s for a, b, c, s in zip(first, last, centre, sigma, strict=True))
        u, v = u[None, :], v[:, None]
        Z = (u**2 + v**2 - 2 * rho * u * v) / (1 - rho**2)
        top = weights[t, j] * CELL**2 / (2 * np.pi * sigma.prod() * np.sqrt(1 - rho**2))
        total[first[1] : last[1], first[0] : last[0]] += top * np.exp(-0.5 * Z)
    right, bottom = low + size * CELL
    return total, (float(low[0]), float(right), float(bottom), float(low[1]))


def density_figure(offsets: np.ndarray, m: Mixture, scale: Scale) -> Figure:
    """A line, the density of its next points, and the mixture's weights over time; G13 fig. 10."""
    density, extent = density_map(offsets, m, scale)
    rows, columns = density.shape
    high = min(10 * rows / columns, 12)
    figure = Figure(figsize=(11, high + 3.2), layout='constrained')
    page, time = figure.subplots(2, 1, height_ratios=(high, 1.8))
    page.imshow(np.sqrt(density), extent=extent, cmap='inferno', aspect='equal', interpolation='bilinear')
    page.add_collection(LineCollection(to_strokes(np.asarray(offsets)), colors='white', linewidths=0.4, alpha=0.6))
    page.set(xlabel='x, units', ylabel='y', title='density of the next point')
    shown = time.imshow(np.exp(m.log_pi).T, aspect='auto', cmap='inferno', vmin=0, vmax=1, interpolation='nearest')
    time.set(xlabel='point', ylabel='component', title='mixture weights')
    figure.colorbar(shown, ax=time)
    return figure


def window_figure(offsets: np.ndarray, weights: np.ndarray, text: str) -> Figure:
    """The window over the characters of a line, and the pen's height, over time; G13 fig. 13.

    Args:
      weights: (T - 1, U), shown by their square roots.
      text: U characters.
    """
    figure = Figure(figsize=(11, 2.5 + 0.16 * len(text)), layout='constrained')
    pen, characters = figure.subplots(2, 1, sharex=True, height_ratios=(1.2, 0.3 + 0.12 * len(text)))
    offsets = np.asarray(offsets, np.float64)
    heights = np.cumsum(offsets[:, 1])
    cuts = np.flatnonzero(offsets[:-1, 2] > 0.5) + 1
    pieces = np.split(np.column_stack([np.arange(len(heights)), heights]), cuts)
    pen.add_collection(LineCollection([p for p in pieces if len(p) > 1], colors='black', linewidths=0.8))
    pen.set(ylim=(heights.max() + 20, heights.min() - 20), ylabel='y', yticks=[])
    characters.imshow(np.sqrt(weights.T), aspect='auto', cmap='inferno', interpolation='nearest', origin='upper')
    characters.set_yticks(range(len(text)), [c if c != ' ' else '\N{OPEN BOX}' for c in text], family='monospace')
    characters.tick_params(axis='y', labelsize=7)
    characters.set(xlabel='point', xlim=(0, len(heights)))
    return figure


def comparison_figure(real: Sequence[np.ndarray], sampled: Sequence[np.ndarray], texts: Sequence[str]) -> Figure:
    """Real lines on the left, those of a net on the right, all at one scale; G13 fig. 14."""
    rows = len(texts)
    figure = Figure(figsize=(13, 0.95 * rows + 0.4), layout='constrained')
    grid = figure.subplots(rows, 2, squeeze=False)
    pages = [[layout([line]) for line in pair] for pair in zip(real, sampled, strict=True)]
    wide, high = (max(page[i] for pair in pages for page in pair) for i in (1, 2))
    for axes_row, pair, text in zip(grid, pages, texts, strict=True):
        for axes, ((strokes,), _, height) in zip(axes_row, pair, strict=True):
            axes.add_collection(LineCollection(strokes, colors='black', linewidths=0.8))
            middle = height / 2
            axes.set(xlim=(0, wide), ylim=(middle + high / 2, middle - high / 2), aspect='equal')
            axes.axis('off')
        axes_row[0].set_title(text, fontsize=6, loc='left', parse_math=False)
    for axes, name in zip(grid[0], ('the data', 'the net'), strict=True):
        axes.set_title(name, fontsize='small')
    return figure
