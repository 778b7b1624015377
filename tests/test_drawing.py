"""Laws of pictures of handwriting: a path for each stroke, right way up, and the same bytes each time."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib.image import imread

from hfrnn import plotting
from hfrnn.data import strokes

SVG = '{http://www.w3.org/2000/svg}'
DRAWN = [np.array([[0, 0], [10, 50], [20, 0]]), np.array([[40, 10]]), np.array([[60, 0], [60, 0]])]
LINES = [strokes.from_strokes(DRAWN), strokes.from_strokes(DRAWN[:1])]


def paths(svg):
    return ET.fromstring(svg).findall(f'{SVG}path')


def points(path):
    return np.array([pair.split(',') for pair in path.get('d')[1:].split()], float)


@pytest.mark.parametrize('animate', [False, True])
def test_one_path_for_each_stroke_and_the_same_bytes_each_time(animate):
    svg = plotting.strokes_svg(LINES, animate)
    assert svg == plotting.strokes_svg([line.astype(np.float64) for line in LINES], animate)
    found = paths(svg)
    assert len(found) == len(DRAWN) + 1
    for path, stroke in zip(found, [*DRAWN, DRAWN[0]], strict=True):
        drawn = points(path) - points(path)[0]
        if len(np.unique(stroke, axis=0)) > 1:
            np.testing.assert_allclose(drawn, stroke - stroke[0], atol=0.1)
        else:
            assert 0 < np.abs(drawn).max() < 1  # a dot, with some length so that it is drawn


def test_all_of_it_is_inside_and_lines_do_not_touch():
    svg = plotting.strokes_svg(LINES)
    _, _, width, height = map(float, ET.fromstring(svg).get('viewBox').split())
    every = [points(path) for path in paths(svg)]
    low, high = np.concatenate(every).min(axis=0), np.concatenate(every).max(axis=0)
    assert (low >= plotting.MARGIN).all() and (
        high <= (width - plotting.MARGIN + 0.2, height - plotting.MARGIN + 0.2)
    ).all()
    assert every[-1][:, 1].min() > max(part[:, 1].max() for part in every[:-1])
    assert np.argmax(every[0][:, 1]) == 1  # the V has its point below: y grows downward, as in the recordings


def test_an_animation_draws_strokes_one_after_the_other_at_the_speed_of_the_pen():
    clock = 0.0
    for path, stroke in zip(paths(plotting.strokes_svg(LINES[:1], animate=True)), DRAWN, strict=True):
        animate = path.find(f'{SVG}animate')
        begin, lasts = (float(animate.get(name)[:-1]) for name in ('begin', 'dur'))
        assert begin >= clock and lasts == pytest.approx(len(stroke) / 75, abs=0.01)
        assert path.find(f'{SVG}set').get('begin') == animate.get('begin')
        clock = begin + lasts - 0.01
    assert 'animate' not in plotting.strokes_svg(LINES)


@pytest.mark.parametrize('lines', [[], [np.zeros((0, 3))], [np.zeros((0, 3)), LINES[1]]])
def test_no_strokes_make_an_empty_picture(tmp_path, lines):
    assert len(paths(plotting.strokes_svg(lines))) == sum(len(line) > 0 for line in lines)
    plotting.strokes_png(tmp_path / 'a.png', lines)
    assert (tmp_path / 'a.png').stat().st_size > 0


def test_a_png_shows_what_the_svg_shows(tmp_path):
    plotting.strokes_png(tmp_path / 'a.png', LINES[1:], dpi=600)
    dark = imread(tmp_path / 'a.png')[..., 0] < 0.5
    _, _, width, height = map(float, re.search('viewBox="(.*?)"', plotting.strokes_svg(LINES[1:]))[1].split())
    rows, columns = np.nonzero(dark)
    unit = dark.shape[1] / width
    assert dark.shape[0] / height == pytest.approx(unit, rel=0.05)
    edge = plotting.MARGIN - plotting.PEN / 2
    for first, last, size in ((rows.min(), rows.max(), height), (columns.min(), columns.max(), width)):
        assert first / unit == pytest.approx(edge, abs=3)
        assert last / unit == pytest.approx(size - edge, abs=3)
    lowest = columns[rows > rows.max() - 5 * unit].mean()
    assert lowest / unit == pytest.approx(width / 2, abs=3)  # the V stands on its point


def test_surprise_is_a_picture_of_any_text(tmp_path):
    for name, symbols in (
        ('letters', [*'what? \n', '\N{SNOWMAN}', '\x00', '$'] * 30),
        ('words', ['word', '<eos>', 'x' * 150]),
    ):
        path = tmp_path / f'{name}.png'
        plotting.surprise(path, symbols, np.linspace(0, 12, len(symbols)))
        assert path.read_bytes().startswith(b'\x89PNG')
