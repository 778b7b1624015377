"""Laws of figures of handwriting: they show what they are given, where it belongs."""

import re

import numpy as np
import pytest
from matplotlib.image import imread

from hfrnn.handwriting import figures, render, strokes
from hfrnn.nets.outputs import Mixture

DRAWN = [np.array([[0, 0], [10, 50], [20, 0]]), np.array([[40, 10]]), np.array([[60, 0], [60, 0]])]
LINES = [strokes.from_strokes(DRAWN), strokes.from_strokes(DRAWN[:1])]


def test_a_png_shows_what_the_svg_shows(tmp_path):
    figures.strokes_figure(LINES[1:]).savefig(tmp_path / 'a.png', dpi=600)
    dark = imread(tmp_path / 'a.png')[..., 0] < 0.5
    _, _, width, height = map(float, re.search('viewBox="(.*?)"', render.strokes_svg(LINES[1:]))[1].split())
    rows, columns = np.nonzero(dark)
    unit = dark.shape[1] / width
    assert dark.shape[0] / height == pytest.approx(unit, rel=0.05)
    edge = render.MARGIN - render.PEN / 2
    for first, last, size in ((rows.min(), rows.max(), height), (columns.min(), columns.max(), width)):
        assert first / unit == pytest.approx(edge, abs=3)
        assert last / unit == pytest.approx(size - edge, abs=3)
    lowest = columns[rows > rows.max() - 5 * unit].mean()
    assert lowest / unit == pytest.approx(width / 2, abs=3)  # the V stands on its point


def mixtures(T, M=2):
    """One component on the next point, narrow, with most of the weight."""
    log_pi = np.log(np.array([[0.9, 0.1]] * T))
    return Mixture(np.zeros(T), log_pi, np.zeros((T, 2, M)), np.full((T, 2, M), -1.0), np.zeros((T, M)))


def test_the_map_of_a_density_holds_one_for_each_next_point_where_it_is_to_be():
    offsets = strokes.from_strokes(DRAWN)
    T, scale = len(offsets) - 1, strokes.Scale(np.zeros(2), np.array([30.0, 30.0]))
    m = mixtures(T)._replace(mu=np.repeat((offsets[1:, :2] / scale.sd)[:, :, None], 2, axis=2))
    density, (left, right, bottom, top) = figures.density_map(offsets, m, scale)
    assert density.sum() == pytest.approx(T, rel=0.02)
    x = left + (np.arange(density.shape[1]) + 0.5) * (right - left) / density.shape[1]
    y = top + (np.arange(density.shape[0]) + 0.5) * (bottom - top) / density.shape[0]
    points = np.cumsum(offsets[:, :2], axis=0)[1:]
    for axis, places in ((0, x), (1, y)):
        assert density.sum(axis) @ places / density.sum() == pytest.approx(points[:, axis].mean(), abs=2)


def test_the_figures_show_what_they_are_given(tmp_path):
    offsets, scale = strokes.from_strokes(DRAWN), strokes.Scale(np.zeros(2), np.array([30.0, 30.0]))
    T, m = len(offsets) - 1, mixtures(len(offsets) - 1)
    page, time, _ = figures.density_figure(offsets, m, scale).axes  # and a bar of colours
    np.testing.assert_allclose(page.images[0].get_array() ** 2, figures.density_map(offsets, m, scale)[0])
    for found, expected in zip(page.collections[0].get_segments(), strokes.to_strokes(offsets), strict=True):
        np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(time.images[0].get_array(), np.exp(m.log_pi).T)

    weights = np.random.default_rng(0).random((T, 3))
    figure = figures.window_figure(offsets, weights, 'a b')
    pen, characters = figure.axes
    np.testing.assert_allclose(characters.images[0].get_array() ** 2, weights.T)
    assert [label.get_text() for label in characters.get_yticklabels()] == ['a', '\N{OPEN BOX}', 'b']
    heights = np.concatenate([piece[:, 1] for piece in pen.collections[0].get_segments()])
    np.testing.assert_allclose(heights, np.concatenate([s[:, 1] for s in strokes.to_strokes(offsets) if len(s) > 1]))

    others = [strokes.from_strokes([2 * stroke for stroke in strokes.to_strokes(line)]) for line in LINES]
    left, right, *below = figures.comparison_figure(LINES, others, ['one', 'two']).axes
    assert [axes.get_title() for axes in (left, right)] == ['the data', 'the net']
    for axes, line in zip((left, right, *below), (LINES[0], others[0], LINES[1], others[1]), strict=True):
        for found, expected in zip(axes.collections[0].get_segments(), render.layout([line])[0][0], strict=True):
            np.testing.assert_allclose(found, expected)
    figure.savefig(tmp_path / 'window.png')
    assert np.ptp(imread(tmp_path / 'window.png')[..., :3]) > 0.5
