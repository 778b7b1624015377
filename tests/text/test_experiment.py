"""Training language models, from Python: every net by every kind of batch and optimiser that goes with it."""

import re

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from hfrnn import bundle
from hfrnn.errors import DataError, SettingsError
from hfrnn.optim.weight_noise import mean_params
from hfrnn.text import batches, corpora, models, scoring
from hfrnn.text.alphabet import decode
from hfrnn.text.experiment import G13, SMH11, initial_params, language_model, load_corpus
from hfrnn.text.generate import Sampling
from hfrnn.text.metrics import BITS
from hfrnn.text.report import Evaluation
from hfrnn.train import checkpoints, experiment, run_folder
from hfrnn.train.experiment import Limits
from hfrnn.train.settings import flatten, replace
from tests.scripts import read
from tests.trees import assert_trees_close

MRNN = replace(
    SMH11, hidden=16, factors=12, length=20, unscored=5, batch=32, curvature_batch=16, cg_iterations=12, damping=1.0,
    mu=0.02, evaluate_symbols=2000,
)  # fmt: skip
LSTM = replace(G13, corpus='pydoc', hidden=12, batch=8, length=16, average=0.9, decay_epochs=1.0, evaluate_symbols=2000)
DYNAMIC = Evaluation(
    test_symbols=1500, stride=375, context=51, dynamic=('sgd', 'rms'), tune_symbols=1000, rms_symbols=1000, segment=10
)
STATIC = Evaluation(test_symbols=1500, stride=200, context=50)
SHORT = Sampling(sample_length=40)


def make(settings, evaluation=STATIC, **more):
    return language_model(settings, evaluation=evaluation, sampling=SHORT, devices=1, **more)


def train(settings, folder, *, steps=4, every=2, evaluation=STATIC, say=lambda line: None, **more):
    limits = Limits(steps=steps, evaluate_every=every, log_every=1)
    return experiment.run(make(settings, evaluation, say=say, **more), folder, limits, devices=1, say=say)


@pytest.fixture(scope='module')
def lstm(tmp_path_factory):
    """The folder of a run of LSTM, and what it said."""
    folder, said = tmp_path_factory.mktemp('lstm') / 'run', []
    train(LSTM, folder, evaluation=DYNAMIC, say=said.append)
    return folder, '\n'.join(said)


def test_an_lstm_leaves_what_it_promises(lstm):
    folder, said = lstm
    results = read(folder / 'results.json')
    assert results['experiment'] == 'language_model' and results['test_symbols'] == 1500
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
    for name in ('run.json', 'metrics.jsonl', 'sample.txt', 'best.npz', 'checkpoints'):
        assert (folder / name).exists()
    assert (folder / 'learning_curve.png').read_bytes().startswith(b'\x89PNG')
    rows = run_folder.read_metrics(folder)
    assert [row['characters'] for row in rows] == pytest.approx([128 * i for i in range(1, 5)], abs=1)
    assert [('valid_bits_per_char' in row, row.get('valid_symbols')) for row in rows] == [
        (False, None),
        (True, 2000),
    ] * 2
    for word in ('static', 'dynamic, sgd', 'dynamic, rms', 'perplexity', 'error', 'A sample', 'remaining'):
        assert word in said


def test_an_mrnn_by_hessian_free_leaves_what_it_promises(tmp_path):
    said = []
    others = lambda known, symbols, alphabet: {'nobody': 8.0 * len(symbols) / 1500}  # noqa: E731
    train(MRNN, tmp_path / 'run', steps=3, every=1, say=said.append, others=others)
    results = read(tmp_path / 'run' / 'results.json')
    assert results['compressors'] == {'nobody': 8.0} and results['dynamic'] == {}
    for part in ('train', 'valid', 'test'):
        assert 0 < results[f'{part}_bits_per_char'] < 7
    rows = run_folder.read_metrics(tmp_path / 'run')
    assert [row['step'] for row in rows] == [1, 2, 3]
    assert [row['characters'] for row in rows] == [640, 1280, 1920]
    assert rows[-1]['valid_bits_per_char'] < rows[0]['bits_per_char']
    for word in ('rho', 'damping', 'cg_iterations', 'elapsed', 'nobody', 'A sample'):
        assert word in '\n'.join(said)


def test_validation_of_substrings_is_as_their_training(tmp_path):
    """Pieces of as many scored symbols, after as many others; and a step's loss is that of its batch."""
    made = make(MRNN)
    params = made.init(jax.random.key(0)).params
    corpus = load_corpus(MRNN)
    read_ = scoring.static_reader(models.make(MRNN.net, len(corpus.alphabet)))
    whole = np.concatenate([corpus.train[-6:], corpus.valid[:2000]])
    nll = np.concatenate([read_(params, whole[i : i + 21][6:], whole[i : i + 21][:6]).nll for i in range(0, 2000, 15)])
    found = made.evaluate(params)
    assert_allclose(found['bits_per_char'], nll.mean() * BITS, rtol=1e-5)
    assert found['symbols'] == 2000


@pytest.mark.slow
@pytest.mark.parametrize(
    'changes',
    [
        {'cell': 'rnn', 'optimizer': 'adam', 'average': 0.9},
        {'cell': 'tensor_rnn', 'hidden': 5, 'optimizer': 'rmsprop', 'clip_norm': 0.0},
        {'gain': 'tanh', 'optimizer': 'graves_rmsprop', 'noise': 'fixed'},
        {'cell': 'lstm', 'optimizer': 'adam', 'noise': 'adaptive', 'dropout': 0.2, 'layers': 2, 'clip': 1.0},
        {'cell': 'lstm', 'mu': 0.0, 'average': 0.5},
        {'cell': 'lstm', 'optimizer': 'muon', 'batches': 'streams', 'unscored': 0, 'batch': 4},
        {'cell': 'mrnn', 'optimizer': 'sgd', 'batches': 'streams', 'unscored': 0, 'batch': 4, 'noise': 'adaptive'},
    ],
    ids=str,
)
def test_any_net_learns_by_what_goes_with_it(changes, tmp_path):
    net = train(replace(MRNN, **changes), tmp_path / 'run', steps=2, every=2)
    again = bundle.load(tmp_path / 'run')
    assert again.model == net.model and again.history['settings'] == flatten(replace(MRNN, **changes))
    rows = run_folder.read_metrics(tmp_path / 'run')
    assert all(np.isfinite(row['bits_per_char']) for row in rows) and rows[-1]['valid_bits_per_char'] < 7.5
    trained = models.open_net(net)
    made = make(replace(MRNN, **changes))
    assert_allclose(made.evaluate(trained.params)['bits_per_char'], rows[-1]['valid_bits_per_char'], rtol=1e-6)


@pytest.mark.parametrize(
    'changes, said',
    [
        ({'length': 50, 'unscored': 50}, 'leaves nothing to score'),
        ({'curvature_batch': 64}, 'is larger than batch'),
        ({'length': 10**7}, 'too few for sequences'),
        ({'hidden': 100_000, 'factors': 100_000}, 'make it or its batches smaller'),
        ({'batch': 4 * 10**7, 'curvature_batch': 4 * 10**7}, 'make it or its batches smaller'),
        ({'corpus': '/no/such.txt'}, 'no file /no/such.txt'),
        ({'corpus': 'ptb'}, 'read from a folder'),
        ({'corpus': 'ptb', 'unit': 'bytes'}, 'of characters'),
        ({'held_out': 10**6}, 'for validation'),
        ({'batches': 'streams', 'unscored': 0}, 'independent sequences'),
        ({'batches': 'streams', 'optimizer': 'adam'}, 'unscored=5'),
        ({'batches': 'streams', 'optimizer': 'adam', 'unscored': 0, 'length': 10**5}, 'too few for 32 streams'),
        ({'reset_every': 3}, 'reset_every=3'),
        ({'decay_epochs': 1.0, 'optimizer': 'adam'}, 'decay_epochs=1.0'),
        ({'noise': 'fixed'}, 'noise=fixed'),
        ({'output_clip': 1.0}, 'output_clip=1.0'),
        ({'cell': 'lstm'}, 'mu=0.02'),
        ({'cell': 'lstm', 'clip': 1.0, 'mu': 0.0}, 'clip=1.0'),
        ({'clip': 1.0}, 'clip=1.0 is of an LSTM'),
        ({'layers': 2}, 'layers=2 is of an LSTM'),
        ({'initial_sd': 0.1}, 'initial_sd=0.1 is of an LSTM'),
        ({'cell': 'rnn', 'gain': 'tanh'}, 'gain=tanh'),
        ({'dropout': 0.1, 'optimizer': 'adam'}, 'dropout=0.1'),
        ({'matmul_dtype': 'bfloat16', 'optimizer': 'adam'}, 'matmul_dtype=bfloat16'),
        ({'optimizer': 'muon'}, 'muon is for LSTMs'),
        ({'optimizer': 'adam', 'average': 1.0}, 'never forgets'),
    ],
    ids=str,
)
def test_what_does_not_go_together_is_refused(changes, said):
    with pytest.raises((SettingsError, DataError), match=said) as e:
        make(replace(MRNN, **changes))
    assert '\n' not in str(e.value)


def test_a_report_that_would_fail_is_refused_before_training():
    for evaluation, sampling, said in (
        (Evaluation(dynamic=('sgd',), tune_symbols=999), SHORT, 'too few to tune'),
        (STATIC, Sampling(beam=9000, sample_length=20_000), 'a beam holds'),
        (STATIC, Sampling(prompt=''), 'prompt is empty'),
        (STATIC, Sampling(prompt='\N{SNOWMAN}'), 'not in the alphabet'),
    ):
        with pytest.raises((SettingsError, DataError), match=said):
            language_model(LSTM, evaluation=evaluation, sampling=sampling)


@pytest.mark.slow
def test_the_test_text_chooses_nothing(tmp_path):
    """Two texts that differ in their last tenth alone: the same weights, figures of validation, and rates."""
    known = corpora.load('pydoc')
    whole = decode(known.train[:40_000], known.alphabet)
    found = []
    for name, end in (('a', whole[-4000:]), ('b', whole[-4000:][::-1])):
        (tmp_path / name).write_text(whole[:-4000] + end, 'utf-8')
        folder, said = tmp_path / f'run_{name}', []
        train(replace(LSTM, corpus=str(tmp_path / name)), folder, evaluation=DYNAMIC, say=said.append)
        results = read(folder / 'results.json')
        chosen = (
            [row.get('valid_bits_per_char') for row in run_folder.read_metrics(folder)],
            [(row['rate'], row['decay']) for row in results['dynamic'].values()],
            [line for line in said if 'on validation text' in line],
            results['best_step'],
        )
        params = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(bundle.load(folder).params)]
        found.append((chosen, params, results['static']))
    assert len(found[0][0][2]) > 4
    assert found[0][:2] == found[1][:2]
    assert found[0][2] != found[1][2]


@pytest.mark.slow
def test_a_run_begins_with_the_net_it_is_told_to(lstm, tmp_path):
    """At a learning rate of 0 it stays that; with adaptive noise, the posterior of a net that has one."""
    weights = bundle.load(lstm[0])
    begin = replace(LSTM, init_from=str(lstm[0]), learning_rate=0.0)
    static = read(lstm[0] / 'results.json')['static']
    for noise in ('none', 'fixed', 'adaptive'):
        net = train(replace(begin, noise=noise), tmp_path / noise, evaluation=DYNAMIC)
        assert_trees_close(
            models.open_net(net).params, models.open_net(weights).params, rtol=1e-6
        )  # an average, rounded
        assert read(tmp_path / noise / 'results.json')['static'] == pytest.approx(static, rel=1e-6)
        assert net.history['begun_from'] == {'net': 'run', 'experiment': 'language_model', 'step': 4}
        assert net.history['settings']['init_from'] == 'run'  # and not where that stands
    assert bundle.places(net.params).keys() == {
        f'{part}/{place}' for part in ('mu', 'log_variance') for place in bundle.places(weights.params)
    }
    corpus = load_corpus(LSTM)
    shapes = jax.eval_shape(models.make(LSTM.net, len(corpus.alphabet)).init, jax.random.key(0))
    wide = net._replace(params={'mu': net.params['mu'], 'log_variance': jax.tree.map(np.ones_like, net.params['mu'])})
    bundle.save(tmp_path / 'wide.npz', wide)
    for noise, deviations in (('adaptive', 1.0), ('fixed', None)):
        s = replace(LSTM, noise=noise, init_from=str(tmp_path / 'wide.npz'))
        params, origin = initial_params(s, corpus, shapes)
        jax.tree.map(assert_array_equal, mean_params(params), net.params['mu'])
        assert origin['net'] == 'wide.npz'
        if deviations:
            assert all((leaf == deviations).all() for leaf in jax.tree.leaves(params.log_variance))
    for changes, said in (({'hidden': 13}, 'another net'), ({'unit': 'bytes'}, 'another alphabet')):
        with pytest.raises(DataError, match=said):
            train(replace(begin, **changes), tmp_path / 'other')
    assert not (tmp_path / 'other').exists()


@pytest.mark.slow
def test_in_parts_a_run_is_the_same_bit_for_bit(lstm, tmp_path):
    """With adaptive noise and dropout, from the weights of another run, the state carried and the average kept."""
    s = replace(LSTM, noise='adaptive', dropout=0.1, init_from=str(lstm[0]))
    train(s, tmp_path / 'whole')
    for steps in (1, 3, 4):
        train(s, tmp_path / 'parts', steps=steps, every=1)
    states = []
    for folder in (tmp_path / 'whole', tmp_path / 'parts'):
        manager = checkpoints.open_checkpoints(run_folder.open_to_read(folder)).manager
        states.append(jax.tree.leaves(manager.restore(manager.latest_step())['state']))
    for left, right in zip(*states, strict=True):
        assert_array_equal(left, right)


def test_dropout_is_of_training_alone(lstm, tmp_path):
    """At a learning rate of 0 the weights stay, and what they are worth; what training says of them does not."""
    said = []
    for share in (0.0, 0.5):
        folder = tmp_path / f'{share}'
        train(replace(LSTM, init_from=str(lstm[0]), learning_rate=0.0, dropout=share), folder)
        results = read(folder / 'results.json')
        assert results['dropout'] == share
        said.append((results['static'], run_folder.read_metrics(folder)[1]['bits_per_char']))
    assert said[0][0] == said[1][0]
    assert abs(said[0][1] - said[1][1]) > 1e-4


def test_words(tmp_path):
    rng = np.random.default_rng(0)
    lines = [' '.join(rng.choice(['a', 'cat', 'sat', 'on', 'mats', 'there'], 9)) for _ in range(900)]
    (tmp_path / 'a.txt').write_text('\n'.join(lines))
    s = replace(LSTM, corpus=str(tmp_path / 'a.txt'), unit='words')
    net = train(s, tmp_path / 'run', evaluation=Evaluation())
    static = read(tmp_path / 'run' / 'results.json')['static']
    assert 2 < static['perplexity'] < 8.5
    per_word = np.log2(static['perplexity'])
    assert static['bits_per_char'] == pytest.approx(per_word / (sum(map(len, lines)) + len(lines)) * 9000, rel=0.05)
    assert len(models.open_net(net).alphabet) == 8 and models.open_net(net).alphabet[0] == '<eos>'


def test_steps_of_streams_are_of_the_seed_and_their_number():
    made, other = make(LSTM), make(replace(LSTM, reset_every=2))
    corpus = load_corpus(LSTM)
    for i in (0, 2, made.steps_per_epoch + 1):
        jax.tree.map(assert_array_equal, made.batch(i), batches.stream_batch(corpus.train, 8, 16, i, 103))
    assert not made.batch(2).reset.any() and other.batch(2).reset.all()


def test_a_net_that_diverges_keeps_its_last_good_weights(tmp_path):
    with pytest.raises(experiment.NotFinite):
        train(replace(MRNN, optimizer='rmsprop', learning_rate=1e38, clip_norm=0.0), tmp_path / 'run', steps=20)
    rows = run_folder.read_metrics(tmp_path / 'run')
    assert rows[-1]['step'] < 20
