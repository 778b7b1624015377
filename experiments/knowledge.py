"""What a trained net of text knows, with its rivals beside it: the mode ``analyse`` of text_mrnn."""

import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.cli import say
from hfrnn import plots
from hfrnn.nets.model import Model
from hfrnn.text import corpora, generate, probes
from hfrnn.text.alphabet import decode, encode
from hfrnn.text.probes import Judge
from hfrnn.train import run_folder


class Knower(NamedTuple):
    """A model that is asked.

    Attributes:
      judge: what it says of a text.
      sample: ``sample(prompt (K,), n, streams, seed) -> (streams, n)``: what it says by itself.
    """

    judge: Judge
    sample: Callable[[np.ndarray, int, int, int], np.ndarray]


def net(model: Model, params: Any) -> Knower:
    def sample(prompt, n, streams, seed):
        draw = functools.partial(generate.continue_text, model, length=n)
        keys = jax.random.split(jax.random.key(seed), streams)
        return np.asarray(jax.jit(jax.vmap(draw, (None, 0, None)))(params, keys, np.asarray(prompt)))

    return Knower(probes.net_judge(model, params), sample)


def rivals(known: np.ndarray, n_symbols: int) -> dict[str, Knower]:
    """The memoizer and n-grams of a text (N,); none, and a word, where numba is not installed."""
    try:
        from hfrnn.rivals import memoizer, ngram, pitman_yor
    except ModuleNotFoundError as e:
        say(f'without memoizer and n-grams: {e}')
        return {}

    def knower(model):
        def sample(prompt, n, streams, seed):
            rng = np.random.default_rng(seed)
            drawn = np.empty((streams, n), np.int64)
            for row in drawn:
                context = list(prompt)
                for i in range(n):
                    p = pitman_yor.distribution(model, context[-model.prior.longest :])
                    row[i] = min(np.searchsorted(np.cumsum(p), rng.random()), n_symbols - 1)
                    context.append(row[i])
            return drawn

        return Knower(functools.partial(pitman_yor.log2_probabilities, model), sample)

    return {
        'memoizer': knower(memoizer.train(known, n_symbols)),
        '8-gram': knower(ngram.train(known, n_symbols, 8)),
    }


def analyse(
    folder: pathlib.Path,
    knowers: dict[str, Knower],
    corpus: corpora.Corpus,
    prompt: np.ndarray,
    n_bags: int,
    n_passages: int,
    n_sampled: int,
    seed: int,
) -> dict:
    """Asks all of them everything; writes analysis.json and the pictures.

    Args:
      knowers: by name, the net first.
      prompt: (K,) what each reads before it samples.
      n_bags, n_passages, n_sampled: bags of words, passages for each pair of brackets, characters to be sampled.
    """
    found = {
        'experiment': 'analysis',
        'corpus': corpus.name,
        'debagging': debagging(folder, knowers, corpus, n_bags, seed),
        'balance': balance(folder, knowers, corpus, n_passages, seed),
        'list': lists(folder, knowers, corpus.alphabet, seed),
        'new_words': new_words(folder, knowers, corpus, prompt, n_sampled, seed),
    }
    run_folder.write_json(folder / 'analysis.json', found)
    pictures = [f'{name}.png' for name in ('debagging', 'balance', 'list', 'new_words') if found[name]]
    say(f'{folder}/analysis.json, {", ".join(pictures)}')
    return found


def debagging(folder, knowers, corpus, n, seed):
    bags = probes.bags(decode(corpus.test, corpus.alphabet), n, seed)
    if not bags:
        say('debagging: the test text has no line of 11 words')
        return None
    shares = {}
    for name, knower in knowers.items():
        right = sum(probes.is_debagged(knower.judge, bag, corpus.alphabet) for bag in bags)
        shares[name] = right / len(bags)
        say(f'debagging: {name} puts {right} of {len(bags)} bags in order ({shares[name]:.1%})')
    plots.save(folder / 'debagging.png', plots.bars({f'{len(bags)} bags': shares}, 'share put in order'))
    return {'bags': len(bags), 'right': shares}


def balance(folder, knowers, corpus, n, seed):
    known, content = (decode(part, corpus.alphabet) for part in (corpus.train, corpus.test))
    used, pairs = probes.pairs_in(corpus.alphabet, known), {}
    for pair in used:
        passages = probes.fillers(content, pair, n, seed=seed)
        if passages:
            pairs[pair] = {
                name: probes.balance(knower.judge, pair, passages, corpus.alphabet) for name, knower in knowers.items()
            }
    if not pairs:
        free = f'no passage of the test text is free of {" or ".join(used)}'
        say(f'balance: {free if used else "the training text has no brackets or quotes to speak of"}')
        return None
    for pair, curves in pairs.items():
        for name, curve in curves.items():
            times = [f'{a / b:.3g}' if a and b else '-' for a, b in zip(curve['open'], curve['none'], strict=True)]
            say(f'balance of {pair}: {name} closes what is open {" ".join(times)} times as often as what is not')
    plots.save(folder / 'balance.png', plots.balance(pairs, probes.DISTANCES))
    return {'distances': probes.DISTANCES, 'pairs': pairs}


def lists(folder, knowers, alphabet, seed):
    prompts = {name: probes.spelt(prompt, alphabet) for name, prompt in probes.PROMPTS.items()}
    if not all(prompts.values()):
        say('list: the alphabet has no letters to ask with')
        return None
    found = {'prompts': prompts, 'places': {}, 'samples': {}}
    for name, knower in knowers.items():
        found['places'][name] = {
            which: probes.places_next(knower.judge, prompt, alphabet) for which, prompt in prompts.items()
        }
        drawn = knower.sample(encode(prompts['list'], alphabet), 60, 5, seed)
        found['samples'][name] = [decode(one, alphabet) for one in drawn]
        p = found['places'][name]
        say(
            f'list: {name} names a place next with probability {p["list"]:.2g} after a list of them, '
            f'{p["control"]:.2g} without'
        )
    groups = {which: {name: places[which] for name, places in found['places'].items()} for which in prompts}
    plots.save(folder / 'list.png', plots.bars(groups, 'probability of a place'))
    return found


def new_words(folder, knowers, corpus, prompt, n, seed):
    known = decode(corpus.train, corpus.alphabet)
    texts = {'test text': [decode(corpus.test, corpus.alphabet)]}
    streams = min(20, -(-n // 100))
    for name, knower in knowers.items():
        drawn = knower.sample(prompt, -(-n // streams), streams, seed)
        texts[name] = [decode(row, corpus.alphabet) for row in drawn]
    found = {}
    for name, contents in texts.items():
        n_words, rate, words = probes.new_words(contents, known)
        found[name] = {'words': n_words, 'new': rate, 'examples': words[:20]}
        say(f'new words: {rate:.2%} in {name}: {" ".join(words[:6])}')
    rates = {name: row['new'] for name, row in found.items()}
    figure = plots.bars({'': rates}, 'share of words that training text lacks')
    plots.save(folder / 'new_words.png', figure)
    return found
