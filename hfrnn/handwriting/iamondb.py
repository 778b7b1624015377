"""IAM-OnDB as it is distributed: lineStrokes/**.xml, ascii/**.txt and four lists of forms, as lines of pen offsets.

The lists give the protocol of Graves 2013 (G13) sec. 4.2: he trained on the training set, the second validation set and
the test set, and stopped by, and reported, the first validation set.

No point is left out, moved or added.  G13 filled missing readings in by interpolation, which would add points that are
easily predicted, and so nats; and left out steps above a length that it does not state.  Here the first are only
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
MOST_LINES = 99  # of a form, which has 15 at most
LONGEST_STEP = 300  # units; of the steps within strokes, 1 in 22,000 is longer
LAST = 1e12  # seconds; no clock has gone on for longer
VERSION = 3  # of how the files are read: what another has cached is read anew
LONGEST_GAP = 0.05  # seconds; the sensor reads every 0.013
STRUCK_OUT = '#'  # in the transcripts, for a word that was crossed out or cannot be read


def load(source: str, cache: str | None = None, longest_step: float = LONGEST_STEP) -> dataset.Handwriting:
    """IAM-OnDB's lines, from a folder that holds it or its archive, or from a file that ``strokes.save`` made of it.

    Args:
      source: the folder or file.
      cache: a folder in which to keep what was read, under the name of what it was read from; None keeps nothing.
      longest_step: in units, of a pen that stays on the board.

    Raises:
      DataError: if it is not there, incomplete, broken, or contradicts itself.
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
    """(path, content) of the files of the data set, each once, straight from the archive if there is no folder."""
    folder, archive = _unpacked(root), root / ARCHIVE
    if not folder and not archive.is_file():
        raise DataError(f'{root} is no IAM-OnDB: it holds neither lineStrokes/ nor {ARCHIVE}')
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
    """Of the archive's content, or of the names, sizes and times of the files in the folder; and of how it is read."""
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
      strokes: (n, 2) int64 points of each, also of those without points.
      times: (n,) seconds of each; NaN where the file has none.
    """

    strokes: list[np.ndarray]
    times: list[np.ndarray]


def read_recording(data: bytes, name: str) -> Recording:
    """The strokes in a file of lineStrokes.

    Raises:
      DataError: if it is broken or hostile XML, no such file, a point is not two whole numbers or in no stroke, or a
        stroke is in another.
    """
    xs, ys, times, starts, tags = [], [], [], [], set()
    inside = False  # of a stroke

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
        raise DataError(f'{name} holds no StrokeSet; it is no file of lineStrokes')
    try:
        points = np.array([list(map(int, xs)), list(map(int, ys))], np.int32).astype(np.int64).T
        seconds = np.array(list(map(float, times)))
        if np.any(np.abs(seconds) > LAST):
            raise ValueError('a time without end')
    except (ValueError, OverflowError) as e:
        raise DataError(f'{name}: a point is not two whole numbers and a time: {e}') from e
    return Recording(np.split(points, starts[1:]), np.split(seconds, starts[1:])) if starts else Recording([], [])


def read_transcript(data: bytes) -> list[str] | None:
    """The lines of text after CSR:, what was written rather than what was to be written; None if there is no CSR:."""
    _, mark, text = data.decode('latin-1').partition('CSR:')
    return [line for line in map(str.strip, text.splitlines()) if line] if mark else None


# -- all of them ------------------------------------------------------------------------------------------------------


class Line(NamedTuple):
    """What became of one recording.

    Attributes:
      offsets: (T, 3), or None if it holds no point.
      strokes: how many it has.
      empty: how many more have no point.
      lifts: how many steps were too long.
      gaps: how many readings were late.
    """

    offsets: np.ndarray | None
    strokes: int
    empty: int
    lifts: int
    gaps: int


def make_line(recording: Recording, longest_step: float = LONGEST_STEP) -> Line:
    """The offsets of a recording: a stroke without points says nothing, and a step too long was made in the air."""
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
        raise DataError(f'{path} is no name of a file of lineStrokes')
    return form, int(number)


def _line_of_file(data, name, longest_step):
    recording = read_recording(data, name)
    try:
        return make_line(recording, longest_step)
    except DataError as e:
        raise DataError(f'{name}: {e}') from e


def assemble(source: str, files: Iterable[tuple[pathlib.PurePath, bytes]], longest_step: float) -> dataset.Handwriting:
    """The data set in files that come in any order; see ``load``, also for what it raises."""
    forms, transcripts, lists, broken = defaultdict(dict), {}, {}, {}

    def put(table, key, value, path):
        if key in table:
            raise DataError(f'{source} holds {path.name} twice')
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

    def told(form, n):
        texts = transcripts.get(form)
        fits = texts is not None and len(texts) == max(forms[form])
        return texts[n - 1].replace(STRUCK_OUT, UNKNOWN) if fits else ''

    parts = {
        part: [(f'{form}-{n:02d}', forms[form][n], told(form, n)) for form in sorted(mine) for n in sorted(forms[form])]
        for part, mine in lists.items()
    }
    train, valid = (
        dataset.pack((name, line.offsets, text) for part in names for name, line, text in parts[part] if _drawn(line))
        for names in (TRAIN, VALID)
    )
    alphabet = spelling.alphabet_of(train.texts, others=valid.texts)
    scale = dataset.scale_of(train)
    report = _report(parts, forms, transcripts, lists, alphabet, longest_step, broken)
    return dataset.Handwriting('IAM-OnDB', alphabet, train, valid, scale, report)


def _drawn(line):
    return line.strokes and len(line.offsets) > 1  # there is something to predict


def _report(parts, forms, transcripts, lists, alphabet, longest_step, broken):
    every = [line for part in (*TRAIN, *VALID) for line in parts[part]]
    listed = {form for part in lists.values() for form in part}

    def count(part):
        drawn = [line for _, line, _ in parts[part] if _drawn(line)]
        points = sum(len(line.offsets) for line in drawn)
        return dataset.PartCounts(part, len(lists[part]), len(drawn), sum(line.strokes for line in drawn), points)

    def rule(what, where):
        return dataset.Correction(what, len(where), tuple(dict.fromkeys(where)))

    def times(number):
        return [name for name, line, text in every for _ in range(number(line, text))]

    def numbered(form, numbers):
        return [f'{form}-{n:02d}' for n in numbers]

    def missing(form):
        return sorted(set(range(1, max(forms[form]))) - set(forms[form]))

    counted = tuple(map(count, (*TRAIN, *VALID)))
    rules = (
        rule(
            'lines of forms in no list, left out',
            [name for form in forms if form not in listed for name in numbered(form, forms[form])],
        ),
        rule(
            'lines without a file of strokes, left out',
            [name for form in sorted(listed) for name in numbered(form, missing(form))],
        ),
        rule('transcripts without strokes, left out', [form for form in transcripts if form not in forms]),
        rule(
            'lines whose transcript is missing or has another number of lines, without text',
            times(lambda line, text: not text),
        ),
        rule('strokes without points, left out', times(lambda line, text: line.empty)),
        rule('lines of fewer than two points, left out', times(lambda line, text: not _drawn(line))),
        rule(
            f'steps over {longest_step:g} units within a stroke, made a lift of the pen',
            times(lambda line, text: line.lifts),
        ),
        rule(f'gaps over {LONGEST_GAP} s within a stroke, left as they are', times(lambda line, text: line.gaps)),
        rule(
            f'{STRUCK_OUT} for struck-out words, made the unknown symbol', times(lambda line, text: text.count(UNKNOWN))
        ),
        rule(
            f'characters that training has fewer than {spelling.RARE} times, made the unknown symbol',
            [c for _, _, text in every for c in text if c not in alphabet],
        ),
        rule('broken files of forms in no list, left out', [path.stem for path in broken]),
        dataset.Correction(
            'lines more (+) or fewer (-) than G13 has',
            sum(abs(part.lines - PAPER[part.name]) for part in counted),
            tuple(f'{p.name}{p.lines - PAPER[p.name]:+d}' for p in counted if p.lines != PAPER[p.name]),
        ),
    )
    return dataset.Report(counted, rules)


def _check(source, forms, lists, broken):
    missing = [part for part in (*TRAIN, *VALID) if part not in lists]
    if missing:
        raise DataError(f'{source} lacks the list of forms {", ".join(f"{part}.txt" for part in missing)}')
    listed = [form for part in (*TRAIN, *VALID) for form in lists[part]]
    twice = [form for form, n in Counter(listed).items() if n > 1]
    if twice:
        raise DataError(f'{source}: {len(twice)} forms stand twice in the lists, such as {twice[0]}')
    needed = [path for path in broken if _form_and_number(path)[0] in listed]
    if needed:
        first, *others = needed
        named = ', '.join(path.name for path in others[:5]) + ' ...' * (len(others) > 5)
        raise DataError(broken[first] + (f'; so are {len(others)} more: {named}' if others else ''))
    absent = [form for form in listed if form not in forms]
    if absent:
        raise DataError(f'{source} is incomplete: {len(absent)} listed forms have no strokes, such as {absent[0]}')
