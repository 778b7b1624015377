"""Laws of one's own strokes: whatever the file, the size and the density, the same ink."""

import json

import numpy as np
import pytest

from hfrnn.errors import DataError
from hfrnn.handwriting import ink, strokes

DRAWN = [
    [[10, 40], [12, 20], [18, 12], [24, 20], [24, 40]],
    [[40, 10], [40, 40], [46, 30], [52, 40]],
    [[60, 12]],
]


def inkml(traces, head='', ns=''):
    """A document with one trace for each text."""
    body = ''.join(f'<{ns}trace>{trace}</{ns}trace>' for trace in traces)
    name = f'xmlns{":" + ns[:-1] if ns else ""}'
    return f'<{ns}ink {name}="http://www.w3.org/2003/InkML">{head}{body}</{ns}ink>'.encode()


def explicit(drawn):
    return [', '.join(f'{x} {y}' for x, y in stroke) for stroke in drawn]


def same(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b)


def test_json_and_inkml_of_the_same_strokes_agree(tmp_path):
    (tmp_path / 'a.json').write_text(json.dumps(DRAWN))
    (tmp_path / 'b.inkml').write_bytes(inkml(explicit(DRAWN)))
    (tmp_path / 'c.xml').write_bytes(b'\xef\xbb\xbf<?xml version="1.0"?>\n' + inkml(explicit(DRAWN), ns='inkml:'))
    offsets = ink.read(str(tmp_path / 'a.json'))
    for name in ('b.inkml', 'c.xml'):
        np.testing.assert_array_equal(ink.read(str(tmp_path / name)), offsets)
    assert offsets.dtype == np.int16 and offsets[:, 2].sum() == len(DRAWN) == len(strokes.to_strokes(offsets))


def test_inkml_with_differences_other_channels_and_lifted_pens():
    same(
        ink.parse_inkml(inkml(['10 20, \'1\'2, 3 4, "0"1, !50!60'])),
        [[[10, 20], [11, 22], [14, 26], [17, 31], [50, 60]]],
    )
    same(ink.parse_inkml(inkml(['10 20,*21,11*'])), [[[10, 20], [10, 21], [11, 21]]])
    same(ink.parse_inkml(inkml(["7 8,'3'-5,7-3"])), [[[7, 8], [10, 3], [17, 0]]])
    head = ''.join(f'<channel name="{name}" type="integer"/>' for name in 'TYFX')
    same(ink.parse_inkml(inkml(['0 20 T 10, 1 22 ? 11'], f'<traceFormat>{head}</traceFormat>')), [[[10, 20], [11, 22]]])
    lifted = b'<ink><trace type="penUp">0 0, 9 9</trace><trace>1 2</trace><trace>  </trace></ink>'
    same(ink.parse_inkml(lifted), [[[1, 2]]])


def test_numbers_after_y_are_ignored():
    same(ink.parse_json(b'[[[1, 2, 0.5, 100], [3, 4.5]], []]'), [[[1, 2], [3, 4.5]]])


@pytest.mark.parametrize('factor', [0.01, 1.0, 37.0])
def test_the_size_and_the_density_of_the_file_do_not_matter(factor):
    drawn = [np.array(stroke, float) for stroke in DRAWN]
    offsets = ink.as_recorded(drawn)
    other = ink.as_recorded([np.add(ink.evenly(stroke * factor, factor), (5, -7)) for stroke in drawn])
    assert abs(len(other) - len(offsets)) <= 2
    for a, b in zip(strokes.to_strokes(offsets), strokes.to_strokes(other), strict=True):
        np.testing.assert_allclose(a[[0, -1]], b[[0, -1]], atol=3)
    assert ink.height(strokes.to_strokes(offsets)) == pytest.approx(ink.HEIGHT, rel=0.1)
    steps = np.hypot(*offsets[1:][offsets[:-1, 2] == 0][:, :2].T.astype(float))
    assert steps.mean() == pytest.approx(ink.SPACING, rel=0.15)


def test_a_pen_passes_where_the_path_does_and_is_slow_in_curves():
    circle = np.exp(1j * np.linspace(0, 2 * np.pi, 200))
    line = np.linspace(0, 400, 50)
    path = np.concatenate([np.stack([line, 0 * line], 1), np.stack([400 + 30 * circle.imag, 30 - 30 * circle.real], 1)])
    points = ink.travel(path, 10.0)
    np.testing.assert_allclose(points[[0, -1]], path[[0, -1]], atol=1e-9)
    distance = np.min(np.hypot(*(points[:, None] - ink.evenly(path, 1.0)).transpose(2, 0, 1)), axis=1)
    assert distance.max() < 3
    steps = np.hypot(*np.diff(points, axis=0).T)
    assert steps.mean() == pytest.approx(10, rel=0.05)
    straight, round_ = steps[5:15], steps[-12:-4]
    assert straight.min() > 1.5 * round_.max()


def test_height_leaves_the_slope_of_a_line_out():
    x = np.arange(0, 2000, 5.0)
    wave = np.stack([x, 50 * np.sin(x / 20)], 1)
    assert ink.height([wave + np.stack([0 * x, 0.1 * x], 1)]) == pytest.approx(ink.height([wave]), rel=0.05)
    assert ink.height([3 * wave]) == pytest.approx(3 * ink.height([wave]), rel=0.01)


@pytest.mark.parametrize(
    ('content', 'error'),
    [
        (b'', 'neither JSON nor InkML'),
        (b'hello', 'neither JSON nor InkML'),
        (b'\xff\xfe\x00', 'neither JSON nor InkML'),
        (b'[' * 100_000, 'neither JSON nor InkML'),
        (b'{"strokes": []}', 'a list of strokes'),
        (b'[1, 2]', 'a list of strokes'),
        (b'[]', 'no strokes'),
        (b'[[], []]', 'no strokes'),
        (b'[[1, 2]]', 'a point must be'),
        (b'[[[1], [2]]]', 'a point must be'),
        (b'[[["a", "b"]]]', 'a point must be'),
        (b'[["12", "34"]]', 'a point must be'),
        (b'[[{"x": 1, "y": 2}]]', 'a point must be'),
        (b'[[[1, NaN]]]', 'a sensible size'),
        (b'[[[0, 0], [1e300, 5]]]', 'a sensible size'),
        (b'[[[0, 5], [100, 5]]]', 'no height'),
        (b'[[[3, 3]]]', 'no height'),
        (b'[[[0, 0], [50000, 10], [100000, 0]]]', 'points in one line'),
        (b'[[' + b'[0, 0], [100, 100], ' * 3000 + b'[0, 0]]]', 'points in one line'),
        (b'[[[0, 0], [1e-10, 3e-16], [0, 6e-16]]]', 'points in one line'),
        (b'[' + b'[[0, 0]], ' * 20_000 + b'[[0, 9]]]', 'points in one line'),
        (b'<html></html>', 'not InkML'),
        (b'<ink><trace>1 2', 'broken XML'),
        (b'<!DOCTYPE ink [<!ENTITY a "1 2">]><ink><trace>&a;</trace></ink>', 'declares a document type'),
        (b'<ink/>', 'no strokes'),
        (b'<ink><trace>1, 2</trace></ink>', 'must have 2 values'),
        (b'<ink><trace>0 0 10 10 20 20</trace></ink>', 'must have 2 values'),
        (b'<ink><trace>0 0, 1' + b' ' * 9000 + b', 2 3</trace></ink>', 'must have 2 values'),  # and at once
        (b'<ink><trace>0 0, 10 abc 5, 7 9</trace></ink>', 'must have 2 values'),
        (
            b'<ink><traceFormat><channel name="X"/><channel name="Y" orientation="-ve"/></traceFormat></ink>',
            'reversed',
        ),
        (b'<ink><traceFormat/><traceFormat/></ink>', 'several formats'),
        (
            b'<ink><traceFormat><channel name="X" units="cm"/><channel name="Y" units="mm"/></traceFormat></ink>',
            'different units',
        ),
        (b'<ink><trace>? 2</trace></ink>', 'is missing'),
        (b"<ink><trace>'1'2</trace></ink>", 'begins with a difference'),
        (b'<ink><traceFormat><channel name="X"/></traceFormat><trace>1</trace></ink>', 'no X or no Y'),
    ],
)
def test_a_file_that_holds_no_strokes_is_refused_in_one_line(tmp_path, content, error):
    path = tmp_path / 'primer'
    path.write_bytes(content)
    with pytest.raises(DataError, match=error) as caught:
        ink.read(str(path))
    assert '\n' not in str(caught.value) and 'primer has no readable strokes' in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    for path in (tmp_path / 'none', tmp_path):
        with pytest.raises(DataError, match='cannot read'):
            ink.read(str(path))
