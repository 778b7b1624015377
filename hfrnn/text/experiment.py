"""Training a language model: one experiment for all nets of text, batches and optimisers.

    settings = replace(LanguageModel(), corpus='novel.txt', cell='lstm', batches='streams', batch=32)
    net = experiment.run(language_model(settings), 'runs/novel', Limits(epochs=5))

Batches are either random substrings, each from the initial state (Sutskever, Martens & Hinton 2011, SMH11), or the next
sequence of every stream, to which the state is carried over (Graves 2013, G13).
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hfrnn import bundle as bundles
from hfrnn.bundle import Bundle
from hfrnn.errors import DataError, SettingsError
from hfrnn.nets.model import Model, size
from hfrnn.optim import weight_noise
from hfrnn.text import corpora, generate, models, report, scoring, words
from hfrnn.text.alphabet import unit_of
from hfrnn.text.batches import check_streams, random_substrings, steps_per_epoch, stream_batch
from hfrnn.text.corpora import Corpus
from hfrnn.text.generate import Sampling
from hfrnn.text.metrics import BITS, count_units, text_metrics
from hfrnn.text.models import LSTM, Net
from hfrnn.text.report import Evaluation
from hfrnn.train import optimizers
from hfrnn.train import settings as settings_of
from hfrnn.train.devices import check_memory, count
from hfrnn.train.experiment import Experiment, summary
from hfrnn.train.optimizers import HESSIAN_FREE, HessianFree, Optimization, WeightNoise
from hfrnn.train.settings import SEEDS, setting
from hfrnn.train.steps import noisy_loss, state_of
from hfrnn.train.truncated_bptt import init_carried_state, truncated_bptt_step

NAME = 'language_model'


@dataclasses.dataclass(frozen=True)
class LanguageModel:
    """Text, net and training, which define a run."""

    corpus: str = setting('pydoc', f'One of {", ".join(corpora.CORPORA)}, or the path of a text file.')
    unit: str = setting('characters', 'What a symbol is; enwik8 is of bytes.', choices=('characters', 'words', 'bytes'))
    held_out: int = setting(
        0,
        'Validate on the last so many validation symbols only, and train on the others too. 0 for all.',
        low=0,
    )
    net: Net = Net()  # noqa: RUF009
    seed: int = setting(
        0, 'Seed of everything random: initial weights, batches, noise, dropout.', low=0, high=SEEDS - 1
    )
    batches: str = setting(
        'substrings',
        'substrings: random, each from the initial state. streams: in order, the state carried over.',
        choices=('substrings', 'streams'),
    )
    batch: int = setting(48_000, 'Sequences for a gradient, on all devices together; the number of streams, B.', low=1)
    length: int = setting(250, 'Symbols that a training sequence predicts, T.', low=1)
    unscored: int = setting(0, 'substrings: how many of these, at the beginning, are not scored.', low=0)
    reset_every: int = setting(0, 'streams: reset the state after so many sequences; 0 for once an epoch.', low=0)
    optimization: Optimization = Optimization()  # noqa: RUF009
    hessian_free: HessianFree = HessianFree()  # noqa: RUF009
    weight_noise: WeightNoise = WeightNoise()  # noqa: RUF009
    matmul_dtype: str = setting(
        'float32', 'lstm: what the factors of its matrix products are rounded to.', choices=('float32', 'bfloat16')
    )
    dropout: float = setting(0.0, 'lstm: the share of input to the cells that training drops.', low=0.0, high=0.99)
    init_from: str | None = setting(
        None, 'Begin with the weights of this net: the folder of a run, a file, or a shipped name.'
    )
    evaluate_symbols: int = setting(100_000, 'Choose the best weights by the first so many validation symbols.', low=1)


# The settings of the two papers, the defaults of the scripts.
SMH11 = LanguageModel(
    unscored=50,
    optimization=Optimization(optimizer=HESSIAN_FREE, clip_norm=1.0),
    hessian_free=HessianFree(mu=0.1),
)
G13 = LanguageModel(
    corpus='ptb',
    net=Net(cell=LSTM, hidden=1000, clip=1.0),
    batches='streams',
    batch=64,
    length=100,
    optimization=Optimization(learning_rate=2e-3, momentum=0.99, decay_to=0.01),
)


def check(s: LanguageModel) -> None:
    """Checks that the settings go together.

    Raises:
      SettingsError: if not.
    """
    settings_of.check(s)
    if s.init_from == '':
        raise SettingsError('init_from= names nothing')
    models.check(s.net)
    by_hf, is_lstm = s.optimization.optimizer == HESSIAN_FREE, s.net.cell == LSTM

    def refuse(reason, **wanted):
        for name, value in wanted.items():
            found = settings_of.flatten(s)[name]
            if found != value:
                raise SettingsError(f'{name}={found}: {reason} {name}={value}')

    if s.batches == 'substrings':
        if s.unscored >= s.length:
            raise SettingsError(f'unscored={s.unscored} leaves nothing to score of length={s.length}')
        refuse('substrings have no state to carry over, and take', reset_every=0)
        refuse('an epoch is of streams; substrings take', decay_epochs=0.0)
    else:
        refuse('every symbol of a stream is scored:', unscored=0)
        if by_hf:
            raise SettingsError('optimizer=hf: Hessian-Free needs independent sequences, batches=substrings')
    if by_hf:
        refuse(
            'Hessian-Free needs exact derivatives, and takes',
            clip=0.0, output_clip=0.0, noise='none', dropout=0.0, matmul_dtype='float32',
        )  # fmt: skip
    optimizers.check_damping(models.make(s.net, 2), s.optimization.optimizer, s.hessian_free)
    if not is_lstm:
        refuse(f'only an LSTM has it; cell={s.net.cell} takes', dropout=0.0, matmul_dtype='float32')
        if s.optimization.optimizer == 'muon':
            raise SettingsError(f'optimizer=muon is for LSTMs, not for cell={s.net.cell}')


def load_corpus(s: LanguageModel, data: str | None = None) -> Corpus:
    """The text of these settings.

    Args:
      data: the folder of the corpora that are read from one.

    Raises:
      DataError: if it is not found, or too short.
    """
    corpus = words.load(s.corpus, data) if s.unit == 'words' else corpora.load(s.corpus, data, s.unit)
    return corpora.with_held_out(corpus, s.held_out)


def language_model(
    s: LanguageModel,
    *,
    data: str | None = None,
    chunk: int = 300,
    devices: int | None = None,
    evaluation: Evaluation = Evaluation(),  # noqa: B008
    sampling: Sampling = Sampling(),  # noqa: B008
    others: Callable | None = None,
    previous: dict | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Experiment:
    """The experiment of these settings.

    Args:
      data: the folder of the corpora that are read from one.
      chunk: substrings in memory at once for a gradient, on each device.
      devices: how many it will run on; all if None.
      evaluation, sampling: what the report measures, and the sample in it.
      others, previous: see ``report.report``: what else to measure on the same text, and results.json so far.
      say: called with each line of what a long evaluation is doing.

    Raises:
      SettingsError: for settings that do not go together.
      DataError: for a text that is not found, or too short.
    """
    check(s)
    by_hf = s.optimization.optimizer == HESSIAN_FREE
    optimizers.check_sizes(s.optimization.optimizer, s.batch, s.hessian_free, devices)
    corpus = load_corpus(s, data)
    V, N = len(corpus.alphabet), len(corpus.train)
    net = models.make(s.net, V)
    shapes = jax.eval_shape(net.init, jax.random.key(0))
    learner = _substrings(s, corpus, chunk) if s.batches == 'substrings' else _streams(s, corpus, net)
    copies = optimizers.copies_of_weights(s.optimization.optimizer, s.hessian_free)
    generate.check_sampling(sampling)
    words.prompt_symbols(sampling.prompt, corpus.alphabet)  # now, and not after the training
    report.check(evaluation, corpus)
    check_memory(size(shapes), copies, _numbers_at_once(s, V, chunk, devices), devices)

    read = scoring.static_reader(net)
    valid = corpus.valid[: s.evaluate_symbols]
    if s.batches == 'substrings':
        before_valid, pieces = corpus.train, {'stride': s.length - s.unscored, 'context': s.unscored + 1}
    else:
        before_valid, pieces = [V], {'stride': -(-len(valid) // s.batch), 'context': 1}

    def evaluate(params):
        params = weight_noise.mean_params(jax.device_get(params))
        reading = read(params, valid, before_valid, **pieces)
        found = text_metrics(reading, corpus.alphabet, valid)
        return {'bits_per_char': found['bits_per_char'], 'symbols': len(valid)}

    per_char = N / count_units(corpus.alphabet, corpus.train)[0]  # symbols in a character

    def describe(i, metrics):
        row = {'characters': round(learner.symbols(i) / per_char)}
        if metrics:
            row['bits_per_char'] = float(metrics['nats']) * BITS * per_char
        return row | {name: value for name, value in metrics.items() if name not in ('nats', 'seconds', *_UNLOGGED)}

    def bundle(params, history):
        model = {'kind': models.KIND, **settings_of.flatten(s.net)}
        return Bundle(model, corpora.fingerprint(corpus), summary(NAME, s, history), params)

    def warm_start(state):
        params, origin = initial_params(s, corpus, shapes)
        return learner.state(params), origin

    names = {'cell': s.net.cell, 'hidden': s.net.hidden, 'layers': s.net.layers, 'optimizer': s.optimization.optimizer}
    names |= {'noise': s.weight_noise.noise, 'dropout': s.dropout, 'batches': s.batches}
    per_epoch = f'; {learner.steps_per_epoch:,} steps an epoch' if learner.steps_per_epoch else ''
    return Experiment(
        name=NAME,
        settings=s,
        init=lambda key: learner.state(learner.noise.init(net.init(key))),
        step=learner.step,
        batch=learner.batch,
        evaluate=evaluate,
        bundle=bundle,
        report=lambda bundle, history: report.report(
            bundle, history, corpus, evaluation, sampling, names, others=others, previous=previous, say=say
        ),
        describe=describe,
        warm_start=warm_start if s.init_from else None,
        steps_per_epoch=learner.steps_per_epoch,
        log_every=1 if by_hf else 20,
        title=f'{_description(s)} on {corpus.name}: {N:,} / {len(corpus.valid):,} / '
        f'{len(corpus.test):,} {unit_of(corpus.alphabet)}, {V} different{per_epoch}',
    )


_UNLOGGED = ('targets', 'sequences', 'gradient', 'finite')


def _description(s):
    layers = f'{s.net.layers} layers of {s.net.hidden}' if s.net.layers > 1 else f'{s.net.hidden}'
    noise = '' if s.weight_noise.noise == 'none' else f', {s.weight_noise.noise} weight noise'
    dropout = f', dropout of {s.dropout}' if s.dropout else ''
    return f'{s.net.cell} of {layers} by {s.optimization.optimizer}{noise}{dropout}'


def _numbers_at_once(s, V, chunk, devices):
    """How many numbers a device holds for its part of a batch in a step; somewhat less than was measured."""
    H = s.net.hidden * s.net.layers * (2 if s.net.cell == LSTM else 1)
    F = s.net.factors if s.net.cell == 'mrnn' else 0
    part = s.batch // count(devices)
    gradient = (part if s.batches == 'streams' else min(chunk, part)) * (4 * H + 3 * F + 3 * V)
    by_hf = s.optimization.optimizer == HESSIAN_FREE
    curvature = s.hessian_free.curvature_batch // count(devices) * (6 * H + 4 * F + 3 * V) if by_hf else 0
    return s.length * max(gradient, curvature)


def initial_params(s: LanguageModel, corpus: Corpus, shapes: Any) -> tuple[Any, dict]:
    """The first params, from the net ``init_from``, and where they are from.

    Adaptive weight noise begins with the posterior of a net that has one; otherwise with its weights.

    Args:
      shapes: of the weights.

    Raises:
      DataError: if it is another net, or of another alphabet.
    """
    origin = bundles.load(s.init_from)
    bundles.check_kind(origin, models.KIND)
    if models.alphabet_of(origin) != corpus.alphabet:
        raise DataError(f'init_from={s.init_from} is a net of another alphabet than that of {corpus.name}')
    plain = bundles.without_noise(origin)
    if s.weight_noise.noise == 'adaptive' and plain.params is not origin.params:
        params = bundles.fit(origin, jax.eval_shape(weight_noise.posterior, shapes))
    else:
        params = _noise(s).init(jax.tree.map(jnp.asarray, bundles.fit(plain, shapes)))
    history = {name: origin.history[name] for name in ('experiment', 'step') if name in origin.history}
    return params, {'net': pathlib.Path(s.init_from).name, **history}


class _Learner(NamedTuple):
    """The parts of the experiment that differ between the two kinds of batches.

    Attributes:
      noise: on the weights.
      state: ``state(params)``, the state before the first step.
      step, batch, steps_per_epoch: as in ``Experiment``.
      symbols: ``symbols(i)``, how many have been predicted in i steps.
    """

    noise: weight_noise.Noise
    state: Callable
    step: Callable
    batch: Callable
    steps_per_epoch: int
    symbols: Callable


def _in_training(s, V):
    dtype = jnp.bfloat16 if s.matmul_dtype == 'bfloat16' else None
    return models.make(s.net, V, dtype=dtype, dropout=s.dropout, reverse=s.optimization.optimizer != HESSIAN_FREE)


def _noise(s):
    return weight_noise.noise(s.weight_noise.noise, s.weight_noise.noise_sd, s.weight_noise.variance)


def _substrings(s, corpus, chunk) -> _Learner:
    V, noise = len(corpus.alphabet), _noise(s)
    random_substrings(corpus.train, np.random.default_rng(0), 1, s.length, s.unscored)  # raises if it is too short
    learner = _in_training(s, V)
    n = max(1, len(corpus.train) // (s.length - s.unscored))  # as many substrings score every symbol once
    noisy = noisy_loss(learner, noise, n) if s.weight_noise.noise != 'none' or s.dropout else None
    optimizer, step = optimizers.optimizer_and_step(
        learner, s.optimization, s.hessian_free, chunk, noisy=noisy, seed=s.seed
    )

    def batch(i):
        def draw(stream, sequences):
            rng = np.random.default_rng((s.seed, i, stream))
            return random_substrings(corpus.train, rng, sequences, s.length, s.unscored)

        return optimizers.batches(draw, s.optimization.optimizer, s.batch, s.hessian_free)

    state = functools.partial(state_of, optimizer)
    return _Learner(noise, state, step, batch, 0, lambda i: i * s.batch * s.length)


def _streams(s, corpus, net: Model) -> _Learner:
    V, N, noise = len(corpus.alphabet), len(corpus.train), _noise(s)
    check_streams(N, s.batch, s.length)
    epoch = steps_per_epoch(N, s.batch, s.length)
    optimizer = optimizers.first_order(s.optimization, epoch)
    key = jax.random.fold_in(jax.random.key(s.seed), 1)
    return _Learner(
        noise,
        lambda params: init_carried_state(net, optimizer, params, s.batch),
        truncated_bptt_step(_in_training(s, V), optimizer, noise, key, epoch),
        lambda i: stream_batch(corpus.train, s.batch, s.length, i, V, s.reset_every),
        epoch,
        lambda i: i / epoch * N,
    )
