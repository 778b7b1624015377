"""Ink from elsewhere: one's own strokes, from JSON or InkML, as the whiteboard would have recorded them."""

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
    """(m, 2) points on a path (n, 2), both its ends among them, at even distances along it of at most ``step``."""
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    where = np.linspace(0, along[-1], max(int(np.ceil(along[-1] / step)), 1) + 1)
    return np.column_stack([np.interp(where, along, path[:, axis]) for axis in (0, 1)]) if along[-1] else path[:1]


def smoothed(values: np.ndarray, sd: float) -> np.ndarray:
    """Columns of values (n, k) under a Gaussian window of ``sd`` places, turned over at the ends, which stay."""
    reach = min(int(np.ceil(3 * sd)), len(values) - 1)
    if reach < 1:
        return values
    window = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sd) ** 2)
    head, tail = 2 * values[0] - values[reach:0:-1], 2 * values[-1] - values[-2 : -reach - 2 : -1]
    padded = np.concatenate([head, values, tail])
    return np.column_stack([np.convolve(column, window / window.sum(), mode='valid') for column in padded.T])


def travel(path: np.ndarray, spacing: float = SPACING, corner: float = 8.0) -> np.ndarray:
    """(m, 2) points of a pen on its way along a path (n, 2), at even time steps: sparse where it is fast.

    Its speed goes as the square root of the radius, and it starts from rest and comes to rest: of the powers that were
    tried, that one spreads the steps most like those of IAM-OnDB.

    Args:
      spacing: the mean distance between two points.
      corner: how far around a corner it is rounded off, in the same units.
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


# -- how large a hand is ----------------------------------------------------------------------------------------------


def height(drawn: Sequence[np.ndarray]) -> float:
    """How high a line is written: the middle 90 % of its ink above and below its slope, in the units of its points.

    Args:
      drawn: (n, 2) points of each stroke.
    """
    size = np.ptp(np.concatenate(drawn), axis=0).max()
    ink = np.concatenate([evenly(np.asarray(stroke, float), size / 500 or 1.0) for stroke in drawn])
    x, y = (ink - ink.mean(axis=0)).T
    slope = np.clip(x @ y / max(x @ x, 1e-9), -0.2, 0.2)
    low, high = np.percentile(y - slope * x, [5, 95])
    return float(high - low)


def as_recorded(drawn: Sequence[np.ndarray], tall: float = HEIGHT) -> np.ndarray:
    """(T, 3) offsets of strokes of any size and density, as high and as dense as IAM-OnDB's; y must grow downward.

    Args:
      tall: what their ``height`` is to become, in units.

    Raises:
      DataError: if there is no point, or nothing that has a height.
    """
    drawn = [np.asarray(stroke, float) for stroke in drawn if len(stroke)]
    if not drawn:
        raise DataError('no strokes')
    size = np.ptp(np.concatenate(drawn), axis=0).max()
    length = sum(np.hypot(*np.diff(stroke, axis=0).T).sum() for stroke in drawn)

    def check(now):
        points = len(drawn) + length * tall / (now or 1.0) / SPACING
        if points > LONGEST:
            raise DataError(f'{points:.0f} points in one line; at most {LONGEST} make sense')

    check(size)  # which is more than its height, and that takes memory to find
    now = height(drawn)
    if not now > 1e-6 * size:
        raise DataError('a level line or a dot: that has no height to tell the size of a hand by')
    check(now)
    drawn = [stroke * (tall / now) for stroke in drawn]
    return strokes.from_strokes([travel(stroke) for stroke in drawn])


# -- files ------------------------------------------------------------------------------------------------------------


def read(path: str, tall: float = HEIGHT) -> np.ndarray:
    """(T, 3) offsets of the strokes in a file, JSON or InkML, as recorded ink.

    Args:
      tall: their ``height``, in units.

    Raises:
      DataError: if there is no such file, or it holds no strokes.
    """
    try:
        data = pathlib.Path(path).read_bytes()
    except OSError as e:
        raise DataError(f'cannot read {path}: {e.strerror}') from e
    try:
        xml = data.lstrip(b'\xef\xbb\xbf \t\r\n').startswith(b'<')
        return as_recorded(parse_inkml(data) if xml else parse_json(data), tall)
    except DataError as e:
        raise DataError(f'{path} holds no strokes that can be read: {e}') from e


def parse_json(data: bytes) -> list[np.ndarray]:
    """The strokes of a JSON list of strokes, each a list of [x, y]; what follows y in a point is passed over.

    Raises:
      DataError: if it is something else.
    """
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as e:
        raise DataError(f'it is neither JSON nor InkML ({e})') from e
    if not isinstance(content, list) or not all(isinstance(stroke, list) for stroke in content):
        raise DataError('it is to be a list of strokes, each a list of [x, y]')
    return [_points(stroke) for stroke in content if stroke]


def parse_inkml(data: bytes) -> list[np.ndarray]:
    """The traces of an InkML document (W3C recommendation, 2011) in their order, but for those of a lifted pen.

    Raises:
      DataError: if it is broken or hostile XML, no InkML, or x or y is left open; or if it has traces of several
        formats, or an axis turned round or in another unit, which are not read.
    """
    traces, channels, tags, units = [], [], [], set()
    inside = None  # the text of the trace that is being read

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
                    raise DataError(f'its {channels[-1]} is turned round ({found["orientation"][:40]})')
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
        raise DataError('its traces are of several formats')
    if len(units) > 1:
        raise DataError('its X and Y are in different units')
    channels = channels or ['X', 'Y']
    if not {'X', 'Y'} <= set(channels):
        raise DataError('its traces have no X or no Y')
    columns = [channels.index('X'), channels.index('Y')]
    return [_trace(trace, columns, len(channels)) for trace in traces if trace.strip()]


_VALUE = re.compile(r'\s*([!\'"]?)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[*?TF]|#[0-9A-Fa-f]+)')


def _trace(text, columns, most):
    """A value is given as it is (!), by its difference from the one before ('), or by the difference of that (")."""
    points, ways = [], dict.fromkeys(columns, '!')
    for point in ' '.join(text.split()).strip(',').split(','):  # long blanks would take _VALUE long
        values = _VALUE.findall(point)
        if not max(columns) < len(values) <= most or _VALUE.sub('', point).strip():
            wanted = most if most == max(columns) + 1 else f'{max(columns) + 1} to {most}'
            raise DataError(f'a point of a trace is to have {wanted} values: {point.strip()[:40]!r}')
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
                raise DataError(f'x or y of a point is left open: {point.strip()[:40]!r}') from e
            row.append(value + {'!': lambda b: 0, "'": lambda b: b[-1], '"': lambda b: 2 * b[-1] - b[-2]}[way](before))
        points.append(row)
    return _points(points)


def _points(stroke):
    try:
        points = np.array([[value + 0.0 for value in point[:2]] for point in stroke])
    except (KeyError, TypeError, ValueError, OverflowError) as e:
        raise DataError('a point is to be [x, y], two numbers') from e
    if points.shape != (len(stroke), 2) or not np.isfinite(points).all() or np.abs(points).max() > 1e9:
        raise DataError('a point is to be [x, y], two numbers of a sensible size')
    return points
