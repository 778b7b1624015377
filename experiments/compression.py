"""Compressing real files by what a model foretells: a trained net, the memoizer, n-grams, net and memoizer mixed.

    python -m experiments.compression --mode=compress --input=FILE --output=ARCHIVE
    python -m experiments.compression --mode=compress --workdir=runs/quickstart --model=mix --prime=pydoc ...
    python -m experiments.compression --mode=decompress --input=ARCHIVE --output=FILE

Without --workdir the model is a memoizer of bytes that learns the file as it goes.  An archive knows which --model made
it, and whether that was learning; it is decompressed with the same --workdir and --prime, the same --learning_rate,
--order, --longest and --remembered if those were given, and the same version of JAX on the same kind of machine: where
the probabilities are not the same to the last bit, it is said, and nothing is written.  A net of characters compresses
UTF-8 of its own alphabet.
"""

import hashlib
import os
import pathlib
import signal

import numpy as np
from absl import flags

from experiments import cli, nets
from experiments.cli import clock
from hfrnn import io
from hfrnn.errors import DataError, SettingsError
from hfrnn.text import corpora, mixing, models, predictors, scoring
from hfrnn.text.alphabet import BYTES, encode, symbols_of, text_of, unit_of

MODELS = ('net', 'memoizer', 'ngram', 'mix')

MODE = flags.DEFINE_enum('mode', None, ['compress', 'decompress'], 'What to do.')
INPUT = flags.DEFINE_string('input', None, 'The file, or its archive.')
OUTPUT = flags.DEFINE_string('output', None, 'Where to write the archive, or the file; it must not be there yet.')
MODEL = flags.DEFINE_enum(
    'model', None, MODELS, 'Who foretells; mix is net and memoizer. The net with --workdir, without it the memoizer.'
)
WORKDIR = flags.DEFINE_string('workdir', None, "The folder of a net's run, or a file of an LSTM's weights.")
PRIME = flags.DEFINE_string(
    'prime', None, f'A file that the model reads first; or one of {", ".join(corpora.NAMES)}, for its training text.'
)
DATA = flags.DEFINE_string('data', os.environ.get('HFRNN_DATA'), 'The folder of ptb and enwik8 (or $HFRNN_DATA).')
NET_LEARNS = flags.DEFINE_bool('net_learns', False, 'The net learns what it reads: dynamic evaluation.')
OTHERS_LEARN = flags.DEFINE_bool('others_learn', True, 'Memoizer and n-grams learn the file, not --prime alone.')
RATE = flags.DEFINE_float('learning_rate', 0.0016, 'Of a net that learns.', lower_bound=0.0)
ORDER = flags.DEFINE_integer('order', 6, 'Of the n-grams.', lower_bound=1, upper_bound=100)
LONGEST = flags.DEFINE_integer('longest', 64, 'The longest context of the memoizer.', lower_bound=1, upper_bound=5000)
REMEMBERED = flags.DEFINE_integer(
    'remembered',
    10_000_000,
    'The most symbols that memoizer and n-grams remember, at some 220 bytes each; then they forget the older half.',
    lower_bound=1000,
    upper_bound=500_000_000,
)

FROZEN_READS = 2000  # symbols of --prime: what stands farther back does not reach a frozen net
VERSION = 1  # to be raised where something in hfrnn/baselines comes to compute other probabilities
NETS_RULE = 3  # the same, of nets that learn alone
CLIP = 64.0  # nats, the longest gradient of a segment that a net learns from


def main(argv):
    cli.begin(argv)
    for signum in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signum) is not signal.SIG_IGN:  # as by nohup
            signal.signal(signum, signal.default_int_handler)
    with cli.errors_in_a_line('nothing is written'):
        done = code()
    with cli.errors_in_a_line(f'{OUTPUT.value} is written'):
        tell(done)


def code():
    from hfrnn.text import compression  # needs its extra

    if not (MODE.value and INPUT.value and OUTPUT.value):
        raise SettingsError('say --mode=compress or --mode=decompress, --input=FILE and --output=FILE')
    if not np.isfinite(RATE.value):
        raise SettingsError(f'--learning_rate={RATE.value} is no rate')
    source, target = pathlib.Path(INPUT.value), pathlib.Path(OUTPUT.value)
    if not source.is_file():
        raise SettingsError(f'no file {source}')
    if not target.absolute().parent.is_dir():
        raise SettingsError(f'no folder {target.parent} for --output')
    if target.exists():
        raise SettingsError(f'{target} exists')
    with source.open('rb') as coming, io.whole(target) as going:
        try:
            if MODE.value == 'decompress':
                take_from(compression.read_header(coming).kind)
                coming.seek(0)
            predictor, alphabet, header = build(compression.Header)
            work = compression.compress if MODE.value == 'compress' else compression.decompress
            done = work(predictor, alphabet, header, coming, going, ticker(source.stat().st_size))
        except (compression.ContentError, compression.ArchiveError) as e:
            raise SettingsError(f'{source}: {e}') from e
    return done


# -- the model --------------------------------------------------------------------------------------------------------


def kind():
    """The byte that says of an archive which model made it, so that it need not be said again."""
    return MODELS.index(MODEL.value) | NET_LEARNS.value << 2 | OTHERS_LEARN.value << 3


def take_from(kind):
    for holder, value in (
        (MODEL, MODELS[kind & 3]),
        (NET_LEARNS, bool(kind & 4)),
        (OTHERS_LEARN, bool(kind & 8)),
    ):
        if not holder.present:
            flags.FLAGS[holder.name].value = value


def build(Header):
    """(predictor, alphabet, header) of the flags."""
    if MODEL.value is None:
        flags.FLAGS.model = 'net' if WORKDIR.value else 'memoizer'
    if MODEL.value in ('net', 'mix') and not WORKDIR.value:
        raise SettingsError(f'--model={MODEL.value} needs a net: name the --workdir of its run')
    net = models.open_net(WORKDIR.value) if WORKDIR.value else None
    alphabet = net.alphabet if net else BYTES
    known = prime(alphabet)
    # All that the probabilities depend on.
    facts = [VERSION, kind(), alphabet, len(known), hashlib.sha256(known.tobytes()).hexdigest()]
    parts = []
    if MODEL.value in ('net', 'mix'):
        parts.append(net_predictor(net, known, facts))
    if MODEL.value != 'net':
        parts.append(other_predictor(len(alphabet), known, facts))
    predictor = mixing.mix(*parts) if len(parts) > 1 else parts[0]
    return predictor, alphabet, Header(kind(), hashlib.sha256(repr(facts).encode()).digest()[:8])


def net_predictor(net, known, facts):
    prompt = known if len(known) else symbols_of('\n' if '\n' in net.alphabet else net.alphabet[0], net.alphabet)
    facts += [nets.digest(net)]
    if not NET_LEARNS.value:
        return predictors.static(net.model, net.params, prompt[-FROZEN_READS:])
    facts += [RATE.value, NETS_RULE]
    return predictors.online(net.model, net.params, prompt, scoring.Rule(RATE.value, 0.0, clip=CLIP))


def other_predictor(n_symbols, known, facts):
    from hfrnn.rivals import memoizer, ngram, pitman_yor  # need numba

    known = known[-REMEMBERED.value :]
    facts += [len(known)]
    if MODEL.value == 'ngram':
        try:
            model = ngram.train(known, n_symbols, ORDER.value)
        except ValueError as e:
            raise SettingsError(f'--order={ORDER.value}: {e}; take a lower one') from e
    else:
        model = memoizer.train(known, n_symbols, longest=LONGEST.value)
    prior = model.prior
    facts += [prior.longest, prior.concentration, prior.one_table, prior.log_products.tobytes()]
    if not OTHERS_LEARN.value:
        return pitman_yor.static(model)
    facts += [REMEMBERED.value]
    return pitman_yor.online(model, REMEMBERED.value)


def prime(alphabet):
    """The symbols of --prime."""
    if not PRIME.value:
        return np.zeros(0, np.uint8)
    unit = unit_of(alphabet)
    try:
        if PRIME.value not in corpora.NAMES:
            return encode(corpora.read(PRIME.value, unit), alphabet)
        corpus = corpora.load(PRIME.value, DATA.value, 'characters' if PRIME.value in corpora.OF_CHARACTERS else unit)
        if corpus.alphabet == alphabet:
            return corpus.train
        return symbols_of(text_of(corpus.train, corpus.alphabet), alphabet)
    except DataError as e:
        raise SettingsError(f'--prime={PRIME.value}: {e}') from e


# -- what is said -----------------------------------------------------------------------------------------------------


def ticker(size, every=5.0):
    """Says how far it is, every few seconds."""
    last = 0.0

    def tick(done):
        nonlocal last
        if done.seconds - last < every:
            return
        last = done.seconds
        read = done.raw if MODE.value == 'compress' else done.coded
        left = done.seconds * (size - read) / read
        print(
            f'{read / size:6.1%}  {done.raw:,} bytes  {done.raw / done.seconds:,.0f} bytes/s  '
            f'{8 * done.coded / done.raw:.3f} bits per byte  remaining {clock(left)}',
            flush=True,
        )

    return tick


def tell(done):
    of, to = (done.raw, done.coded) if MODE.value == 'compress' else (done.coded, done.raw)
    per_byte = f', {8 * done.coded / done.raw:.4f} bits per byte' if done.raw else ''
    print(f'{of:,} -> {to:,} bytes{per_byte}')
    if MODE.value == 'compress' and done.symbols:
        print(f"the model's own bits: {done.bits / 8:,.0f} bytes, {done.bits / done.symbols:.4f} bits per symbol")
    print(
        f'{clock(done.seconds)}, {done.raw / max(done.seconds, 1e-9):,.0f} bytes/s, '
        f'{done.model_seconds / max(done.seconds, 1e-9):.0%} of the speed of the model alone'
    )


if __name__ == '__main__':
    cli.run(main)
