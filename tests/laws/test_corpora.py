"""Laws of every corpus: a new one is a row of CORPORA."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from hfrnn.text import corpora, words
from hfrnn.text.alphabet import UNKNOWN, as_bytes, decode, encode, unit_of

BIG = ('ptb', 'ptb, words', 'enwik8', 'wiki')  # read from the folder of data sets
CORPORA = {  # load(folder, path of a file of text) -> Corpus
    'pydoc': lambda folder, path: corpora.load('pydoc'),
    'pydoc, bytes': lambda folder, path: corpora.load('pydoc', unit='bytes'),
    'stdlib': lambda folder, path: corpora.load('stdlib'),
    'a file': lambda folder, path: corpora.load(path),
    'a file, bytes': lambda folder, path: corpora.load(path, unit='bytes'),
    'a file, words': lambda folder, path: words.load(path),
    'ptb': lambda folder, path: corpora.load('ptb', folder),
    'ptb, words': lambda folder, path: words.load('ptb', folder),
    'enwik8': lambda folder, path: corpora.load('enwik8', folder),
    'wiki': lambda folder, path: corpora.load('wiki', folder),
}


@pytest.fixture(scope='module')
def path(tmp_path_factory):
    file = tmp_path_factory.mktemp('text') / 'a.txt'
    rng = np.random.default_rng(0)
    lines = [' '.join(rng.choice(['a', 'caf\xe9', 'sat', '\u20ac5', 'on'], 9)) for _ in range(200)]
    file.write_text('\n'.join(lines), 'utf-8')
    return str(file)


ROWS = [pytest.param(name, marks=[pytest.mark.slow] if name == 'wiki' else []) for name in CORPORA]


@pytest.fixture(scope='module', params=ROWS)
def corpus(request, path):
    folder = request.getfixturevalue('data') if request.param in BIG else None
    return CORPORA[request.param](folder, path)


def test_every_corpus_has_a_row():
    assert set(corpora.CORPORA) <= {name.split(',')[0] for name in CORPORA}


def test_its_parts_are_symbols_of_its_alphabet(corpus):
    assert len(corpus.alphabet) == len(set(corpus.alphabet)) > 1
    for part in (corpus.train, corpus.valid, corpus.test):
        assert part.ndim == 1 and len(part) > 0 and part.dtype in (np.uint8, np.uint16)
        assert int(part.max()) < len(corpus.alphabet)
    assert len(corpus.train) > len(corpus.valid)


def test_what_is_read_is_what_was_written(corpus):
    """A part of it, in symbols, as text, and in symbols again."""
    some = corpus.test[:5000]
    if unit_of(corpus.alphabet) == 'words':
        assert_array_equal(words.encode([corpus.alphabet[x] for x in some], corpus.alphabet), some)
        return
    assert_array_equal(encode(decode(some, corpus.alphabet), corpus.alphabet, strict=False), some)
    if unit_of(corpus.alphabet) == 'bytes':
        assert_array_equal(np.frombuffer(as_bytes(some, corpus.alphabet), np.uint8), some)
    elif UNKNOWN not in corpus.alphabet:
        assert as_bytes(some, corpus.alphabet).decode() == decode(some, corpus.alphabet)


def test_its_fingerprint_tells_its_parts_apart(corpus):
    found = corpora.fingerprint(corpus)
    assert [found[part] for part in ('train', 'valid', 'test')] == [len(part) for part in corpus[2:5]]
    changed = corpus.test.copy()
    changed[-1] = (int(changed[-1]) + 1) % len(corpus.alphabet)
    assert corpora.fingerprint(corpus._replace(test=changed)) != found


def test_the_last_of_validation_is_kept(corpus):
    n = len(corpus.valid) // 3
    held = corpora.with_held_out(corpus, n)
    assert_array_equal(held.valid, corpus.valid[-n:])
    assert len(held.train) + len(held.valid) == len(corpus.train) + len(corpus.valid)
    assert_array_equal(held.test, corpus.test)
