"""The rivals of the nets on a text: compressors, Kneser-Ney n-grams, the sequence memoizer; and the nets beside them.

    python -m experiments.baselines --corpus=ptb --data=FOLDER --workdir=runs/rivals

Every rival reads the training text, and then the test text of the nets, symbol for symbol the same.  Static is a model
that is frozen while it reads that; online is one that goes on learning.  What is missing on this machine is said, and
passed over unless it was asked for by name.  A net online is one under dynamic evaluation, by --nets_learn, whose rate
is chosen on the validation text.
"""

import functools
import os

import numpy as np
from absl import flags

from experiments import cli, nets
from hfrnn.errors import SettingsError, Unavailable
from hfrnn.rivals import measure
from hfrnn.text import corpora, models, tuning
from hfrnn.text.alphabet import unit_of
from hfrnn.train import run_folder

CORPUS = flags.DEFINE_string('corpus', 'pydoc', f'One of {", ".join(corpora.NAMES)}, or the path of a text file.')
UNIT = flags.DEFINE_enum('unit', 'characters', ['characters', 'bytes'], 'What a symbol of a text file is.')
DATA = flags.DEFINE_string('data', os.environ.get('HFRNN_DATA'), 'The folder of ptb and enwik8 (or $HFRNN_DATA).')
WORKDIR = flags.DEFINE_string('workdir', None, 'Where to write results.json; nowhere if not given.')
RIVALS = flags.DEFINE_list('rivals', None, f'Some of {", ".join(measure.RIVALS)}; all if not given, none if empty.')
NETS = flags.DEFINE_list(
    'nets',
    [],
    "Folders of runs on the same text, files of an LSTM's weights, or penn_treebank: each, and it with the memoizer.",
)
HELD_OUT = flags.DEFINE_integer(
    'held_out', 0, 'Of the validation text the last so many symbols, the others known; 0 for all.', lower_bound=0
)
NETS_LEARN = flags.DEFINE_enum(
    'nets_learn', 'sgd', ['sgd', 'rms'], 'By which rule of dynamic evaluation: descent, or root mean squares and decay.'
)
VALID = flags.DEFINE_bool('valid', False, 'Read the validation text too, between training and test text.')


def main(argv):
    cli.begin(argv)
    with cli.errors_in_a_line('the rows above are measured'):
        compare()


def compare():
    names = chosen()
    path, before = cli.results_so_far(WORKDIR.value, 'baselines')  # now, and not after an hour
    corpus = corpora.load(CORPUS.value, DATA.value, UNIT.value)
    corpus = corpora.with_held_out(corpus, HELD_OUT.value)
    known = np.concatenate([corpus.train, corpus.valid]) if VALID.value else corpus.train
    measured_as = dict.fromkeys(names) | net_rivals(corpus)
    results = {
        'experiment': 'baselines',
        'corpus': corpus.name,
        'symbols': len(corpus.alphabet),
        'known_symbols': len(known),
        'known': 'train, valid' if VALID.value else 'train',
        'test_symbols': len(corpus.test),
        'nets_learn': NETS_LEARN.value,
    }
    others = [name for name in results if before.get(name, results[name]) != results[name]]
    if others:
        raise SettingsError(f'{path} holds rivals of other {", ".join(others)}; name another --workdir')
    results |= {name: before.get(name, {}) for name in ('rivals', 'missing')}
    width = max(14, *map(len, measured_as))
    unit = unit_of(corpus.alphabet)[:-1]
    print(
        f'{corpus.name}, {len(corpus.alphabet)} symbols: bits per {unit} of the test text ({len(corpus.test):,}) '
        f'after {results["known"]} ({len(known):,})\n\n'
        f'{"":{width}s} {"static":>8s} {"online":>8s} {"CPU s":>8s} {"MiB":>8s}',
        flush=True,
    )
    for name, rival in measured_as.items():
        try:
            measured = measure.measure(name, known, corpus.test, corpus.alphabet, rival)
        except Unavailable as e:
            if RIVALS.value:
                raise
            results['missing'][name] = columns = str(e)
        else:
            results['rivals'][name] = measured._asdict()
            results['missing'].pop(name, None)
            static = '-' if measured.static is None else f'{measured.static:.3f}'
            columns = f'{static:>8s} {measured.online:8.3f} {measured.seconds:8.1f} {measured.mebibytes:8.0f}'
        print(f'{name:{width}s} {columns}', flush=True)
        if path:
            run_folder.write_json(path, results)
    if path:
        print(f'\n{path}')


def chosen():
    """The rivals that were asked for."""
    for name in RIVALS.value or ():
        if name not in measure.RIVALS:
            raise SettingsError(f'no rival {name!r}; there are {", ".join(measure.RIVALS)}')
        measure.check(name)  # now, and not after an hour
    if not (RIVALS.value is None or RIVALS.value or NETS.value):
        raise SettingsError('neither --rivals nor --nets: there is nothing to measure')
    return list(measure.RIVALS) if RIVALS.value is None else RIVALS.value


def net_rivals(corpus):
    """{name: rival} of --nets, each of which has been trained on the same training text."""
    found, by = {}, NETS_LEARN.value
    if NETS.value:
        tuning.check_tuning_text(corpus.valid)
    for workdir in NETS.value:
        if models.open_net(workdir).about != corpora.fingerprint(corpus):  # now, and not after an hour
            raise SettingsError(
                f'--nets: the net in {workdir} was trained on another text than that of --corpus={CORPUS.value} '
                f'with --held_out={HELD_OUT.value}'
            )
        found[workdir] = functools.partial(nets.rival, workdir, by, corpus.valid)
        found[f'{workdir} + memoizer'] = functools.partial(nets.rival_with_memoizer, workdir, by, corpus.valid)
    return found


if __name__ == '__main__':
    cli.run(main)
