"""Hierarchical Pitman-Yor models of text, such as the memoizer and n-grams: learnt, asked, and made into Predictors.

A model learns by writing into its arrays, which for a long text are far too large to copy: what learns consumes the
model that it is given, as JAX does with a donated buffer, and the caller goes on with the one returned.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hfrnn.rivals import context_tree
from hfrnn.text.predictors import Predictor


class PitmanYor(NamedTuple):
    """A process and what it has seen."""

    prior: context_tree.Prior
    tree: context_tree.Tree


def prior(
    n_symbols: int, longest: int, discounts: Sequence[float], concentration: float = 0.0, one_table: bool = False
) -> context_tree.Prior:
    """A prior with these discounts for the depths 0, 1, ...; the last holds for all deeper ones.

    Raises:
      ValueError: if one is not between 0 and 1, or the product over the longest context is too small for a float; for
        more than 65,536 symbols.
    """
    if n_symbols > 1 << 16:
        raise ValueError(f'an alphabet has at most 65,536 symbols, not {n_symbols:,}')
    n = longest + 1
    discounts = np.concatenate([discounts[:n], np.full(max(n - len(discounts), 0), discounts[-1])])
    if not np.all((discounts > 0) & (discounts < 1)):
        raise ValueError(f'discounts are between 0 and 1, not {discounts.min()} and {discounts.max()}')
    log_products = np.concatenate([[0.0], np.cumsum(np.log(discounts))])
    if log_products[-1] < -700:
        raise ValueError(f'the discounts of a context of {longest} multiply to less than a float can hold')
    return context_tree.Prior(n_symbols, longest, log_products, float(concentration), one_table)


def empty(prior: context_tree.Prior, seed: int = 0) -> PitmanYor:
    """The model that has seen nothing."""
    tree = context_tree.Tree(
        np.zeros(1024, np.uint16),
        np.zeros(2048, context_tree.NODE),
        np.zeros(2048 + context_tree.margin(prior), context_tree.ENTRY),
        np.array([0, 1, 0, 1]),
        np.zeros(prior.longest + 2, np.int32),
        np.array([seed], np.uint64),
    )
    tree.nodes[0] = (0, 0, -1, -1, -1, -1, 0, 0)
    return PitmanYor(prior, tree)


def learn(model: PitmanYor, symbols: np.ndarray) -> PitmanYor:
    """The model after it has learnt more text; consumes the one given.

    Raises:
      ValueError: for symbols that are not in its alphabet; so in ``online_bits`` and ``static_bits``.
    """
    return _read(model, symbols, False)[0]


def online_bits(model: PitmanYor, symbols: np.ndarray) -> tuple[PitmanYor, float]:
    """(the model after learning a text, its bits, each symbol predicted before it is learnt); it consumes the model."""
    return _read(model, symbols, True)


def static_bits(model: PitmanYor, symbols: np.ndarray) -> float:
    """The bits of a text that follows what the model has learnt, nothing being learnt from it."""
    before = recent(model)
    context = np.concatenate([before, _of_alphabet(symbols, model.prior)])
    return context_tree.static_bits(model.tree, model.prior, context, len(before))


def distribution(model: PitmanYor, context: np.ndarray) -> np.ndarray:
    """p (V,) of the symbol that follows a context (K,), which may be any text."""
    p = np.empty(model.prior.n_symbols)
    context_tree.distribution(model.tree, model.prior, np.asarray(context, np.uint16), len(context), p)
    return p


def log2_probabilities(model: PitmanYor, context: np.ndarray, texts: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """log2 P(targets[b, t] | context, texts[b, :t]) (B, T), nothing being learnt.

    Args:
      context: (K,) any text.
      texts, targets: (B, T).
    """
    out = np.empty(np.shape(texts))
    arrays = [np.ascontiguousarray(array, np.uint16) for array in (context, texts, targets)]
    context_tree.log2_probabilities(model.tree, model.prior, *arrays, out)
    return out


def online(model: PitmanYor, most: int | None = None) -> Predictor:
    """Goes on learning.  Its state is a model, at first a copy of this one.

    Args:
      most: the most symbols to remember, at some 220 bytes each at the most: where there are so many, the older half is
        forgotten, and the tree planted anew of the newer one.  None for no end.

    Raises:
      ValueError: if it may not even remember two.
    """
    if most is not None and most < 2:
        raise ValueError(f'a model remembers at least 2 symbols, not {most}')

    def init():
        _compile()
        recalled = _recalled(model, most)
        if recalled is not model:
            return recalled
        return PitmanYor(model.prior, context_tree.Tree(*(array.copy() for array in model.tree)))

    def read(state, symbols):
        P = np.empty((len(symbols), state.prior.n_symbols))
        first = 0
        while first < len(symbols):
            room = len(symbols) if most is None else most - state.tree.used[context_tree.TEXT]
            last = min(first + room, len(symbols))
            state = _recalled(_read(state, symbols[first:last], False, P[first:last])[0], most)
            first = last
        return state, P

    return Predictor(
        init=init,
        probs=lambda state: distribution(state, recent(state)),
        update=lambda state, symbol: _recalled(learn(state, np.array([symbol])), most),
        read=read,
    )


@functools.cache
def _compile():
    """Has numba compile what a Predictor calls, before anybody looks at a clock."""
    tiny, both = empty(prior(2, 1, [0.5])), np.zeros(2, np.uint16)
    _read(tiny, both, False, np.empty((2, 2)))
    distribution(tiny, recent(tiny))
    context_tree.predict(tiny.tree, tiny.prior, both, 1, np.empty((1, 2)))


def _recalled(model, most):
    """The model, or a new one of the newer half of what it may remember."""
    now = model.tree.used[context_tree.TEXT]
    if most is None or now < most:
        return model
    return learn(empty(model.prior, model.tree.random[0]), model.tree.text[now - most // 2 : now])


def static(model: PitmanYor) -> Predictor:
    """Learns nothing.  Its state is the context: an array of symbols, at first the last that the model has learnt."""

    def init():
        _compile()
        return recent(model)

    def follow(context, symbols):
        return np.append(context, np.asarray(symbols, np.uint16))[-max(model.prior.longest, 1) :]

    def read(context, symbols):
        P = np.empty((len(symbols), model.prior.n_symbols))
        both = np.append(context, _of_alphabet(symbols, model.prior))
        context_tree.predict(model.tree, model.prior, both, len(context), P)
        return follow(context, symbols), P

    return Predictor(init, lambda context: distribution(model, context), follow, read)


def recent(model: PitmanYor) -> np.ndarray:
    """(K,) the last symbols that the model has learnt, as many as can matter."""
    now = model.tree.used[context_tree.TEXT]
    return model.tree.text[max(now - model.prior.longest, 0) : now].copy()


def _of_alphabet(symbols, prior):
    symbols = np.asarray(symbols)
    if len(symbols) and not 0 <= symbols.min() <= symbols.max() < prior.n_symbols:
        raise ValueError(f'symbols from {symbols.min()} to {symbols.max()}, in an alphabet of {prior.n_symbols}')
    return symbols.astype(np.uint16)


def _read(model, symbols, scored, P=None):
    prior, tree = model
    P = np.empty((0, prior.n_symbols)) if P is None else P
    symbols = _of_alphabet(symbols, prior)
    tree = tree._replace(text=_grown(tree.text, tree.used[context_tree.TEXT] + len(symbols)))
    done, bits = 0, 0.0
    while done < len(symbols):
        tree = tree._replace(
            nodes=_grown(tree.nodes, tree.used[context_tree.NODES] + 2),
            entries=_grown(tree.entries, tree.used[context_tree.ENTRIES] + context_tree.margin(prior)),
        )
        done, more = context_tree.learn(tree, prior, symbols, done, context_tree.margin(prior), scored, P)
        bits += more
    return PitmanYor(prior, tree), bits


def _grown(array, needed):
    if needed <= len(array):
        return array
    new = np.zeros(max(needed, len(array) * 3 // 2), array.dtype)
    new[: len(array)] = array
    return new
