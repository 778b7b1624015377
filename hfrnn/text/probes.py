"""Probes of what a model of text knows (Sutskever, Martens & Hinton 2011, SMH11): nets and their rivals alike.

A model is asked through one function, ``Judge``, for log2 P(targets[b, t] | context, texts[b, :t]).  Texts are strings
of one character a symbol here: of bytes, latin-1's.
"""

import functools
import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from hfrnn import plots
from hfrnn.nets.model import Model
from hfrnn.text import generate, scoring
from hfrnn.text.alphabet import decode, encode
from hfrnn.text.corpora import Corpus

Judge = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # context (K,), texts, targets (B, T) -> (B, T)

BAG = 7  # words of a bag; 7! = 5,040 orders
AROUND = 2  # words kept before and after it
PAIRS = ('()', '[]', '{}', '""', '<>')
DISTANCES = (1, 2, 4, 8, 16, 32, 64, 128)  # characters; from each to the next
PLACES = (  # noqa: SIM905
    'Argentina Australia Austria Belgium Brazil Britain Bulgaria Canada Chile China Cuba Denmark Egypt England Finland '
    'France Germany Greece Hungary India Indonesia Iran Iraq Ireland Israel Italy Japan Korea Mexico Norway Pakistan '
    'Poland Portugal Romania Russia Scotland Spain Sweden Switzerland Turkey Ukraine Wales'
).split()
PROMPTS = {'list': 'England, Spain, France, Germany, ', 'control': 'The meaning of life is '}  # SMH11's


class Subject(NamedTuple):
    """A model that is probed.

    Attributes:
      judge: the probabilities that it gives.
      sample: ``sample(prompt (K,), n, streams, seed) -> (streams, n)``, texts that it writes.
    """

    judge: Judge
    sample: Callable[[np.ndarray, int, int, int], np.ndarray]


def net_subject(model: Model, params: Any) -> Subject:
    """A net."""

    def sample(prompt, n, streams, seed):
        go_on = functools.partial(generate.continue_text, model, length=n)
        keys = jax.random.split(jax.random.key(seed), streams)
        return np.asarray(jax.jit(jax.vmap(go_on, (None, 0, None)))(params, keys, np.asarray(prompt)))

    return Subject(net_judge(model, params), sample)


def net_judge(model: Model, params: Any, rows: int = 1024, steps: int = 16) -> Judge:
    """The judge of a net; it pads B to a power of two, or multiples of ``rows``, and T to multiples of ``steps``."""
    read = scoring.rows_reader(model)

    def judge(context, texts, targets):
        B, T = np.shape(texts)
        high = min(rows, 1 << (B - 1).bit_length())
        context = np.asarray(context, np.int32)
        state = scoring.initial_states(model, params, 1)
        if len(context) > 1:
            state, *_ = read(params, state, context[None, :-1], context[None, 1:])
        states = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[0], (high, *leaf.shape[1:])), state)
        parts = []
        for first in range(0, B, high):
            xs, ys = (np.zeros((high, -(-T // steps) * steps), np.int32) for _ in range(2))
            n = min(high, B - first)
            xs[:, 0] = context[-1]
            xs[:n, 1:T], ys[:n, :T] = texts[first : first + n, :-1], targets[first : first + n]
            parts.append(np.asarray(read(params, states, xs, ys)[1], np.float64)[:n, :T])
        return -np.concatenate(parts) / math.log(2)

    return judge


def probe(
    subjects: dict[str, Subject],
    corpus: Corpus,
    prompt: np.ndarray,
    *,
    n_bags: int = 500,
    n_passages: int = 200,
    n_sampled: int = 50_000,
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[dict[str, Any], dict[str, Figure]]:
    """Probes all subjects: (the results of each probe, figures by file name).

    A probe that the text cannot answer has the result None and no figure.

    Args:
      subjects: by name, the net first.
      corpus: the subjects have learnt its training text, and are asked about its test text.
      prompt: (K,) what each reads before it samples.
      n_bags, n_passages, n_sampled: bags of words, passages for each pair of brackets, symbols to sample.
      say: called with each line of results.
    """
    found = {
        'debagging': probe_debagging(subjects, corpus, n_bags, seed, say),
        'balance': probe_balance(subjects, corpus, n_passages, seed, say),
        'list': probe_lists(subjects, corpus.alphabet, seed, say),
        'new_words': probe_new_words(subjects, corpus, prompt, n_sampled, seed, say),
    }
    drawn = {
        'debagging': lambda r: plots.bars({f'{r["bags"]} bags': r['right']}, 'share put in order'),
        'balance': lambda r: plots.balance(r['pairs'], DISTANCES),
        'list': lambda r: plots.bars(
            {which: {name: places[which] for name, places in r['places'].items()} for which in PROMPTS},
            'probability of a place',
        ),
        'new_words': lambda r: plots.bars(
            {'': {name: row['new'] for name, row in r.items()}}, 'share of words that training text lacks'
        ),
    }
    return found, {f'{name}.png': draw(found[name]) for name, draw in drawn.items() if found[name]}


# -- debagging --------------------------------------------------------------------------------------------------------


class Bag(NamedTuple):
    """Words to be put in order.

    Attributes:
      before: the text before them, which ends in two kept words.
      words: in their true order.
      after: the two words that follow.
    """

    before: str
    words: tuple[str, ...]
    after: str


def bags(content: str, n: int, seed: int = 0, context: int = 50) -> list[Bag]:
    """At most n bags from 11 consecutive words of one line each, that do not overlap.

    Args:
      context: characters before the bag, the two words included (SMH11 gives those alone).
    """
    words = BAG + 2 * AROUND
    found = list(re.finditer(rf'(?<!\S)\S+(?: \S+){{{words - 1}}}(?!\S)', content))
    chosen = np.random.default_rng(seed).permutation(len(found))[:n]
    made = []
    for i in sorted(chosen):
        start, parts = found[i].start(), found[i].group().split(' ')
        first = start + len(' '.join(parts[:AROUND])) + 1
        made.append(
            Bag(content[max(first - context, 0) : first], tuple(parts[AROUND:-AROUND]), ' '.join(parts[-AROUND:]))
        )
    return made


def orders(bag: Bag) -> list[str]:
    """What may follow ``before``: every order of the words, the true one first, and the two words after it."""
    return [' '.join((*words, bag.after)) for words in itertools.permutations(bag.words)]


def is_debagged(judge: Judge, bag: Bag, alphabet: str) -> bool:
    """Whether none of the orders is likelier than the true one, those that read the same aside."""
    texts = list(dict.fromkeys(orders(bag)))
    symbols = np.stack([encode(one, alphabet) for one in texts])
    bits = -judge(encode(bag.before, alphabet), symbols, symbols).sum(1)
    return bool(np.argmin(bits) == 0)


def probe_debagging(subjects, corpus, n, seed, say):
    """The share of bags of the test text that each subject puts in order."""
    chosen = bags(decode(corpus.test, corpus.alphabet), n, seed)
    if not chosen:
        say('debagging: the test text has no line of 11 words')
        return None
    shares = {}
    for name, subject in subjects.items():
        right = sum(is_debagged(subject.judge, bag, corpus.alphabet) for bag in chosen)
        shares[name] = right / len(chosen)
        say(f'debagging: {name} puts {right} of {len(chosen)} bags in order ({shares[name]:.1%})')
    return {'bags': len(chosen), 'right': shares}


# -- brackets and quotes ----------------------------------------------------------------------------------------------


def pairs_in(alphabet: str, content: str, least: int = 20) -> list[str]:
    """The pairs whose opening sign a text has at least ``least`` times."""
    return [pair for pair in PAIRS if set(pair) <= set(alphabet) and content.count(pair[0]) >= least]


def fillers(content: str, pair: str, n: int, length: int = 2 * DISTANCES[-1], seed: int = 0) -> list[str]:
    """At most n passages of one length, from the beginning of a word, that hold neither sign of a pair."""
    starts = [m.start() for m in re.finditer(r'(?<!\S)\S', content[: max(len(content) - length, 0)])]
    chosen = (content[starts[i] : starts[i] + length] for i in np.random.default_rng(seed).permutation(len(starts)))
    return list(itertools.islice((one for one in chosen if not set(pair) & set(one)), n))


def balance(judge: Judge, pair: str, passages: Sequence[str], alphabet: str) -> dict[str, list[float | None]]:
    """The mean probability of the closing sign at the ends of words, by their distance from the opening one.

    Returns:
      'open' and 'none': for each of DISTANCES, up to the next, after an opening sign, and without one; None
      where no word ends at that distance.
    """
    blank = np.array([[c.isspace() for c in one] for one in passages])
    ends = np.diff(blank, axis=1, prepend=True) & blank  # a word ends before the first of the blanks after it
    which = np.broadcast_to(np.searchsorted(DISTANCES, np.arange(ends.shape[1]), 'right') - 1, ends.shape)
    rows = np.stack([encode(one, alphabet) for one in passages])
    targets = np.full_like(rows, alphabet.index(pair[1]))
    space = ' ' if ' ' in alphabet else alphabet[0]
    result = {}
    for name, before in (('open', space + pair[0]), ('none', space)):
        p = np.exp2(judge(encode(before, alphabet), rows, targets))
        chosen = [p[ends & (which == i)] for i in range(len(DISTANCES))]
        result[name] = [float(one.mean()) if len(one) else None for one in chosen]
    return result


def probe_balance(subjects, corpus, n, seed, say):
    """``balance`` of each subject on passages of the test text, for each pair that the training text uses."""
    known, content = (decode(part, corpus.alphabet) for part in (corpus.train, corpus.test))
    used, pairs = pairs_in(corpus.alphabet, known), {}
    for pair in used:
        passages = fillers(content, pair, n, seed=seed)
        if passages:
            pairs[pair] = {
                name: balance(subject.judge, pair, passages, corpus.alphabet) for name, subject in subjects.items()
            }
    if not pairs:
        free = f'no passage of the test text is free of {" or ".join(used)}'
        say(f'balance: {free if used else "the training text has no brackets or quotes to speak of"}')
        return None
    for pair, curves in pairs.items():
        for name, curve in curves.items():
            times = [f'{a / b:.3g}' if a and b else '-' for a, b in zip(curve['open'], curve['none'], strict=True)]
            say(f'balance of {pair}: {name} closes what is open {" ".join(times)} times as often as what is not')
    return {'distances': DISTANCES, 'pairs': pairs}


# -- lists ------------------------------------------------------------------------------------------------------------


def spelt(prompt: str, alphabet: str) -> str:
    """A prompt in an alphabet: small letters where it lacks capitals, and nothing where it lacks those too."""
    kept = ''.join(c if c in alphabet else c.lower() if c.lower() in alphabet else '' for c in prompt)
    return re.sub(' +', ' ', kept)


def places_next(judge: Judge, prompt: str, alphabet: str) -> float:
    """The probability that a prompt goes on with one of PLACES that it does not hold, and the end of that word."""
    prompt = spelt(prompt, alphabet)
    ends = [c for c in ' ,.\n' if c in alphabet]
    total = 0.0
    for place in PLACES:
        name = spelt(place, alphabet)
        if ends and name and name not in prompt:
            texts = np.stack([encode(name + end, alphabet) for end in ends])
            total += float(np.exp2(judge(encode(prompt, alphabet), texts, texts).sum(1)).sum())
    return total


def probe_lists(subjects, alphabet, seed, say):
    """The probability of a place after a list of places and after another text, and what each subject writes there."""
    prompts = {name: spelt(prompt, alphabet) for name, prompt in PROMPTS.items()}
    if not all(prompts.values()):
        say('list: the alphabet has no letters to ask with')
        return None
    found = {'prompts': prompts, 'places': {}, 'samples': {}}
    for name, subject in subjects.items():
        p = {which: places_next(subject.judge, prompt, alphabet) for which, prompt in prompts.items()}
        drawn = subject.sample(encode(prompts['list'], alphabet), 60, 5, seed)
        found['places'][name], found['samples'][name] = p, [decode(one, alphabet) for one in drawn]
        say(
            f'list: {name} names a place next with probability {p["list"]:.2g} after a list of them, '
            f'{p["control"]:.2g} without'
        )
    return found


# -- words ------------------------------------------------------------------------------------------------------------


def words_of(content: str) -> list[str]:
    """The uncapitalised words of a text: small letters, two at least, between anything but letters."""
    return [word for word in re.findall(r'[^\W\d_]{2,}', content) if word == word.lower()]


def new_words(contents: Sequence[str], known: str) -> tuple[int, float, list[str]]:
    """The words of texts that another text lacks; the first and last word of each, perhaps cut, do not count.

    Returns:
      (the number of words, the share of them that the other text lacks, these words, commonest and longest first).
    """
    vocabulary = set(words_of(known))
    words = [word for content in contents for word in words_of(content)[1:-1]]
    strangers = Counter(word for word in words if word not in vocabulary)
    ranked = sorted(strangers, key=lambda word: (-strangers[word], -len(word), word))
    return len(words), strangers.total() / max(len(words), 1), ranked


def probe_new_words(subjects, corpus, prompt, n, seed, say):
    """The share of words that the training text lacks, in the test text and in what each subject writes."""
    known = decode(corpus.train, corpus.alphabet)
    texts = {'test text': [decode(corpus.test, corpus.alphabet)]}
    streams = min(20, -(-n // 100))
    for name, subject in subjects.items():
        drawn = subject.sample(prompt, -(-n // streams), streams, seed)
        texts[name] = [decode(row, corpus.alphabet) for row in drawn]
    found = {}
    for name, contents in texts.items():
        n_words, rate, words = new_words(contents, known)
        found[name] = {'words': n_words, 'new': rate, 'examples': words[:20]}
        say(f'new words: {rate:.2%} in {name}: {" ".join(words[:6])}')
    return found
