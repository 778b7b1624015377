"""The scripts of nets of text: their modes, and what they refuse."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from experiments import penn_treebank, text_mrnn, wikipedia
from hfrnn import bundle
from hfrnn.text import models, scoring
from hfrnn.text.alphabet import encode
from hfrnn.text.metrics import BITS
from hfrnn.train import run_folder
from tests.scripts import ROOT, in_process, read, refused

F = 'experiments/flags'
SMALL = [f'--flagfile={F}/language_ci.flags', '--devices=1']
SMALL_MRNN = [f'--flagfile={F}/mrnn_ci.flags', '--devices=1']


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """A run of penn_treebank."""
    folder = tmp_path_factory.mktemp('finished') / 'run'
    in_process(penn_treebank, *SMALL, f'--workdir={folder}')
    return folder


@pytest.fixture
def said(capsys):
    """``said(script, *flags)``: what a script prints, and that it says nothing of errors."""

    def run(script, *flags):
        capsys.readouterr()
        in_process(script, *flags)
        out, err = capsys.readouterr()
        assert err == ''
        return out

    return run


def test_evaluation_loses_nothing(finished, said, tmp_path):
    """Another rule stands beside those that were there; a look at less of the text changes nothing."""
    folder = tmp_path / 'run'
    shutil.copytree(finished, folder)
    before = read(folder / 'results.json')
    (folder / 'results.json').write_text(json.dumps(before | {'dynamic': {'rms': before['dynamic']['rms']}}))
    small = [*SMALL, f'--workdir={folder}', '--mode=evaluate', '--dynamic=sgd']
    said(penn_treebank, *small)
    after = read(folder / 'results.json')
    assert (after['static']['stride'], after['static']['context']) == (375, 51)
    for rule in ('sgd', 'rms'):
        assert [after['dynamic'][rule][f'{name}_symbols'] for name in ('tune', 'rms')] == [1000, 1000]
        assert after['dynamic'][rule]['bits_per_char'] == pytest.approx(before['dynamic'][rule]['bits_per_char'])
    assert 'stays as it is' in said(penn_treebank, *small[:-1], '--dynamic=', '--test_symbols=100')
    left = read(folder / 'results.json')
    assert left == after
    said(text_mrnn, '--mode=evaluate', f'--workdir={folder}', '--test_symbols=1500', '--compressors')
    assert read(folder / 'results.json')['compressors'].keys() == {'gzip', 'bzip2', 'xz'}
    said(penn_treebank, *small[:-1], '--dynamic=')
    assert read(folder / 'results.json')['compressors'].keys() == {'gzip', 'bzip2', 'xz'}  # measured before


@pytest.mark.parametrize('script, kind', [(penn_treebank, 'lstm'), (text_mrnn, 'mrnn')])
def test_other_modes_need_only_the_folder(script, kind, finished, text_run, said, tmp_path):
    net = f'--workdir={finished if kind == "lstm" else text_run}'
    prompt = '--prompt=the ' if kind == 'mrnn' else '--prompt=The '
    ask = ['--mode=sample', net, prompt, '--sample_length=30']
    out = said(script, *ask)
    assert out.startswith(prompt[9:]) and len(out) == 4 + 30 + 1
    beam = said(script, *ask, '--beam=3')
    assert beam == said(script, *ask, '--beam=3', '--sample_seed=9') != out
    (tmp_path / 'a.txt').write_text('a mat on')
    by_file = said(script, '--mode=score', net, f'--input={tmp_path}/a.txt')
    assert said(script, '--mode=score', net, '--text=a mat on', f'--plot={tmp_path}/a.png') == by_file
    assert (tmp_path / 'a.png').read_bytes().startswith(b'\x89PNG')
    bits, per_char, n = map(float, re.findall(r'[\d.]+(?= bits| char)', by_file))
    assert n == 8 and abs(bits / 8 - per_char) < 1e-3


def test_any_script_reads_any_net_of_text(finished, said):
    ask = ['--mode=score', '--text=a mat', f'--workdir={finished}']
    assert said(text_mrnn, *ask) == said(penn_treebank, *ask) == said(wikipedia, *ask)


def test_scores_add_up(finished, said):
    """P(xy) = P(x) P(y | x)."""
    net = models.open_net(bundle.load(finished))

    def bits(before, content):
        before, content = (encode(part, net.alphabet) for part in (before, content))
        return scoring.static_reader(net.model)(net.params, content, before).nll.sum() * BITS

    out = said(penn_treebank, '--mode=score', f'--workdir={finished}', '--prompt= the ', '--text=name')
    assert abs(bits(' ', 'the name') - bits(' ', 'the ') - float(out.split()[0])) < 1e-2


def test_a_file_stands_for_its_run(finished, said, capsys, tmp_path):
    """And has its results, if they are of the same weights."""
    path = tmp_path / 'net.npz'
    export = ['--mode=export', f'--workdir={finished}', f'--output={path}']
    assert '6,943 weights' in said(penn_treebank, *export)
    ask = ['--mode=score', '--text=The name of the module']
    bits = [float(said(penn_treebank, *ask, net).split()[0]) for net in (f'--weights={path}', f'--workdir={finished}')]
    assert bits[0] == pytest.approx(bits[1], rel=1e-3)  # half precision
    results = read(finished / 'results.json')
    folder = tmp_path / 'run'
    shutil.copytree(finished, folder)
    for other, kept in ((0, results), (1, None)):
        (folder / 'results.json').write_text(json.dumps(results | {'best_step': results['best_step'] + other}))
        said(penn_treebank, export[0], f'--workdir={folder}', export[2])
        assert bundle.load(path).history.get('results') == kept
    assert 'another net than --hidden=13 says' in refused(
        capsys, penn_treebank, '--mode=sample', f'--weights={path}', '--hidden=13', '--layers=1'
    )
    path.write_bytes(b'nothing')
    assert 'holds no net, or is damaged' in refused(capsys, penn_treebank, *ask, f'--weights={path}')


def test_what_ships_writes_and_scores_without_a_run_or_data(capsys):
    in_process(penn_treebank, '--mode=sample', '--prompt=the company ', '--sample_length=40')
    out, err = capsys.readouterr()
    assert 'penn_treebank.md' in err and err.count('\n') == 1
    assert out.startswith('the company ') and len(out) == len('the company ') + 40 + 1
    with pytest.raises(SystemExit):
        in_process(penn_treebank, '--mode=score', '--text=The company')
    err = capsys.readouterr().err
    assert "'T'" in err and 'Traceback' not in err


def test_words_are_read_as_they_are_written(said, capsys, tmp_path):
    rng = np.random.default_rng(0)
    lines = [' '.join(rng.choice(['a', 'cat', 'sat', 'on', 'mats', 'there'], 9)) for _ in range(900)]
    (tmp_path / 'a.txt').write_text('\n'.join(lines))
    run = [f'--corpus={tmp_path}/a.txt', '--unit=words', f'--workdir={tmp_path}/run', '--dynamic=', '--epochs=0.01']
    said(penn_treebank, *SMALL, *run, '--compressors')  # which do not read words
    assert 'compressors' not in read(tmp_path / 'run' / 'results.json')
    said(penn_treebank, '--mode=export', f'--workdir={tmp_path}/run', f'--output={tmp_path}/net.npz')
    for written, n in (('a cat sat', 3), ('a cat sat\n', 4), ('a cat\n  ', 3), ('\n', 1)):
        assert f'{n} words' in said(penn_treebank, '--mode=score', f'--weights={tmp_path}/net.npz', f'--text={written}')
    out = said(penn_treebank, '--mode=sample', f'--weights={tmp_path}/net.npz', '--prompt=a cat', '--sample_length=5')
    assert out.startswith('a cat')
    err = refused(capsys, penn_treebank, '--mode=score', f'--workdir={tmp_path}/run', '--text=a dog sat')
    assert "not in the vocabulary of this model: 'dog'" in err
    assert 'a net of words' in refused(capsys, text_mrnn, '--mode=analyse', f'--workdir={tmp_path}/run')


@pytest.mark.slow
def test_analysis(text_run, said, capsys):
    sizes = ('--bags=2', '--passages=5', '--sampled=300')
    out = said(text_mrnn, '--mode=analyse', f'--workdir={text_run}', *sizes)
    found = read(text_run / 'analysis.json')
    for name in ('mrnn', 'memoizer', '8-gram'):
        assert name in out
        assert 0 <= found['debagging']['right'][name] <= 1
        assert 0 < found['list']['places'][name]['control'] < 1
        assert found['new_words'][name]['words'] > 0
        assert len(found['list']['samples'][name]) == 5
    assert found['debagging']['bags'] == 2
    assert set(found['balance']['pairs']) == {'()', '""'}
    for subjects in found['balance']['pairs'].values():
        for curves in subjects.values():
            for curve in curves.values():
                assert all(p is None or 0 < p < 0.5 for p in curve)
                assert sum(p is not None for p in curve) > 4
    for name in ('debagging', 'balance', 'list', 'new_words'):
        assert (text_run / f'{name}.png').read_bytes().startswith(b'\x89PNG')
    assert 'corpus=novel.txt' in refused(
        capsys, text_mrnn, '--mode=analyse', f'--workdir={text_run}', '--corpus=novel.txt'
    )


@pytest.mark.parametrize(
    'flags, said',
    [
        (['--unit=words', '--corpus={one_line}'], '1 lines'),
        (['--corpus={short}', '--length=160'], 'too few for 8 streams'),
        (['--corpus={tiny}', '--batch=2'], 'too few to tune'),
        (['--corpus={empty}'], 'is empty'),
        (['--corpus={binary}'], 'not UTF-8'),
        (['--tune_symbols=999'], 'too few to tune'),
        (['--dynamic=adam'], 'none of sgd, rms'),
        (['--average=1'], 'never forgets'),
        (['--init_from=/no/such'], '/no/such'),
        (['--beam=9000', '--sample_length=20000'], 'a beam holds'),
        (['--sample_length=1000000000000'], '--sample_length'),
        (['--hidden=100000'], 'make it or its batches smaller'),
        (['--damping=inf'], '--damping=inf is no number'),
        (['--devices=3'], 'does not divide among 3 devices'),
        (['--weights=penn_treebank'], 'begin with them: --init_from'),
        (['--mode=evaluate', '--weights=penn_treebank'], 'leave out --weights'),
        (['--text=a'], '--mode=train does nothing with --text'),
        (['--corpus=enwik8', '--data={data}'], 'enwik8 has 100,000,000 bytes'),
    ],
    ids=lambda v: v[-1] if isinstance(v, list) else '',
)
def test_bad_training_is_one_clear_line(flags, said, capsys, tmp_path):
    places = {'data': tmp_path / 'data'}
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'enwik8').write_bytes(b'too little')
    contents = {'one_line': 'a word ' * 400, 'short': 'ab' * 505, 'tiny': 'abcd' * 2500, 'empty': ''}
    for name, content in contents.items():
        places[name] = tmp_path / name
        places[name].write_text(content)
    places['binary'] = tmp_path / 'binary'
    places['binary'].write_bytes(b'\xff\xfe' * 999)
    flags = [flag.format(**places) for flag in flags]
    assert said in refused(capsys, penn_treebank, *SMALL, f'--workdir={tmp_path}/run', *flags)
    assert not (tmp_path / 'run').exists()  # the flags, put right, find nothing in their way


def test_bad_reading_is_one_clear_line(finished, capsys, tmp_path):
    before = (finished / 'metrics.jsonl').read_text()
    run, ships = f'--workdir={finished}', '--weights=penn_treebank'
    score = '--mode=score'
    for flags, said in (
        ([score, f'--workdir={tmp_path}/nowhere', '--text=a'], 'nowhere'),
        ([score, run, '--input=/no/such'], 'no file'),
        ([score, ships, '--text=a', '--plot=a.xyz'], 'in .png'),
        ([score, '--weights=', '--text=a'], '--weights names nothing'),
        ([score, run], '--text or --input'),
        ([score, run, '--text='], 'empty'),
        ([score, run, '--text=a', '--unit=words'], 'another net than --unit'),
        (['--mode=sample', run, ships], 'read one net'),
        (['--mode=sample', run, '--hidden=13'], 'another net than --hidden=13'),
        (['--mode=sample', run, '--prompt=\N{SNOWMAN}'], 'not in the alphabet'),
        (['--mode=sample', run, '--prompt='], 'prompt is empty'),
        (['--mode=sample', run, '--beam=30000'], '--beam=30000'),
        (['--mode=sample', run, '--beam=9000', '--sample_length=20000'], 'a beam holds'),
        (['--mode=sample', run, '--steps=3'], 'does nothing with --steps'),
        (['--mode=evaluate', run, '--hidden=13'], 'other hidden'),
        (['--mode=export', run], '--output=FILE'),
        (['--mode=export', '--output=a.npz'], 'say which run'),
    ):
        assert said in refused(capsys, penn_treebank, *flags), flags
    assert 'say which run' in refused(capsys, text_mrnn, '--mode=sample')
    assert (finished / 'metrics.jsonl').read_text() == before


def test_a_run_of_another_experiment_is_told_apart(capsys, tmp_path):
    identity = {'experiment': 'long_term', 'settings': {}, 'data': {}}
    run_folder.close(run_folder.open_to_train(tmp_path / 'run', identity))
    for flags in (['--mode=evaluate'], ['--mode=train', *SMALL]):
        assert 'another experiment' in refused(capsys, penn_treebank, *flags, f'--workdir={tmp_path}/run')
    assert 'kept no weights' in refused(capsys, penn_treebank, '--mode=sample', f'--workdir={tmp_path}/run')


def test_wikipedia_has_the_papers_defaults(capsys):
    in_process(wikipedia, '--help')
    out = ' '.join(capsys.readouterr().out.split())
    for name, value in (('corpus', 'enwik8'), ('held_out', 500_000), ('reset_every', 100), ('momentum', 0.9)):
        assert re.search(rf'--{name}: [^(]*\(default: {value}\)', out)


@pytest.mark.parametrize('script', ['text_mrnn', 'penn_treebank', 'wikipedia'])
def test_as_a_process(script, finished, environment):
    command = [sys.executable, '-m', f'experiments.{script}', '--mode=score', '--text=a', f'--workdir={finished}']
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, '') and '1 characters' in done.stdout
