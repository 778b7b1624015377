"""Training: losses, steps, the loop, and the life of every run.

    hfrnn.train.run(experiment, folder, hfrnn.train.Limits(minutes=5))

What this door opens on is loaded when it is asked for, as it needs orbax, which the modules below do not.
"""

from typing import Any

_DOOR = {
    'Experiment': 'experiment',
    'Limits': 'experiment',
    'evaluate': 'experiment',
    'run': 'experiment',
    'replace': 'settings',
}
__all__ = list(_DOOR)


def __getattr__(name: str) -> Any:
    if name not in _DOOR:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    import importlib

    return getattr(importlib.import_module(f'hfrnn.train.{_DOOR[name]}'), name)
