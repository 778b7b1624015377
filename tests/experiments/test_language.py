"""Penn Treebank and Wikipedia by LSTMs, through their real command line."""

import json
import re
import shutil

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from hfrnn import bundle
from hfrnn.errors import DataError, RunError
from hfrnn.text import corpora, generate, models, scoring, tuning
from hfrnn.text.alphabet import decode, encode
from hfrnn.train import run_folder
from tests.scripts import assert_refused, assert_same_run, kill_between, last_params, newest

SCRIPT = 'experiments.penn_treebank'
SMALL = ['--flagfile=experiments/flags/language_ci.flags']


def test_training_leaves_what_it_promises(finished):
    workdir, out = finished
    results = json.loads((workdir / 'results.json').read_text())
    assert results['experiment'] == 'penn_treebank'
    assert results['test_symbols'] == 1500
    assert 0 < results['epochs'] < 0.01
    corpus = corpora.load('pydoc')
    assert abs(results['static']['bits_per_char'] - np.log2(len(corpus.alphabet))) < 0.5  # it has hardly been trained
    words = len(re.findall(r'[^ \n]+[ \n]', decode(corpus.test[:1500], corpus.alphabet)))
    for row in (results['static'], results['dynamic']['sgd'], results['dynamic']['rms']):
        assert 1 < row['bits_per_char'] < 7
        assert_allclose(np.log2(row['perplexity']), row['bits_per_char'] * 1500 / words)
        assert 0 < row['error'] < 1
    for rule in ('sgd', 'rms'):
        assert results['dynamic'][rule]['bits_per_char'] < results['static']['bits_per_char']
        assert results['dynamic'][rule]['rate'] > 0
    for name in ('flags.json', 'metrics.jsonl', 'sample.txt', 'learning_curve.png', 'checkpoints'):
        assert (workdir / name).exists()
    assert 'valid_bits_per_char' in (workdir / 'metrics.jsonl').read_text()
    for word in ('static', 'dynamic, sgd', 'dynamic, rms', 'perplexity', 'error', 'A sample', 'remaining'):
        assert word in out


def test_evaluation_loses_nothing_and_says_by_which_flags(finished, call, tmp_path):
    """Another rule stands beside those that were there; a look at less of the text changes nothing."""
    workdir, _ = finished
    shutil.copytree(workdir, tmp_path / 'run')
    before = json.loads((tmp_path / 'run' / 'results.json').read_text())
    (tmp_path / 'run' / 'results.json').write_text(json.dumps(before | {'dynamic': {'rms': before['dynamic']['rms']}}))
    small = [*SMALL[:1], f'--workdir={tmp_path}/run', '--mode=evaluate', '--dynamic=sgd']
    assert call(*small)[::2] == (0, '')
    after = json.loads((tmp_path / 'run' / 'results.json').read_text())
    assert (after['static']['streams'], after['static']['context']) == (4, 50)
    for rule in ('sgd', 'rms'):
        assert [after['dynamic'][rule][f'{name}_symbols'] for name in ('tune', 'rms')] == [1000, 1000]
        assert_allclose(after['dynamic'][rule]['bits_per_char'], before['dynamic'][rule]['bits_per_char'], rtol=1e-5)
    status, out, err = call(*small[:-1], '--dynamic=', '--test_symbols=100')
    assert (status, err) == (0, '') and 'stays as it is' in out
    assert json.loads((tmp_path / 'run' / 'results.json').read_text()) == after


def test_other_modes_need_only_the_folder(finished, call, tmp_path):
    workdir, _ = finished
    status, out, err = call('--mode=sample', f'--workdir={workdir}', '--prompt=The ', '--sample_length=30')
    assert (status, err) == (0, '')
    assert out.startswith('The ')
    assert len(out) == 4 + 30 + 1
    beam = ['--mode=sample', f'--workdir={workdir}', '--prompt=The ', '--sample_length=30', '--beam=3']
    assert call(*beam)[1] == call(*beam, '--sample_seed=9')[1] != out
    status, out, err = call('--mode=score', f'--workdir={workdir}', '--text=a name', f'--plot={tmp_path}/a.png')
    assert (status, err) == (0, '')
    bits, per_char, n = map(float, re.findall(r'[\d.]+(?= bits| char)', out))
    assert n == 6
    assert abs(bits / 6 - per_char) < 1e-3
    assert (tmp_path / 'a.png').read_bytes().startswith(b'\x89PNG')


@pytest.fixture(scope='module')
def exported(finished, call):
    """The finished run's file of weights."""
    path = finished[0].parent / 'net.npz'
    status, out, err = call('--mode=export', f'--workdir={finished[0]}', f'--output={path}')
    assert (status, err) == (0, '')
    assert '6,943 weights' in out
    return path


def test_a_file_of_weights_stands_for_its_run(finished, exported, call, tmp_path):
    workdir, _ = finished
    ask = ['--mode=score', '--text=The name of the module']
    bits = [float(call(*ask, which)[1].split()[0]) for which in (f'--weights={exported}', f'--workdir={workdir}')]
    assert bits[0] == pytest.approx(bits[1], rel=1e-3)  # half precision
    (tmp_path / 'net.npz').write_bytes(b'nothing')
    status, _, err = call(*ask, f'--weights={tmp_path}/net.npz')
    assert status == 1
    assert 'holds no weights, or is damaged' in err


def test_what_ships_writes_and_scores_without_a_run_or_data(finished, call):
    status, out, err = call('--mode=sample', '--prompt=the company ', '--sample_length=40')
    assert status == 0 and 'penn_treebank.md' in err and err.count('\n') == 1
    assert out.startswith('the company ') and len(out) == len('the company ') + 40 + 1
    status, _, err = call('--mode=score', '--text=The company')
    assert status == 1 and "'T'" in err and 'Traceback' not in err
    status, _, err = call('--mode=score', '--text=a', f'--weights={finished[0]}/best.npz')
    assert status == 1 and 'a run is named by its folder' in err


def test_a_trained_net_compresses(finished, exported, call, tmp_path):
    """To what it scores; and what its weights in half precision have compressed, it refuses."""
    (tmp_path / 'a').write_text('The name of the module is not a name. ' * 40)
    bits = float(call('--mode=score', f'--workdir={finished[0]}', f'--input={tmp_path}/a')[1].split()[0])

    def compression(mode, net, source, target):
        flags = [f'--mode={mode}', f'--workdir={net}', f'--input={tmp_path}/{source}', f'--output={tmp_path}/{target}']
        status, _, err = call(*flags, script='experiments.compression')
        return status, err

    for name, net in (('of_run', finished[0]), ('of_file', exported)):
        assert compression('compress', net, 'a', name)[0] == 0
        assert (tmp_path / name).stat().st_size <= 1.005 * bits / 8 + 32
        assert compression('decompress', net, name, f'{name}.out')[0] == 0
        assert (tmp_path / f'{name}.out').read_bytes() == (tmp_path / 'a').read_bytes()
    status, err = compression('decompress', finished[0], 'of_file', 'b')
    assert status == 1
    assert 'made by another model' in err
    assert not (tmp_path / 'b').exists()


def test_killed_it_goes_on_bit_for_bit(finished, start, call, tmp_path):
    """With adaptive noise and dropout, from the weights of another run, the state carried and the average kept."""
    flags = [
        *SMALL,
        '--noise=adaptive',
        '--dropout=0.1',
        f'--init_from={finished[0]}',
        '--save_minutes=0',
        '--dynamic=',
    ]
    assert call(*flags, f'--workdir={tmp_path}/whole')[0] == 0
    cut = tmp_path / 'cut'
    kill_between(start, flags, cut, 2, newest(tmp_path / 'whole'))
    status, out, err = call(*flags, f'--workdir={cut}')
    assert status == 0, err
    assert 'goes on from step' in out
    assert_same_run(tmp_path / 'whole', cut)
    # A run that begins with such a one has its posterior, and others have the means.
    more = [*SMALL, f'--init_from={cut}', '--learning_rate=0', '--dynamic=', f'--workdir={tmp_path}/more']
    assert call(*more, '--noise=adaptive')[0] == 0
    assert call(*more[:-1], f'--workdir={tmp_path}/means', '--noise=fixed')[0] == 0
    kept, before = (np.load(folder / 'best.npz') for folder in (tmp_path / 'more', cut))
    assert len(kept.files) == len(before.files) == 2 * len(models.open_net(str(cut)).params['cell']) + 4
    for name in kept.files:
        assert_allclose(kept[name], before[name], rtol=1e-6)
    fixed = np.load(tmp_path / 'means' / 'best.npz')
    for name in fixed.files:
        assert_allclose(fixed[name], before[f'.mu{name}'], rtol=1e-6)
    assert_array_equal(models.open_net(str(cut)).params['cell']['W_h'], before[".mu['cell']['W_h']"])


def test_the_test_text_chooses_nothing(call, tmp_path):
    """Two texts that differ in their last tenth alone: the same weights, figures of validation, and rates."""
    known = corpora.load('pydoc')
    whole = decode(known.train[:40_000], known.alphabet)
    said, best = [], []
    for name, end in (('a', whole[-4000:]), ('b', whole[-4000:][::-1])):
        (tmp_path / name).write_text(whole[:-4000] + end, 'utf-8')
        workdir = tmp_path / f'run_{name}'
        status, out, err = call(*SMALL, f'--corpus={tmp_path}/{name}', '--epochs=0.02', f'--workdir={workdir}')
        assert (status, err) == (0, '')
        rows = run_folder.read_metrics(workdir)
        results = json.loads((workdir / 'results.json').read_text())
        said.append(
            [
                [row.get('valid_bits_per_char') for row in rows],
                [(row['rate'], row['decay']) for row in results['dynamic'].values()],
                [line for line in out.splitlines() if 'on validation text' in line],
            ]
        )
        best.append((workdir / 'best.npz').read_bytes())
        said[-1].append(results['best_step'])
        assert len(said[-1][2]) > 4
    assert said[0] == said[1] and best[0] == best[1]
    assert results['static'] != json.loads((tmp_path / 'run_a' / 'results.json').read_text())['static']


def test_dropout_is_of_training_alone(finished, call, tmp_path):
    """At a learning rate of 0 the weights stay, and what they are worth; what training says of them does not."""
    said = []
    for share in (0, 0.5):
        workdir = tmp_path / f'{share}'
        flags = [f'--init_from={finished[0]}', '--learning_rate=0', '--dynamic=', f'--dropout={share}']
        status, out, err = call(*SMALL, *flags, f'--workdir={workdir}')
        assert status == 0, err
        assert ('dropout of 0.5' in out) == (share > 0)
        results = json.loads((workdir / 'results.json').read_text())
        assert results['dropout'] == share
        said.append((results['static'], run_folder.read_metrics(workdir)[0]['bits_per_char']))
    assert said[0][0] == said[1][0]
    assert abs(said[0][1] - said[1][1]) > 1e-4


def test_noise_begins_with_the_weights_it_is_told_to(finished, call, tmp_path):
    """At a learning rate of 0 they stay the averages of the first run."""
    flags = [*SMALL, '--noise=fixed', f'--init_from={finished[0]}', '--learning_rate=0', '--dynamic=']
    status, out, err = call(*flags, f'--workdir={tmp_path}/run', '--cpu_devices=2')
    assert status == 0, err
    assert call('--mode=export', f'--workdir={tmp_path}/run', f'--output={tmp_path}/net.npz')[0] == 0
    begun = bundle.read(f'{tmp_path}/net.npz').facts['flags']['init_from']
    assert begun == finished[0].name  # and not where that stands
    static = json.loads((finished[0] / 'results.json').read_text())['static']
    assert json.loads((tmp_path / 'run' / 'results.json').read_text())['static'] == pytest.approx(static, rel=1e-5)
    arrays = last_params(tmp_path / 'run'), last_params(finished[0])
    n = sum(a.size == 12 * 4 * 12 for a in arrays[0])
    assert n == sum(a.size == 12 * 4 * 12 for a in arrays[1]) == 4  # weights, their average, Adam's two
    assert 'fixed weight noise' in out
    status, _, err = call(*SMALL, f'--init_from={finished[0]}', '--hidden=13', f'--workdir={tmp_path}/other')
    assert status == 1
    assert 'another net' in err


def test_a_run_ends_by_reading_validation_text(call, tmp_path):
    """So that no step is lost to the best weights; results say of which step they are, and export no others'."""
    workdir = tmp_path / 'run'
    flags = [*SMALL, f'--workdir={workdir}', '--evaluate_every=100000', '--dynamic=', '--average=0']
    assert call(*flags, '--epochs=0.001', '--learning_rate=0')[::2] == (0, '')
    told = json.loads((workdir / 'flags.json').read_text())
    assert told.pop('dropout') == 0  # a run of before that flag
    (workdir / 'flags.json').write_text(json.dumps(told))
    assert call(*flags, '--epochs=0.002', '--learning_rate=0')[::2] == (0, '')
    rows = [row for row in run_folder.read_metrics(workdir) if 'valid_bits_per_char' in row]
    results = json.loads((workdir / 'results.json').read_text())
    assert results['best_step'] == rows[0]['step'] < rows[1]['step'] == results['steps']
    assert rows[0]['valid_bits_per_char'] == rows[1]['valid_bits_per_char'] and rows[0]['valid_symbols'] == 2000
    export = ['--mode=export', f'--workdir={workdir}', f'--output={tmp_path}/net.npz']
    for other, told in ((0, results), (1, None)):
        (workdir / 'results.json').write_text(json.dumps(results | {'best_step': results['best_step'] + other}))
        assert call(*export)[0] == 0
        facts = bundle.read(f'{tmp_path}/net.npz').facts
        assert facts.get('results') == told and facts['best_step'] == results['best_step']
    status, _, err = call('--mode=sample', f'--weights={tmp_path}/net.npz', '--hidden=13', '--layers=1')
    assert status == 1 and 'weights of another net than --hidden=13 says' in err


def test_validation_text_is_held_out_from_its_end():
    parts = [np.arange(n, dtype=np.int32) + first for n, first in ((30, 0), (10, 30), (5, 40))]
    corpus = corpora.Corpus('', 'ab', *parts)
    for n, kept in ((0, 10), (3, 3), (10, 10)):
        held = corpora.with_held_out(corpus, n)
        assert len(held.valid) == kept
        assert_array_equal(np.concatenate([held.train, held.valid, held.test]), np.arange(45))
        assert_array_equal(held.test, corpus.test)
    with pytest.raises(DataError, match='has 10 for validation'):
        corpora.with_held_out(corpus, 11)


def test_what_ships_goes_on_with_a_text():
    net = models.of_file(bundle.read('penn_treebank'))
    prompt = encode('the ', net.alphabet)
    drawn = generate.continue_text(net.model, net.params, jax.random.key(0), prompt, 20)
    assert len(decode(drawn, net.alphabet)) == 20
    english, shuffled = (
        scoring.static_reader(net.model)(net.params, encode(said, net.alphabet), prompt).nll.sum()
        for said in ('company said it will sell the unit', 'ynapmoc dias ti lliw lles eht tinu')
    )
    assert english < 0.5 * shuffled


def test_too_little_to_tune_on_is_named():
    with pytest.raises(DataError, match='too few to tune'):
        tuning.check_tuning_text(np.zeros(999))
    tuning.check_tuning_text(np.zeros(1000))


def test_enwik8_is_divided_as_the_paper_divides_it(data):
    """92 + 4 + 4 million bytes; the paper trains on the first 96, but for what validation takes."""
    enwik8 = corpora.with_held_out(corpora.load('enwik8', data), 500_000)
    assert [len(part) for part in enwik8[2:5]] == [95_500_000, 500_000, 4_000_000]


def test_words(call, tmp_path):
    rng = np.random.default_rng(0)
    lines = [' '.join(rng.choice(['a', 'cat', 'sat', 'on', 'mats', 'there'], 9)) for _ in range(900)]
    (tmp_path / 'a.txt').write_text('\n'.join(lines))
    words = [f'--corpus={tmp_path}/a.txt', '--unit=words', f'--workdir={tmp_path}/run']
    status, out, err = call(*SMALL, *words, '--dynamic=', '--epochs=0.05')
    assert status == 0, err
    static = json.loads((tmp_path / 'run' / 'results.json').read_text())['static']
    assert 2 < static['perplexity'] < 8.5
    per_word = np.log2(static['perplexity'])
    assert static['bits_per_char'] == pytest.approx(per_word / (sum(map(len, lines)) + len(lines)) * 9000, rel=0.05)
    status, out, err = call('--mode=score', f'--workdir={tmp_path}/run', '--text=a cat sat')
    assert (status, err) == (0, '')
    assert '3 words' in out
    assert call('--mode=export', f'--workdir={tmp_path}/run', f'--output={tmp_path}/net.npz')[0] == 0
    for written, n in (('a cat sat', 3), ('a cat sat\n', 4), ('a cat\n  ', 3), ('\n', 1)):
        assert f'{n} words' in call('--mode=score', f'--weights={tmp_path}/net.npz', f'--text={written}')[1]
    status, _, err = call('--mode=score', f'--workdir={tmp_path}/run', '--text=a dog sat')
    assert status == 1
    assert "not in the vocabulary of this model: 'dog'" in err
    for name in ('run', 'net.npz'):
        with pytest.raises(RunError, match=f'{name} holds a net of words'):
            models.open_net(str(tmp_path / name))
    told = {'about': {'alphabet': 'ab'}, 'flags': {'hidden': 2, 'layers': 1, 'clip': 1.0, 'output_clip': 0.0}}
    wrong = [told | {'flags': told['flags'] | one} for one in ({'hidden': 0}, {'hidden': 'x'}, {'layers': 10**9})]
    for facts in (
        {},
        {'about': told['about']},
        {'about': 3, 'flags': None},
        told | {'about': {'alphabet': ''}},
        *wrong,
    ):
        bundle.save(tmp_path / 'net.npz', {'a': np.zeros(2)}, {'kind': models.KIND} | facts)
        with pytest.raises(RunError, match='does not tell which'):
            models.open_net(str(tmp_path / 'net.npz'))


@pytest.mark.parametrize(
    'flags, said',
    [
        (['--unit=words', '--corpus={one_line}'], '1 lines'),
        (['--corpus={short}'], 'too few for 8 streams'),
        (['--corpus={tiny}', '--batch=2'], 'too few to tune'),
        (['--corpus=ptb'], 'HFRNN_DATA'),
        (['--tune_symbols=999'], 'too few to tune'),
        (['--dynamic=adam'], 'none of sgd, rms'),
        (['--average=1'], 'never forgets'),
        (['--init_from=/no/such'], 'holds no run'),
        (['--mode=score', '--workdir={nowhere}'], 'holds no run'),
        (['--mode=score', '--weights=penn_treebank', '--workdir=', '--input={nowhere}'], 'error: no file'),
        (['--mode=score', '--weights=penn_treebank', '--workdir=', '--text=a', '--plot=a.xyz'], 'in .png'),
        (['--mode=sample', '--weights=penn_treebank'], 'read one net'),
        (['--mode=score', '--weights=', '--text=a'], '--weights names nothing'),
        (['--mode=sample', '--workdir='], 'say which run'),
        (['--mode=export', '--output=a.npz', '--weights=penn_treebank'], 'leave out --weights'),
        (['--weights=penn_treebank'], 'begin with them: --init_from'),
        (
            ['--mode=score', '--weights=penn_treebank', '--workdir=', '--text=a', '--unit=words'],
            'another net than --unit',
        ),
        (['--mode=sample', '--beam=30000000'], '--beam=30000000'),
        (['--beam=9000', '--sample_length=20000'], 'a beam holds'),
        (['--epochs=1e308'], '--epochs=1e'),
        (['--corpus=ptb', '--unit=bytes'], 'of characters'),
        (['--held_out=1000000'], 'for validation'),
        (['--processes=2', '--coordinator=localhost:1', '--minutes=1'], 'say how long with --epochs'),
    ],
    ids=lambda v: v[-1] if isinstance(v, list) else '',
)
def test_bad_input_is_one_clear_line(flags, said, call, tmp_path):
    places = {'nowhere': tmp_path / 'nowhere'}
    for name, content in {'one_line': 'a word ' * 400, 'short': 'ab' * 505, 'tiny': 'abcd' * 2500}.items():
        places[name] = tmp_path / name
        places[name].write_text(content)
    if '--corpus={short}' in flags:
        flags = [*flags, '--length=160']
    small = [] if '--weights=penn_treebank' in flags else SMALL  # which is of another net
    assert_refused(call(*small, f'--workdir={tmp_path}/run', *(flag.format(**places) for flag in flags)), said)
    assert not (tmp_path / 'run').exists()  # the flags, put right, find nothing in their way


def test_wikipedia_has_the_papers_defaults(call, tmp_path):
    (tmp_path / 'enwik8').write_bytes(b'too little')
    flags = [f'--data={tmp_path}', f'--workdir={tmp_path}/run']
    status, _, err = call(*flags, script='experiments.wikipedia')
    assert status == 1
    assert 'enwik8 has 100,000,000 bytes' in err
    _, out, _ = call(*flags, '--helpfull', script='experiments.wikipedia')
    for name, value in (('corpus', 'enwik8'), ('held_out', 500_000), ('reset_every', 100), ('momentum', 0.9)):
        assert re.search(rf"--{name}: [^(]*\(default: '{value}'\)", out)
