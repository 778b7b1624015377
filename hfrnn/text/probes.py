"""What a model of text knows (Sutskever, Martens & Hinton 2011, SMH11): nets and their rivals alike.

Each is asked through one function, ``Judge``, for log2 P(targets[b, t] | context, texts[b, :t]).  Texts are strings of
one character a symbol here: of bytes, latin-1's.
"""

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hfrnn.nets.model import Model
from hfrnn.text.alphabet import encode

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


def net_judge(model: Model, params: Any, rows: int = 1024, steps: int = 16) -> Judge:
    """A net's; texts are filled up to a power of two or to multiples of ``rows``, and to multiples of ``steps``."""

    @jax.jit
    def after(params, context):
        state, read = model.run(params, None, context)
        return state, read.z[-1]

    @jax.jit
    def nats(params, state, z, texts, targets):
        def of_one(xs, targets):
            def body(carry, x_and_target):
                state, z = carry
                x, target = x_and_target
                return model.step(params, state, x), model.output.nll(z, target)

            return jax.lax.scan(body, (state, z), (xs, targets))[1]

        return jax.vmap(of_one)(texts, targets)

    def judge(context, texts, targets):
        B, T = np.shape(texts)
        high = min(rows, 1 << (B - 1).bit_length())
        state, z = after(params, jnp.asarray(context, jnp.int32))
        parts = []
        for first in range(0, B, high):
            xs, ys = (np.zeros((high, -(-T // steps) * steps), np.int32) for _ in range(2))
            n = min(high, B - first)
            xs[:n, :T], ys[:n, :T] = texts[first : first + n], targets[first : first + n]
            parts.append(np.asarray(nats(params, state, z, xs, ys), np.float64)[:n, :T])
        return -np.concatenate(parts) / math.log(2)

    return judge


# -- debagging --------------------------------------------------------------------------------------------------------


class Bag(NamedTuple):
    """Words to be put in order.

    Attributes:
      before: what stands before them, the last two words with it.
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


# -- brackets and quotes ----------------------------------------------------------------------------------------------


def pairs_in(alphabet: str, content: str, least: int = 20) -> list[str]:
    """The pairs that a text uses, so often at least."""
    return [pair for pair in PAIRS if set(pair) <= set(alphabet) and content.count(pair[0]) >= least]


def fillers(content: str, pair: str, n: int, length: int = 2 * DISTANCES[-1], seed: int = 0) -> list[str]:
    """At most n passages of one length, from the beginning of a word, that hold neither sign of a pair."""
    starts = [m.start() for m in re.finditer(r'(?<!\S)\S', content[: max(len(content) - length, 0)])]
    chosen = (content[starts[i] : starts[i] + length] for i in np.random.default_rng(seed).permutation(len(starts)))
    return list(itertools.islice((one for one in chosen if not set(pair) & set(one)), n))


def balance(judge: Judge, pair: str, passages: Sequence[str], alphabet: str) -> dict[str, list[float | None]]:
    """The mean probability of the closing sign at the ends of words, by their distance from the opening one.

    Returns:
      'open' and 'none': for each of DISTANCES, and as far as the next, behind an opening sign, and behind none; None
      where no word ends so far on.
    """
    blank = np.array([[c.isspace() for c in one] for one in passages])
    ends = np.diff(blank, axis=1, prepend=True) & blank  # a word has ended before the first of the blanks behind it
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


# -- words ------------------------------------------------------------------------------------------------------------


def words_of(content: str) -> list[str]:
    """The uncapitalised words of a text: small letters, two at least, between anything but letters."""
    return [word for word in re.findall(r'[^\W\d_]{2,}', content) if word == word.lower()]


def new_words(contents: Sequence[str], known: str) -> tuple[int, float, list[str]]:
    """Of texts, whose first and last words may be cut and do not count, against another text.

    Returns:
      (how many words, the share of those that the other text does not hold, these, the commonest and longest first).
    """
    vocabulary = set(words_of(known))
    words = [word for content in contents for word in words_of(content)[1:-1]]
    strangers = Counter(word for word in words if word not in vocabulary)
    ranked = sorted(strangers, key=lambda word: (-strangers[word], -len(word), word))
    return len(words), strangers.total() / max(len(words), 1), ranked
