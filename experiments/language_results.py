"""What an LSTM language model is worth: static and dynamic evaluation, in the units of Graves 2013 sec. 3.

The flags are those of experiments/language.py.
"""

import math
import pathlib
import sys
import time

from absl import flags

from experiments import cli
from experiments.cli import clock, say
from hfrnn import plots
from hfrnn.errors import DataError
from hfrnn.nets import model
from hfrnn.text import scoring, tuning
from hfrnn.text.alphabet import letter_of
from hfrnn.text.metrics import text_metrics
from hfrnn.train import run_folder

FLAGS = flags.FLAGS


def dynamic_results(net, weights, corpus, test):
    """What each rule of --dynamic makes of the test text, its rate chosen on validation text."""
    valid = corpus.valid[: FLAGS.tune_symbols]
    reader = scoring.dynamic_reader(net, FLAGS.segment)
    results, bits_per = {}, f'bits/{letter_of(corpus.alphabet)[:4]}'
    for name in FLAGS.dynamic:

        def on_trial(rate, decay, bits, name=name):
            say(f'  {name}: rate {rate:.2g}, decay {decay:.2g}: {bits:.4f} {bits_per} on validation text')

        some = corpus.train[: FLAGS.rms_symbols]
        sizes = {'segment': FLAGS.segment, 'read': reader}
        try:
            rule = tuning.tuned_rule(name, net, weights, corpus.alphabet, some, valid, **sizes, on_trial=on_trial)
        except DataError as e:
            say(f'  {name}: {e}')
            continue
        begun = time.monotonic()
        reading = reader(weights, test, [len(corpus.alphabet)], rule, progress(name, len(test)))
        seconds = time.monotonic() - begun
        found = text_metrics(reading, corpus.alphabet, test)
        if not math.isfinite(found['bits_per_char']):
            say(f'  {name}: the weights diverge on test text, at a rate of {rule.rate:.2g}')
            continue
        results[name] = found | {
            'rate': rule.rate,
            'decay': rule.decay,
            'segment': FLAGS.segment,
            'tune_symbols': FLAGS.tune_symbols,
            'rms_symbols': FLAGS.rms_symbols,
            'symbols_per_second': len(test) / seconds,
            'machine': cli.machine(),
        }
    return results


def progress(name, n):
    begun = said = time.monotonic()

    def on_block(done):
        nonlocal said
        now = time.monotonic()
        if now - said > 60:
            said = now
            say(f'  {name}: {done:,} of {n:,}, remaining {clock((now - begun) * (n - done) / done)}')

    return on_block


def write(run, net, weights, corpus, facts, sampled):
    """Evaluates, static and dynamic: results.json, sample.txt, learning_curve.png, and a table.

    What other rules have made of the same weights and text stays in results.json; and all of it, if that was of more of
    the text.
    """
    start, letter = [len(corpus.alphabet)], letter_of(corpus.alphabet)
    test = corpus.test[: FLAGS.test_symbols or None]
    read = scoring.static_reader(net)
    pieces = {}
    if FLAGS.static_streams > 1:
        pieces = {'stride': -(-len(test) // FLAGS.static_streams), 'context': FLAGS.context + 1}
    static = text_metrics(read(weights, test, start, **pieces), corpus.alphabet, test)
    static |= {'streams': FLAGS.static_streams, 'context': FLAGS.context}
    results = {
        'experiment': pathlib.Path(sys.argv[0]).stem,
        'corpus': corpus.name,
        'parameters': model.size(weights),
        **facts,
        'test_symbols': len(test),
        'test_bits_per_char': static['bits_per_char'],  # what experiments.compare reads
        'static': static,
        'dynamic': dynamic_results(net, weights, corpus, test),
        **cli.here(),
    }
    before = run_folder.read_json(run.path, 'results.json') if (run.path / 'results.json').exists() else {}
    if any(before.get(name, facts[name]) != facts[name] for name in ('steps', 'best_step')):
        before = {}
    if before.get('test_symbols') == len(test):
        results['dynamic'] = before['dynamic'] | results['dynamic']
    if before.get('test_symbols', 0) > len(test):
        say(f'results.json in {run.path} is of more test text, and stays as it is')
    elif run_folder.writes():
        run_folder.write_json(run.path / 'results.json', results)
        (run.path / 'sample.txt').write_text(sampled, 'utf-8')
        history = run_folder.history(run)
        if history:
            figure = plots.learning_curve({'LSTM': history}, label=f'bits per {letter}')
            plots.save(run.path / 'learning_curve.png', figure)
    say(f'\nA sample:\n\n{sampled}\n')
    what, n = f'bits/{letter[:4]}', len(test)
    say(f'{"on the test text":28s} {what:>10s} {"perplexity":>11s} {"error":>7s}   {n:,} symbols')
    for name, row in (('static', static), *((f'dynamic, {k}', v) for k, v in results['dynamic'].items())):
        chosen = f'  rate {row["rate"]:.2g}, decay {row["decay"]:.2g}' if 'rate' in row else ''
        say(f'  {name:26s} {row["bits_per_char"]:10.4f} {row["perplexity"]:11.2f} {row["error"]:7.2%}{chosen}')
    say(
        f'  (weights of step {facts["best_step"]:,} of {facts["steps"]:,}; {facts["epochs"]:.2f} epochs, '
        f'{clock(facts["seconds"])} of training; {run.path})'
    )
