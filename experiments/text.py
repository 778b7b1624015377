"""The modes of all scripts that train nets of text.

train      trains, goes on if --workdir holds the same run, and ends by evaluating and sampling
evaluate   evaluates once more
sample     writes: a sample, or by --beam the most probable text
score      prints the bits of --text, or of the file --input, after the prompt; --plot draws them symbol by symbol
analyse    probes the net and its rivals: words in order, brackets, lists, new words
export     writes --output, the net in half precision

sample, score and export also read any net of text by --weights: a file, the folder of a run, or the name of one that
ships.
"""

import dataclasses
import os
import pathlib
from typing import Any

import numpy as np

from experiments import cli
from experiments.cli import Machine, Mode, say
from hfrnn import bundle as bundles
from hfrnn import io, plots
from hfrnn.bundle import Bundle
from hfrnn.errors import RunError, SettingsError
from hfrnn.nets.model import size
from hfrnn.rivals import compressors, measure
from hfrnn.text import corpora, generate, models, probes, scoring, words
from hfrnn.text.alphabet import BYTES, encode, unit_of
from hfrnn.text.experiment import NAME, LanguageModel, language_model, load_corpus
from hfrnn.text.generate import Sampling
from hfrnn.text.metrics import BITS
from hfrnn.text.report import Evaluation
from hfrnn.train import experiment
from hfrnn.train import settings as settings_of
from hfrnn.train.experiment import Limits
from hfrnn.train.settings import setting

PLOTTED = 5000  # characters, at most: 50 rows, some 15 seconds


@dataclasses.dataclass(frozen=True)
class Common:
    """Run, net and data"""

    workdir: str | None = setting(None, "The run's folder.")
    weights: str | None = setting(None, 'sample, score, export: a net to read instead of that of --workdir.')
    data: str | None = setting(os.environ.get('HFRNN_DATA'), 'The folder of ptb and enwik8 (or $HFRNN_DATA).')


@dataclasses.dataclass(frozen=True)
class Memory:
    """Memory"""

    chunk: int = setting(300, 'Substrings in memory at once for a gradient, on each device.', low=1)


@dataclasses.dataclass(frozen=True)
class Others:
    """Compressors"""

    compressors: bool = setting(True, 'Measure gzip, bzip2 and xz on the same text.')


@dataclasses.dataclass(frozen=True)
class Scored:
    """--mode=score"""

    text: str | None = setting(None, 'Score this text.')
    input: str | None = setting(None, 'Score the text of this file.')
    plot: str | None = setting(None, 'Draw the bits of each symbol in this PNG file.')


@dataclasses.dataclass(frozen=True)
class Analysis:
    """--mode=analyse"""

    bags: int = setting(500, 'Bags of words to put in order.', low=1)
    passages: int = setting(200, 'Passages for each pair of brackets or quotes.', low=1)
    sampled: int = setting(50_000, 'Symbols to sample, to count new words in.', low=1)
    rival_symbols: int = setting(10_000_000, 'The rivals learn the last so many training symbols.', low=1000)


@dataclasses.dataclass(frozen=True)
class Export:
    """--mode=export"""

    output: str | None = setting(None, 'The file to write, a .npz.')


def main(
    argv: list[str],
    doc: str,
    default: LanguageModel,
    limits: Limits,
    evaluation: Evaluation,
    *,
    measure_compressors: bool = False,
    shipped: str | None = None,
) -> None:
    """A script for nets of text.

    Args:
      doc: of the script.
      default, limits, evaluation: the defaults of its flags.
      measure_compressors: whether they are measured by default.
      shipped: the net that is read where none is named.
    """
    modes = {
        'train': Mode(train, ('memory', 'limits', 'evaluation', 'others', 'sampling', 'run')),
        'evaluate': Mode(evaluate, ('memory', 'limits', 'evaluation', 'others', 'sampling', 'run')),
        'sample': Mode(lambda o: sample(o, shipped), ('sampling', 'run')),
        'score': Mode(lambda o: score(o, shipped), ('sampling', 'scored', 'run')),
        'analyse': Mode(analyse, ('sampling', 'analysis', 'run')),
        'export': Mode(export, ('export', 'run')),
    }
    groups = {
        'common': Common(),
        'memory': Memory(),
        'limits': limits,
        'evaluation': evaluation,
        'others': Others(measure_compressors),
        'sampling': Sampling(),
        'scored': Scored(),
        'analysis': Analysis(),
        'export': Export(),
        'run': default,
        'machine': Machine(),
    }
    cli.main(argv, f'{doc.strip()}\n\n{__doc__}', modes, **groups)


# -- runs -------------------------------------------------------------------------------------------------------------


def train(o):
    _refuse_weights(o, '; begin with them: --init_from')
    folder = cli.folder_of(o.common.workdir, 'where to keep the run')
    experiment.run(make(o, o.run, folder), folder, o.limits, devices=o.machine.devices, say=say)


def evaluate(o):
    _refuse_weights(o)
    folder = cli.folder_of(o.common.workdir)
    experiment.evaluate(make(o, cli.settings_of_run(o, folder, NAME), folder), folder, say=say)


def make(o, settings, folder):
    return language_model(
        settings,
        data=o.common.data,
        chunk=o.memory.chunk,
        devices=o.machine.devices,
        evaluation=o.evaluation,
        sampling=o.sampling,
        others=compressors.bits_per_symbol if o.others.compressors and settings.unit != 'words' else None,
        previous=cli.results_of(folder) if (pathlib.Path(folder) / 'results.json').exists() else None,
        say=say,
    )


def _refuse_weights(o, instead=''):
    if o.common.weights is not None:
        raise SettingsError(f'--mode={o.mode or "train"} is of a run: leave out --weights{instead}')


# -- nets -------------------------------------------------------------------------------------------------------------


def load_net(o: Any, shipped: str | None = None) -> Bundle:
    """The net of --workdir, or of --weights, or one that ships; the flags that are given must not contradict it.

    Raises:
      SettingsError: for no net, or two, or one with other settings.
      DataError, RunError: as in ``bundle.load``.
    """
    if o.common.weights == '':
        raise SettingsError('--weights names nothing')
    if o.common.workdir and o.common.weights:
        raise SettingsError('read one net: that of --workdir or that of --weights')
    name = bundles.run_name(o.common.workdir) if o.common.workdir else o.common.weights or shipped
    if not name:
        raise SettingsError('say which run: --workdir=FOLDER, or --weights=FILE')
    net = cli.load_net(name)
    saved = {**net.model, **net.history.get('settings', {})}
    given = {k: v for k, v in settings_of.flatten(o.run).items() if k in o.given}
    if given.get('init_from'):
        given['init_from'] = pathlib.Path(given['init_from']).name  # as ``history`` has it
    others = [f'--{k}={v}' for k, v in given.items() if saved.get(k) != v]
    if others:
        raise SettingsError(f'{name} is another net than {" ".join(others)} says')
    return net


def sample(o, shipped=None):
    generate.check_sampling(o.sampling)
    say(generate.sample_as(o.sampling, models.open_net(load_net(o, shipped))))


def score(o, shipped=None):
    if o.scored.plot and not o.scored.plot.endswith('.png'):
        raise SettingsError(f'plot={o.scored.plot}: it is a PNG file; end its name in .png')
    net = models.open_net(load_net(o, shipped))
    symbols = _text_to_score(o.scored, net.alphabet)
    prompt = words.prompt_symbols(o.sampling.prompt, net.alphabet)
    bits = scoring.static_reader(net.model)(net.params, symbols, prompt).nll * BITS
    unit = unit_of(net.alphabet)
    if o.scored.plot:
        names = [net.alphabet[x] for x in symbols]
        n = max(1, int(np.searchsorted(np.cumsum([len(name) for name in names]), PLOTTED, side='right')))
        plots.save(o.scored.plot, plots.surprise(names[:n], bits[:n]))
        if n < len(names):
            say(f'{o.scored.plot} shows the first {n:,} {unit}')
    say(f'{bits.sum():.2f} bits, {bits.mean():.4f} bits per {unit[:-1]}, {len(symbols)} {unit}')


def _text_to_score(scored, alphabet):
    if (scored.text is None) == (scored.input is None):
        raise SettingsError('score one text: give --text or --input')
    if scored.input is None:
        symbols = words.symbols_of(scored.text, alphabet)
    elif alphabet == BYTES:
        symbols = encode(corpora.read(scored.input, 'bytes'), alphabet)
    else:
        symbols = words.symbols_of(corpora.read(scored.input), alphabet)
    if not len(symbols):
        raise SettingsError('the text to score is empty')
    return symbols


def analyse(o):
    folder = pathlib.Path(cli.folder_of(o.common.workdir, 'where to keep the analysis'))
    _refuse_weights(o)
    bundle = load_net(o)
    net = models.open_net(bundle, words=False)
    corpus = load_corpus(settings_of.restore(o.run, bundle.history['settings']), o.common.data)
    if corpora.fingerprint(corpus) != bundle.data:
        raise RunError(f'{folder} holds a net of another text than the {corpus.name} that is found now')
    subjects = {bundle.model['cell']: probes.net_subject(net.model, net.params)}
    subjects |= measure.subjects(corpus.train[-o.analysis.rival_symbols :], len(corpus.alphabet), say)
    found, figures = probes.probe(
        subjects,
        corpus,
        words.prompt_symbols(o.sampling.prompt, corpus.alphabet),
        n_bags=o.analysis.bags,
        n_passages=o.analysis.passages,
        n_sampled=o.analysis.sampled,
        seed=o.sampling.sample_seed,
        say=say,
    )
    io.write_json(folder / 'analysis.json', {'experiment': 'analysis', 'corpus': corpus.name, **found})
    for name, figure in figures.items():
        plots.save(folder / name, figure)
    say(f'{folder}/analysis.json, {", ".join(figures)}')


def export(o):
    """--output: the net in half precision, and what was measured of it."""
    if not o.export.output:
        raise SettingsError('say where to write the net: --output=FILE.npz')
    net = bundles.without_noise(load_net(o))
    results = pathlib.Path(o.common.workdir or o.common.weights) / 'results.json'
    history = net.history
    if results.exists():
        found = cli.results_of(str(results.parent))
        if found.get('best_step') == history['step']:  # else they are of other weights
            history = history | {'results': found}
    bundles.save(o.export.output, net._replace(history=history), np.float16)
    say(f'{size(net.params):,} weights, {os.path.getsize(o.export.output) / 1e6:.1f} MB: {o.export.output}')
