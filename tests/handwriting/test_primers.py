"""Laws of lines to take a hand from: as large as people write such letters, whatever they say."""

import json

import numpy as np
import pytest

from hfrnn.errors import DataError
from hfrnn.handwriting import ink, primers, strokes, synthetic


def in_a_hand(text, size):
    """Strokes of a hand whose small letters are 42 high, whose tall ones are 100."""
    drawn, x = [], 0.0
    for c in text:
        if c != ' ':
            high = 100 if c in 'bdfhklt' or c.isupper() else 42
            drawn.append(np.array([[x, -high], [x + 5, 0], [x + 15, -42], [x + 20, 0], [x + 25, -42]]) * size)
        x += 35
    return drawn


@pytest.mark.parametrize('size', [0.01, 3.0])
@pytest.mark.parametrize('text', ['see our moon', 'tall hill', 'The Bird'])
def test_a_hand_has_one_size_whatever_it_writes(tmp_path, text, size):
    path = tmp_path / 'primer.json'
    path.write_text(json.dumps([stroke.tolist() for stroke in in_a_hand(text, size)]))
    offsets = primers.from_file(str(path), text)
    first = strokes.to_strokes(offsets)[0]
    grown = np.ptp(first[:, 0]) / 25
    plain = strokes.to_strokes(primers.from_file(str(path), ''))[0]
    typical = 3.6  # by which this hand is enlarged if it writes much
    assert 0.85 < grown / typical < 1.2
    if text == 'see our moon':
        assert np.ptp(plain[:, 0]) / 25 > 1.7 * typical  # by the height of its ink alone it came out too large


def test_the_height_of_a_text_is_that_of_its_letters():
    assert primers.expected_height('noon') < 0.6 * primers.expected_height('The quick brown fox')
    assert primers.expected_height('high tide') > 1.2 * primers.expected_height('sane cream')
    for odd in ('', ' ', '.', '-', '\N{SNOWMAN}', synthetic.PRINTABLE):
        assert 0.3 < primers.expected_height(odd) / ink.HEIGHT < 1.4


def test_strokes_that_cannot_be_the_text_are_refused(tmp_path):
    path = tmp_path / 'primer.json'
    path.write_text(json.dumps([stroke.tolist() for stroke in in_a_hand('tall hill', 1)]))
    assert len(primers.from_file(str(path), 'tall hill'))
    for text in ('t', 'tall hill ' * 30):
        with pytest.raises(DataError, match='do not match'):
            primers.from_file(str(path), text)


def test_a_line_by_its_name():
    data = synthetic.load(0, 4, 2)
    offsets, text = primers.from_data(data, 'pen-0-3')
    np.testing.assert_array_equal(offsets, synthetic.line(0, 3)[1])
    assert text == synthetic.line(0, 3)[2]
    with pytest.raises(DataError, match='names such as pen-0-0'):
        primers.from_data(data, 'pen-0-99')
