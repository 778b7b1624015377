"""Compressing files by what a model predicts: a trained net, the memoizer, n-grams, net and memoizer mixed.

    python -m experiments.compression --mode=compress --input=FILE --output=ARCHIVE
    python -m experiments.compression --mode=compress --weights=runs/quickstart --model=mix --prime=pydoc ...
    python -m experiments.compression --mode=decompress --input=ARCHIVE --output=FILE

Without --weights the model is a memoizer of bytes that learns the file as it goes.  An archive knows which --model made
it, and whether that was learning.  To decompress it, give the same --weights and --prime, and the same
--learning_rate, --order, --longest and --remembered if they were given, with the same version of JAX on the same kind
of machine: unless the probabilities are the same to the last bit, this ends with an error, and nothing is written.  A
net of characters compresses UTF-8 of its own alphabet.
"""

import dataclasses
import functools
import hashlib
import os
import pathlib
import signal
import sys

import numpy as np

from experiments import cli
from experiments.cli import Mode
from hfrnn import io
from hfrnn.errors import DataError, SettingsError
from hfrnn.text import corpora, mixing, models, predictors
from hfrnn.text.alphabet import BYTES, symbols_of
from hfrnn.text.scoring import Rule
from hfrnn.train.experiment import clock
from hfrnn.train.settings import replace, setting

MODELS = ('net', 'memoizer', 'ngram', 'mix')


@dataclasses.dataclass(frozen=True)
class Options:
    """Files and model"""

    input: str | None = setting(None, 'The file, or its archive.')
    output: str | None = setting(None, 'Where to write the archive, or the file; it must not exist yet.')
    model: str | None = setting(
        None, 'What predicts; mix is net and memoizer. Net if there is --weights, memoizer if not.', choices=MODELS
    )
    weights: str | None = setting(None, 'A net: the folder of a run, a file, or the name of one that ships.')
    prime: str | None = setting(
        None, f'A file that the model reads first; or one of {", ".join(corpora.CORPORA)}, for its training text.'
    )
    data: str | None = setting(os.environ.get('HFRNN_DATA'), 'The folder of ptb and enwik8 (or $HFRNN_DATA).')
    net_learns: bool = setting(False, 'The net learns what it reads: dynamic evaluation.')
    others_learn: bool = setting(True, 'Memoizer and n-grams learn the file, not --prime alone.')
    learning_rate: float = setting(0.0016, 'Of --net_learns: the learning rate.', low=0.0)
    order: int = setting(6, 'The order of the n-grams.', low=1, high=100)
    longest: int = setting(64, 'The longest context of the memoizer.', low=1, high=5000)
    remembered: int = setting(
        10_000_000,
        'The most symbols that memoizer and n-grams remember, at some 220 bytes each; then they forget the older half.',
        low=1000,
        high=500_000_000,
    )


FROZEN_READS = 2000  # symbols of --prime: a frozen net has forgotten what is farther back
VERSION = 2  # to be raised when hfrnn/rivals computes other probabilities, or nets have other digests
NETS_RULE = 3  # to be raised when nets that learn compute other probabilities
CLIP = float(predictors.PIECE)  # of a segment's gradient, so that a net that decodes a file cannot diverge


def main(argv):
    for signum in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signum) is not signal.SIG_IGN:  # as by nohup
            signal.signal(signum, signal.default_int_handler)
    modes = {mode: Mode(functools.partial(act, mode), ('options',)) for mode in ('compress', 'decompress')}
    cli.main(argv, __doc__, modes, choose=_no_mode, remains='nothing is written', options=Options())


_MISSING = 'say --mode=compress or --mode=decompress, --input=FILE and --output=FILE'


def _no_mode(o):
    raise SettingsError(_MISSING)


def act(mode, o):
    done = run(mode, o.options, o.given)
    with cli.errors_in_a_line(f'{o.options.output} is written'):
        print_summary(mode, done)


def run(mode, s, given):
    from hfrnn.text import compression  # needs its extra

    if not (s.input and s.output):
        raise SettingsError(_MISSING)
    source, target = pathlib.Path(s.input), pathlib.Path(s.output)
    if not source.is_file():
        raise SettingsError(f'no file {source}')
    if not target.absolute().parent.is_dir():
        raise SettingsError(f'no folder {target.parent} for --output')
    if target.exists():
        raise SettingsError(f'{target} exists')
    with source.open('rb') as reader, io.atomic_write(target) as writer:
        try:
            if mode == 'decompress':
                s = as_archived(s, given, compression.read_header(reader).kind)
                reader.seek(0)
            elif s.model is None:
                s = replace(s, model='net' if s.weights else 'memoizer')
            predictor, alphabet, header = build(s, compression.Header)
            work = compression.compress if mode == 'compress' else compression.decompress
            return work(predictor, alphabet, header, reader, writer, ticker(mode, source.stat().st_size))
        except (compression.ContentError, compression.ArchiveError) as e:
            raise SettingsError(f'{source}: {e}') from e


# -- the model --------------------------------------------------------------------------------------------------------


def kind(s):
    """The byte of an archive that says which model made it, so that no flag need say it again."""
    return MODELS.index(s.model) | s.net_learns << 2 | s.others_learn << 3


def as_archived(s, given, kind):
    """The options, with what the byte says in place of those that are not given."""
    found = {'model': MODELS[kind & 3], 'net_learns': bool(kind & 4), 'others_learn': bool(kind & 8)}
    return replace(s, **{name: value for name, value in found.items() if name not in given})


def build(s, Header):
    """(predictor, alphabet, header) of the options; the header has a hash of all that determines probabilities."""
    if s.model in ('net', 'mix') and not s.weights:
        raise SettingsError(f'--model={s.model} needs a net: --weights=FOLDER or FILE')
    net = cli.load_net(s.weights) if s.weights else None
    alphabet = models.open_net(net, words=False).alphabet if net else BYTES
    known = prime(s, alphabet)
    determinants = [VERSION, kind(s), alphabet, len(known), hashlib.sha256(known.tobytes()).hexdigest()]
    parts = []
    if s.model in ('net', 'mix'):
        parts.append(net_predictor(s, net, known, determinants))
    if s.model != 'net':
        parts.append(other_predictor(s, len(alphabet), known, determinants))
    predictor = mixing.mix(*parts) if len(parts) > 1 else parts[0]
    return predictor, alphabet, Header(kind(s), hashlib.sha256(repr(determinants).encode()).digest()[:8])


def net_predictor(s, bundle, known, determinants):
    net = models.open_net(bundle)
    prompt = known if len(known) else symbols_of('\n' if '\n' in net.alphabet else net.alphabet[0], net.alphabet)
    determinants += [models.digest(bundle)]
    if not s.net_learns:
        return predictors.static(net.model, net.params, prompt[-FROZEN_READS:])
    determinants += [s.learning_rate, NETS_RULE]
    return predictors.online(net.model, net.params, prompt, Rule(s.learning_rate, 0.0, clip=CLIP))


def other_predictor(s, n_symbols, known, determinants):
    from hfrnn.rivals import memoizer, ngram, pitman_yor  # need numba

    known = known[-s.remembered :]
    determinants += [len(known)]
    if s.model == 'ngram':
        try:
            model = ngram.train(known, n_symbols, s.order)
        except ValueError as e:
            raise SettingsError(f'--order={s.order}: {e}; take a lower one') from e
    else:
        model = memoizer.train(known, n_symbols, longest=s.longest)
    prior = model.prior
    determinants += [prior.longest, prior.concentration, prior.one_table, prior.log_products.tobytes()]
    if not s.others_learn:
        return pitman_yor.static(model)
    determinants += [s.remembered]
    return pitman_yor.online(model, s.remembered)


def prime(s, alphabet):
    """The symbols of --prime."""
    if not s.prime:
        return np.zeros(0, np.uint8)
    try:
        return corpora.read_symbols(s.prime, alphabet, s.data)
    except DataError as e:
        raise SettingsError(f'--prime={s.prime}: {e}') from e


# -- output -----------------------------------------------------------------------------------------------------------


def ticker(mode, size, every=5.0):
    """A function that prints the progress every few seconds."""
    last = 0.0

    def tick(done):
        nonlocal last
        if done.seconds - last < every:
            return
        last = done.seconds
        read = done.raw if mode == 'compress' else done.coded
        left = done.seconds * (size - read) / read
        print(
            f'{read / size:6.1%}  {done.raw:,} bytes  {done.raw / done.seconds:,.0f} bytes/s  '
            f'{8 * done.coded / done.raw:.3f} bits per byte  remaining {clock(left)}',
            flush=True,
        )

    return tick


def print_summary(mode, done):
    of, to = (done.raw, done.coded) if mode == 'compress' else (done.coded, done.raw)
    per_byte = f', {8 * done.coded / done.raw:.4f} bits per byte' if done.raw else ''
    print(f'{of:,} -> {to:,} bytes{per_byte}')
    if mode == 'compress' and done.symbols:
        print(f"the model's own bits: {done.bits / 8:,.0f} bytes, {done.bits / done.symbols:.4f} bits per symbol")
    print(
        f'{clock(done.seconds)}, {done.raw / max(done.seconds, 1e-9):,.0f} bytes/s, '
        f'{done.model_seconds / max(done.seconds, 1e-9):.0%} of the speed of the model alone'
    )


if __name__ == '__main__':
    main(sys.argv)
