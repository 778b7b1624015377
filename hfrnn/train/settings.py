"""Settings: frozen dataclasses that define runs.  Name, default, bounds and help stand once, on the field.

    @dataclasses.dataclass(frozen=True)
    class Net:
        hidden: int = setting(350, 'Hidden units, H.', low=1)

    @dataclasses.dataclass(frozen=True)
    class Run:
        net: Net = Net()
        seed: int = setting(0, 'Seed of everything random.', low=0)

A field that is itself settings is a group; any other is a leaf.  No two leaves have the same name, so that a flag, a
key of a JSON file and a change need the leaf's name alone: ``replace(Run(), hidden=200)``.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from hfrnn.errors import RunError, SettingsError

Settings = Any  # an instance of a frozen dataclass
SEEDS = 2**31  # a seed is smaller


class Leaf(NamedTuple):
    """A field that is not a group.

    Attributes:
      name: of the field.
      value: of this instance.
      kind: bool, int, float or str; of a tuple, that of its elements.
      many: whether it is a tuple.
      optional: whether it may be None.
      help: one sentence.
      low, high: bounds of a number, None for none.
      choices: of a string, empty for any.
      infinite: whether a number may be infinite; never of settings that are written as JSON.
      flag: whether scripts have a flag for it; not if each script decides.
    """

    name: str
    value: Any
    kind: type
    many: bool
    optional: bool
    help: str
    low: float | None
    high: float | None
    choices: tuple[str, ...]
    infinite: bool
    flag: bool


def setting(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[str] = (),
    infinite: bool = False,
    flag: bool = True,
) -> Any:
    """A field of a settings dataclass."""
    metadata = {'help': help, 'low': low, 'high': high, 'choices': tuple(choices), 'infinite': infinite, 'flag': flag}
    return dataclasses.field(default=default, metadata=metadata)


def leaves(settings: Settings) -> Iterator[Leaf]:
    """The leaves of settings, in order."""
    hints = typing.get_type_hints(type(settings))
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value)
            continue
        kind, many, optional = hints[field.name], False, False
        if isinstance(kind, types.UnionType):
            (kind,) = (k for k in typing.get_args(kind) if k is not types.NoneType)
            optional = True
        if typing.get_origin(kind) is tuple:
            kind, many = typing.get_args(kind)[0], True
        yield Leaf(field.name, value, kind, many, optional, **field.metadata)


def flatten(settings: Settings) -> dict[str, Any]:
    """The leaves as JSON can hold them."""
    return {leaf.name: list(leaf.value) if leaf.many else leaf.value for leaf in leaves(settings)}


def replace(settings: Settings, **changes: Any) -> Settings:
    """The settings with other leaves.

    Raises:
      SettingsError: for a name that no leaf has.
    """
    unknown = changes.keys() - {leaf.name for leaf in leaves(settings)}
    if unknown:
        raise SettingsError(f'no setting {", ".join(sorted(unknown))} of {type(settings).__name__}')
    return _replaced(settings, changes)


def _replaced(settings, changes):
    changed = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            changed[field.name] = _replaced(value, changes)
        elif field.name in changes:
            new = changes[field.name]
            changed[field.name] = tuple(new) if isinstance(new, list) else new
    return dataclasses.replace(settings, **changed)


def restore(default: Settings, content: dict[str, Any]) -> Settings:
    """Settings from what ``flatten`` made of them.

    Args:
      default: an instance of the same dataclass.

    Raises:
      RunError: if the names or values are not those of such settings.
    """
    if content.keys() != flatten(default).keys():
        differing = sorted(content.keys() ^ flatten(default).keys())
        raise RunError(f'these settings are of another kind of run, or another version: {", ".join(differing)}')
    settings = replace(default, **content)
    try:
        check(settings)
    except (SettingsError, TypeError) as e:
        raise RunError(f'these settings are damaged: {e}') from e
    return settings


def check(settings: Settings) -> None:
    """Checks that all leaves are within their bounds and choices.

    Raises:
      SettingsError: if one is not.
    """
    for leaf in leaves(settings):
        for value in leaf.value if leaf.many else (leaf.value,):
            if value is None and leaf.optional:
                continue
            _check(leaf, value)


def _check(leaf, value):
    kinds = (int, float) if leaf.kind is float else leaf.kind
    if not isinstance(value, kinds) or (leaf.kind is not bool and isinstance(value, bool)):
        raise SettingsError(f'{leaf.name}={value!r} is no {leaf.kind.__name__}')
    if leaf.choices and value not in leaf.choices:
        raise SettingsError(f'{leaf.name}={value!r} is none of {", ".join(leaf.choices)}')
    if leaf.kind in (int, float):
        if math.isnan(value) or (math.isinf(value) and not leaf.infinite):
            raise SettingsError(f'{leaf.name}={value} is no number')
        if leaf.low is not None and value < leaf.low:
            raise SettingsError(f'{leaf.name}={value}: at least {leaf.low}')
        if leaf.high is not None and value > leaf.high:
            raise SettingsError(f'{leaf.name}={value}: at most {leaf.high}')
