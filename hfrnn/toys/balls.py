"""Videos of balls that bounce in a box: made by the laws of mechanics, so that every batch is new.

The natural-data example of Martens & Sutskever 2011; Sutskever, Hinton & Taylor 2009 made such videos first.  Balls of
one mass and radius fly straight, and bounce elastically off one another and the walls of the unit square: energy is
kept always, momentum between balls.  Nothing turns, slows down or falls.
"""

import numpy as np

from hfrnn.errors import DataError
from hfrnn.train.loss import Batch

SUBSTEPS = 8  # of a frame's time; within one of them every bounce is exact, as long as a ball has no second one


def simulate(
    rng: np.random.Generator, n: int, frames: int, balls: int = 3, radius: float = 0.12, speed: float = 0.05
) -> tuple[np.ndarray, np.ndarray]:
    """Where the balls are, and how fast.

    Args:
      n: how many videos.
      radius: in sides of the box.
      speed: the root mean square of a ball's speed, in sides a frame; the same in every video.

    Returns:
      Positions and velocities, each (n, frames, balls, 2).

    Raises:
      DataError: if the balls find no room, or are so fast that they could pass through one another.
    """
    if not 0 < radius < 0.5 or balls < 1:
        raise DataError(f'{balls} balls of radius {radius}: the box holds at least one, of a radius between 0 and 0.5')
    if not 0 <= speed * balls**0.5 < SUBSTEPS * radius / 2:
        raise DataError(f'a speed of {speed} sides a frame is too fast for balls of radius {radius}')
    position = _places(rng, n, balls, radius)
    velocity = rng.normal(size=(n, balls, 2))
    velocity *= speed * balls**0.5 / np.linalg.norm(velocity, axis=(1, 2), keepdims=True)
    positions, velocities = [], []
    for _ in range(frames):
        positions.append(position.copy())
        velocities.append(velocity.copy())
        for _ in range(SUBSTEPS):
            _fly(position, velocity, radius, 1 / SUBSTEPS)
    return np.stack(positions, 1), np.stack(velocities, 1)


def _places(rng, n, balls, radius):
    """(n, balls, 2) uniform places at which no two balls overlap: those that do are drawn anew."""
    places = rng.uniform(radius, 1 - radius, (n, balls, 2))
    pairs = np.triu_indices(balls, 1)
    for _ in range(1000):
        gaps = np.linalg.norm(places[:, pairs[0]] - places[:, pairs[1]], axis=-1)
        bad = (gaps < 2 * radius).any(1)
        if not bad.any():
            return places
        places[bad] = rng.uniform(radius, 1 - radius, (bad.sum(), balls, 2))
    raise DataError(f'{balls} balls of radius {radius} find no room in the box')


def _fly(position, velocity, radius, dt):
    """One short flight and its bounces, in place."""
    position += velocity * dt
    for i in range(position.shape[1]):
        for j in range(i):
            p, v = position[:, i] - position[:, j], velocity[:, i] - velocity[:, j]
            # |p - v s| = 2 radius at the moment of contact, s ago
            v_v, p_v = np.sum(v * v, -1), np.sum(p * v, -1)
            overlap = 4 * radius**2 - np.sum(p * p, -1)
            met = (overlap > 0) & (p_v < 0)
            s = (p_v + np.sqrt(p_v**2 + v_v * np.maximum(overlap, 0))) / np.where(v_v > 0, v_v, 1)
            s = np.where(met, np.minimum(s, dt), 0)[:, None]
            normal = p - v * s
            normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
            swapped = np.where(met, np.sum(v * normal, -1), 0)[:, None] * normal
            velocity[:, i] -= swapped
            velocity[:, j] += swapped
            position[:, i] -= swapped * s
            position[:, j] += swapped * s
    low, high = position < radius, position > 1 - radius
    position[...] = np.where(low, 2 * radius - position, np.where(high, 2 * (1 - radius) - position, position))
    velocity[...] = np.where(low, np.abs(velocity), np.where(high, -np.abs(velocity), velocity))


def render(positions: np.ndarray, size: int, radius: float) -> np.ndarray:
    """Frames (..., size * size) of balls at (..., balls, 2): 1 inside a ball, 0 outside, in between on its edge.

    The edge is one pixel wide.  Rows follow the second coordinate, pixels of a row the first.
    """
    at = (np.arange(size) + 0.5) / size
    x, y = (positions[..., k, None] - at for k in (0, 1))
    distance = np.sqrt(y[..., :, None] ** 2 + x[..., None, :] ** 2)
    frames = np.clip((radius - distance) * size + 0.5, 0, 1).max(-3)
    return frames.reshape(*frames.shape[:-2], size * size).astype(np.float32)


def draw(
    rng: np.random.Generator, n: int, T: int, size: int = 15, balls: int = 3, radius: float = 0.12, speed: float = 0.05
) -> Batch:
    """n videos of T + 1 frames: the inputs (n, T, size * size) are all but the last, the targets all but the first.

    Raises:
      DataError: see ``simulate``.
    """
    positions, _ = simulate(rng, n, T + 1, balls, radius, speed)
    frames = np.concatenate([render(part, size, radius) for part in np.array_split(positions, -(-n // 100))])
    return Batch(frames[:, :-1], frames[:, 1:], np.ones((n, T), np.float32))
