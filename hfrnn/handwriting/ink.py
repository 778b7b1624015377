"""A user's own strokes, from JSON or InkML, as the whiteboard of IAM-OnDB would have recorded them."""

import json
import pathlib
import re
from collections.abc import Sequence

import numpy as np

from hfrnn.errors import DataError
from hfrnn.handwriting import safe_xml, strokes

HEIGHT = 275.0  # units: the median of ``height`` over IAM-OnDB's 10,741 training lines
SPACING = 20.0  # units: the mean step within a stroke there
LONGEST = 20_000  # points in a line; IAM-OnDB's longest has 1,940

# -- how a pen moves --------------------------------------------------------------------------------------------------


def evenly(path: np.ndarray, step: float) -> np.ndarray:
    """(m, 2) points at equal distances of at most ``step`` along a path (n, 2), with both its ends."""
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    where = np.linspace(0, along[-1], max(int(np.ceil(along[-1] / step)), 1) + 1)
    return np.column_stack([np.interp(where, along, path[:, axis]) for axis in (0, 1)]) if along[-1] else path[:1]


def smoothed(values: np.ndarray, sd: float) -> np.ndarray:
    """Columns of values (n, k) smoothed by a Gaussian of ``sd`` rows; the first and the last row stay."""
    reach = min(int(np.ceil(3 * sd)), len(values) - 1)
    if reach < 1:
        return values
    window = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sd) ** 2)
    head, tail = 2 * values[0] - values[reach:0:-1], 2 * values[-1] - values[-2 : -reach - 2 : -1]
    padded = np.concatenate([head, values, tail])
    return np.column_stack([np.convolve(column, window / window.sum(), mode='valid') for column in padded.T])


def travel(path: np.ndarray, spacing: float = SPACING, corner: float = 8.0) -> np.ndarray:
    """(m, 2) points of a pen along a path (n, 2), at equal time steps: far apart where the pen is fast.

    Its speed is proportional to the square root of the radius, and 0 at both ends: among the powers that were tried,
    this one gives the distribution of steps that is closest to IAM-OnDB's.

    Args:
      spacing: the mean distance between two points.
      corner: the distance over which corners are rounded, in the same units.
    """
    fine = spacing / 8
    dense = smoothed(evenly(path, fine), corner / fine)
    if len(dense) < 3:
        return dense
    steps = np.diff(dense, axis=0)
    length = np.maximum(np.hypot(*steps.T), 1e-9)
    turn = np.abs(np.diff(np.unwrap(np.arctan2(*steps.T[::-1]))))
    bend = smoothed(np.concatenate([turn[:1], turn])[:, None] / fine, 2)[:, 0]  # 1 / radius
    speed = (np.maximum(bend, 0) + 0.02 / spacing) ** (-1 / 2)
    left = np.minimum(np.cumsum(length), np.cumsum(length[::-1])[::-1]) / spacing  # to the nearer end
    speed *= np.sqrt(np.minimum(0.02 + left, 1))
    clock = np.concatenate([[0], np.cumsum(length / speed)])
    when = np.linspace(0, clock[-1], max(round(length.sum() / spacing), 1) + 1)
    return np.column_stack([np.interp(when, clock, dense[:, axis]) for axis in (0, 1)])


# -- the size of a hand ------------------------------------------------------------------------------------------------


def height(drawn: Sequence[np.ndarray]) -> float:
    """The height of a line: the extent of the middle 90 % of its ink across its slope, in the units of its points.

    Args:
      drawn: (n, 2) points of each stroke.
    """
    size = np.ptp(np.concatenate(drawn), axis=0).max()
    ink = np.concatenate([evenly(np.asarray(stroke, float), size / 500 or 1.0) for stroke in drawn])
    x, y = (ink - ink.mean(axis=0)).T
    slope = np.clip(x @ y / max(x @ x, 1e-9), -0.2, 0.2)
    low, high = np.percentile(y - slope * x, [5, 95])
    return float(high - low)


def as_recorded(drawn: Sequence[np.ndarray], target_height: float = HEIGHT) -> np.ndarray:
    """(T, 3) offsets of strokes of any size and density, with the height and density of IAM-OnDB; y grows downward.

    Args:
      target_height: the ``height`` of the result, in units.

    Raises:
      DataError: if there is no point, or no height.
    """
    drawn = [np.asarray(stroke, float) for stroke in drawn if len(stroke)]
    if not drawn:
        raise DataError('no strokes')
    size = np.ptp(np.concatenate(drawn), axis=0).max()
    length = sum(np.hypot(*np.diff(stroke, axis=0).T).sum() for stroke in drawn)

    def check_length(height_now):
        points = len(drawn) + length * target_height / (height_now or 1.0) / SPACING
        if points > LONGEST:
            raise DataError(f'{points:.0f} points in one line; at most {LONGEST} make sense')

    check_length(size)  # the size is at least the height, which takes memory to compute
    current = height(drawn)
    if not current > 1e-6 * size:
        raise DataError('a level line or a dot has no height, from which to estimate the size of a hand')
    check_length(current)
    drawn = [stroke * (target_height / current) for stroke in drawn]
    return strokes.from_strokes([travel(stroke) for stroke in drawn])


# -- files ------------------------------------------------------------------------------------------------------------


def read(path: str, target_height: float = HEIGHT) -> np.ndarray:
    """(T, 3) offsets of the strokes in a JSON or InkML file, as the whiteboard would have recorded them.

    Args:
      target_height: the ``height`` of the result, in units.

    Raises:
      DataError: if the file is missing, or has no readable strokes.
    """
    try:
        data = pathlib.Path(path).read_bytes()
    except OSError as e:
        raise DataError(f'cannot read {path}: {e.strerror}') from e
    try:
        xml = data.lstrip(b'\xef\xbb\xbf \t\r\n').startswith(b'<')
        return as_recorded(parse_inkml(data) if xml else parse_json(data), target_height)
    except DataError as e:
        raise DataError(f'{path} has no readable strokes: {e}') from e


def parse_json(data: bytes) -> list[np.ndarray]:
    """The strokes of a JSON list of strokes, each a list of [x, y]; further numbers in a point are ignored.

    Raises:
      DataError: if the content is something else.
    """
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as e:
        raise DataError(f'it is neither JSON nor InkML ({e})') from e
    if not isinstance(content, list) or not all(isinstance(stroke, list) for stroke in content):
        raise DataError('it must be a list of strokes, each a list of [x, y]')
    return [_points(stroke) for stroke in content if stroke]


def parse_inkml(data: bytes) -> list[np.ndarray]:
    """The traces of an InkML document (W3C recommendation, 2011) in their order, without those of a lifted pen.

    Raises:
      DataError: if the document is broken or hostile XML, or no InkML, or an x or y is missing; or if it has traces of
        several formats, or an axis that is reversed or in another unit, which are not supported.
    """
    traces, channels, tags, units = [], [], [], set()
    inside = None  # the text of the current trace

    def start(tag, attributes):
        nonlocal inside
        tag = tag.rpartition(':')[2]
        tags.append(tag)
        found = dict(zip(attributes[::2], attributes[1::2], strict=True))
        if tag == 'channel':
            channels.append(found.get('name'))
            if channels[-1] in ('X', 'Y'):
                units.add(found.get('units'))
                if found.get('orientation', '+ve') != '+ve':
                    raise DataError(f'its {channels[-1]} is reversed ({found["orientation"][:40]})')
        elif tag == 'trace' and found.get('type') != 'penUp':
            inside = []

    def end(tag):
        nonlocal inside
        if tag.rpartition(':')[2] == 'trace' and inside is not None:
            traces.append(''.join(inside))
            inside = None

    def text(characters):
        if inside is not None:
            inside.append(characters)

    safe_xml.parse(data, 'it', start, end, text)
    if 'ink' not in tags:
        raise DataError('it is XML, but not InkML')
    if tags.count('traceFormat') > 1:
        raise DataError('its traces have several formats')
    if len(units) > 1:
        raise DataError('its X and Y are in different units')
    channels = channels or ['X', 'Y']
    if not {'X', 'Y'} <= set(channels):
        raise DataError('its traces have no X or no Y')
    columns = [channels.index('X'), channels.index('Y')]
    return [_trace(trace, columns, len(channels)) for trace in traces if trace.strip()]


_VALUE = re.compile(r'\s*([!\'"]?)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[*?TF]|#[0-9A-Fa-f]+)')


def _trace(text, columns, most):
    """A trace whose values are explicit (!), differences from the value before ('), or second differences (")."""
    points, ways = [], dict.fromkeys(columns, '!')
    for point in ' '.join(text.split()).strip(',').split(','):  # _VALUE is slow on long blanks
        values = _VALUE.findall(point)
        if not max(columns) < len(values) <= most or _VALUE.sub('', point).strip():
            wanted = most if most == max(columns) + 1 else f'{max(columns) + 1} to {most}'
            raise DataError(f'a point of a trace must have {wanted} values: {point.strip()[:40]!r}')
        row = []
        for axis, column in enumerate(columns):
            way, value = values[column]
            way = ways[column] = way or ways[column]
            before = [p[axis] for p in points[-2:]]
            if len(before) < {'!': value == '*', "'": 1, '"': 2}[way]:
                raise DataError('a trace begins with a difference')
            if value == '*' and way == '!':
                value = before[-1]  # as before
            try:
                value = float(value)
            except ValueError as e:
                raise DataError(f'x or y of a point is missing: {point.strip()[:40]!r}') from e
            row.append(value + {'!': lambda b: 0, "'": lambda b: b[-1], '"': lambda b: 2 * b[-1] - b[-2]}[way](before))
        points.append(row)
    return _points(points)


def _points(stroke):
    try:
        points = np.array([[value + 0.0 for value in point[:2]] for point in stroke])
    except (KeyError, TypeError, ValueError, OverflowError) as e:
        raise DataError('a point must be [x, y], two numbers') from e
    if points.shape != (len(stroke), 2) or not np.isfinite(points).all() or np.abs(points).max() > 1e9:
        raise DataError('a point must be [x, y], two numbers of a sensible size')
    return points
