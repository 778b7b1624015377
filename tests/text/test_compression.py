"""Archives: what goes in comes out, and whatever is wrong is said."""

import inspect
import io
import pathlib
import subprocess
import sys
import tracemalloc
import zlib

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import compression as script
from hfrnn import bundle
from hfrnn.nets import cells, model, outputs
from hfrnn.rivals import memoizer, pitman_yor
from hfrnn.text import compression, mixing, models, predictors, scoring
from hfrnn.text.alphabet import BYTES, encode
from hfrnn.text.compression import ArchiveError, ContentError, Header
from hfrnn.text.predictors import Predictor, read_bits
from hfrnn.text.scoring import Rule
from tests.scripts import ROOT, in_process, refused

HEADER = Header(7, b'12345678')
LETTERS = ' abcd\xe9\n\N{SNOWMAN}'
NOTHING = np.zeros(0, np.uint8)


def a_net(V):
    return model.sequence_model(cells.mrnn(V, 10, 8), outputs.categorical(V))


def weights(V):
    init = a_net(V).init(jax.random.key(0))
    return jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(1), leaf.shape), init)


def frozen(V):
    return predictors.static(a_net(V), weights(V), [0])


def remembering(V):
    return pitman_yor.online(memoizer.train(NOTHING, V, longest=20), most=500)


PREDICTORS = {
    'net': (frozen(256), BYTES),
    'learning net': (predictors.online(a_net(256), weights(256), [0], Rule(0.01, 0.0), segment=10), BYTES),
    'memoizer': (remembering(256), BYTES),
    'mixture': (mixing.mix(frozen(256), remembering(256)), BYTES),
    'net of characters': (frozen(len(LETTERS)), LETTERS),
}
UNIFORM = Predictor(
    lambda: None,
    lambda state: np.full(256, 1 / 256),
    lambda state, symbol: None,
    lambda state, symbols: (None, np.full((len(symbols), 256), 1 / 256)),
)


def compressed(data, predictor, alphabet=BYTES):
    """(archive, progress)."""
    archive = io.BytesIO()
    done = compression.compress(predictor, alphabet, HEADER, io.BytesIO(data), archive)
    assert done.coded == len(archive.getvalue())
    return archive.getvalue(), done


def decompressed(archive, predictor, alphabet=BYTES, header=HEADER):
    out = io.BytesIO()
    done = compression.decompress(predictor, alphabet, header, io.BytesIO(archive), out)
    assert done.coded == len(archive) and done.raw == len(out.getvalue())
    return out.getvalue()


# -- laws -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('name', PREDICTORS)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(data=st.data())
def test_what_goes_in_comes_out(name, data):
    """Also: the size is that of the model's own bits, and of the file where the model knows nothing; and always so."""
    predictor, alphabet = PREDICTORS[name]
    if alphabet == BYTES:
        content = data.draw(st.binary(max_size=80)) * data.draw(st.integers(1, 4))
    else:
        content = data.draw(st.text(alphabet, max_size=80)).encode()
    archive, done = compressed(content, predictor, alphabet)
    assert decompressed(archive, predictor, alphabet) == content
    assert compressed(content, predictor, alphabet)[0] == archive
    assert len(archive) <= 1.005 * done.bits / 8 + 32
    assert len(archive) <= 1.01 * len(content) + 64
    assert done.raw == len(content)


@pytest.mark.parametrize(
    ('content', 'most'),
    [(b'', 20), (b'x', 40), (b'x' * 3000, 100), (bytes(range(256)) * 5, 800)],
    ids=['empty', 'one', 'same', 'all'],
)
def test_the_smallest_and_the_dullest(content, most):
    predictor, _ = PREDICTORS['memoizer']
    archive, _ = compressed(content, predictor)
    assert decompressed(archive, predictor) == content
    assert len(archive) <= most


def test_many_blocks(monkeypatch):
    """Coded and stored, full of a file's bytes and of its code; the model goes on from one to the other."""
    monkeypatch.setattr(compression, 'CODED', 200)
    monkeypatch.setattr(compression, 'RAW', 1500)
    monkeypatch.setattr(compression, 'PIECE', 100)
    rng = np.random.default_rng(0)
    letters = ''.join(LETTERS[i] for i in rng.integers(0, len(LETTERS), 500))  # three bytes of some, cut by a piece
    mixed = rng.bytes(1000) + b'abc' * 1500 + rng.bytes(450)
    for content, alphabet in ((mixed, BYTES), ((letters + 'ab' * 1000).encode(), LETTERS)):
        predictor = remembering(len(alphabet))
        archive, done = compressed(content, predictor, alphabet)
        assert decompressed(archive, predictor, alphabet) == content
        assert done.raw == len(content)
    assert len(compressed(mixed, remembering(256))[0]) < 1450 + 400  # the random parts as they are, the others coded


def drawn(predictor, n):
    """Bytes that a predictor takes for likely: drawn from it."""
    rng, state, symbols = np.random.default_rng(0), predictor.init(), []
    for _ in range(n):
        symbols.append(min(int(np.searchsorted(np.cumsum(predictor.probs(state)), rng.random())), 255))
        state = predictor.update(state, symbols[-1])
    return bytes(symbols)


@pytest.mark.parametrize('name', ['net', 'learning net', 'memoizer'])
def test_the_coder_codes_the_models_own_bits(name):
    """Those of a text that is read, piece by piece, without it: within half a per cent."""
    sure = jax.tree.map(lambda leaf: 3 * leaf, weights(256))
    predictor = {
        'net': lambda: predictors.static(a_net(256), sure, [0]),
        'learning net': lambda: predictors.online(a_net(256), sure, [0], Rule(0.001, 0.0), segment=10),
        'memoizer': lambda: pitman_yor.online(memoizer.train(NOTHING, 256)),
    }[name]()
    content = inspect.getsource(inspect)[:40_000].encode() if name == 'memoizer' else drawn(predictor, 10_000)
    archive, done = compressed(content, predictor)
    _, bits = read_bits(predictor, predictor.init(), np.frombuffer(content, np.uint8), piece=100)
    np.testing.assert_allclose(done.bits, bits, rtol=1e-12)
    assert 5000 < bits / 8 < 0.9 * len(content)
    assert 0.995 * bits / 8 <= len(archive) <= 1.005 * bits / 8 + 32  # its probabilities are rounded to 24 bits


def test_random_bytes_do_not_grow():
    content = np.random.default_rng(0).bytes(20_000)
    sure = predictors.static(a_net(256), jax.tree.map(lambda leaf: 10 * leaf, weights(256)), [0])
    archive, done = compressed(content, sure)
    assert done.bits / 8 > 1.2 * len(content)  # what the net would make of them
    assert len(archive) <= 1.01 * len(content) + 64
    assert decompressed(archive, sure) == content


def test_an_altered_byte_is_always_noticed():
    predictor, _ = PREDICTORS['memoizer']
    for content in (b'a cat, a mat, a cat, a hat', np.random.default_rng(0).bytes(30)):  # coded, and as it is
        archive, _ = compressed(content, predictor)
        for i in range(len(archive)):
            for other in {archive[i] ^ 1, archive[i] ^ 128, 0, 255} - {archive[i]}:
                said = 'not an archive|another model|damaged|truncated'
                with pytest.raises(ArchiveError, match=said):
                    decompressed(archive[:i] + bytes([other]) + archive[i + 1 :], predictor)


def test_blocks_that_are_missing_are_noticed(monkeypatch):
    """Each, or all that follow one; with and without what looks like an end."""
    monkeypatch.setattr(compression, 'RAW', 5)
    monkeypatch.setattr(compression, 'PIECE', 5)
    predictor, _ = PREDICTORS['memoizer']
    archive, _ = compressed(b'a cat, a mat, a', predictor)
    for first in range(13, len(archive)):
        for last in range(first + 1, len(archive) + 1):
            for end in (b'', b'\0', b'\0\0\0\0\0'):
                if archive[:first] + end + archive[last:] != archive:
                    with pytest.raises(ArchiveError):
                        decompressed(archive[:first] + end + archive[last:], predictor)


def test_a_damaged_length_takes_no_memory():
    archive, _ = compressed(b'', PREDICTORS['memoizer'][0])
    for number in (b'\xff\xff\xff\xff\x7f\x01', b'\x01\xff\xff\xff\xff\x7f', b'\x01\x00\xff\xff\xff\xff\x7f'):
        with pytest.raises(ArchiveError, match='too large'):
            decompressed(archive[:13] + number, PREDICTORS['memoizer'][0])


@pytest.mark.parametrize('raw', [b'\xff\xfe', b'zz'])
def test_a_stored_block_that_the_alphabet_cannot_spell_is_damage(raw):
    """With sums that are right, as anyone can make them."""
    predictor, letters = PREDICTORS['net of characters']
    archive, _ = compressed(b'', predictor, letters)
    block = b'\x02\x00\x02' + raw + bytes(4)  # symbols; not coded; bytes
    header = compression.read_header(io.BytesIO(archive))
    seal = zlib.crc32(block, zlib.crc32(compression.MAGIC + bytes([header.kind]) + header.model))
    with pytest.raises(ArchiveError, match='not text that this model reads'):
        decompressed(archive[:13] + block + seal.to_bytes(4), predictor, letters)


def test_a_truncated_or_longer_archive_is_noticed():
    predictor, _ = PREDICTORS['memoizer']
    archive, _ = compressed(b'a cat, a mat, a cat, a hat', predictor)
    for n in range(len(archive)):
        with pytest.raises(ArchiveError):
            decompressed(archive[:n], predictor)
    with pytest.raises(ArchiveError, match='follows its end'):
        decompressed(archive + b'\0', predictor)


def test_other_models_and_other_arithmetic_are_told_apart():
    archive, _ = compressed(b'a cat, a mat, a cat, a hat', PREDICTORS['memoizer'][0])
    with pytest.raises(ArchiveError, match='another model'):
        decompressed(archive, PREDICTORS['memoizer'][0], header=Header(7, b'12345679'))
    with pytest.raises(ArchiveError, match='computes other probabilities'):
        decompressed(archive, PREDICTORS['net'][0])  # which claims to be the memoizer


@pytest.mark.parametrize('content, said', [(b'ab\xff', 'not UTF-8'), (b'abz', "'z'"), (b'ab\xc3', 'not UTF-8')])
def test_a_file_that_the_alphabet_cannot_spell(content, said):
    with pytest.raises(ContentError, match=said):
        compressed(content, *PREDICTORS['net of characters'])


def test_memory_does_not_grow_with_the_file(monkeypatch):
    monkeypatch.setattr(compression, 'CODED', 2**13)

    def peak(n):
        sink = type('Sink', (io.RawIOBase,), {'write': lambda self, data: len(data)})()
        tracemalloc.start()
        compression.compress(UNIFORM, BYTES, HEADER, io.BytesIO(b'abc' * n), sink)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most - 3 * n  # which is the file itself

    assert peak(200_000) < peak(30_000) + 50_000


# -- files ------------------------------------------------------------------------------------------------------------


def test_files_by_the_command_line(capsys, tmp_path):
    content = pathlib.Path(__file__).read_bytes()
    source, archive, back = (tmp_path / name for name in ('source', 'archive', 'back'))
    source.write_bytes(content)
    flags = [f'--prime={source}', '--order=4']
    in_process(script, '--mode=compress', '--model=ngram', *flags, f'--input={source}', f'--output={archive}')
    out = capsys.readouterr().out
    assert 'bits per byte' in out and 'bytes/s' in out
    assert len(archive.read_bytes()) < len(content) / 4  # which it has read before
    in_process(script, '--mode=decompress', *flags, f'--input={archive}', f'--output={back}')  # it knows the model
    assert back.read_bytes() == content


def test_a_net_compresses_what_it_can_spell(text_run, capsys, tmp_path):
    """A net and the memoizer, mixed, both learning; and all that can be refused."""
    net = f'--weights={text_run}'
    content = (text_run.parent / 'text').read_bytes()[:700]
    (tmp_path / 'source').write_bytes(content)
    (tmp_path / 'other').write_text('not a \N{SNOWMAN}', 'utf-8')
    (tmp_path / 'binary').write_bytes(b'\xff\xfe')
    files = [f'--input={tmp_path}/source', f'--output={tmp_path}/archive']
    in_process(script, '--mode=compress', '--model=mix', '--net_learns', net, *files)
    in_process(script, '--mode=decompress', net, f'--input={tmp_path}/archive', f'--output={tmp_path}/back')
    assert (tmp_path / 'back').read_bytes() == content
    before = sorted(p.name for p in tmp_path.iterdir())
    for flags, said in (
        (['--mode=compress', net, '--input={0}/other', '--output={0}/new'], '\N{SNOWMAN}'),
        (['--mode=compress', net, '--input={0}/binary', '--output={0}/new'], 'not UTF-8'),
        (['--mode=decompress', net, '--input={0}/source', '--output={0}/new'], 'not an archive'),
        (['--mode=decompress', net, '--input={0}/archive', '--output={0}/new', '--prime={0}/source'], 'another model'),
        (['--mode=compress', '--model=ngram', '--input={0}/source', '--output={0}/back'], 'exists'),
        (['--input={0}/source', '--output={0}/new'], 'say --mode=compress or'),
        (['--mode=compress', '--model=mix', '--input={0}/source', '--output={0}/new'], 'needs a net'),
        (['--mode=compress', '--learning_rate=inf', '--input={0}/source', '--output={0}/new'], 'is no number'),
    ):
        assert said in refused(capsys, script, *(flag.format(tmp_path) for flag in flags))
        assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_a_trained_net_compresses_to_what_it_scores(text_run, tmp_path):
    """And refuses what its weights in half precision have compressed."""
    net = bundle.load(text_run)
    bundle.save(tmp_path / 'half.npz', net, np.float16)
    content = (text_run.parent / 'text').read_bytes()[:2000]
    (tmp_path / 'a').write_bytes(content)
    trained = models.open_net(net)
    symbols = encode(content.decode(), trained.alphabet)
    nll = scoring.static_reader(trained.model)(trained.params, symbols, [trained.alphabet.index('\n')]).nll

    def call(mode, weights, source, target):
        files = [f'--input={tmp_path}/{source}', f'--output={tmp_path}/{target}']
        in_process(script, f'--mode={mode}', f'--weights={weights}', *files)

    for name, weights in (('of_run', text_run), ('of_file', tmp_path / 'half.npz')):
        call('compress', weights, 'a', name)
        assert (tmp_path / name).stat().st_size <= 1.005 * nll.sum() / np.log(2) / 8 + 32
        call('decompress', weights, name, f'{name}.out')
        assert (tmp_path / f'{name}.out').read_bytes() == content
    with pytest.raises(SystemExit):
        call('decompress', text_run, 'of_file', 'b')
    assert not (tmp_path / 'b').exists()


@pytest.mark.skipif(not pathlib.Path('/dev/full').exists(), reason='needs a full device')
def test_what_cannot_be_said_does_not_undo_what_is_written(environment, tmp_path):
    (tmp_path / 'source').write_bytes(b'a cat, a mat')
    command = [sys.executable, '-m', 'experiments.compression', '--mode=compress', f'--input={tmp_path}/source']
    files = {'stderr': subprocess.PIPE, 'cwd': ROOT, 'env': environment}
    with open('/dev/full', 'w') as full:
        done = subprocess.run([*command, f'--output={tmp_path}/told'], stdout=full, text=True, **files)
    assert (tmp_path / 'told').exists() and 'told is written' in done.stderr


def test_a_disk_that_fills_leaves_nothing(environment, tmp_path):
    """A limit to the size of files fails a write as a full disk does."""
    source = tmp_path / 'source'
    source.write_bytes(np.random.default_rng(0).bytes(20_000))
    script = """
import resource, runpy, numpy
from hfrnn.rivals import ngram, pitman_yor
from hfrnn.text import predictors
learns = pitman_yor.online(ngram.train(numpy.zeros(4, int), 256, 2))  # compiled, and cached, before the limit
predictors.read(learns, learns.init(), numpy.zeros(4, int))
resource.setrlimit(resource.RLIMIT_FSIZE, (9999, 9999))
runpy.run_module('experiments.compression', run_name='__main__')
"""
    flags = ['--mode=compress', '--model=ngram', '--order=2', f'--input={source}', f'--output={tmp_path}/archive']
    command = [sys.executable, '-c', script, *flags]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f'error: {tmp_path}/archive: File too large; nothing is written\n'
    assert len(source.read_bytes()) == 20_000
    assert [p.name for p in tmp_path.iterdir()] == ['source']
