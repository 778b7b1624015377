"""The report on a language model: static and dynamic evaluation, compressors on the same text, a sample."""

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from hfrnn import plots
from hfrnn.bundle import Bundle
from hfrnn.errors import DataError
from hfrnn.text import generate, models, scoring, tuning
from hfrnn.text.alphabet import UNKNOWN, letter_of, unit_of
from hfrnn.text.corpora import Corpus
from hfrnn.text.generate import Sampling
from hfrnn.text.metrics import text_metrics
from hfrnn.text.models import Trained
from hfrnn.train.devices import describe_machine
from hfrnn.train.experiment import History, clock
from hfrnn.train.settings import setting


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Evaluation"""

    test_symbols: int = setting(0, 'Read the first so many test symbols; 0 for all.', low=0)
    stride: int = setting(
        0, 'Static evaluation: read in pieces that score so many symbols each; 0 for one stream.', low=0, high=10**9
    )
    context: int = setting(1000, '--stride: symbols that a piece reads before the first it scores.', low=1, high=10**6)
    dynamic: tuple[str, ...] = setting((), 'Rules of dynamic evaluation, with commas between.', choices=tuning.RULES)
    segment: int = setting(20, 'Dynamic evaluation: symbols between two changes of the weights.', low=1, high=100_000)
    tune_symbols: int = setting(20_000, 'Dynamic evaluation: validation symbols to choose its rate on.', low=1)
    rms_symbols: int = setting(200_000, 'Dynamic evaluation: training symbols for the mean squares of rms.', low=1)


def check(evaluation: Evaluation, corpus: Corpus) -> None:
    """Checks that the evaluation will be possible once the training is done.

    Raises:
      DataError: for too little validation text to tune dynamic evaluation on.
    """
    if evaluation.dynamic:
        tuning.check_tuning_text(corpus.valid[: evaluation.tune_symbols])


def report(
    bundle: Bundle,
    history: History,
    corpus: Corpus,
    evaluation: Evaluation,
    sampling: Sampling,
    names: dict[str, Any],
    *,
    others: Callable[[np.ndarray, np.ndarray, str], dict[str, float]] | None = None,
    previous: dict | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """results.json, report.txt, sample.txt and learning_curve.png of a run.

    Args:
      names: of the net and its training, for results.json and the table.
      others: ``others(train, test, alphabet) -> {name: bits per symbol}`` of the test text, for compressors.
      previous: results.json so far.  Of the same weights and text, its results of other rules and compressors are kept;
        if it is of more test text, all of it is.
      say: called with each line of what is done.
    """
    net = models.open_net(bundle)
    test = corpus.test[: evaluation.test_symbols or None]
    previous = previous or {}
    if (previous.get('steps'), previous.get('best_step')) != (history[-1]['step'], bundle.history.get('step')):
        previous = {}
    results = {
        'corpus': corpus.name,
        'unit': unit_of(corpus.alphabet),
        **names,
        **({'epochs': history[-1]['epochs']} if 'epochs' in history[-1] else {}),
        'test_symbols': len(test),
        **unknown_symbols(corpus, test),
        **static_results(net, corpus, test, evaluation, names['batches']),
        'dynamic': dynamic_results(net, corpus, test, evaluation, say),
    }
    if others is not None:
        results['compressors'] = others(corpus.train, test, corpus.alphabet)
    if previous.get('test_symbols') == len(test):
        results['dynamic'] = previous['dynamic'] | results['dynamic']
        if 'compressors' in previous:
            results['compressors'] = previous['compressors'] | results.get('compressors', {})
    sampled = generate.sample_as(sampling, net)
    lines = [f'\nA sample:\n\n{sampled}\n', table(results)]
    if previous.get('test_symbols', 0) > len(test):
        lines.append('  results.json is of more test text, and stays as it is')
        return {'results.json': previous, 'report.txt': '\n'.join(lines)}
    figure = plots.learning_curve({names['cell']: history}, label=f'bits per {letter_of(corpus.alphabet)}')
    return {
        'results.json': results,
        'report.txt': '\n'.join(lines),
        'sample.txt': sampled,
        'learning_curve.png': figure,
    }


def unknown_symbols(corpus: Corpus, test: np.ndarray) -> dict[str, int]:
    """How many symbols of the test text stand for a character that the alphabet lacks, if it has such a symbol."""
    if UNKNOWN not in corpus.alphabet:
        return {}
    return {'test_unknown_symbols': int(np.sum(test == corpus.alphabet.index(UNKNOWN)))}


def static_results(net: Trained, corpus: Corpus, test: np.ndarray, evaluation: Evaluation, batches: str) -> dict:
    """Bits, perplexity and error rate of the test text, read by a net that does not learn.

    A net of substrings first reads the text before the test text.  It is also measured on the validation text, and on
    as much training text as there is test text.  A net of streams begins with the start symbol.
    """
    read = scoring.static_reader(net.model)
    how = {'stride': evaluation.stride, 'context': evaluation.context} if evaluation.stride else {}

    def measure(symbols, before):
        before = before if evaluation.stride else before[-evaluation.context :]
        return text_metrics(read(net.params, symbols, before, **how), corpus.alphabet, symbols)

    if batches == 'streams':
        found, more = measure(test, [len(corpus.alphabet)]), {}
    else:
        found = measure(test, np.concatenate([corpus.train[-evaluation.context :], corpus.valid]))
        end = min(len(test), len(corpus.train) - 1)
        more = {
            'train_bits_per_char': measure(corpus.train[-end:], corpus.train[:-end])['bits_per_char'],
            'valid_bits_per_char': measure(corpus.valid, corpus.train)['bits_per_char'],
        }
    return {'test_bits_per_char': found['bits_per_char'], **more, 'static': found | how}


def dynamic_results(
    net: Trained, corpus: Corpus, test: np.ndarray, evaluation: Evaluation, say: Callable[[str], None]
) -> dict[str, dict]:
    """Bits, perplexity and error rate of the test text by each rule of dynamic evaluation, tuned on validation text."""
    valid, bits_per = corpus.valid[: evaluation.tune_symbols], f'bits/{letter_of(corpus.alphabet)[:4]}'
    read = scoring.dynamic_reader(net.model, evaluation.segment)
    results = {}
    for name in evaluation.dynamic:

        def on_trial(rate, decay, bits, name=name):
            say(f'  {name}: rate {rate:.2g}, decay {decay:.2g}: {bits:.4f} {bits_per} on validation text')

        some = corpus.train[: evaluation.rms_symbols]
        try:
            rule = tuning.tuned_rule(
                name, net.model, net.params, corpus.alphabet, some, valid,
                segment=evaluation.segment, read=read, on_trial=on_trial,
            )  # fmt: skip
        except DataError as e:
            say(f'  {name}: {e}')
            continue
        begun = time.monotonic()
        reading = read(net.params, test, [len(corpus.alphabet)], rule, _progress(name, len(test), say))
        found = text_metrics(reading, corpus.alphabet, test)
        if not math.isfinite(found['bits_per_char']):
            say(f'  {name}: the weights diverge on test text, at a rate of {rule.rate:.2g}')
            continue
        results[name] = found | {
            'rate': rule.rate,
            'decay': rule.decay,
            'segment': evaluation.segment,
            'tune_symbols': evaluation.tune_symbols,
            'rms_symbols': evaluation.rms_symbols,
            'symbols_per_second': len(test) / (time.monotonic() - begun),
            'machine': describe_machine()['machine'],
        }
    return results


def _progress(name, n, say):
    begun = last = time.monotonic()

    def on_block(done):
        nonlocal last
        now = time.monotonic()
        if now - last > 60:
            last = now
            say(f'  {name}: {done:,} of {n:,}, remaining {clock((now - begun) * (n - done) / done)}')

    return on_block


def table(results: dict[str, Any]) -> str:
    """The results as a table for people."""
    letter = 'byte' if results['unit'] == 'bytes' else 'char'
    lines = [
        f'{"on the test text":28s} {f"bits/{letter}":>10s} {"perplexity":>11s} {"error":>7s}   '
        f'{results["test_symbols"]:,} symbols'
    ]
    rows = {f'{results["cell"]} by {results["optimizer"]}, static': results['static']}
    rows |= {f'  dynamic, {name}': row for name, row in results['dynamic'].items()}
    for name, row in rows.items():
        chosen = f'  rate {row["rate"]:.2g}, decay {row["decay"]:.2g}' if 'rate' in row else ''
        lines.append(f'{name:28s} {row["bits_per_char"]:10.4f} {row["perplexity"]:11.5g} {row["error"]:7.2%}{chosen}')
    lines += [f'{name:28s} {bits:10.4f}' for name, bits in results.get('compressors', {}).items()]
    if 'train_bits_per_char' in results:
        lines.append(f'(on as much training text: {results["train_bits_per_char"]:.3f})')
    return '\n'.join(lines) + '\n'
