import numpy as np
import pytest
from numpy.testing import assert_array_equal

from hfrnn.errors import DataError
from hfrnn.text import scoring, words
from hfrnn.text.alphabet import alphabet_of, encode
from hfrnn.text.metrics import BITS, count_units, text_metrics

LINES = ['the cat  sat', '', ' on the mat ', 'a <unk> dog']


def test_words_and_ends_of_lines():
    found = words.split('\n'.join(LINES))
    assert found == ['the', 'cat', 'sat', '<eos>', 'on', 'the', 'mat', '<eos>', 'a', '<unk>', 'dog', '<eos>']
    assert words.join(found) == 'the cat sat\non the mat\na <unk> dog\n'
    vocabulary = words.vocabulary_of(found)
    symbols = words.encode(found, vocabulary)
    assert [vocabulary[x] for x in symbols] == found


def test_bits_perplexity_and_error_are_a_hand_count():
    """The same text by words and by characters, of which each costs 2 bits."""
    content = 'the cat sat\non the mat\n'
    spaced = '\n  the  cat sat \n\n\ton the mat\n\n mat'  # a tab is no blank to a net; and the last word has no end
    letters = alphabet_of(spaced)
    assert count_units(letters, encode(spaced, letters)) == (len(spaced), 6)
    found = words.split(content)
    vocabulary, alphabet = words.vocabulary_of(found), alphabet_of(content)
    for names, symbols, n_words in (
        (vocabulary, words.encode(found, vocabulary), 8),  # the ends of lines are words
        (alphabet, encode(content, alphabet), 6),
    ):
        n = len(symbols)
        reading = scoring.Reading(np.full(n, 2 / BITS), np.arange(n) < 3)
        assert count_units(names, symbols) == (len(content), n_words)
        found = text_metrics(reading, names, symbols)
        assert found == pytest.approx(
            {'bits_per_char': 2 * n / len(content), 'perplexity': 2 ** (2 * n / n_words), 'error': 3 / n}
        )


def test_strangers():
    assert_array_equal(words.encode(['a', 'x', 'b'], ('<unk>', 'a', 'b'), strict=False), [1, 0, 2])
    with pytest.raises(DataError, match=r"'x'; write <unk> for them"):
        words.encode(['x'], ('<unk>', 'a'))
    with pytest.raises(DataError, match="'x'"):
        words.encode(['x'], ('a',), strict=False)


def test_a_vocabulary_keeps_the_commonest():
    many = [f'w{i}' for i in range(12_000)] * 2 + ['common'] * 3 + [words.UNKNOWN, words.END]
    vocabulary = words.vocabulary_of(many)
    assert len(vocabulary) == len(set(vocabulary)) == 10_000
    assert {'common', words.UNKNOWN, words.END} <= set(vocabulary)


def test_a_file_in_three_parts(tmp_path):
    path = tmp_path / 'a.txt'
    path.write_text(''.join(f'line {i} of it\n' for i in range(100)))
    corpus = words.load(str(path))
    parts = [[corpus.alphabet[x] for x in part] for part in corpus[2:]]
    assert [words.join(part).count('\n') for part in parts] == [85, 5, 10]
    assert words.join(parts[0]).startswith('line 0 of it\nline 1 of it\n')
    assert '<unk>' in parts[2]  # 95 is nowhere in the training text
    assert '95' not in corpus.alphabet


@pytest.mark.parametrize(
    'content, said', [('no ends of lines at all ' * 100, '1 lines'), ('', 'empty'), ('a <eos>\n' * 40, 'take it out')]
)
def test_bad_files_are_named(content, said, tmp_path):
    path = tmp_path / 'x.txt'
    path.write_text(content)
    with pytest.raises(DataError, match=said):
        words.load(str(path))
    with pytest.raises(DataError, match='HFRNN_DATA'):
        words.load('ptb')
    with pytest.raises(DataError, match='no corpus of words of that name'):
        words.load('enwik8')


def test_penn_treebank_has_its_counts(data):
    corpus = words.load('ptb', data)
    assert len(corpus.alphabet) == 10_000
    assert [len(part) for part in corpus[2:]] == [929_589, 73_760, 82_430]
    assert np.max(corpus.train) == 9_999
