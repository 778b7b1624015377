import lzma

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from hfrnn.errors import DataError
from hfrnn.text import corpora
from hfrnn.text.alphabet import (
    BYTES,
    PAPER_ALPHABET,
    UNKNOWN,
    alphabet_of,
    as_bytes,
    decode,
    encode,
    symbols_of,
    text_of,
)
from hfrnn.text.batches import random_substrings


@given(st.text(max_size=60))
def test_encode_and_back(content):
    alphabet = alphabet_of(content)
    assert decode(encode(content, alphabet), alphabet) == content


def test_strangers():
    assert_array_equal(encode('axb', 'ab' + UNKNOWN, strict=False), [0, 2, 1])
    for alphabet, strict in (('ab', False), ('ab' + UNKNOWN, True)):
        with pytest.raises(DataError, match="'x'"):
            encode('axb', alphabet, strict=strict)


def test_alphabets_stay_within_bytes():
    many = ''.join(map(chr, range(0x4E00, 0x4E00 + 400))) + 'aab'
    alphabet = alphabet_of(many)
    assert len(alphabet) == 256
    assert alphabet.endswith(UNKNOWN)
    assert 'a' in alphabet
    assert len(PAPER_ALPHABET) == len(set(PAPER_ALPHABET)) == 86


def test_bytes_are_written_and_read_as_utf_8():
    symbols = symbols_of('Grün', BYTES)
    assert bytes(symbols) == 'Grün'.encode()
    assert text_of(symbols, BYTES) == 'Grün'
    assert text_of(symbols[:3], BYTES) == 'Gr\N{REPLACEMENT CHARACTER}'
    assert text_of(symbols_of('ab', 'abc'), 'abc') == 'ab'
    assert as_bytes(np.frombuffer(b'\xff\0', np.uint8), BYTES) == b'\xff\0'
    assert as_bytes(np.array([0, 1, 1]), 'a\xe9') == 'a\xe9\xe9'.encode()


def test_random_substrings_are_substrings_and_uniform():
    symbols = np.arange(50)
    batch = random_substrings(symbols, np.random.default_rng(0), 5000, 10, 4)
    assert (batch.targets == batch.xs + 1).all()
    assert (np.diff(batch.xs, axis=1) == 1).all()
    often = np.bincount(batch.xs[:, 0], minlength=40)  # the last has its target at 49
    assert len(often) == 40
    assert (np.abs(often - 5000 / 40) < 6 * np.sqrt(5000 / 40)).all()
    assert_array_equal(batch.weights[7], [0] * 4 + [1] * 6)
    with pytest.raises(DataError, match='too few'):
        random_substrings(symbols[:10], np.random.default_rng(0), 1, 10, 0)


def test_python_carries_two_corpora():
    pydoc = corpora.load('pydoc')
    whole = sum(map(len, pydoc[2:]))
    assert whole > 300_000
    assert abs(len(pydoc.test) - whole / 10) < 1
    assert 'assert' in decode(pydoc.train, pydoc.alphabet)
    stdlib = corpora.load('stdlib')
    assert len(stdlib.train) > 5_000_000
    assert 'def ' in decode(stdlib.train[:100_000], stdlib.alphabet)


def test_a_file_in_three_parts(tmp_path):
    path = tmp_path / 'a.txt'
    content = 'Grün ist alle Theorie. ' * 100
    path.write_text(content)
    corpus = corpora.load(str(path))
    assert decode(np.concatenate(corpus[2:]), corpus.alphabet) == content
    assert [len(part) for part in corpus[2:]] == [1955, 115, 230]
    by_bytes = corpora.load(str(path), unit='bytes')
    assert len(by_bytes.alphabet) == 256
    assert bytes(np.concatenate(by_bytes[2:])) == content.encode()


@pytest.mark.parametrize(
    'content, said',
    [
        (None, 'no file'),
        (b'', 'empty'),
        (b'short', 'too short'),
        (b'\xff\xfe' * 900, 'not UTF-8'),
        (b'a' * 2000, 'one char'),
    ],
)
def test_bad_files_are_named(content, said, tmp_path):
    path = tmp_path / 'x.txt'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=said):
        corpora.load(str(path))


def test_bad_folders_are_named(tmp_path):
    with pytest.raises(DataError, match='HFRNN_DATA'):
        corpora.load('ptb')
    with pytest.raises(DataError, match=r'holds neither .*ptb\.tar\.xz'):
        corpora.load('ptb', str(tmp_path))
    (tmp_path / 'enwik8').write_bytes(b'too little')
    with pytest.raises(DataError, match='100,000,000'):
        corpora.load('enwik8', str(tmp_path))
    (tmp_path / 'ptb.tar.xz').write_bytes(lzma.compress(b'no tar'))
    with pytest.raises(DataError, match='damaged'):
        corpora.load('ptb', str(tmp_path))


def test_penn_treebank_has_its_counts(data):
    corpus = corpora.load('ptb', data)
    assert len(corpus.alphabet) == 50
    assert [len(part) for part in corpus[2:]] == [5_017_482, 393_042, 442_423]
    assert decode(corpus.test[:40], corpus.alphabet).startswith("no it was n't black monday\nbut while")


def test_validation_text_is_held_out_from_its_end():
    parts = [np.arange(n, dtype=np.int32) + first for n, first in ((30, 0), (10, 30), (5, 40))]
    corpus = corpora.Corpus('', 'ab', *parts)
    for n, kept in ((0, 10), (3, 3), (10, 10)):
        held = corpora.with_held_out(corpus, n)
        assert len(held.valid) == kept
        assert_array_equal(np.concatenate([held.train, held.valid, held.test]), np.arange(45))
        assert_array_equal(held.test, corpus.test)
    with pytest.raises(DataError, match='has 10 for validation'):
        corpora.with_held_out(corpus, 11)


def test_enwik8_is_divided_as_the_paper_divides_it(data):
    """92 + 4 + 4 million bytes; the paper trains on the first 96, but for what validation takes."""
    enwik8 = corpora.with_held_out(corpora.load('enwik8', data), 500_000)
    assert [len(part) for part in enwik8[2:5]] == [95_500_000, 500_000, 4_000_000]
