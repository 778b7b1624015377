"""Laws of handwriting data: what is recorded is what is learnt from, and nothing is lost on the way."""

import os
import shutil
import string
import tarfile

import numpy as np
import pytest

from hfrnn.errors import DataError
from hfrnn.handwriting import batches, dataset, iamondb, spelling, strokes
from hfrnn.text.alphabet import UNKNOWN, decode
from hfrnn.train.loss import Batch

LISTS = ('trainset', 'testset_t', 'testset_f', 'testset_v')
PRINTABLE = ''.join(map(chr, range(32, 127)))


def xml(strokes, times=None):
    """A file of lineStrokes."""

    def point(x, y, i):
        return f'<Point x="{x}" y="{y}" time="{(times or {}).get(i, i / 75):.3f}"/>'

    body = ''.join(
        f'<Stroke colour="black">{"".join(point(x, y, i) for i, (x, y) in enumerate(stroke))}</Stroke>'
        for stroke in strokes
    )
    head = '<WhiteboardDescription><SensorLocation corner="top_left"/></WhiteboardDescription>'
    return (
        '<?xml version="1.0" encoding="ISO-8859-1"?><WhiteboardCaptureSession>'
        f'{head}<StrokeSet>{body}</StrokeSet></WhiteboardCaptureSession>'
    ).encode()


TWO_STROKES = [[(100, 50), (103, 54), (103, 60)], [(90, 55)]]
ZIGZAG = [[(0, 0), (10, 30), (20, 0), (30, 40)], [(60, 20), (70, 20)]]


@pytest.fixture
def made(tmp_path):
    """A data set of four forms, two lines each: a folder, and a function that writes one more file into it."""

    def write(name, content):
        path = tmp_path / 'set' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path / 'set'

    for n, part in enumerate(LISTS):
        form = f'a0{n}-000'
        write(f'lineStrokes/a0{n}/{form}/{form}-01.xml', xml(TWO_STROKES))
        write(f'lineStrokes/a0{n}/{form}/{form}-02.xml', xml(ZIGZAG))
        write(
            f'ascii/a0{n}/{form}/{form}.txt', f'OCR:\n\nnot this\n\nCSR: \r\n \r\n\r\nfirst of {n}\r\nsecond # one \r\n'
        )
        write(f'splits/{part}.txt', f' {form}\n')
    return write


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


# -- reading ----------------------------------------------------------------------------------------------------------


def test_a_recording_becomes_exactly_its_offsets():
    line = iamondb.make_line(iamondb.read_recording(xml(TWO_STROKES), 'a'))
    np.testing.assert_array_equal(line.offsets, [[0, 0, 0], [3, 4, 0], [0, 6, 1], [-13, -5, 1]])
    assert line._replace(offsets=None) == (None, 2, 0, 0, 0)


def test_attributes_may_come_in_any_order_and_without_times():
    data = b'<W><StrokeSet><Stroke><Point y="2" x="1"/><Point time="3" y="7" x="4"/></Stroke></StrokeSet></W>'
    np.testing.assert_array_equal(iamondb.make_line(iamondb.read_recording(data, 'a')).offsets, [[0, 0, 0], [3, 5, 1]])


def test_the_set_is_read_by_its_lists(made):
    data = iamondb.load(str(made('splits/README', '')))
    assert data.train.names == tuple(f'a0{n}-000-0{i}' for n in range(3) for i in (1, 2))
    assert data.valid.names == ('a03-000-01', 'a03-000-02')
    assert data.valid.texts == ('first of 3', f'second {UNKNOWN} one')
    assert [tuple(part) for part in data.report.parts] == [(part, 1, 2, 4, 10) for part in LISTS]
    np.testing.assert_array_equal(dataset.offsets_of(data.valid, 0), dataset.offsets_of(data.train, 0))
    assert counts(data)['# for struck-out words'] == 4


def counts(data):
    return {c.what.split(',')[0]: c.count for c in data.report.corrections if c.count}


def test_folder_archive_cache_and_packed_file_hold_the_same(made, tmp_path):
    folder = made('lineStrokes/z0/z0-000/z0-000-01.xml', xml(ZIGZAG))
    (tmp_path / 'archived').mkdir()
    with tarfile.open(tmp_path / 'archived' / iamondb.ARCHIVE, 'w:xz') as tar:
        tar.add(folder, 'iamondb')
    (tmp_path / 'outer').mkdir()
    folder.rename(tmp_path / 'outer' / 'iamondb')
    cache = tmp_path / 'cache'
    read = [iamondb.load(str(tmp_path / name), str(cache)) for name in ('archived', 'outer', 'outer', 'archived')]
    packed = sorted(cache.iterdir())
    assert len(packed) == 2
    (tmp_path / 'linked').mkdir()
    for name in ('lineStrokes', 'ascii'):
        (tmp_path / 'linked' / name).symlink_to(tmp_path / 'outer' / 'iamondb' / name)
    shutil.copytree(tmp_path / 'outer' / 'iamondb' / 'splits', tmp_path / 'linked' / 'splits')
    (tmp_path / 'linked' / 'again').symlink_to(tmp_path / 'linked')  # goes round, and is not followed
    read.append(iamondb.load(str(tmp_path / 'linked')))
    read += [iamondb.load(str(packed[0])), iamondb.load(str(tmp_path / 'archived'))]
    for data in read:
        for found, expected in zip(
            (*data.train, *data.valid, *data.scale), (*read[0].train, *read[0].valid, *read[0].scale), strict=True
        ):
            np.testing.assert_array_equal(found, expected)
        assert (data.alphabet, data.report) == (read[0].alphabet, read[0].report)


def test_the_cache_follows_what_it_was_made_from(made, tmp_path):
    cache = str(tmp_path / 'cache')
    before = iamondb.load(str(made('splits/README', '')), cache)
    folder = str(made('lineStrokes/a00/a00-000/a00-000-01.xml', xml([[(0, 0), (5, 5), (7, 1)]])))
    after = iamondb.load(folder, cache)
    assert len(after.train.offsets) == len(before.train.offsets) - 1
    assert iamondb.load(folder, cache, longest_step=1.0).report != after.report
    for path in (tmp_path / 'cache').iterdir():
        path.write_bytes(path.read_bytes()[:200])
    assert iamondb.load(folder, cache).report == after.report  # a broken cache is made again


def test_every_correction_is_counted_and_named(made):
    made('lineStrokes/b0/b0-000/b0-000z-01.xml', xml(ZIGZAG))  # unlisted
    made('ascii/c0/c0-000/c0-000.txt', 'CSR:\n\nno strokes\n')
    made('ascii/a01/a01-000/a01-000.txt', 'CSR:\n\none line only\n')
    made('ascii/a02/a02-000/a02-000.txt', 'OCR:\n\none\ntwo\n')
    far = [[(0, 0), (10, 0), (400, 0), (410, 0)], [], [(900, 0), (901, 0)]]
    made('lineStrokes/a00/a00-000/a00-000-01.xml', xml(far, {1: 0.5}))
    made('lineStrokes/a02/a02-000/a02-000-02.xml', xml([[(5, 5)]]))
    folder = made('lineStrokes/a03/a03-000/a03-000-01.xml', xml([[]]))
    (folder / 'lineStrokes/a00/a00-000/a00-000-02.xml').rename(folder / 'lineStrokes/a00/a00-000/a00-000-03.xml')
    made('ascii/a00/a00-000/a00-000.txt', 'CSR:\n\none\ntwo\nthree\n')
    data = iamondb.load(str(folder))
    corrections = {c.what: c for c in data.report.corrections}
    named = [(c.count, c.where) for c in corrections.values()]
    assert named[:8] == [
        (1, ('b0-000z-01',)),
        (1, ('a00-000-02',)),
        (1, ('c0-000',)),
        (4, ('a01-000-01', 'a01-000-02', 'a02-000-01', 'a02-000-02')),
        (2, ('a00-000-01', 'a03-000-01')),
        (2, ('a02-000-02', 'a03-000-01')),
        (1, ('a00-000-01',)),
        (2, ('a00-000-01',)),
    ]
    np.testing.assert_array_equal(dataset.offsets_of(data.train, 0)[:, 2], [0, 1, 0, 1, 0, 1])
    assert data.valid.names == ('a03-000-02',)
    assert data.valid.texts == (f'second {UNKNOWN} one',)  # its own, though the line before it has no points
    assert 'a02-000-02' not in data.train.names and min(dataset.points_per_line(data.train)) > 1
    assert dataset.with_text(data.train).names == ('a00-000-01', 'a00-000-03')
    assert data.train.texts[:3] == ('one', 'three', '')
    table = dataset.describe(data.report)
    assert all(c.what in table for c in data.report.corrections)
    assert max(map(len, table.splitlines())) < 200


BOMB = b'<!DOCTYPE W [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><W><StrokeSet>&b;</StrokeSet></W>'
OUTSIDE = b'<W><StrokeSet><Stroke><Point x="1" y="1"/></Stroke><Point x="9" y="9"/></StrokeSet></W>'


@pytest.mark.parametrize(
    ('name', 'content', 'error'),
    [
        (
            'lineStrokes/a00/a00-000/a00-000-01.xml',
            xml(ZIGZAG)[:300],
            'a00-000-01.xml is broken XML: unclosed token',
        ),
        ('lineStrokes/a00/a00-000/a00-000-01.xml', b'', 'a00-000-01.xml is broken XML'),
        ('lineStrokes/a00/a00-000/a00-000-01.xml', BOMB, 'declares a document type or entities'),
        ('lineStrokes/a00/a00-000/a00-000-01.xml', b'<html/>', 'has no StrokeSet'),
        ('lineStrokes/a00/a00-000/a00-000-01.xml', b'<?xml version="1.0" encoding="odd"?><W/>', 'broken XML'),
        ('lineStrokes/a00/a00-000/a00-000-01.xml', xml([[(1, 'two')]]), 'not two whole numbers'),
        ('lineStrokes/a00/a00-000/a00-000-01.xml', xml(ZIGZAG, {0: 1e308, 1: -1e308}), 'a time is too large'),
        ('lineStrokes/a00/a00-000/a00-000-01.xml', xml([[(0, 0), (10**6, 0)]]), 'a00-000-01.xml: a step .* no pen'),
        ('lineStrokes/a00/a00-000/a00-000-01.xml', xml([[(2**60, 0), (2**60 + 9, 0)]]), 'not two whole numbers'),
        ('lineStrokes/a00/a00-000/a00-000-01.xml', xml([[(0, 0), (10**30, 0)]]), 'not two whole numbers'),
        ('lineStrokes/a00/a00-000/a00-000-01.xml', OUTSIDE, 'a point outside of'),
        ('lineStrokes/a00/a00-000/a00-000-01.xml', OUTSIDE.replace(b'</Stroke>', b'<Stroke/>'), 'inside of another'),
        ('lineStrokes/a00/a00-000/a00-000-1.xml', xml(ZIGZAG), 'has a00-000-1.xml twice'),
        ('lineStrokes/a00/a00-000/a00-000-00.xml', xml(ZIGZAG), 'not named like a file of lineStrokes'),
        ('lineStrokes/a00/a00-000/a00-000-999999999.xml', xml(ZIGZAG), 'not named like a file of lineStrokes'),
        ('ascii/a00-000.txt', 'CSR:', 'has a00-000.txt twice'),
        ('lineStrokes/a00/readme.xml', xml(ZIGZAG), 'not named like a file of lineStrokes'),
        ('splits/trainset.txt', 'a00-000 a09-999', '1 listed forms have no strokes, such as a09-999'),
        ('splits/trainset.txt', 'a00-000 a03-000', '1 forms are in the lists twice, such as a03-000'),
        ('splits/trainset.txt', '', 'too few points'),
    ],
)
def test_errors_in_the_files_are_one_line(made, name, content, error):
    if name == 'splits/trainset.txt' and not content:
        for part in ('testset_t', 'testset_f'):
            made(f'splits/{part}.txt', '')
    with pytest.raises(DataError, match=error) as caught:
        iamondb.load(str(made(name, content)))
    assert '\n' not in str(caught.value)


def test_broken_files_that_are_needed_are_named_at_once_and_others_counted(made):
    data = iamondb.load(str(made('lineStrokes/b0/b0-000/b0-000-01.xml', b'<W>')))
    corrections = {c.what: c for c in data.report.corrections}
    assert corrections['broken files of unlisted forms, left out'].where == ('b0-000-01',)
    where = corrections['lines more (+) or fewer (-) than in G13'].where
    assert where == ('trainset-5362', 'testset_t-1516', 'testset_f-3857', 'testset_v-1436')
    for n in range(1, 9):
        made(f'lineStrokes/a00/a00-000/a00-000-{n:02d}.xml', b'<W>')
    with pytest.raises(DataError, match=r'^a00-000-01.xml is broken .*; so are 7 more: .*02.*06.xml \.\.\.$'):
        iamondb.load(str(made('lineStrokes/a00/a00-000/a00-000-09.xml', xml(ZIGZAG))))


def test_a_folder_that_is_no_iam_ondb(made, tmp_path):
    with pytest.raises(DataError, match='no folder'):
        iamondb.load(str(tmp_path / 'nowhere'))
    (tmp_path / 'empty').mkdir()
    with pytest.raises(DataError, match='is no IAM-OnDB'):
        iamondb.load(str(tmp_path / 'empty'))
    (made('splits/testset_v.txt', '') / 'splits' / 'testset_v.txt').unlink()
    with pytest.raises(DataError, match=r'lacks the list of forms testset_v.txt'):
        iamondb.load(str(tmp_path / 'set'))
    for content in (b'', b'no archive'):
        (tmp_path / 'empty' / iamondb.ARCHIVE).write_bytes(content)
        with pytest.raises(DataError, match='is damaged'):
            iamondb.load(str(tmp_path / 'empty'), str(tmp_path / 'cache'))
    with pytest.raises(DataError, match='not packed handwriting'):
        iamondb.load(str(tmp_path / 'empty' / iamondb.ARCHIVE))


def test_an_archive_that_was_broken_off_is_damaged(made, tmp_path):
    with tarfile.open(tmp_path / iamondb.ARCHIVE, 'w:xz') as tar:
        tar.add(made('splits/README', os.urandom(100_000)), 'iamondb')
    whole = (tmp_path / iamondb.ARCHIVE).read_bytes()
    (tmp_path / iamondb.ARCHIVE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match='is damaged'):
        iamondb.load(str(tmp_path))


# -- strokes, scale, characters ---------------------------------------------------------------------------------------


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


def test_an_alphabet_has_what_is_not_rare():
    assert spelling.alphabet_of(['aab', 'ab'], rare=2) == 'ab'
    assert spelling.alphabet_of(['aab', 'ac'], rare=2) == 'a' + UNKNOWN
    assert spelling.alphabet_of([UNKNOWN * 9], rare=2) == UNKNOWN
    assert spelling.alphabet_of(['aab', 'ab'], rare=2, others=['ab']) == 'ab'
    assert spelling.alphabet_of(['aab', 'ab'], rare=2, others=['a', 'cb']) == 'ab' + UNKNOWN


LETTERS = string.ascii_letters.replace('X', '').replace('Z', '') + ' .,;:!?\'"-()0123456789' + UNKNOWN


def test_every_printable_ascii_character_can_be_written_and_a_stand_in_is_seen():
    spelt, replaced = spelling.spell(PRINTABLE, LETTERS)
    assert set(spelt) <= set(LETTERS)
    assert set(replaced) == set(PRINTABLE) - set(LETTERS)
    assert UNKNOWN not in spelt
    assert spelling.spell('XZ[a]', LETTERS) == ('xz(a)', {'X': 'x', 'Z': 'z', '[': '(', ']': ')'})
    assert spelling.spell('\u00c9t\u00e9', LETTERS) == ('Ete', {'\u00c9': 'E', '\u00e9': 'e'})
    assert spelling.spell('e\u0301X\u0301', LETTERS) == ('ex', {'\u00e9': 'e', 'X': 'x', '\u0301': ''})
    assert spelling.spell('o\ufb01', LETTERS) == ('ofi', {'\ufb01': 'fi'})
    assert spelling.spell(PRINTABLE, PRINTABLE) == (PRINTABLE, {})
    assert spelling.spell('a1', 'a' + UNKNOWN) == ('a' + UNKNOWN, {'1': UNKNOWN})


@pytest.mark.parametrize('text', ['\n', '\u5b57', '\x00', UNKNOWN])
def test_what_cannot_be_written_is_said(text):
    with pytest.raises(DataError, match='cannot be written with this alphabet'):
        spelling.spell('a' + text, LETTERS)


# -- distortion -------------------------------------------------------------------------------------------------------


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


# -- batches ----------------------------------------------------------------------------------------------------------


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


# -- the real set -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def real(tmp_path_factory):
    folder = os.environ.get('HFRNN_DATA')
    places = (iamondb.ARCHIVE, 'lineStrokes', 'iamondb/lineStrokes')
    if not folder or not any(os.path.exists(os.path.join(folder, place)) for place in places):
        pytest.skip('HFRNN_DATA names no folder with IAM-OnDB')
    cache = tmp_path_factory.mktemp('cache')
    return iamondb.load(folder, str(cache)), cache


def test_the_real_set_has_the_published_counts(real):
    data, cache = real
    assert [tuple(part) for part in data.report.parts] == [
        ('trainset', 775, 5_364, 137_421, 3_298_424),
        ('testset_t', 216, 1_518, 36_359, 1_036_803),
        ('testset_f', 544, 3_859, 96_778, 2_425_542),
        ('testset_v', 192, 1_438, 32_968, 885_964),
    ]
    assert (len(data.train.names), len(data.valid.names)) == (10_741, 1_438)
    assert (len(data.train.offsets), len(data.valid.offsets)) == (6_760_769, 885_964)
    assert list(counts(data).values()) == [16, 177, 9, 332, 10_108, 90, 33]
    assert {name[:8] for name, text in zip(data.train.names, data.train.texts, strict=True) if not text} == {'a08-551z'}
    np.testing.assert_allclose(data.scale, [[8.178685, 0.111641], [41.953890, 37.123557]], atol=1e-6)
    assert len(data.alphabet) == 73 and set('Qq') <= set(data.alphabet)
    (packed,) = cache.iterdir()
    assert packed.stat().st_size < 16 << 20


def test_the_real_set_pads_little(real):
    data, _ = real
    selections = batches.epoch(data.train, batches.best_lengths(data.train), 32, np.random.default_rng(0))
    kept = np.concatenate([selection.indices for selection in selections])
    assert sorted(kept[kept >= 0]) == list(range(10_741))
    padded_points = sum(selection.length * 32 for selection in selections)
    assert (len(data.train.offsets) - 10_741) / padded_points > 0.89
