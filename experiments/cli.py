"""The command line of a script: flags from settings, modes, help, errors in one line.

A script has groups of options, each an instance of a frozen dataclass of ``settings`` whose leaves become flags of the
same names, and modes, each of which reads some of the groups.  Its flags are its own, so that a test may call the
``main`` of several scripts in one process.
"""

import contextlib
import dataclasses
import math
import os
import pathlib
import re
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags, logging

from hfrnn import bundle, io
from hfrnn.bundle import Bundle
from hfrnn.errors import CorruptFile, OtherRun, RunError, SettingsError, UserError
from hfrnn.train import devices, run_folder
from hfrnn.train import settings as settings_of
from hfrnn.train.loop import Interrupted, NotFinite
from hfrnn.train.settings import setting


@dataclasses.dataclass(frozen=True)
class Machine:
    """Devices and processes"""

    devices: int | None = setting(None, 'How many devices to use; all if not given.', low=1)
    cpu_devices: int | None = setting(None, 'Divide a CPU into so many devices.', low=1)
    coordinator: str | None = setting(None, 'host:port of process 0, in a run of several processes.')
    processes: int = setting(1, 'The number of processes of the run.', low=1)
    process: int = setting(0, 'The number of this process, from 0.', low=0)


class Mode(NamedTuple):
    """What a script does.

    Attributes:
      act: ``act(options)``; options has the groups as attributes, and ``given``, the names of the flags that are given.
      groups: those that it reads, besides 'common' and 'machine'; a flag of another is refused.
    """

    act: Callable[[Any], None]
    groups: tuple[str, ...] = ()


def main(
    argv: Sequence[str],
    doc: str,
    modes: dict[str, Mode],
    *,
    choose: Callable[[Any], str] | None = None,
    remains: str = '',
    **groups: Any,
) -> None:
    """Runs a script: reads its flags, and acts by its mode; what a user can have done wrong ends it with one line.

    Args:
      argv: of the process, the script's name first.
      doc: of the script, the beginning of its help.
      modes: by their names; with one alone there is no flag --mode.
      choose: ``choose(options)`` names the mode if --mode is not given; None for the first.
      remains: what remains of the work if something other than the user's input ends it; the end of that message.
      groups: options by name, in the order of the help; the first line of a group's docstring is its title.
    """
    defined = flags.FlagValues()
    for group in groups.values():
        _define(defined, group)
    if len(modes) > 1:
        flags.DEFINE_enum('mode', None, list(modes), 'What to do.', flag_values=defined)
    for name in ('help', 'helpshort', 'helpfull'):
        flags.DEFINE_bool(name, False, 'Print this.', flag_values=defined)
    with errors_in_a_line(remains, defined):
        options = _read(defined, argv, groups)
        if any(defined[name].value for name in ('help', 'helpshort', 'helpfull')):
            print(_help(doc, modes, groups))
            return
        sys.stdout.reconfigure(errors='replace') if hasattr(sys.stdout, 'reconfigure') else None
        logging.set_verbosity(logging.WARNING)  # orbax logs much at every save
        name = options.mode or (choose(options) if choose else next(iter(modes)))
        mode = modes[name]
        for group in groups:
            if group not in (*mode.groups, 'common', 'machine'):
                unread = [leaf.name for leaf in _leaves(groups[group]) if leaf.name in options.given]
                if unread:
                    raise SettingsError(f'--mode={name} does nothing with --{unread[0]}')
        _act(mode, options)


def _leaves(group):
    return [leaf for leaf in settings_of.leaves(group) if leaf.flag]


def _act(mode, options):
    if 'machine' in vars(options):
        _join_devices(options)
    mode.act(options)


def _define(defined, group):
    for leaf in _leaves(group):
        default = list(leaf.value) if leaf.many else leaf.value
        if leaf.many:
            flags.DEFINE_list(leaf.name, default, leaf.help, flag_values=defined)
        elif leaf.choices:
            flags.DEFINE_enum(leaf.name, default, leaf.choices, leaf.help, flag_values=defined)
        else:
            kinds = {bool: flags.DEFINE_bool, int: flags.DEFINE_integer, float: flags.DEFINE_float}
            kinds.get(leaf.kind, flags.DEFINE_string)(leaf.name, default, leaf.help, flag_values=defined)


def _read(defined, argv, groups):
    try:
        rest = defined(list(argv))
    except (flags.Error, UnicodeDecodeError) as e:
        said = ' '.join(str(e).split()).removeprefix('ERROR:: ')
        raise SettingsError(f'{said}; --help lists the flags') from e
    if len(rest) > 1:
        raise SettingsError(f'unknown argument {rest[1]!r}; flags begin with --')
    options = SimpleNamespace(given={name for name in defined if defined[name].present})
    options.mode = defined['mode'].value if 'mode' in defined else None
    for name, group in groups.items():
        values = {leaf.name: defined[leaf.name].value for leaf in _leaves(group)}
        for leaf in _leaves(group):
            if leaf.many and leaf.kind is not str:
                values[leaf.name] = _numbers(leaf, values[leaf.name])
        value = settings_of.replace(group, **values)
        settings_of.check(value)
        setattr(options, name, value)
    return options


def _numbers(leaf, words):
    try:
        return [leaf.kind(word) for word in words]
    except ValueError:
        raise SettingsError(f'{leaf.name}={",".join(words)}: numbers with commas between') from None


def _help(doc, modes, groups):
    lines = [doc.strip(), '']
    if len(modes) > 1:
        lines += [f'--mode: {", ".join(modes)}', '']
    for group in groups.values():
        lines += [type(group).__doc__.strip().splitlines()[0].rstrip('.') + ':']
        for leaf in _leaves(group):
            default = (
                ','.join(map(str, leaf.value)) if leaf.many else 'no limit' if leaf.value == math.inf else leaf.value
            )
            shown = '' if default is None or default == '' else f' (default: {default})'
            choices = f' {"Any" if leaf.many else "One"} of {", ".join(leaf.choices)}.' if leaf.choices else ''
            lines += textwrap.wrap(
                f'--{leaf.name}: {leaf.help}{choices}{shown}', 100, initial_indent='  ', subsequent_indent='      '
            )
        lines.append('')
    return '\n'.join(lines).rstrip()


def _join_devices(options):
    machine = options.machine
    if machine.cpu_devices:
        jax.config.update('jax_num_cpu_devices', machine.cpu_devices)
    if machine.processes > 1:
        if machine.devices:
            raise SettingsError('several --processes use all their devices: leave out --devices')
        if not re.fullmatch(r'[^:]+:\d+', machine.coordinator or '') or machine.process >= machine.processes:
            raise SettingsError('several --processes need --coordinator=host:port, and each its --process, from 0')
        if 'limits' in vars(options) and np.isfinite(options.limits.minutes):
            raise SettingsError('clocks differ between processes: say how long with --steps or --epochs, not --minutes')
        devices.join(machine.coordinator, machine.processes, machine.process)
    found = jax.device_count()
    if machine.devices and machine.devices > found:
        raise SettingsError(f'devices={machine.devices}: there are {found} (of a CPU, --cpu_devices makes more)')


# -- errors and output ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def errors_in_a_line(remains: str = '', defined: flags.FlagValues | None = None) -> Iterator[None]:
    """What a user can have done wrong, or no program can help, ends this process with one line and status 1.

    Args:
      remains: see ``main``.
      defined: the script's flags, whose names in an error are given their dashes.
    """
    remains = f'; {remains}' if remains else ''
    names = set(defined) if defined is not None else set()
    try:
        yield
    except OSError as e:
        _fail(f'{e.filename or ""}: {e.strerror or e}{remains}'.lstrip(': '))
    except SettingsError as e:
        _fail(re.sub(r'(?<![\w-])(\w+)=', lambda m: f'--{m[0]}' if m[1] in names else m[0], str(e)))
    except OtherRun as e:
        _fail(f'{e}; repeat its flags or name another --workdir')
    except (UserError, NotFinite, ModuleNotFoundError) as e:
        _fail(str(e))
    except (MemoryError, jax.errors.JaxRuntimeError) as e:
        if isinstance(e, jax.errors.JaxRuntimeError) and not re.search('RESOURCE_EXHAUSTED|Out of memory', str(e)):
            raise
        reason = (str(e).splitlines() or ['no more can be had'])[0]
        sizes = [f'--{name}' for name in ('batch', 'curvature_batch', 'chunk', 'chunk_points') if name in names]
        advice = f'; make the net or {", ".join(sizes)} smaller' if sizes else ''
        _fail(f'not enough memory{advice} ({reason}){remains}')
    except KeyboardInterrupt:
        if remains:
            _fail(f'stopped{remains}')
        print('error: stopped; the same command goes on', file=sys.stderr, flush=True)
        os._exit(128 + signal.SIGINT)  # without waiting for what runs in other threads
    except Interrupted as e:
        saved = 'saved' if run_folder.writes() else 'process 0 saves'
        print(f'stopped by {e}; {saved}. The same command goes on.', file=sys.stderr, flush=True)
        os._exit(128 + e.signum)  # without waiting for the step in flight


def _fail(message):
    print(f'error: {message}', file=sys.stderr)
    sys.exit(1)


def say(*args) -> None:
    """Prints, in the first process only."""
    if run_folder.writes():
        print(*args, flush=True)


def load_net(name: str) -> Bundle:
    """``bundle.load``; of a shipped net, also prints where to find its terms."""
    net = bundle.load(name)
    if name in bundle.shipped() and run_folder.writes():
        print(f'by the net {name}; what it is, and its terms: {bundle.card(name)}', file=sys.stderr, flush=True)
    return net


# -- runs -------------------------------------------------------------------------------------------------------------


def folder_of(workdir: str | None, what: str = 'which run') -> str:
    """--workdir.

    Raises:
      SettingsError: if it is not given; the message asks for ``what``.
    """
    if not workdir:
        raise SettingsError(f'say {what}: --workdir=FOLDER')
    return workdir


def settings_of_run(options: Any, folder: str, experiment: str) -> Any:
    """The settings of the run in a folder, which the flags of ``options.run`` must not contradict.

    Raises:
      RunError: if there is no run, or one of another experiment, or with other settings than the flags say.
    """
    saved = run_folder.read_identity(folder)
    if saved['experiment'] != experiment:
        raise RunError(f'{folder} holds a run of another experiment, {saved["experiment"]}')
    settings = settings_of.restore(options.run, saved['settings'])
    given = {k: v for k, v in settings_of.flatten(options.run).items() if k in options.given}
    run_folder.check_identity(folder, saved | {'settings': saved['settings'] | given})
    return settings


def results_of(folder: str) -> dict:
    """results.json of a finished run.

    Raises:
      RunError: if there is none.
    """
    try:
        return io.read_json(pathlib.Path(folder) / 'results.json')
    except FileNotFoundError as e:
        raise RunError(f'{folder} holds no results yet: the run is not finished') from e
    except CorruptFile as e:
        raise RunError(str(e)) from e


def results_so_far(folder: str | None, experiment: str) -> tuple[pathlib.Path | None, dict]:
    """(path of results.json in a folder, what this experiment has written to it); (None, {}) without a folder.

    The folder is made if need be.

    Raises:
      RunError: if it holds a run, or the results of something else, which are not to be lost.
    """
    if not folder:
        return None, {}
    path = pathlib.Path(folder) / 'results.json'
    results = results_of(folder) if path.exists() else {'experiment': experiment}
    if results.get('experiment') != experiment or (path.parent / 'run.json').exists():
        raise RunError(f'{path.parent} holds a run, or the results of something else; name another --workdir')
    return path, results
