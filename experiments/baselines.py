"""The rivals of the nets on a text: compressors, Kneser-Ney n-grams, the sequence memoizer; and the nets beside them.

    python -m experiments.baselines --corpus=ptb --data=FOLDER --workdir=runs/rivals

Every rival reads the training text, and then the test text of the nets, symbol for symbol the same.  Static is a model
that is frozen while it reads that; online is one that goes on learning.  A rival that this machine lacks is named and
passed over, or, if --rivals asks for it, an error.  A net online is one under dynamic evaluation, by --nets_learn,
whose rate is chosen on the validation text.
"""

import dataclasses
import os
import sys

import numpy as np

from experiments import cli
from experiments.cli import Mode
from hfrnn import io
from hfrnn.errors import RunError, SettingsError, Unavailable
from hfrnn.rivals import measure
from hfrnn.text import corpora, models, tuning
from hfrnn.text.alphabet import unit_of
from hfrnn.train.settings import setting

NAME = 'baselines'


@dataclasses.dataclass(frozen=True)
class Options:
    """Text and rivals"""

    corpus: str = setting('pydoc', f'One of {", ".join(corpora.CORPORA)}, or the path of a text file.')
    unit: str = setting('characters', 'What a symbol of a text file is.', choices=('characters', 'bytes'))
    data: str | None = setting(os.environ.get('HFRNN_DATA'), 'The folder of ptb and enwik8 (or $HFRNN_DATA).')
    workdir: str | None = setting(None, 'Where to write results.json; nowhere if not given.')
    rivals: tuple[str, ...] = setting(
        tuple(measure.RIVALS), 'The rivals; none if empty.', choices=tuple(measure.RIVALS)
    )
    nets: tuple[str, ...] = setting(
        (), 'Runs on the same text, files, or names of nets that ship: each alone, and with the memoizer.'
    )
    held_out: int = setting(0, 'Validate on the last so many validation symbols; the others are known. 0: all.', low=0)
    nets_learn: str = setting('sgd', 'The rule of dynamic evaluation of --nets.', choices=tuning.RULES)
    valid: bool = setting(False, 'Read the validation text too, between training and test text.')


def main(argv):
    modes = {'measure': Mode(compare, ('options',))}
    cli.main(argv, __doc__, modes, remains='the rows above are measured', options=Options())


def compare(o):
    s, by_name = o.options, 'rivals' in o.given
    if not (s.rivals or s.nets):
        raise SettingsError('neither --rivals nor --nets: there is nothing to measure')
    for name in s.rivals if by_name else ():
        measure.check(name)  # now, and not after an hour
    path, before = cli.results_so_far(s.workdir, NAME)
    corpus = corpora.with_held_out(corpora.load(s.corpus, s.data, s.unit), s.held_out)
    known = np.concatenate([corpus.train, corpus.valid]) if s.valid else corpus.train
    results = {
        'experiment': NAME,
        'corpus': corpus.name,
        'symbols': len(corpus.alphabet),
        'known_symbols': len(known),
        'known': 'train, valid' if s.valid else 'train',
        'test_symbols': len(corpus.test),
        'nets_learn': s.nets_learn,
    }
    others = [name for name in results if before.get(name, results[name]) != results[name]]
    if others:
        raise RunError(f'{path} holds rivals of other {", ".join(others)}; name another --workdir')
    results |= {name: before.get(name, {}) for name in ('rivals', 'missing')}
    rivals = dict.fromkeys(s.rivals) | net_rivals(s, corpus)
    width = max(14, *map(len, rivals))
    print(
        f'{corpus.name}, {len(corpus.alphabet)} symbols: bits per {unit_of(corpus.alphabet)[:-1]} of the test text '
        f'({len(corpus.test):,}) after {results["known"]} ({len(known):,})\n\n'
        f'{"":{width}s} {"static":>8s} {"online":>8s} {"CPU s":>8s} {"MiB":>8s}',
        flush=True,
    )
    for name, rival in rivals.items():
        try:
            measured = measure.measure(name, known, corpus.test, corpus.alphabet, rival)
        except Unavailable as e:
            if by_name:
                raise
            results['missing'][name] = columns = str(e)
        else:
            results['rivals'][name] = measured._asdict()
            results['missing'].pop(name, None)
            static = '-' if measured.static is None else f'{measured.static:.3f}'
            columns = f'{static:>8s} {measured.online:8.3f} {measured.seconds:8.1f} {measured.mebibytes:8.0f}'
        print(f'{name:{width}s} {columns}', flush=True)
        if path:
            io.write_json(path, results)
    if path:
        print(f'\n{path}')


def net_rivals(s, corpus):
    """{name: rival} of --nets, each of which has been trained on the same training text."""
    found = {}
    if s.nets:
        tuning.check_tuning_text(corpus.valid[: measure.TUNED_ON])
    for name in s.nets:
        net = cli.load_net(name)
        models.open_net(net, words=False)  # now, and not after an hour
        if net.data != corpora.fingerprint(corpus):
            raise RunError(
                f'the net {name} was trained on another text than that of --corpus={s.corpus} '
                f'with --held_out={s.held_out}'
            )
        found[name] = measure.net(name, s.nets_learn, corpus.valid)
        found[f'{name} + memoizer'] = measure.net_and_memoizer(name, s.nets_learn, corpus.valid)
    return found


if __name__ == '__main__':
    main(sys.argv)
