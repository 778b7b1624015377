"""Files: whole or not at all, and what is damaged is said to be so."""

import json
import math
import zipfile

import numpy as np
import pytest

from hfrnn import io
from hfrnn.errors import CorruptFile, DataError

ARRAYS = {'a': np.arange(6.0).reshape(2, 3), 'b': np.array([], np.int16)}


def test_a_file_is_whole_or_what_was_there(tmp_path):
    path = tmp_path / 'file'
    for before in ([], ['file']):
        with pytest.raises(KeyboardInterrupt), io.atomic_write(path) as file:
            file.write(b'half')
            raise KeyboardInterrupt
        assert [p.name for p in tmp_path.iterdir()] == before
        if before:
            assert path.read_bytes() == b'whole'
        else:
            with io.atomic_write(path) as file:
                file.write(b'whole')
                assert not path.exists()
            assert path.read_bytes() == b'whole'
    with pytest.raises(FileNotFoundError), io.atomic_write(tmp_path / 'no' / 'folder'):
        pass


@pytest.mark.parametrize('compressed', [True, False])
def test_arrays_come_back(tmp_path, compressed):
    path = tmp_path / 'made' / 'arrays.npz'
    io.save_npz(path, compressed=compressed, **ARRAYS)
    found = io.read_npz(path)
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    with pytest.raises(DataError, match='cannot write'):
        io.save_npz(path / 'below', **ARRAYS)


def whole_npy(header):
    header = header.ljust(117) + b'\n'
    return b'\x93NUMPY\x01\x00' + len(header).to_bytes(2, 'little') + header + bytes(8)


def test_what_are_no_arrays_is_damaged(tmp_path):
    path = tmp_path / 'arrays.npz'
    with pytest.raises(FileNotFoundError):
        io.read_npz(path)
    io.save_npz(path, **ARRAYS)
    whole = path.read_bytes()
    middle = len(whole) // 2
    np.save(tmp_path / 'one.npy', ARRAYS['a'])
    np.savez(tmp_path / 'pickled.npz', a=np.array([{}], object))
    (tmp_path / 'empty').write_bytes(b'')
    (tmp_path / 'half').write_bytes(whole[:middle])
    (tmp_path / 'flipped').write_bytes(bytes(byte ^ 255 * (50 < i < 60) for i, byte in enumerate(whole)))
    for name, content in (
        ('no_array.npz', b'text'),
        ('odd_type.npz', whole_npy(b"{'descr': (), 'fortran_order': False, 'shape': (1,)}")),
        ('odd_header.npz', whole_npy(b"{'descr': '<f8', 'fortran_order': (")),
    ):
        with zipfile.ZipFile(tmp_path / name, 'w') as archive:
            archive.writestr('a.npy', content)
    for name in (*sorted(p.name for p in tmp_path.iterdir() if p != path), ''):
        with pytest.raises(CorruptFile, match='is damaged'):
            io.read_npz(tmp_path / name)


def test_json_is_an_object_of_finite_numbers(tmp_path):
    path = tmp_path / 'a.json'
    io.write_json(path, {'b': [math.nan, 1.5], 'a': {'c': math.inf}, 'name': 'caf\udce9.txt'})
    assert (
        path.read_text() == json.dumps({'b': [None, 1.5], 'a': {'c': None}, 'name': 'caf\udce9.txt'}, indent=1) + '\n'
    )
    assert io.read_json(path)['name'] == 'caf\udce9.txt'  # as Python has arguments that are no UTF-8
    for content in ('{"hid', '[1]', '[' * 100_000, ''):
        path.write_text(content)
        with pytest.raises(CorruptFile, match='is damaged'):
            io.read_json(path)
    with pytest.raises(FileNotFoundError):
        io.read_json(tmp_path / 'b.json')
