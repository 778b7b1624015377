"""Laws of reading IAM-OnDB: what is recorded is what is learnt from, and every correction is counted."""

import os
import shutil
import tarfile

import numpy as np
import pytest

from hfrnn.errors import DataError
from hfrnn.handwriting import batches, dataset, iamondb
from hfrnn.text.alphabet import UNKNOWN

LISTS = ('trainset', 'testset_t', 'testset_f', 'testset_v')


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


@pytest.fixture(scope='module')
def real(tmp_path_factory):
    folder = os.environ.get('HFRNN_DATA')
    places = (iamondb.ARCHIVE, 'lineStrokes', 'iamondb/lineStrokes')
    if not folder or not any(os.path.exists(os.path.join(folder, place)) for place in places):
        pytest.skip('HFRNN_DATA names no folder with IAM-OnDB')
    cache = tmp_path_factory.mktemp('cache')
    return iamondb.load(folder, str(cache)), cache


@pytest.mark.slow
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
