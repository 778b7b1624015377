"""A net that describes itself: the one form in which weights are kept, shipped, begun from and loaded.

A file is a .npz without pickles, so that a file from a stranger is only numbers:

    bundle      JSON: format, model, data, history, and a checksum of all of it
    then        an array for each weight, under its place in the tree: cell/layers/0/W_x

A run keeps its best weights as such a file, best.npz, in float32; what ships is in float16 in ``hfrnn/weights``, each
file NAME.npz beside a card, NAME.md.
"""

import hashlib
import json
import os
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np

from hfrnn import io
from hfrnn.errors import CorruptFile, DataError, RunError

FORMAT = 2  # hfrnn 0.1 wrote format 1
FOLDER = pathlib.Path(__file__).parent / 'weights'  # of those that ship
BEST = 'best.npz'  # in the folder of a run


class Bundle(NamedTuple):
    """A net.

    Attributes:
      model: the settings that make the net, its ``kind`` first; JSON.
      data: what it reads and writes: its alphabet or scale, and a fingerprint of its training data; JSON.
      history: how it came to be: experiment, settings, steps, seconds, validation, what it began from; JSON.
      params: a tree of arrays.
      name: the name it was loaded by, for messages.
    """

    model: dict
    data: dict
    history: dict
    params: Any
    name: str = 'this net'


def shipped() -> list[str]:
    """The names of the nets that come with the package."""
    return sorted(path.stem for path in FOLDER.glob('*.npz'))


def card(name: str) -> pathlib.Path:
    """The page that says what a shipped net is, and its terms."""
    return FOLDER / f'{name}.md'


def places(params: Any) -> dict[str, Any]:
    """The leaves of a tree by their places in it."""
    return {
        '/'.join(str(getattr(key, 'key', getattr(key, 'idx', getattr(key, 'name', None)))) for key in path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }


def _nested(arrays):
    """The inverse of ``places``: nested dicts, and tuples where all names of a level are numbers."""
    if '' in arrays:
        return arrays['']
    children = {}
    for place, array in arrays.items():
        first, _, rest = place.partition('/')
        children.setdefault(first, {})[rest] = array
    if all(name.isdigit() for name in children):
        return tuple(_nested(children[name]) for name in sorted(children, key=int))
    return {name: _nested(child) for name, child in children.items()}


def save(path: str | pathlib.Path, bundle: Bundle, dtype: Any = np.float32) -> None:
    """Writes a net, whole or not at all; the same net gives the same bytes.

    Args:
      dtype: the type that the weights are rounded to.

    Raises:
      DataError: if a weight is not finite, or not in this precision, or the file cannot be written.
    """
    with np.errstate(over='ignore'):
        arrays = {place: np.asarray(leaf).astype(dtype) for place, leaf in places(bundle.params).items()}
    for place, array in arrays.items():
        if not np.isfinite(array).all():
            raise DataError(f'{place} is not finite in {np.dtype(dtype).name}: {path} is not written')
    content = json.loads(json.dumps({'model': bundle.model, 'data': bundle.data, 'history': bundle.history}))
    header = {'format': FORMAT, **content, 'sha256': _checksum(content, arrays)}
    header = np.frombuffer(json.dumps(header, sort_keys=True).encode(), np.uint8)
    io.save_npz(path, compressed=np.dtype(dtype).itemsize < 4, bundle=header, **arrays)


def load(name: str | pathlib.Path) -> Bundle:
    """A net: the name of a shipped one, a file, or the folder of a run, whose best weights it is.

    A shipped name takes precedence over a folder of that name; name the folder as ./NAME.

    Raises:
      DataError: if there is none, or the file is damaged, of another version, or something else.
      RunError: if the folder holds no run, or a run that has kept no weights yet.
    """
    name = str(name)
    path = FOLDER / f'{name}.npz' if name in shipped() else pathlib.Path(name)
    try:
        if os.path.isdir(path):
            path = _best_of_run(path)
        arrays = io.read_npz(path)
        if 'about' in arrays:
            raise DataError(f'{name} is a file of hfrnn 0.1, which that version reads')
        header = json.loads(arrays.pop('bundle').tobytes())
        if header['format'] != FORMAT:
            raise DataError(f'{name} is a net in format {header["format"]}; this version reads format {FORMAT}')
        content = {part: header[part] for part in ('model', 'data', 'history')}
        checksum = header['sha256']
    except (DataError, RunError):
        raise
    except FileNotFoundError as e:
        raise DataError(f'no file or run {name}, and no net of that name ships; {", ".join(shipped())} do') from e
    except (CorruptFile, AttributeError, LookupError, RecursionError, TypeError, ValueError) as e:
        raise DataError(f'{name} holds no net, or is damaged') from e
    if not all(isinstance(part, dict) for part in content.values()) or checksum != _checksum(content, arrays):
        raise DataError(f'{name} is damaged: its checksum differs')
    for place, array in arrays.items():
        if array.dtype.kind != 'f' or not np.isfinite(array).all():
            raise DataError(f'{name} is damaged: {place} is not all finite numbers')
    return Bundle(**content, params=_nested({p: a.astype(np.float32) for p, a in arrays.items()}), name=name)


def run_name(folder: str | pathlib.Path) -> str:
    """The folder of a run as ``load`` takes it, also if a net of that name ships."""
    return os.path.join(folder, '')


def _best_of_run(folder):
    if (folder / 'flags.json').exists():
        raise RunError(f'{folder} holds a run of hfrnn 0.1, which that version reads')
    if not (folder / 'run.json').exists():
        raise RunError(f'{folder} holds no run: there is no run.json in it')
    if not (folder / BEST).exists():
        raise RunError(f'{folder} holds a run that has kept no weights yet: it has not been evaluated')
    return folder / BEST


def fit(bundle: Bundle, like: Any) -> Any:
    """The weights in the structure of a net.

    Args:
      like: the net's tree of shapes, ``jax.eval_shape(net.init, key)``.

    Raises:
      DataError: if they are of another net.
    """
    wanted = {place: tuple(leaf.shape) for place, leaf in places(like).items()}
    found = places(bundle.params)
    shapes = {place: tuple(np.shape(array)) for place, array in found.items()}
    if wanted != shapes:
        place = next(place for place in (*wanted, *shapes) if wanted.get(place) != shapes.get(place))
        sizes = ' where the net has '.join(
            'nothing' if shape is None else str(shape) for shape in (shapes.get(place), wanted.get(place))
        )
        raise DataError(f'{bundle.name} holds the weights of another net: {place} is {sizes}')
    return jax.tree.unflatten(jax.tree.structure(like), [found[place] for place in wanted])


def without_noise(bundle: Bundle) -> Bundle:
    """The net with the means of its weights, where adaptive weight noise has learnt a posterior; else as it is."""
    params = bundle.params
    if isinstance(params, dict) and params.keys() == {'mu', 'log_variance'}:
        params = params['mu']
    return bundle._replace(params=getattr(params, 'mu', params))


def check_kind(bundle: Bundle, kind: str, **model: Any) -> None:
    """Checks that a bundle is a net of this kind, with these settings.

    Raises:
      DataError: if it is not.
    """
    for name, value in {'kind': kind, **model}.items():
        if bundle.model.get(name) != value:
            raise DataError(f'{bundle.name} is another net: its {name} is {bundle.model.get(name)}, not {value}')


def _checksum(content, arrays):
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for place in sorted(arrays):
        array = arrays[place]
        digest.update(f'{place} {array.dtype.str} {array.shape}\n'.encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
