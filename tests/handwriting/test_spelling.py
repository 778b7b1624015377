"""Laws of spelling: every character that can be written is, and replacements are returned."""

import string

import pytest

from hfrnn.errors import DataError
from hfrnn.handwriting import spelling
from hfrnn.text.alphabet import UNKNOWN

PRINTABLE = ''.join(map(chr, range(32, 127)))


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
