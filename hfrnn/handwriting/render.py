"""Handwriting as SVG and JSON text.  For PNG and the figures of Graves 2013, see ``figures``."""

import json
from collections.abc import Sequence

import numpy as np

from hfrnn.handwriting.strokes import to_strokes

MM = 0.025  # millimetres in a unit of the pen: a line is as high as on paper
PEN = 12.0  # units, its width
MARGIN = 60.0  # units around and between lines
SECONDS = 1 / 75  # between two points


def layout(lines: Sequence[np.ndarray]) -> tuple[list[list[np.ndarray]], float, float]:
    """The strokes of each line on a page, and its width and height, in units.

    The middle of a line is where most of its ink is.  The middles are equally far apart, as close as possible without
    two lines touching.

    Args:
      lines: (T, 3) offsets each, in units.
    """
    page, reach, right = [], [], 0.0
    for strokes in (to_strokes(np.asarray(line)) for line in lines):
        points = np.concatenate([*strokes, np.zeros((int(not strokes), 2))])
        (left, low), (far, high) = points.min(axis=0), points.max(axis=0)
        middle = float(np.median(points[:, 1]))
        page.append([stroke - (left, middle) for stroke in strokes])
        reach.append((middle - low, high - middle))
        right = max(right, far - left)
    ups, downs = zip(*reach, strict=True) if reach else ((0.0,), (0.0,))
    pitch = MARGIN + max((up + down for up, down in zip(ups[1:], downs[:-1], strict=True)), default=0.0)
    middles = MARGIN + ups[0] + pitch * np.arange(len(page))
    height = MARGIN + ups[0] + pitch * (len(ups) - 1) + downs[-1] + MARGIN
    page = [[np.add(stroke, (MARGIN, m)) for stroke in strokes] for strokes, m in zip(page, middles, strict=True)]
    return page, right + 2 * MARGIN, height


def strokes_svg(lines: Sequence[np.ndarray], animate: bool = False) -> str:
    """Handwriting as SVG: one path for each stroke, in the order of writing, so that a plotter draws it like a pen.

    Args:
      lines: (T, 3) offsets each, in units; drawn one below the other.
      animate: the picture draws itself at the speed of the pen; a program that cannot animate shows nothing.

    Returns:
      The content of the file, a function of the offsets alone.
    """
    page, width, height = layout(lines)
    paths, clock = [], 0.0
    for stroke in (stroke for strokes in page for stroke in strokes):
        points = np.rint(stroke * 10).astype(int)
        if np.all(points == points[0]):
            points = np.array([points[0], points[0] + (1, 0)])  # a dot needs some length to be drawn
        path = 'M' + ' '.join(f'{x / 10:g},{y / 10:g}' for x, y in points)
        if animate:
            begin, duration = f'begin="{clock:.2f}s"', SECONDS * len(stroke)
            paths.append(
                f'<path d="{path}" pathLength="1" stroke-dasharray="1 2" stroke-dashoffset="1" visibility="hidden">'
                f'<set attributeName="visibility" to="visible" {begin}/>'
                f'<animate attributeName="stroke-dashoffset" to="0" {begin} dur="{duration:.2f}s" fill="freeze"/>'
                '</path>'
            )
            clock += duration + 2 * SECONDS
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


def strokes_json(lines: Sequence[np.ndarray]) -> str:
    """Handwriting as JSON: a list of strokes, each a list of [x, y], placed as in ``strokes_svg``.

    ``ink.read`` reads a file of one line, so that writing can go on in the same hand.
    """
    strokes = (stroke for strokes in layout(lines)[0] for stroke in strokes)
    return '[\n' + ',\n'.join(json.dumps(np.round(stroke, 1).tolist()) for stroke in strokes) + '\n]\n'
