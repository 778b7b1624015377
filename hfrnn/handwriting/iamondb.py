"""IAM-OnDB as it is distributed: lineStrokes/**.xml, ascii/**.txt and four lists of forms, as lines of pen offsets.

The lists give the protocol of Graves 2013 (G13) sec. 4.2: he trained on the training set, the second validation set and
the test set, and stopped by, and reported, the first validation set.

No point is left out, moved or added.  G13 interpolated missing readings, which would add points that are easily
predicted, and so nats, and left out steps above a length that it does not state.  Here missing readings are only
counted, and a step within a stroke that is longer than LONGEST_STEP becomes a lift of the pen.
"""

import hashlib
import lzma
import pathlib
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from hfrnn.errors import DataError
from hfrnn.handwriting import dataset, safe_xml, spelling, strokes
from hfrnn.text.alphabet import UNKNOWN

ARCHIVE = 'iam-ondb.tar.xz'
TRAIN = ('trainset', 'testset_t', 'testset_f')
VALID = ('testset_v',)
PAPER = {'trainset': 5_364, 'testset_t': 1_518, 'testset_f': 3_859, 'testset_v': 1_438}  # lines, G13 sec. 4.2
MOST_LINES = 99  # in the file names of a form; no form has more than 15
LONGEST_STEP = 300  # units; 1 in 22,000 of the steps within strokes is longer
LATEST = 1e12  # seconds; no clock has run for longer
VERSION = 3  # of the reader: the cache of another version is not used
LONGEST_GAP = 0.05  # seconds; the sensor reads every 0.013
STRUCK_OUT = '#'  # in the transcripts, for a word that was crossed out or cannot be read


def load(source: str, cache: str | None = None, longest_step: float = LONGEST_STEP) -> dataset.Dataset:
    """IAM-OnDB's lines, from a folder with its files or its archive, or from a file by ``dataset.save``.

    Args:
      source: the folder or file.
      cache: a folder for the packed lines, under a fingerprint of the files; None caches nothing.
      longest_step: the longest step of a pen that stays on the board, in units.

    Raises:
      DataError: if the data are missing, incomplete, broken, or contradict themselves.
    """
    root = pathlib.Path(source)
    if root.is_file():
        return dataset.load(root)
    if not root.is_dir():
        raise DataError(f'no folder {source}')
    path = cache and pathlib.Path(cache) / f'iamondb-{_fingerprint(root, longest_step)}.npz'
    return dataset.cached(path, lambda: assemble(source, _files(root), longest_step))


# -- files ------------------------------------------------------------------------------------------------------------


def _unpacked(root):
    return next((r for r in (root, root / 'iamondb') if (r / 'lineStrokes').is_dir()), None)


def _wanted(path: pathlib.PurePath) -> bool:
    if path.suffix == '.xml':
        return 'lineStrokes' in path.parts
    return path.suffix == '.txt' and ('ascii' in path.parts or path.stem in (*TRAIN, *VALID))


def _walk(folder):
    links = [path for path in (folder / 'lineStrokes', folder / 'ascii') if path.is_symlink()]
    for path in sorted(path for top in (folder, *links) for path in top.rglob('*')):
        if _wanted(path.relative_to(folder)) and path.is_file():
            yield path.relative_to(folder), path


def _files(root: pathlib.Path) -> Iterator[tuple[pathlib.PurePath, bytes]]:
    """(path, content) of each file of the data set, from the folder or, without one, straight from the archive."""
    folder, archive = _unpacked(root), root / ARCHIVE
    if not folder and not archive.is_file():
        raise DataError(f'{root} is no IAM-OnDB: it has neither lineStrokes/ nor {ARCHIVE}')
    try:
        if folder:
            for path, file in _walk(folder):
                yield path, file.read_bytes()
            return
        with tarfile.open(archive, 'r|xz') as tar:
            for member in tar:
                path = pathlib.PurePath(member.name)
                if member.isfile() and _wanted(path):
                    yield path, tar.extractfile(member).read()
    except (tarfile.TarError, lzma.LZMAError, EOFError) as e:
        raise DataError(f'{archive} is damaged: {e}') from e
    except OSError as e:
        raise DataError(f'cannot read {e.filename or root}: {e.strerror}') from e


def _fingerprint(root, longest_step):
    """A hash of the reader, and of the archive's content or the names, sizes and times of the files in the folder."""
    digest = hashlib.sha256(f'{VERSION} {dataset.FORMAT} {longest_step} {LONGEST_GAP} {spelling.RARE}'.encode())
    folder = _unpacked(root)
    if folder:
        for path, file in _walk(folder):
            stat = file.stat()
            digest.update(f'{path} {stat.st_size} {stat.st_mtime_ns}\n'.encode())
    elif (root / ARCHIVE).is_file():
        with (root / ARCHIVE).open('rb') as f:
            digest.update(hashlib.file_digest(f, 'sha256').digest())
    return digest.hexdigest()[:16]


# -- one file ---------------------------------------------------------------------------------------------------------


class Recording(NamedTuple):
    """One file of lineStrokes.

    Attributes:
      strokes: (n, 2) int64 points of each stroke, perhaps none.
      times: (n,) seconds of the points of each stroke; NaN where the file has none.
    """

    strokes: list[np.ndarray]
    times: list[np.ndarray]


def read_recording(data: bytes, name: str) -> Recording:
    """The strokes in a file of lineStrokes.

    Raises:
      DataError: if the file is broken or hostile XML, or no file of lineStrokes; if a point is not two whole numbers or
        is outside every stroke, or a stroke is inside another.
    """
    xs, ys, times, starts, tags = [], [], [], [], set()
    inside = False  # a stroke

    def start(tag, attributes):
        nonlocal inside
        if tag == 'Point':
            if not inside:
                raise DataError(f'{name} has a point outside of the strokes')
            if attributes[::2] == ['x', 'y', 'time']:
                _, x, _, y, _, time = attributes
            else:
                found = dict(zip(attributes[::2], attributes[1::2], strict=True))
                x, y, time = found.get('x', ''), found.get('y', ''), found.get('time', 'nan')
            xs.append(x)
            ys.append(y)
            times.append(time)
        elif tag == 'Stroke':
            if inside:
                raise DataError(f'{name} has a stroke inside of another')
            inside = True
            starts.append(len(xs))
        else:
            tags.add(tag)

    def end(tag):
        nonlocal inside
        inside = inside and tag != 'Stroke'

    safe_xml.parse(data, name, start, end)
    if 'StrokeSet' not in tags:
        raise DataError(f'{name} has no StrokeSet; it is not a file of lineStrokes')
    try:
        points = np.array([list(map(int, xs)), list(map(int, ys))], np.int32).astype(np.int64).T
        seconds = np.array(list(map(float, times)))
        if np.any(np.abs(seconds) > LATEST):
            raise ValueError('a time is too large')
    except (ValueError, OverflowError) as e:
        raise DataError(f'{name}: a point is not two whole numbers and a time: {e}') from e
    return Recording(np.split(points, starts[1:]), np.split(seconds, starts[1:])) if starts else Recording([], [])


def read_transcript(data: bytes) -> list[str] | None:
    """The lines of text after CSR:, as they were written, not as they were asked for; None without CSR:."""
    _, mark, text = data.decode('latin-1').partition('CSR:')
    return [line for line in map(str.strip, text.splitlines()) if line] if mark else None


# -- all of them ------------------------------------------------------------------------------------------------------


class Line(NamedTuple):
    """One recording as offsets, and counts for the report.

    Attributes:
      offsets: (T, 3), or None for a recording without points.
      strokes: the number of strokes with points.
      empty: the number of strokes without points.
      lifts: the number of steps that were too long.
      gaps: the number of late readings.
    """

    offsets: np.ndarray | None
    strokes: int
    empty: int
    lifts: int
    gaps: int


def make_line(recording: Recording, longest_step: float = LONGEST_STEP) -> Line:
    """The offsets of a recording, without its empty strokes; a step that is too long becomes a lift of the pen."""
    drawn = [stroke for stroke in recording.strokes if len(stroke)]
    empty = len(recording.strokes) - len(drawn)
    if not drawn:
        return Line(None, 0, empty, 0, 0)
    offsets = strokes.from_strokes(drawn)
    before, after = offsets[:-1], offsets[1:]
    far = (np.hypot(after[:, 0].astype(float), after[:, 1]) > longest_step) & (before[:, 2] == 0)
    before[far, 2] = 1
    gaps = sum(int(np.sum(np.round(np.diff(times), 3) > LONGEST_GAP)) for times in recording.times)
    return Line(offsets, len(drawn), empty, int(far.sum()), gaps)


def _form_and_number(path):
    form, _, number = path.stem.rpartition('-')
    if not form or not number.isdecimal() or len(number) > 9 or not 0 < int(number) <= MOST_LINES:
        raise DataError(f'{path} is not named like a file of lineStrokes')
    return form, int(number)


def _line_of_file(data, name, longest_step):
    recording = read_recording(data, name)
    try:
        return make_line(recording, longest_step)
    except DataError as e:
        raise DataError(f'{name}: {e}') from e


def assemble(source: str, files: Iterable[tuple[pathlib.PurePath, bytes]], longest_step: float) -> dataset.Dataset:
    """The data set in files that come in any order; see ``load``, also for the errors."""
    forms, transcripts, lists, broken = defaultdict(dict), {}, {}, {}

    def put(table, key, value, path):
        if key in table:
            raise DataError(f'{source} has {path.name} twice')
        table[key] = value

    for path, data in files:
        if path.suffix == '.xml':
            form, number = _form_and_number(path)
            try:
                line = _line_of_file(data, path.name, longest_step)
            except DataError as e:
                broken[path] = str(e)
            else:
                put(forms[form], number, line, path)
        elif 'ascii' in path.parts:
            put(transcripts, path.stem, read_transcript(data), path)
        else:
            put(lists, path.stem, data.decode('latin-1').split(), path)
    _check(source, forms, lists, broken)

    def text_of(form, n):
        texts = transcripts.get(form)
        fits = texts is not None and len(texts) == max(forms[form])
        return texts[n - 1].replace(STRUCK_OUT, UNKNOWN) if fits else ''

    parts = {
        part: [
            (f'{form}-{n:02d}', forms[form][n], text_of(form, n)) for form in sorted(names) for n in sorted(forms[form])
        ]
        for part, names in lists.items()
    }
    train, valid = (
        dataset.pack((name, line.offsets, text) for part in names for name, line, text in parts[part] if _drawn(line))
        for names in (TRAIN, VALID)
    )
    alphabet = spelling.alphabet_of(train.texts, others=valid.texts)
    scale = dataset.scale_of(train)
    report = _report(parts, forms, transcripts, lists, alphabet, longest_step, broken)
    return dataset.Dataset('IAM-OnDB', alphabet, train, valid, scale, report)


def _drawn(line):
    return line.strokes and len(line.offsets) > 1  # at least one target


def _report(parts, forms, transcripts, lists, alphabet, longest_step, broken):
    all_lines = [line for part in (*TRAIN, *VALID) for line in parts[part]]
    listed = {form for part in lists.values() for form in part}

    def count(part):
        drawn = [line for _, line, _ in parts[part] if _drawn(line)]
        points = sum(len(line.offsets) for line in drawn)
        return dataset.PartCounts(part, len(lists[part]), len(drawn), sum(line.strokes for line in drawn), points)

    def correction(what, where):
        return dataset.Correction(what, len(where), tuple(dict.fromkeys(where)))

    def times(number):
        return [name for name, line, text in all_lines for _ in range(number(line, text))]

    def numbered(form, numbers):
        return [f'{form}-{n:02d}' for n in numbers]

    def missing(form):
        return sorted(set(range(1, max(forms[form]))) - set(forms[form]))

    counted = tuple(map(count, (*TRAIN, *VALID)))
    corrections = (
        correction(
            'lines of unlisted forms, left out',
            [name for form in forms if form not in listed for name in numbered(form, forms[form])],
        ),
        correction(
            'lines without a file of strokes, left out',
            [name for form in sorted(listed) for name in numbered(form, missing(form))],
        ),
        correction('transcripts without strokes, left out', [form for form in transcripts if form not in forms]),
        correction(
            'lines whose transcript is missing or has another number of lines, kept without text',
            times(lambda line, text: not text),
        ),
        correction('strokes without points, left out', times(lambda line, text: line.empty)),
        correction('lines of fewer than two points, left out', times(lambda line, text: not _drawn(line))),
        correction(
            f'steps over {longest_step:g} units within a stroke, turned into a lift of the pen',
            times(lambda line, text: line.lifts),
        ),
        correction(f'gaps over {LONGEST_GAP} s within a stroke, left as they are', times(lambda line, text: line.gaps)),
        correction(
            f'{STRUCK_OUT} for struck-out words, replaced by the unknown symbol',
            times(lambda line, text: text.count(UNKNOWN)),
        ),
        correction(
            f'characters with fewer than {spelling.RARE} occurrences in training, replaced by the unknown symbol',
            [c for _, _, text in all_lines for c in text if c not in alphabet],
        ),
        correction('broken files of unlisted forms, left out', [path.stem for path in broken]),
        dataset.Correction(
            'lines more (+) or fewer (-) than in G13',
            sum(abs(part.lines - PAPER[part.name]) for part in counted),
            tuple(f'{p.name}{p.lines - PAPER[p.name]:+d}' for p in counted if p.lines != PAPER[p.name]),
        ),
    )
    return dataset.Report(counted, corrections)


def _check(source, forms, lists, broken):
    missing = [part for part in (*TRAIN, *VALID) if part not in lists]
    if missing:
        raise DataError(f'{source} lacks the list of forms {", ".join(f"{part}.txt" for part in missing)}')
    listed = [form for part in (*TRAIN, *VALID) for form in lists[part]]
    twice = [form for form, n in Counter(listed).items() if n > 1]
    if twice:
        raise DataError(f'{source}: {len(twice)} forms are in the lists twice, such as {twice[0]}')
    needed = [path for path in broken if _form_and_number(path)[0] in listed]
    if needed:
        first, *others = needed
        named = ', '.join(path.name for path in others[:5]) + ' ...' * (len(others) > 5)
        raise DataError(broken[first] + (f'; so are {len(others)} more: {named}' if others else ''))
    absent = [form for form in listed if form not in forms]
    if absent:
        raise DataError(f'{source} is incomplete: {len(absent)} listed forms have no strokes, such as {absent[0]}')
