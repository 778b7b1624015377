"""Laws of pictures of handwriting: a path for each stroke, right way up, and the same bytes each time."""

import json
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib.image import imread

from hfrnn.handwriting import ink, render, strokes
from hfrnn.nets.outputs import Mixture

SVG = '{http://www.w3.org/2000/svg}'
DRAWN = [np.array([[0, 0], [10, 50], [20, 0]]), np.array([[40, 10]]), np.array([[60, 0], [60, 0]])]
LINES = [strokes.from_strokes(DRAWN), strokes.from_strokes(DRAWN[:1])]


def paths(svg):
    return ET.fromstring(svg).findall(f'{SVG}path')


def points(path):
    return np.array([pair.split(',') for pair in path.get('d')[1:].split()], float)


@pytest.mark.parametrize('animate', [False, True])
def test_one_path_for_each_stroke_and_the_same_bytes_each_time(animate):
    svg = render.strokes_svg(LINES, animate)
    assert svg == render.strokes_svg([line.astype(np.float64) for line in LINES], animate)
    found = paths(svg)
    assert len(found) == len(DRAWN) + 1
    for path, stroke in zip(found, [*DRAWN, DRAWN[0]], strict=True):
        drawn = points(path) - points(path)[0]
        if len(np.unique(stroke, axis=0)) > 1:
            np.testing.assert_allclose(drawn, stroke - stroke[0], atol=0.1)
        else:
            assert 0 < np.abs(drawn).max() < 1  # a dot, with some length so that it is drawn


def test_all_of_it_is_inside_and_lines_do_not_touch():
    svg = render.strokes_svg(LINES)
    _, _, width, height = map(float, ET.fromstring(svg).get('viewBox').split())
    every = [points(path) for path in paths(svg)]
    low, high = np.concatenate(every).min(axis=0), np.concatenate(every).max(axis=0)
    assert (low >= render.MARGIN).all() and (high <= (width - render.MARGIN + 0.2, height - render.MARGIN + 0.2)).all()
    assert every[-1][:, 1].min() > max(part[:, 1].max() for part in every[:-1])
    assert np.argmax(every[0][:, 1]) == 1  # the V has its point below: y grows downward, as in the recordings


def test_an_animation_draws_strokes_one_after_the_other_at_the_speed_of_the_pen():
    clock = 0.0
    for path, stroke in zip(paths(render.strokes_svg(LINES[:1], animate=True)), DRAWN, strict=True):
        animate = path.find(f'{SVG}animate')
        begin, lasts = (float(animate.get(name)[:-1]) for name in ('begin', 'dur'))
        assert begin >= clock and lasts == pytest.approx(len(stroke) / 75, abs=0.01)
        assert path.find(f'{SVG}set').get('begin') == animate.get('begin')
        clock = begin + lasts - 0.01
    assert 'animate' not in render.strokes_svg(LINES)


@pytest.mark.parametrize('lines', [[], [np.zeros((0, 3))], [np.zeros((0, 3)), LINES[1]]])
def test_no_strokes_make_an_empty_picture(tmp_path, lines):
    assert len(paths(render.strokes_svg(lines))) == sum(len(line) > 0 for line in lines)
    render.strokes_png(tmp_path / 'a.png', lines)
    assert (tmp_path / 'a.png').stat().st_size > 0


def test_a_png_shows_what_the_svg_shows(tmp_path):
    render.strokes_png(tmp_path / 'a.png', LINES[1:], dpi=600)
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


def test_lines_stand_at_equal_distances():
    lines = [LINES[1], strokes.from_strokes([np.array([[0, 0], [20, 0]])]), LINES[0]]
    middles = [np.median(np.concatenate(page)[:, 1]) for page in render.placed(lines)[0]]
    assert np.diff(middles, 2) == pytest.approx(0)


def test_json_can_be_read_as_ink():
    drawn = ink.parse_json(render.strokes_json(LINES[:1]).encode())
    for mine, theirs in zip(drawn, DRAWN, strict=True):
        np.testing.assert_allclose(mine - drawn[0][0], theirs, atol=0.05)
    assert json.loads(render.strokes_json([])) == []


def mixtures(T, M=2):
    """One component on the next point, narrow, with most of the weight."""
    log_pi = np.log(np.array([[0.9, 0.1]] * T))
    return Mixture(np.zeros(T), log_pi, np.zeros((T, 2, M)), np.full((T, 2, M), -1.0), np.zeros((T, M)))


def test_the_map_of_a_density_holds_one_for_each_next_point_where_it_is_to_be():
    offsets = strokes.from_strokes(DRAWN)
    T, scale = len(offsets) - 1, strokes.Scale(np.zeros(2), np.array([30.0, 30.0]))
    m = mixtures(T)._replace(mu=np.repeat((offsets[1:, :2] / scale.sd)[:, :, None], 2, axis=2))
    density, (left, right, bottom, top) = render.density_map(offsets, m, scale)
    assert density.sum() == pytest.approx(T, rel=0.02)
    x = left + (np.arange(density.shape[1]) + 0.5) * (right - left) / density.shape[1]
    y = top + (np.arange(density.shape[0]) + 0.5) * (bottom - top) / density.shape[0]
    points = np.cumsum(offsets[:, :2], axis=0)[1:]
    for axis, places in ((0, x), (1, y)):
        assert density.sum(axis) @ places / density.sum() == pytest.approx(points[:, axis].mean(), abs=2)


def test_the_figures_show_what_they_are_given(tmp_path):
    offsets, scale = strokes.from_strokes(DRAWN), strokes.Scale(np.zeros(2), np.array([30.0, 30.0]))
    T, m = len(offsets) - 1, mixtures(len(offsets) - 1)
    page, time, _ = render.density_figure(offsets, m, scale).axes  # and a bar of colours
    np.testing.assert_allclose(page.images[0].get_array() ** 2, render.density_map(offsets, m, scale)[0])
    for mine, theirs in zip(page.collections[0].get_segments(), strokes.to_strokes(offsets), strict=True):
        np.testing.assert_allclose(mine, theirs)
    np.testing.assert_allclose(time.images[0].get_array(), np.exp(m.log_pi).T)

    weights = np.random.default_rng(0).random((T, 3))
    figure = render.window_figure(offsets, weights, 'a b')
    pen, characters = figure.axes
    np.testing.assert_allclose(characters.images[0].get_array() ** 2, weights.T)
    assert [label.get_text() for label in characters.get_yticklabels()] == ['a', '\N{OPEN BOX}', 'b']
    heights = np.concatenate([piece[:, 1] for piece in pen.collections[0].get_segments()])
    np.testing.assert_allclose(heights, np.concatenate([s[:, 1] for s in strokes.to_strokes(offsets) if len(s) > 1]))

    others = [strokes.from_strokes([2 * stroke for stroke in strokes.to_strokes(line)]) for line in LINES]
    left, right, *below = render.beside_figure(LINES, others, ['one', 'two']).axes
    assert [axes.get_title() for axes in (left, right)] == ['the data', 'the net']
    for axes, line in zip((left, right, *below), (LINES[0], others[0], LINES[1], others[1]), strict=True):
        for mine, theirs in zip(axes.collections[0].get_segments(), render.placed([line])[0][0], strict=True):
            np.testing.assert_allclose(mine, theirs)
    figure.savefig(tmp_path / 'window.png')
    assert np.ptp(imread(tmp_path / 'window.png')[..., :3]) > 0.5
