"""Laws of pictures of handwriting: a path for each stroke, right way up, and the same bytes each time."""

import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from hfrnn.handwriting import figures, ink, render, strokes

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
    figures.strokes_figure(lines).savefig(tmp_path / 'a.png')
    assert (tmp_path / 'a.png').stat().st_size > 0


def test_lines_stand_at_equal_distances():
    lines = [LINES[1], strokes.from_strokes([np.array([[0, 0], [20, 0]])]), LINES[0]]
    middles = [np.median(np.concatenate(page)[:, 1]) for page in render.layout(lines)[0]]
    assert np.diff(middles, 2) == pytest.approx(0)


def test_json_can_be_read_as_ink():
    drawn = ink.parse_json(render.strokes_json(LINES[:1]).encode())
    for found, expected in zip(drawn, DRAWN, strict=True):
        np.testing.assert_allclose(found - drawn[0][0], expected, atol=0.05)
    assert json.loads(render.strokes_json([])) == []
