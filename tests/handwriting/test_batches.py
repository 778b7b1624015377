"""Laws of batches of lines: every line once, nothing cut off, and padding without weight."""

import string

import numpy as np
import pytest

from hfrnn.errors import DataError
from hfrnn.handwriting import batches, dataset, spelling, strokes
from hfrnn.text.alphabet import decode
from hfrnn.train.loss import Batch
from tests.handwriting.test_dataset import random_lines


def test_an_epoch_holds_every_line_exactly_once_and_padding_nothing():
    lines = random_lines(np.random.default_rng(1), 101)
    scale, alphabet = dataset.scale_of(lines), spelling.alphabet_of(lines.texts, rare=1)
    bounds = batches.best_lengths(lines, buckets=5, multiple=4)
    seen, weight = [], 0.0
    for selection in batches.epoch(lines, bounds, 7, np.random.default_rng(2)):
        batch = batches.pad(lines, selection, scale, alphabet, 9)
        assert batch.xs.shape == batch.targets.shape == (7, selection.length, 3)
        weight += batch.weights.sum()
        for i, *row in zip(selection.indices, *batch, strict=True):
            if i < 0:
                assert not any(np.any(leaf) for leaf in row)
                continue
            seen.append(i)
            xs, targets, weights, characters, n = row
            points = strokes.normalise(dataset.offsets_of(lines, i), scale)
            T = len(points) - 1
            np.testing.assert_array_equal(xs[:T], points[:-1])
            np.testing.assert_array_equal(targets[:T], points[1:])
            np.testing.assert_array_equal(weights, np.arange(selection.length) < T)
            assert not xs[T:].any() and not targets[T:].any() and not characters[n:].any()
            assert decode(characters[:n], alphabet) == lines.texts[i]
    assert sorted(seen) == list(range(101))
    assert weight == len(lines.offsets) - 101  # every point but the first of each line


def test_epochs_are_drawn_from_the_rng_alone_and_have_one_length():
    lines = random_lines(np.random.default_rng(3), 40)
    bounds = batches.best_lengths(lines, 3, 8)

    def order(seed):
        rng = None if seed is None else np.random.default_rng(seed)
        return [selection.indices.tolist() for selection in batches.epoch(lines, bounds, 6, rng)]

    assert order(0) == order(0) != order(1)
    assert len(order(0)) == len(order(1)) == len(order(None))
    steps = [batches.at_step(lines, bounds, 6, 5, i).indices.tolist() for i in range(2 * len(order(0)) + 1)]
    for first in (0, len(order(0))):
        assert sorted(i for indices in steps[first : first + len(order(0))] for i in indices if i >= 0) == list(
            range(40)
        )
    assert batches.at_step(lines, bounds, 6, 5, 7).indices.tolist() == steps[7]
    kept = [i for indices in order(None) for i in indices if i >= 0]
    assert np.all(np.diff(np.searchsorted(bounds, dataset.points_per_line(lines)[kept] - 1)) >= 0)


def test_a_batch_of_distorted_lines():
    lines = random_lines(np.random.default_rng(6), 7)
    scale, (selection,) = dataset.scale_of(lines), batches.epoch(lines, np.array([64]), 7)

    def double(offsets):
        return offsets * (2, 2, 1)

    twice = batches.pad(lines, selection, scale, distort=double)
    long = batches.pad(lines._replace(offsets=double(lines.offsets)), selection, scale)
    for found, expected in zip(twice, long, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_bounds_leave_the_least_padding():
    lines = random_lines(np.random.default_rng(4), 30, 40)
    targets = dataset.points_per_line(lines) - 1

    def padding(bounds):
        return sum(bounds[np.searchsorted(bounds, t)] - t for t in targets)

    top = -(-targets.max() // 4) * 4
    best = min(padding([*sorted({a, b}), top]) for a in range(4, top, 4) for b in range(4, top, 4))
    assert padding(batches.best_lengths(lines, 3, 4)) == best
    assert batches.best_lengths(lines, 1, 4).tolist() == [top]


def test_a_batch_is_a_training_batch_with_characters():
    assert batches.LineBatch._fields[:3] == Batch._fields


def test_nothing_is_cut_off():
    lines = random_lines(np.random.default_rng(5), 5)
    scale = dataset.scale_of(lines)
    with pytest.raises(DataError, match='the batches take 1'):
        batches.epoch(lines, np.array([1]), 2)
    with pytest.raises(DataError, match='the batch takes 1 and 0'):
        batches.pad(lines, batches.Selection(1, np.array([int(dataset.points_per_line(lines).argmax())])), scale)
    with pytest.raises(DataError, match='the batch takes 60 and 1'):
        longest = int(np.argmax([len(text) for text in lines.texts]))
        batches.pad(lines, batches.Selection(60, np.array([longest])), scale, string.ascii_lowercase, 1)


def test_batches_have_room_for_every_line_and_text():
    """Where the longest line, and the longest text of its length, are for validation."""
    rng = np.random.default_rng(0)

    def some(lengths, texts):
        return dataset.pack(
            (str(n), rng.integers(-9, 9, (n, 3)).astype(np.int16), t) for n, t in zip(lengths, texts, strict=True)
        )

    train, valid = some([10, 30, 31, 90], ['a', 'bb', 'c', 'd']), some([20, 200], ['e' * 17, 'f' * 70])
    data = dataset.Dataset('', 'abcdef', train, valid, dataset.scale_of(train), dataset.Report((), ()))
    padding = batches.choose_padding(data, 3, with_texts=True)
    for part in (train, valid):
        held = 0
        for selection in batches.epoch(part, padding.lengths, 2):
            batch = batches.pad(part, selection, data.scale, data.alphabet, padding.text_lengths[selection.length])
            held += batch.n_characters.sum()
        assert held == sum(map(len, part.texts))
    assert batches.choose_padding(data, 3).text_lengths == {}
