"""What the experiments with LSTM language models share (Graves 2013 sec. 3): their flags and modes.

--mode=train trains, goes on if --workdir holds the same run, and ends by evaluating and sampling; evaluate, sample,
score and export (a small file of weights) read a finished or unfinished run, and take from it the flags that define it;
sample and score also read such a file, or the one that came with the package.  A step sees one sequence of each of
--batch streams, and the state goes on from one sequence to the next.
"""

import os
import pathlib
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

from experiments import asking, cli
from experiments.cli import say
from experiments.language_results import write
from hfrnn import bundle
from hfrnn.errors import RunError, SettingsError
from hfrnn.nets import model
from hfrnn.optim import first_order, weight_noise
from hfrnn.text import corpora, models, scoring, tuning, words
from hfrnn.text.alphabet import letter_of, unit_of
from hfrnn.text.batches import check_streams, steps_per_epoch, stream_batch
from hfrnn.text.metrics import BITS, count_units, text_metrics
from hfrnn.train import run_folder
from hfrnn.train.devices import spread
from hfrnn.train.loop import fit
from hfrnn.train.truncated_bptt import CarriedState, init_carried_state, truncated_bptt_step

FLAGS = flags.FLAGS
VALID = 'valid_bits_per_char'  # in metrics.jsonl, by which the best weights are chosen
SHIPPED = 'penn_treebank'  # the one that comes with the package
flags.adopt_module_key_flags(cli)
flags.adopt_module_key_flags(asking)

MODE = flags.DEFINE_enum('mode', 'train', ['train', 'evaluate', 'sample', 'score', 'export'], 'What to do.')
WORKDIR = flags.DEFINE_string('workdir', None, "The run's folder.")

# These define a run: it goes on only where they are the same.
flags.DEFINE_string('corpus', 'ptb', f'One of {", ".join(corpora.NAMES)}, or the path of a text file.')
flags.DEFINE_enum('unit', 'characters', ['characters', 'words', 'bytes'], 'What a symbol is; enwik8 is of bytes.')
flags.DEFINE_integer('held_out', 0, 'The end of the validation text that is kept; 0 for all of it.', lower_bound=0)
flags.DEFINE_integer('hidden', 1000, 'LSTM cells of a layer, H.', lower_bound=1)
flags.DEFINE_integer('layers', 1, 'How many layers.', lower_bound=1, upper_bound=models.MOST_LAYERS)
flags.DEFINE_float('initial_sd', None, "Of the weights at the start; by a unit's inputs if not given.", lower_bound=0.0)
flags.DEFINE_enum('products', 'float32', ['float32', 'bfloat16'], 'What the LSTM multiplies while it is trained.')
flags.DEFINE_float('clip', 1.0, "Of the LSTM's derivatives, each by itself; 0 for none.", lower_bound=0.0)
flags.DEFINE_float('output_clip', 0.0, "Of the softmax layer's derivatives; 0 for none.", lower_bound=0.0)
flags.DEFINE_integer(
    'seed', 0, 'Of everything random: initial weights, noise, dropout.', lower_bound=0, upper_bound=2**31 - 1
)
flags.DEFINE_integer('batch', 64, 'Streams that the training text is cut into, B.', lower_bound=1)
flags.DEFINE_integer('length', 100, 'Symbols that a sequence predicts, T.', lower_bound=1)
flags.DEFINE_integer('reset_every', 0, 'Sequences after which the state starts anew; 0 for an epoch.', lower_bound=0)
flags.DEFINE_enum('optimizer', 'adam', ['adam', 'sgd'], "Adam, or the paper's gradient descent with momentum.")
flags.DEFINE_float('learning_rate', 2e-3, 'At the start.', lower_bound=0.0, upper_bound=1e6)
flags.DEFINE_float('momentum', 0.99, 'SGD.', lower_bound=0.0, upper_bound=1.0)
flags.DEFINE_float(
    'decay_epochs', 0.0, 'Cosine decay to 1/100 over so many epochs; 0 for none.', lower_bound=0.0, upper_bound=1e6
)
flags.DEFINE_float('average', 0.0, 'Decay of an exponential average of the weights; 0 for none.', lower_bound=0.0)
flags.DEFINE_enum('noise', 'none', ['none', 'fixed', 'adaptive'], 'On the weights, in training.')
flags.DEFINE_float(
    'noise_sd',
    0.075,
    "The noise's standard deviation; adaptive: at the start, if --init_from has no posterior.",
    lower_bound=1e-30,
)
flags.DEFINE_enum('variance', 'squared', ['squared', 'reparameterised'], 'adaptive: the derivative of the variances.')
flags.DEFINE_float('dropout', 0.0, 'Of what enters the cells, in training.', lower_bound=0.0, upper_bound=0.99)
flags.DEFINE_string('init_from', None, 'The weights to begin with: the folder of a run, a file, or a shipped name.')
flags.DEFINE_integer(
    'evaluate_symbols',
    100_000,
    'Validation text that chooses among the weights, read in --batch streams, each from a cold start.',
    lower_bound=1,
)

# These do not.
FREE = (
    flags.DEFINE_float('epochs', 9.0, 'Train for so many epochs in all.', lower_bound=0.0, upper_bound=1e6),
    flags.DEFINE_float('minutes', float('inf'), 'Train for so many minutes in all.', lower_bound=0.0),
    flags.DEFINE_float('save_minutes', 5.0, 'Save a checkpoint every so many minutes.', lower_bound=0.0),
    flags.DEFINE_integer('log_every', 20, 'A line every so many steps.', lower_bound=1),
    flags.DEFINE_integer('evaluate_every', 400, 'Evaluate on validation text every so many steps.', lower_bound=1),
    flags.DEFINE_integer(
        'static_streams', 1, 'Read the test text in so many streams at once.', lower_bound=1, upper_bound=10_000
    ),
    flags.DEFINE_integer('context', 1000, 'Symbols that each reads before what it scores.', lower_bound=0),
    flags.DEFINE_integer('test_symbols', 0, 'The beginning of the test text to read; 0 for all.', lower_bound=0),
    flags.DEFINE_list('dynamic', ['sgd', 'rms'], 'Rules of dynamic evaluation; none if empty.'),
    flags.DEFINE_integer(
        'segment',
        20,
        'Dynamic evaluation: symbols between two changes of the weights.',
        lower_bound=1,
        upper_bound=100_000,
    ),
    flags.DEFINE_integer(
        'tune_symbols', 20_000, 'Dynamic evaluation: validation text to choose its learning rate on.', lower_bound=1
    ),
    flags.DEFINE_integer(
        'rms_symbols', 200_000, 'Dynamic evaluation: training text for the mean squares of rms.', lower_bound=1
    ),
    flags.DEFINE_string('output', None, 'export: the file to write.'),
    flags.DEFINE_string('weights', None, 'sample, score: the file to read.'),
    *asking.FREE,
    flags.DEFINE_string('data', os.environ.get('HFRNN_DATA'), 'The folder of ptb and enwik8 (or $HFRNN_DATA).'),
)


def main(argv):
    modes = {'train': train, 'evaluate': evaluate, 'sample': sample, 'score': score, 'export': export}

    def mode():
        cli.check_weights(MODE.value)
        modes[MODE.value]()

    cli.main(argv, mode)


# -- what the flags mean ----------------------------------------------------------------------------------------------


def settings() -> SimpleNamespace:
    """The flags that define a run."""
    return SimpleNamespace(**cli.defining_flags(sys.modules[__name__], (MODE, WORKDIR, *FREE)))


def check_end():
    """What would fail when the training is done."""
    for rule in FLAGS.dynamic:
        if rule not in ('sgd', 'rms'):
            raise SettingsError(f'--dynamic: {rule!r} is none of sgd, rms')
    asking.check()


def check(s):
    cli.check_batches('batch')
    check_end()
    for name in ('average', 'momentum'):
        if getattr(s, name) >= 1:
            raise SettingsError(f'--{name}={getattr(s, name)} never forgets; take less than 1')


def load(s):
    corpus = words.load(s.corpus, FLAGS.data) if s.unit == 'words' else corpora.load(s.corpus, FLAGS.data, s.unit)
    return corpora.with_held_out(corpus, s.held_out)


def about(corpus):
    return corpora.fingerprint(corpus) | {'alphabet': listed(corpus.alphabet)}


def numbers_at_once(s, V):
    """What a device holds for its part of a batch while it learns, at the least."""
    return s.batch // cli.n_devices() * s.length * (8 * s.hidden * s.layers + 3 * V)


def make_model(s, V, **while_training):
    return models.lstm(V, **models.settings(vars(s)), initial_sd=s.initial_sd, **while_training)


def make_optimizer(s, steps_per_epoch):
    rate = s.learning_rate
    if s.decay_epochs:
        rate = optax.cosine_decay_schedule(rate, max(1, round(s.decay_epochs * steps_per_epoch)), alpha=0.01)
    rule = optax.adam(rate) if s.optimizer == 'adam' else optax.sgd(rate, s.momentum)
    return optax.chain(rule, first_order.averaged(s.average)) if s.average else rule


class Learner(NamedTuple):
    """A model, with how it is trained."""

    model: model.Model
    noise: weight_noise.Noise
    optimizer: optax.GradientTransformation
    steps_per_epoch: int
    init: Callable  # params -> CarriedState
    shapes: CarriedState


def make_learner(s, V, n_train):
    """The Learner of these settings, for V symbols and a training text of so many."""
    net, noise = make_model(s, V), weight_noise.noise(s.noise, s.noise_sd, s.variance)
    steps = steps_per_epoch(n_train, s.batch, s.length)
    optimizer = make_optimizer(s, steps)

    def init(params):
        return init_carried_state(net, optimizer, params, s.batch)

    return Learner(
        net, noise, optimizer, steps, init, jax.eval_shape(lambda: init(noise.init(net.init(jax.random.key(0)))))
    )


def trained(s, state):
    """What is kept of a state: the weights that it has come to, or the posterior."""
    return optax.tree.get(state.opt_state, 'average') if s.average else state.params


def best(s, workdir, state):
    """What did best on validation text; the last there is if that was not read yet."""
    if not (pathlib.Path(workdir) / 'best.npz').exists():
        return trained(s, state)
    return run_folder.load_best(workdir, trained(s, state))


def best_step(workdir, steps):
    """Of which step those are, of a run that has done so many."""
    return run_folder.best_row(run_folder.read_metrics(workdir), VALID).get('step', steps)


def first_params(s, learner, alphabet):
    """What to begin with: random weights, or those of --init_from, a run's folder or a file of weights.

    Adaptive noise begins with the posterior of such a run, if it has one.
    """
    random = learner.model.init(jax.random.key(s.seed))
    if not s.init_from:
        return learner.noise.init(random)
    if bundle.names_a_file(s.init_from):
        kept = cli.read_weights(s.init_from)
        bundle.check(kept, kind=models.KIND, alphabet=listed(alphabet))
        return learner.noise.init(bundle.restore(kept, random))
    params = open_learner(s.init_from)[2]
    weights = weight_noise.mean_params(params)
    theirs = run_folder.read_json(s.init_from, 'about.json')['alphabet']
    if jax.tree.map(np.shape, weights) != jax.tree.map(np.shape, random) or theirs != listed(alphabet):
        raise SettingsError(f'--init_from={s.init_from} holds another net, or one of another alphabet')
    goes_on = s.noise == 'adaptive' and isinstance(params, weight_noise.Posterior)
    return params if goes_on else learner.noise.init(weights)


def listed(alphabet):
    """An alphabet as JSON has it."""
    return alphabet if isinstance(alphabet, str) else list(alphabet)


def open_learner(workdir):
    """(settings, Learner, what it kept, (steps, seconds)) of a run; of one with adaptive noise, that is a posterior."""
    told, facts = (run_folder.read_json(workdir, name) for name in ('flags.json', 'about.json'))
    run = run_folder.open_run(workdir)
    try:
        if not {'layers', 'unit'} <= told.keys():
            raise KeyError('layers, unit')
        s = SimpleNamespace(**(cli.defaults(vars(settings())) | told))
        learner = make_learner(s, len(facts['alphabet']), facts['train'])
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as e:
        raise RunError(f'{workdir} holds a run of another experiment') from e
    state, seconds = run_folder.restore(run, learner.shapes)
    return s, learner, best(s, workdir, state), (int(state.step), seconds)


# -- modes ------------------------------------------------------------------------------------------------------------


def train():
    folder, s = cli.workdir('where to keep the run'), settings()
    check(s)
    corpus = load(s)
    check_streams(len(corpus.train), s.batch, s.length)
    if FLAGS.dynamic:
        tuning.check_tuning_text(corpus.valid[: FLAGS.tune_symbols])
    asking.prompt(corpus.alphabet)  # now, and not after the training
    learner = make_learner(s, len(corpus.alphabet), len(corpus.train))
    cli.check_memory(model.size(learner.shapes.params), 8, numbers_at_once(s, len(corpus.alphabet)))
    first = None if run_folder.has_begun(folder) else first_params(s, learner, corpus.alphabet)
    run = cli.train_in(folder, vars(s), about(corpus))
    weights = weight_noise.mean_params(learner.shapes.params)
    say(
        f'{describe(s)} of {model.size(weights):,} weights on {corpus.name}: {len(corpus.train):,} / '
        f'{len(corpus.valid):,} / {len(corpus.test):,} symbols of {len(corpus.alphabet)}; '
        f'{learner.steps_per_epoch:,} steps an epoch'
    )
    state, elapsed = cli.restore_or_begin(run, learner.shapes, lambda: learner.init(first))
    history = run_folder.history_and_best(run, int(state.step), VALID, trained(s, state))

    read = scoring.static_reader(learner.model, s.length)
    per_char = len(corpus.train) / count_units(corpus.alphabet, corpus.train)[0]  # symbols in a character
    letter = letter_of(corpus.alphabet)[:4]
    last = round(FLAGS.epochs * learner.steps_per_epoch)

    def about_step(i, seconds):
        epoch = i / learner.steps_per_epoch
        characters = round(epoch * len(corpus.train) / per_char)
        return {'step': i, 'seconds': round(seconds, 2), 'epoch': epoch, 'characters': characters}

    def read_valid(state):
        valid = corpus.valid[: s.evaluate_symbols]
        reading = read(
            weight_noise.mean_params(trained(s, state)),
            valid,
            [len(corpus.alphabet)],
            stride=-(-len(valid) // s.batch),
            context=1,
        )
        return {
            VALID: text_metrics(reading, corpus.alphabet, valid)['bits_per_char'],
            'valid_symbols': len(valid),
        }

    def keep(state, seconds):
        run_folder.save(run, state, int(state.step), seconds)

    def log(row, state, seconds):
        run_folder.log_and_keep(run, history, row, VALID, state, trained(s, state), seconds)

    def on_step(state, metrics, seconds):
        i = int(state.step)
        evaluated = i % FLAGS.evaluate_every == 0
        if not evaluated and i % FLAGS.log_every:
            return
        row = about_step(i, seconds) | {'bits_per_char': float(metrics['nats']) * BITS * per_char}
        line = f'step {i:6d}  epoch {row["epoch"]:6.3f}  {row["bits_per_char"]:6.3f} bits/{letter}'
        if evaluated:
            row |= read_valid(state)
            line += f'  valid {row[VALID]:.4f}'
        log(row, state, seconds)
        say(f'{line}  {cli.progress(i, last, seconds)}')

    key = jax.random.fold_in(jax.random.key(s.seed), 1)
    dtype = jnp.bfloat16 if s.products == 'bfloat16' else None
    in_training = make_model(s, len(corpus.alphabet), dtype=dtype, dropout=s.dropout)
    step = truncated_bptt_step(in_training, learner.optimizer, learner.noise, key, learner.steps_per_epoch)
    state, elapsed = fit(
        spread(step, FLAGS.devices),
        state,
        lambda i: stream_batch(corpus.train, s.batch, s.length, i, len(corpus.alphabet), s.reset_every),
        steps=last,
        seconds=FLAGS.minutes * 60,
        elapsed=elapsed,
        save=keep,
        save_every=FLAGS.save_minutes * 60,
        on_step=on_step,
    )
    if int(state.step) not in {row['step'] for row in run_folder.measured(history, VALID)}:
        log(about_step(int(state.step), elapsed) | read_valid(state), state, elapsed)
    run_folder.wait('the training is written down')
    weights = weight_noise.mean_params(best(s, run.path, state))
    finish(run, s, corpus, learner, weights, int(state.step), elapsed)


def evaluate():
    check_end()
    s, learner, weights, (steps, seconds) = reopen()
    corpus = load(s)
    run_folder.check(WORKDIR.value, 'about.json', about(corpus))
    asking.prompt(corpus.alphabet)
    if FLAGS.dynamic:
        tuning.check_tuning_text(corpus.valid[: FLAGS.tune_symbols])
    finish(run_folder.open_run(WORKDIR.value), s, corpus, learner, weights, steps, seconds)


def sample():
    asking.check()
    say(asking.sample(*reader()))


def score():
    asking.check()
    asking.score(*reader())


def export():
    """--output: a file of a run's weights in half precision, with what they are."""
    if not FLAGS.output:
        raise SettingsError('say where to write them: --output=FILE.npz')
    s, _, weights, (steps, seconds) = reopen()
    facts = run_folder.read_json(WORKDIR.value, 'about.json')
    begun = s.init_from and pathlib.Path(s.init_from).name  # where its folder stands is nobody else's business
    content = {
        'kind': models.KIND,
        'alphabet': facts['alphabet'],
        'about': facts,
        'flags': vars(s) | {'init_from': begun},
    }
    content |= {'steps': steps, 'seconds': seconds}
    content['best_step'] = best_step(WORKDIR.value, steps)
    if (pathlib.Path(WORKDIR.value) / 'results.json').exists():
        results = run_folder.read_json(WORKDIR.value, 'results.json')
        if results.get('best_step', results['steps']) == content['best_step']:  # else they are of other weights
            content['results'] = results
    bundle.save(FLAGS.output, weights, content)
    say(f'{model.size(weights):,} weights, {os.path.getsize(FLAGS.output) / 1e6:.1f} MB: {FLAGS.output}')


def reader():
    """(model, weights, alphabet) of --workdir, or of --weights, or of the file that came with the package."""
    if WORKDIR.value and FLAGS.weights:
        raise SettingsError('read one net: that of --workdir or that of --weights')
    if WORKDIR.value:
        _, learner, weights, _ = reopen()
        return learner.model, weights, models.alphabet_of(run_folder.read_json(WORKDIR.value, 'about.json'))
    if not FLAGS.weights and (FLAGS.corpus != 'ptb' or SHIPPED not in bundle.shipped()):
        raise SettingsError('say which run: --workdir=FOLDER, or --weights=FILE')
    net = models.of_file(cli.read_weights(FLAGS.weights or SHIPPED))
    mine = {name: value for name, value in vars(settings()).items() if FLAGS[name].present}
    others = [f'--{name}={value}' for name, value in mine.items() if net.flags.get(name) != value]
    if others:
        raise SettingsError(f'{FLAGS.weights or SHIPPED} are weights of another net than {" ".join(others)} says')
    return net.model, net.params, net.alphabet


def reopen():
    """(settings, Learner, weights, (steps, seconds)) of --workdir, whose flags the command line must not contradict."""
    folder = cli.workdir()
    cli.check_flags(folder, {name: value for name, value in vars(settings()).items() if FLAGS[name].present})
    s, learner, params, done = open_learner(folder)
    return s, learner, weight_noise.mean_params(params), done


# -- what modes share -------------------------------------------------------------------------------------------------


def describe(s):
    layers = f'{s.layers} layers of {s.hidden}' if s.layers > 1 else f'{s.hidden}'
    noise = '' if s.noise == 'none' else f' and {s.noise} weight noise'
    dropout = f' and dropout of {s.dropout}' if s.dropout else ''
    return f'LSTM of {layers} by {s.optimizer}{noise}{dropout}'


def finish(run, s, corpus, learner, weights, steps, seconds):
    """Evaluates and samples."""
    facts = {name: getattr(s, name) for name in ('hidden', 'layers', 'optimizer', 'noise', 'dropout')}
    facts |= {'unit': unit_of(corpus.alphabet), 'steps': steps, 'epochs': steps / learner.steps_per_epoch}
    facts |= {'best_step': best_step(run.path, steps), 'seconds': round(seconds, 1)}
    write(run, learner.model, weights, corpus, facts, asking.sample(learner.model, weights, corpus.alphabet))
