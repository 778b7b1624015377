"""What a net of text may be asked, whatever its cells: the flags and the work of the modes sample and score.

A prompt is read first; what the net goes on with is drawn, or looked for by a beam; a text is scored symbol by symbol.
"""

import functools
from typing import Any

import jax
import numpy as np
from absl import flags

from experiments.cli import say
from hfrnn import plots
from hfrnn.errors import SettingsError
from hfrnn.nets.model import Model
from hfrnn.text import corpora, generate, scoring, words
from hfrnn.text.alphabet import BYTES, encode, symbols_of, text_of, unit_of
from hfrnn.text.metrics import BITS

FLAGS = flags.FLAGS
MOST_HELD = 10**8  # symbols, of all texts of a beam
PLOTTED = 5000  # characters, at most: 50 rows, some 15 seconds

# None of them defines a run.
FREE = (
    flags.DEFINE_string('prompt', None, 'What the model reads first; the end of a line if not given.'),
    flags.DEFINE_integer('sample_length', 500, 'sample: how many symbols.', lower_bound=1, upper_bound=10**7),
    flags.DEFINE_float('temperature', 1.0, 'sample: 0 takes the likeliest symbol.', lower_bound=0.0),
    flags.DEFINE_integer(
        'beam', 0, 'sample: the likeliest text that a beam of this width finds.', lower_bound=0, upper_bound=10_000
    ),
    flags.DEFINE_integer('sample_seed', 0, 'sample: another seed, another text.', lower_bound=0, upper_bound=2**31 - 1),
    flags.DEFINE_string('text', None, 'score: the text.'),
    flags.DEFINE_string('input', None, "score: the text's file."),
    flags.DEFINE_string('plot', None, 'score: a PNG file, for the surprise symbol by symbol.'),
)


def check() -> None:
    """What need not wait for a net; training and evaluation, which end with a sample, look at it before they begin.

    Raises:
      SettingsError: for a beam that memory cannot hold, or a plot that is no PNG file.
    """
    if FLAGS.beam * FLAGS.sample_length > MOST_HELD:
        raise SettingsError(
            f'--beam={FLAGS.beam} --sample_length={FLAGS.sample_length}: a beam holds {MOST_HELD:,} symbols at the most'
        )
    if FLAGS.plot and not FLAGS.plot.endswith('.png'):
        raise SettingsError(f'--plot={FLAGS.plot}: it is a PNG file; end its name in .png')


def prompt(alphabet: str | tuple[str, ...]) -> np.ndarray:
    """The symbols (P,) of --prompt; if it is not given, the end of a line, or the first symbol where there is no end.

    Raises:
      SettingsError: if it is empty.
      DataError: if the alphabet lacks something of it.
    """
    if FLAGS.prompt is None:
        end = '\n' if isinstance(alphabet, str) else words.END
        return np.array([alphabet.index(end) if end in alphabet else 0], np.int32)
    symbols = _symbols_of(FLAGS.prompt, alphabet)
    if not len(symbols):
        raise SettingsError('the prompt is empty; give at least one symbol')
    return symbols.astype(np.int32)


def sample(net: Model, params: Any, alphabet: str | tuple[str, ...]) -> str:
    """The prompt, and --sample_length symbols that a net goes on with."""
    read = prompt(alphabet)
    if FLAGS.beam:
        search = jax.jit(functools.partial(generate.beam_search, net), static_argnames=('length', 'width'))
        symbols = search(params, read, length=FLAGS.sample_length, width=FLAGS.beam)[0][0]
    else:
        draw = jax.jit(functools.partial(generate.continue_text, net), static_argnames='length')
        key = jax.random.key(FLAGS.sample_seed)
        symbols = draw(params, key, read, length=FLAGS.sample_length, temperature=FLAGS.temperature)
    return _text_of(np.concatenate([read, symbols]), alphabet)


def score(net: Model, params: Any, alphabet: str | tuple[str, ...]) -> None:
    """Says the bits of --text, or of the file --input, behind the prompt; --plot shows them symbol by symbol.

    Raises:
      SettingsError: for no text, or two, or an empty one.
      DataError: if there is no such file, or the alphabet lacks something of the text.
    """
    symbols = _text_to_score(alphabet)
    bits = scoring.static_reader(net)(params, symbols, prompt(alphabet)).nll * BITS
    unit = unit_of(alphabet)
    if FLAGS.plot:
        names = [alphabet[x] for x in symbols]
        n = max(1, int(np.searchsorted(np.cumsum([len(name) for name in names]), PLOTTED, side='right')))
        plots.save(FLAGS.plot, plots.surprise(names[:n], bits[:n]))
        if n < len(names):
            say(f'{FLAGS.plot} shows the first {n:,} {unit}')
    say(f'{bits.sum():.2f} bits, {bits.mean():.4f} bits per {unit[:-1]}, {len(symbols)} {unit}')


def _text_to_score(alphabet):
    if (FLAGS.text is None) == (FLAGS.input is None):
        raise SettingsError('score one text: give --text or --input')
    if FLAGS.input is None:
        symbols = _symbols_of(FLAGS.text, alphabet)
    elif alphabet == BYTES:
        symbols = encode(corpora.read(FLAGS.input, 'bytes'), alphabet)
    else:
        symbols = _symbols_of(corpora.read(FLAGS.input), alphabet)
    if not len(symbols):
        raise SettingsError('the text to score is empty')
    return symbols


def _symbols_of(content, alphabet):
    """The symbols of what a user writes; of words, without an end of line that he did not write."""
    if isinstance(alphabet, str):
        return symbols_of(content, alphabet)
    found = words.split(content) or [words.END] * ('\n' in content)
    ended = content.rpartition('\n')[2].split() == []  # behind the last end of a line stands no word
    return words.encode(found if ended else found[:-1], alphabet)


def _text_of(symbols, alphabet):
    if isinstance(alphabet, str):
        return text_of(symbols, alphabet)
    return words.join([alphabet[x] for x in symbols])
