"""Laws of data sets: normalised by their scale, and read back only if they are whole."""

import string

import numpy as np
import pytest

from hfrnn.errors import DataError
from hfrnn.handwriting import dataset, strokes


def random_lines(rng, n, longest=60):
    return dataset.pack(
        (
            f'line-{i}',
            np.column_stack([rng.integers(-99, 99, (T, 2)), rng.random(T) < 0.2]).astype(np.int16)
            * (np.arange(T) > 0)[:, None],
            ''.join(rng.choice(list(string.ascii_lowercase), rng.integers(1, 9))),
        )
        for i, T in enumerate(rng.integers(2, longest, n))
    )


def test_normalised_training_offsets_have_mean_0_and_sd_1():
    lines = random_lines(np.random.default_rng(0), 50)
    scale = dataset.scale_of(lines)
    every = [strokes.normalise(dataset.offsets_of(lines, i), scale) for i in range(50)]
    steps = np.concatenate([xs[1:, :2] for xs in every]).astype(np.float64)
    np.testing.assert_allclose(steps.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(steps.std(axis=0), 1, atol=1e-6)
    for i, xs in enumerate(every):
        assert not xs[0, :2].any()
        np.testing.assert_allclose(strokes.denormalise(xs, scale), dataset.offsets_of(lines, i), atol=1e-4)


def test_a_scale_needs_points_that_move():
    with pytest.raises(DataError, match='too few points'):
        dataset.scale_of(dataset.pack([('a', np.zeros((5, 3), np.int16), '')]))
    with pytest.raises(DataError, match='0 training lines'):
        dataset.scale_of(dataset.pack([]))


def test_a_packed_file_that_is_none(tmp_path):
    with pytest.raises(DataError, match='no file'):
        dataset.load(tmp_path / 'none.npz')
    np.savez(tmp_path / 'other.npz', a=np.zeros(3))
    (tmp_path / 'text.npz').write_text('hello')
    np.savez(tmp_path / 'pickled.npz', about=np.array([{}], object))
    np.save(tmp_path / 'array.npy', np.zeros(3))
    (tmp_path / 'array.npy').rename(tmp_path / 'array.npz')
    for name in ('other', 'text', 'pickled', 'array'):
        with pytest.raises(DataError, match='not packed handwriting'):
            dataset.load(tmp_path / f'{name}.npz')
