"""The bouncing balls against the laws of mechanics."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from hfrnn.errors import DataError
from hfrnn.toys import balls

R = 0.1


def simulate(n=50, frames=100, seed=0, **kwargs):
    return balls.simulate(np.random.default_rng(seed), n, frames, radius=R, **kwargs)


def test_energy_is_kept_and_is_the_same_in_every_video():
    _, v = simulate(balls=3, speed=0.07)
    assert_allclose((v**2).sum((2, 3)), 3 * 0.07**2, rtol=1e-9)


def test_balls_stay_in_the_box_and_apart():
    p, _ = simulate(balls=4, speed=0.03)
    assert ((p >= R) & (p <= 1 - R)).all()
    i, j = np.triu_indices(4, 1)
    gaps = np.linalg.norm(p[:, :, i] - p[:, :, j], axis=-1)
    assert (gaps > 2 * R - 0.03).all()
    assert (gaps > 2 * R - 1e-9).mean() > 0.99
    assert gaps.min() < 2 * R + 0.03  # they do meet


def test_one_ball_flies_straight_in_the_mirrored_box():
    """Unfolded at every wall its way is a line: x_t is the triangle wave of x_0 + v t."""
    p, v = simulate(balls=1, speed=0.06)
    unfolded = p[:, :1] + v[:, :1] * np.arange(p.shape[1])[:, None, None]
    wave = np.abs((unfolded - R) % (2 * (1 - 2 * R)) - (1 - 2 * R))
    assert_allclose(p, R + (1 - 2 * R) - wave, atol=1e-9)


def test_two_balls_exchange_what_they_have_along_the_line_between_them(monkeypatch):
    """Head on they swap velocities at the moment they touch; the momentum is kept, whatever the angle."""
    start = np.array([[[0.3, 0.5], [0.7, 0.5]], [[0.3, 0.45], [0.7, 0.55]]])
    monkeypatch.setattr(balls, '_places', lambda *_: start.copy())

    class Rng:
        def normal(self, size):
            return np.array([[[1.0, 0.0], [-1.0, 0.0]], [[1.0, 0.0], [-1.0, 0.0]]])

    p, v = balls.simulate(Rng(), 2, 6, balls=2, radius=R, speed=0.05)
    assert_allclose(v[0, -1], [[-0.05, 0], [0.05, 0]], atol=1e-12)
    assert_allclose(p[0, :, 0, 0], [0.3, 0.35, 0.4, 0.35, 0.3, 0.25], atol=1e-9)
    assert_allclose(v.sum(2), 0, atol=1e-12)
    contact = p[1, 0] + v[1, 0] * (0.4 - np.sqrt((2 * R) ** 2 - 0.1**2)) / 0.1
    normal = (contact[0] - contact[1]) / (2 * R)
    moved = v[1, 0, 0] - 2 * (v[1, 0, 0] @ normal) * normal
    assert_allclose(v[1, -1, 0], moved, atol=1e-9)


def test_frames_show_the_balls():
    """The light of a frame is its balls' area, and its centre theirs."""
    rng = np.random.default_rng(1)
    at = rng.uniform(0.2, 0.8, (20, 1, 2))
    frames = balls.render(at, 40, R).reshape(20, 40, 40)
    assert_allclose(frames.sum((1, 2)) / 40**2, np.pi * R**2, rtol=0.03)
    pixels = (np.arange(40) + 0.5) / 40
    light = frames.sum((1, 2))
    assert_allclose((frames.sum(1) @ pixels) / light, at[:, 0, 0], atol=0.01)
    assert_allclose((frames.sum(2) @ pixels) / light, at[:, 0, 1], atol=0.01)
    assert frames.min() == 0
    assert frames.max() == 1


def test_a_batch_predicts_the_next_frame_and_is_a_function_of_the_seed():
    batch = balls.draw(np.random.default_rng(3), 150, 7, size=9)
    assert batch.xs.shape == batch.targets.shape == (150, 7, 81)
    assert batch.weights.shape == (150, 7)
    assert_array_equal(batch.xs[:, 1:], batch.targets[:, :-1])
    assert batch.xs.dtype == batch.targets.dtype == np.float32
    assert_array_equal(batch.xs, balls.draw(np.random.default_rng(3), 150, 7, size=9).xs)
    assert (batch.xs != balls.draw(np.random.default_rng(4), 150, 7, size=9).xs).any()


@pytest.mark.parametrize(
    'bad, said',
    [
        ({'radius': 0.6}, 'radius'),
        ({'balls': 0}, 'at least one'),
        ({'balls': 9, 'radius': 0.2}, 'no room'),
        ({'speed': 9.0}, 'too fast'),
    ],
)
def test_what_cannot_be_is_refused(bad, said):
    with pytest.raises(DataError, match=said):
        balls.draw(np.random.default_rng(0), 2, 3, **bad)
