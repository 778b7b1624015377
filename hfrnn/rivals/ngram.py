"""Interpolated Kneser-Ney n-grams: the hierarchical Pitman-Yor process of bounded depth and one table a symbol (T06).

With one table for each symbol in a restaurant, the customers of a context are its Kneser-Ney counts: how often a symbol
followed it, for the longest contexts; after how many different symbols to its left, for all others.  With concentration
0 the predictive probability is the interpolated estimate of CG99, plain, that is with one discount for each order.

Sources: Kneser & Ney 1995; Chen & Goodman 1999 (CG99); Teh 2006 (T06).
"""

import numpy as np

from hfrnn.rivals import context_tree, pitman_yor
from hfrnn.rivals.tables import compiled


def train(symbols: np.ndarray, n_symbols: int, order: int) -> pitman_yor.PitmanYor:
    """The n-gram model of a text (N,): of each symbol given the ``order`` - 1 before it.

    The discount of each order is (n1 + 1/2) / (n1 + 2 n2 + 1), with n1 and n2 the numbers of its n-grams that are
    counted once and twice: CG99's, but for the constants, which keep it between 0 and 1 where there are none.  Later
    learning adds to the counts and leaves the discounts.  Below the lowest order all symbols are equally likely.

    Raises:
      ValueError: for an order below 1, or one so high, of a text that repeats itself, that discounts multiply to 0.
    """
    if order < 1:
        raise ValueError(f'an n-gram has at least one symbol, not {order}')
    unknown = pitman_yor.prior(n_symbols, order - 1, np.full(order, 0.5), one_table=True)
    model = pitman_yor.learn(pitman_yor.empty(unknown), symbols)
    n1, n2 = counts_of_counts(model).T
    discounts = (n1 + 0.5) / (n1 + 2 * n2 + 1)
    return model._replace(prior=pitman_yor.prior(n_symbols, order - 1, discounts, one_table=True))


def counts_of_counts(model: pitman_yor.PitmanYor) -> np.ndarray:
    """(order, 2): how many n-grams of each order are counted once, and twice."""
    counts = np.zeros((model.prior.longest + 2, 2), np.int64)
    _count(model.tree.nodes, model.tree.entries, model.tree.used[context_tree.NODES], counts)
    return counts[:-1]


@compiled
def _count(nodes, entries, n_nodes, counts):
    for parent in range(-1, n_nodes):  # -1 stands above the root
        above = nodes[parent].depth if parent >= 0 else -1
        v = nodes[parent].child if parent >= 0 else 0
        while v >= 0:
            e = nodes[v].entry
            while e >= 0:
                for depth in range(above + 1, nodes[v].depth):  # on a collapsed edge all is counted once
                    counts[depth, 0] += 1
                if entries[e].customers <= 2:
                    counts[nodes[v].depth, entries[e].customers - 1] += 1
                e = entries[e].next
            v = nodes[v].sibling
