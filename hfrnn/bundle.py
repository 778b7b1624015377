"""Small files of weights that travel with the package: half precision, and what they are told in a header.

    about       JSON, the facts: what the net is, its sizes and alphabet, what it saw; and a sum over all of it
    then        an array for each weight, under its place in the tree: cell/layers/0/W_x

A .npz without pickles, so that a file from a stranger is only numbers.  A file NAME.npz that ships stands in
``hfrnn/weights`` beside a NAME.md that says what it is.
"""

import hashlib
import json
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np

from hfrnn import io
from hfrnn.errors import DataError

FORMAT = 1
FOLDER = pathlib.Path(__file__).parent / 'weights'  # of those that ship


class Weights(NamedTuple):
    """A file's content.

    Attributes:
      facts: anything that JSON can say.
      arrays: by their places in the tree.
      name: of the file, for errors.
    """

    facts: dict
    arrays: dict[str, np.ndarray]
    name: str


def shipped() -> list[str]:
    """The names of the weights that came with the package."""
    return sorted(path.stem for path in FOLDER.glob('*.npz'))


def names_a_file(name: str) -> bool:
    """Whether a name is one that ``read`` takes, shipped or a file's, and not that of a run's folder.

    A shipped name goes before that of a folder, which is then ./NAME.
    """
    return name in shipped() or not pathlib.Path(name).is_dir()


def places(params: Any) -> dict[str, Any]:
    """The leaves of a tree by their places in it."""
    return {
        '/'.join(str(getattr(key, 'key', getattr(key, 'idx', getattr(key, 'name', None)))) for key in path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }


def save(path: str | pathlib.Path, params: Any, facts: dict, dtype: Any = np.float16) -> None:
    """Writes weights and facts, whole or not at all; the same ones give the same bytes.

    Args:
      params: a tree of arrays.
      facts: anything that JSON can say.
      dtype: to which they are rounded.

    Raises:
      DataError: if a weight is not finite, or not in this precision, or the file cannot be written.
    """
    with np.errstate(over='ignore'):
        arrays = {place: np.asarray(leaf).astype(dtype) for place, leaf in places(params).items()}
    for place, array in arrays.items():
        if not np.isfinite(array).all():
            raise DataError(f'{place} holds what {np.dtype(dtype).name} cannot: {path} is not written')
    facts = json.loads(json.dumps(facts))
    about = {'format': FORMAT, 'facts': facts, 'sha256': _sum(facts, arrays)}
    header = np.frombuffer(json.dumps(about, sort_keys=True).encode(), np.uint8)
    io.save_npz(path, about=header, **arrays)


def read(name: str) -> Weights:
    """The weights of a file, or of the shipped file of that name.

    Raises:
      DataError: if there is none, or it is damaged, of another format, or something else.
    """
    path = FOLDER / f'{name}.npz' if name in shipped() else pathlib.Path(name)
    try:
        arrays = io.read_npz(path)
        about = json.loads(arrays.pop('about').tobytes())
        if about['format'] != FORMAT:
            raise DataError(f'{name} holds weights in format {about["format"]}; this program reads {FORMAT}')
        facts, told = about['facts'], about['sha256']
    except DataError:
        raise
    except FileNotFoundError as e:
        there = ', '.join(shipped()) or 'none'
        raise DataError(
            f'no file {name}, it holds no run, and there are no weights of that name; the package brings {there}'
        ) from e
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as e:
        raise DataError(f'{name} holds no weights, or is damaged; a run is named by its folder') from e
    if not isinstance(facts, dict) or told != _sum(facts, arrays):
        raise DataError(f'{name} is damaged: its sum is not the one it tells')
    return Weights(facts, arrays, name)


def restore(weights: Weights, like: Any) -> Any:
    """The weights as a tree of float32.

    Args:
      like: the net's tree of shapes, ``jax.eval_shape(net.init, key)``.

    Raises:
      DataError: if they are of another net, or not finite.
    """
    wanted = {place: tuple(leaf.shape) for place, leaf in places(like).items()}
    there = {place: array.shape for place, array in weights.arrays.items()}
    if wanted != there:
        differ = next(place for place in (*wanted, *there) if wanted.get(place) != there.get(place))
        told = ' and '.join('nothing' if s is None else str(s) for s in (there.get(differ), wanted.get(differ)))
        raise DataError(f'{weights.name} holds the weights of another net: at {differ} they have {told} to fit')
    for place, array in weights.arrays.items():
        if array.dtype.kind != 'f' or not np.isfinite(array).all():
            raise DataError(f'{weights.name} holds what is no weight: at {place} not all are finite numbers')
    return jax.tree.unflatten(
        jax.tree.structure(like), [weights.arrays[place].astype(np.float32) for place in places(like)]
    )


def check(weights: Weights, **wanted: Any) -> None:
    """That the file's facts are these: what it is for, say, and its alphabet.

    Raises:
      DataError: if they are not.
    """
    for name, value in wanted.items():
        told = weights.facts.get(name)
        if told is None:
            raise DataError(f'{weights.name} tells no {name} of its weights; {_short(value)} is wanted')
        if told != value:
            raise DataError(f'{weights.name} holds weights of another {name}: {_short(told)}, not {_short(value)}')


def _short(value):
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < 40 else text[:36] + ' ...'


def _sum(facts, arrays):
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for place in sorted(arrays):
        array = arrays[place]
        digest.update(f'{place} {array.dtype.str} {array.shape}\n'.encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
