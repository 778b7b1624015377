"""Laws of settings: flat and nested are the same, and nothing out of bounds gets through."""

import dataclasses
import math

import pytest

from hfrnn.errors import RunError, SettingsError
from hfrnn.train.settings import check, flatten, leaves, replace, restore, setting


@dataclasses.dataclass(frozen=True)
class Net:
    """A net"""

    hidden: int = setting(3, 'Hidden units.', low=1, high=10)
    cell: str = setting('rnn', 'The cell.', choices=('rnn', 'lstm'))


@dataclasses.dataclass(frozen=True)
class Run:
    """A run"""

    net: Net = Net()
    rate: float | None = setting(None, 'The rate.', low=0.0)
    minutes: float = setting(math.inf, 'The time.', low=0.0, infinite=True)
    lengths: tuple[int, ...] = setting((1, 2), 'Lengths.', low=0)
    fast: bool = setting(False, 'Whether.')


def test_settings_come_back_from_what_json_holds():
    run = replace(Run(), hidden=5, rate=0.5, lengths=[7])
    assert run == Run(Net(5), 0.5, lengths=(7,)) and Run().net.hidden == 3
    assert flatten(run) == {
        'hidden': 5, 'cell': 'rnn', 'rate': 0.5, 'minutes': math.inf, 'lengths': [7], 'fast': False
    }  # fmt: skip
    assert restore(Run(), flatten(run)) == run
    assert [(leaf.name, leaf.kind, leaf.many, leaf.optional) for leaf in leaves(run)][2:5] == [
        ('rate', float, False, True),
        ('minutes', float, False, False),
        ('lengths', int, True, False),
    ]


@pytest.mark.parametrize(
    'changes, said',
    [
        ({'hidden': 0}, 'hidden=0: at least 1'),
        ({'hidden': 11}, 'hidden=11: at most 10'),
        ({'hidden': 2.5}, 'hidden=2.5 is no int'),
        ({'hidden': True}, 'hidden=True is no int'),
        ({'hidden': None}, 'hidden=None is no int'),
        ({'cell': 'gru'}, "cell='gru' is none of rnn, lstm"),
        ({'rate': -1.0}, 'rate=-1.0: at least 0'),
        ({'rate': math.inf}, 'rate=inf is no number'),
        ({'minutes': math.nan}, 'minutes=nan is no number'),
        ({'lengths': (1, -1)}, 'lengths=-1: at least 0'),
        ({'fast': 1}, 'fast=1 is no bool'),
    ],
)
def test_what_is_out_of_bounds_is_refused(changes, said):
    with pytest.raises(SettingsError) as e:
        check(replace(Run(), **changes))
    assert str(e.value) == said or said in str(e.value)


def test_what_is_in_bounds_passes():
    for changes in ({}, {'rate': None}, {'rate': 0}, {'minutes': 0.5}, {'lengths': ()}, {'cell': 'lstm', 'fast': True}):
        check(replace(Run(), **changes))


def test_names_and_values_of_others_are_refused():
    with pytest.raises(SettingsError, match='no setting hiden of Run'):
        replace(Run(), hiden=2)
    with pytest.raises(RunError, match='another version: more'):
        restore(Run(), flatten(Run()) | {'more': 1})
    with pytest.raises(RunError, match='damaged: hidden=0'):
        restore(Run(), flatten(Run()) | {'hidden': 0})
