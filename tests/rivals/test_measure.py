import subprocess
import sys

import numpy as np
import pytest

from experiments import baselines
from hfrnn.errors import Unavailable
from hfrnn.rivals import compressors, measure
from hfrnn.text.alphabet import BYTES
from tests.scripts import ROOT, in_process, read, refused

RNG = np.random.default_rng(0)
WORDS = ['the', 'cat', 'sat', 'on', 'a', 'mat', 'and', 'caf\xe9', 'so', 'did', 'I']


def prose(n):
    return ' '.join(RNG.choice(WORDS, n))


@pytest.mark.parametrize('name', [name for name in compressors.ALL if name != 'zpaq'])
def test_conditional_bits_are_sane(name):
    compress = compressors.ALL[name]
    known, text, noise = prose(2000).encode(), prose(2000).encode(), RNG.bytes(4000)

    def bits_per_byte(before, data):
        return compressors.conditional_bits(compress, before, data) / len(data)

    assert 7.9 < bits_per_byte(known, noise) < 9.2
    assert bits_per_byte(known, text) < 2
    assert bits_per_byte(known, text) < bits_per_byte(b'', text)
    assert compressors.conditional_bits(compress, known, b'') == 0
    if name != 'bzip2':  # which sorts, and finds no long repeat at once
        assert bits_per_byte(noise, noise) < 0.5


def test_what_others_compress_they_give_back():
    import brotli
    import pyppmd
    import zstandard

    text = prose(2000).encode()
    assert zstandard.ZstdDecompressor().decompress(compressors.zstd(text)) == text
    assert brotli.decompress(compressors.brotli(text)) == text
    decoder = pyppmd.Ppmd7Decoder(8, compressors.MEMORY)
    assert decoder.decode(compressors.ppmd('H', 8)(text), len(text)) == text


def test_what_is_missing_is_said_in_one_line(monkeypatch):
    monkeypatch.setenv('PATH', '')
    for module in ('pyppmd', 'brotli', 'zstandard'):
        monkeypatch.setitem(sys.modules, module, None)
    for name in ('zpaq', 'ppmd-h-8', 'brotli', 'zstd'):
        with pytest.raises(Unavailable, match='install') as e:
            measure.check(name)
        assert '\n' not in str(e.value)


def test_missing_numba_is_said_in_one_line():
    code = "import sys; sys.modules['numba'] = None; from hfrnn.rivals import measure; measure.check('memoizer')"
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert last.startswith('hfrnn.errors.Unavailable: ') and "pip install 'hfrnn[rivals]'" in last


@pytest.mark.parametrize('sizes, fair', [((10, 900_000), True), ((4_000_000, 300_000), False), ((5_000_000, 9), True)])
def test_zpaq_is_measured_only_with_one_model(monkeypatch, sizes, fair):
    monkeypatch.setattr(compressors, 'zpaq', bytes)
    known, symbols = (np.zeros(size, np.uint8) for size in sizes)
    if fair:
        assert measure.RIVALS['zpaq'](known, symbols, BYTES) == (None, 8.0)
    else:
        with pytest.raises(Unavailable, match='the same model'):
            measure.RIVALS['zpaq'](known, symbols, BYTES)


@pytest.mark.slow
def test_the_script(capsys, tmp_path):
    (tmp_path / 'text').write_text(prose(3000), encoding='utf-8')
    command = (f'--corpus={tmp_path / "text"}', f'--workdir={tmp_path / "run"}')
    in_process(baselines, *command, '--rivals=ppmd-h-8,kneser-ney-4,memoizer')
    out = capsys.readouterr().out
    results = read(tmp_path / 'run' / 'results.json')
    assert results['known'] == 'train' and not results['missing']
    for name, row in results['rivals'].items():
        assert 0.5 < row['online'] < 1.5
        assert f'{name:14s}' in out and f'{row["online"]:.3f}' in out
        assert (row['static'] is None) == (name == 'ppmd-h-8')
    assert list(results['rivals']) == ['ppmd-h-8', 'kneser-ney-4', 'memoizer']
    in_process(baselines, *command, '--rivals=kneser-ney-8')  # stands beside them
    more = read(tmp_path / 'run' / 'results.json')['rivals']
    assert list(more) == [*results['rivals'], 'kneser-ney-8']
    assert {name: more[name] for name in results['rivals']} == results['rivals']
    said = refused(capsys, baselines, *command, '--rivals=kneser-ney-8', '--valid')
    assert 'rivals of other known_symbols, known; name another' in said


def test_bad_input_is_one_line(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', '')
    (tmp_path / 'text').write_text(prose(1000), encoding='utf-8')
    (tmp_path / 'results.json').write_text('{"experiment": "text_mrnn"}')
    corpus = f'--corpus={tmp_path / "text"}'
    for args, word in (
        (('--corpus=nowhere.txt', '--rivals=gzip'), 'nowhere.txt'),
        ((corpus, '--rivals=zpaq'), 'apt install zpaq'),
        ((corpus, '--rivals=paq9'), 'paq9'),
        ((corpus, '--rivals='), 'nothing to measure'),
        ((corpus, f'--workdir={tmp_path}'), 'something else'),
    ):
        assert word in refused(capsys, baselines, *args)


@pytest.mark.slow
def test_nets_stand_in_the_table(capsys, text_run, tmp_path):
    corpus = f'--corpus={text_run.parent / "text"}'
    in_process(baselines, corpus, '--rivals=gzip,memoizer', f'--nets={text_run}', f'--workdir={tmp_path}/table')
    results = read(tmp_path / 'table' / 'results.json')
    net = results['rivals'][str(text_run)]
    mixed = results['rivals'][f'{text_run} + memoizer']
    of_run = read(text_run / 'results.json')
    assert results['test_symbols'] == of_run['test_symbols']
    np.testing.assert_allclose(net['static'], of_run['test_bits_per_char'], rtol=0.01)  # which is of pieces
    assert net['online'] < net['static']  # it has hardly been trained
    assert mixed['online'] < 1.01 * min(net['online'], results['rivals']['memoizer']['online'])  # and helps little
    assert mixed['static'] is None
    by_rms = (f'--nets={text_run}', '--nets_learn=rms', f'--workdir={tmp_path}/by_rms')
    in_process(baselines, corpus, '--rivals=gzip', *by_rms)
    rows = read(tmp_path / 'by_rms' / 'results.json')['rivals']
    assert rows[str(text_run)]['static'] == net['static'] > rows[str(text_run)]['online'] != net['online']
    (tmp_path / 'short').write_text(prose(1000), encoding='utf-8')
    for args, word in (
        (('--corpus=pydoc', f'--nets={text_run}'), 'another text'),
        ((corpus, '--nets=/no'), '/no'),
        ((f'--corpus={tmp_path}/short', '--nets=/no', '--nets_learn=rms'), 'too few'),
    ):
        assert word in refused(capsys, baselines, *args, '--rivals=gzip')
