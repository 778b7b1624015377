"""Laws of pen offsets: strokes become offsets and come back, and distortion is a normal change of shape."""

import numpy as np
import pytest

from hfrnn.errors import DataError
from hfrnn.handwriting import strokes


def test_strokes_to_offsets_and_back():
    drawn = [np.array([[5, 5], [7, 9]]), np.array([[1, 1]]), np.array([[0, 0], [3, 3], [4, 4]])]
    offsets = strokes.from_strokes(drawn)
    assert offsets.dtype == np.int16 and not offsets[0, :2].any()
    for found, expected in zip(strokes.to_strokes(offsets), drawn, strict=True):
        np.testing.assert_array_equal(found, expected - drawn[0][0])
    np.testing.assert_array_equal(strokes.from_strokes(strokes.to_strokes(offsets)), offsets)
    assert strokes.to_strokes(np.zeros((0, 3))) == []
    with pytest.raises(DataError, match='no strokes'):
        strokes.from_strokes([[], []])


def test_rounding_does_not_drift():
    points = np.arange(1001)[:, None] * [0.4, -0.3]
    np.testing.assert_array_equal(strokes.from_strokes([points]).sum(axis=0), [400, -300, 1])


def test_a_distorted_line_is_larger_wider_and_leans_by_normal_numbers():
    """log s, log w and a have the deviation asked for; the pen's lifts, its rests and whole steps stay."""
    sd, rng = 0.2, np.random.default_rng(0)
    square = strokes.from_strokes([[(0, 0), (0, 9000), (0, 9000), (9000, 9000)], [(9000, 0)]])
    np.testing.assert_array_equal(strokes.distort(square, rng, 0.0), square)
    drawn = np.array([strokes.distort(square, rng, sd) for _ in range(2000)])
    np.testing.assert_array_equal(drawn, np.rint(drawn))
    np.testing.assert_array_equal(drawn[..., 2], np.broadcast_to(square[:, 2], drawn.shape[:2]))
    assert not drawn[:, 0, :2].any() and not drawn[:, 2, :2].any()
    down, across, up = (drawn[:, i, :2] / 9000 for i in (1, 3, 4))
    assert not across[:, 1].any()  # what is level stays level
    np.testing.assert_allclose(down, -up, atol=2e-4)  # the same all along the line
    numbers = np.log(down[:, 1]), np.log(across[:, 0] / down[:, 1]), down[:, 0] / down[:, 1]
    np.testing.assert_allclose(np.cov(numbers), sd**2 * np.eye(3), atol=0.1 * sd**2)
    np.testing.assert_allclose(np.mean(numbers, axis=1), 0, atol=0.1 * sd)
