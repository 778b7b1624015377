"""A tree of contexts, each the restaurant of a hierarchical Pitman-Yor process; its loops are compiled by numba.

The distribution of the symbol that follows a context u is G_u ~ PY(d_u, theta_u, G_parent(u)), and G_root's parent is
uniform.  A context is read backwards from the symbol that it precedes, so its parent lacks the farthest symbol.  With a
discount d_n and a concentration theta_n = alpha d_0 ... d_n for each depth n, a context with one child and no customers
of its own can be integrated out: what remains is Pitman-Yor again, with the product of the discounts along the
collapsed edge (WAGJT09, GT10).  The tree is then the suffix tree of the reversed text: at most two nodes a symbol, its
edges substrings of the text.

A restaurant keeps, for each symbol, how many customers eat it at how many tables, and no table's own size (GT10). Where
a new context splits an edge, the sizes are drawn from their distribution given those two numbers, and all tables break
up (tables.py). A context that ends half way down an edge, and is only asked about, has the restaurant expected there.

Sources: Wood, Archambeau, Gasthaus, James & Teh 2009 (WAGJT09); Gasthaus & Teh 2010 (GT10); Teh 2006 (T06).
"""

import math
from typing import NamedTuple

import numpy as np

from hfrnn.rivals.tables import broken_up, compiled, expected_fragments, uniform

NODE = np.dtype(
    [(name, np.int32) for name in ('depth', 'end', 'symbol', 'child', 'sibling', 'entry', 'customers', 'tables')]
)  # its context is text[end - depth : end], of which ``symbol`` is the first beyond its parent's; -1 for none
ENTRY = np.dtype([(name, np.int32) for name in ('next', 'symbol', 'customers', 'tables')])

TEXT, NODES, ENTRIES, PATH = range(4)  # what Tree.used counts


class Prior(NamedTuple):
    """The hierarchical process; constant while it learns.

    Attributes:
      n_symbols: V.
      longest: the longest context that is told apart; it bounds the time per symbol where a text repeats itself.
      log_products: (longest + 2,) log(d_0 ... d_{n-1}).
      concentration: alpha.
      one_table: whether every symbol has one table in each restaurant, and nothing is drawn: Kneser-Ney (T06).
    """

    n_symbols: int
    longest: int
    log_products: np.ndarray
    concentration: float
    one_table: bool


class Tree(NamedTuple):
    """The restaurants of a text.  Learning writes into the arrays: it consumes the tree that it is given.

    Attributes:
      text: (capacity,) uint16 symbols.
      nodes: (capacity,) NODE; the root is the first.
      entries: (capacity,) ENTRY, what is eaten in a restaurant, in linked lists.
      used: (4,) how much of text, nodes, entries and path is in use.
      path: (longest + 2,) the nodes of the context that was entered last, from the root.
      random: (1,) uint64, the state of the random numbers.
    """

    text: np.ndarray
    nodes: np.ndarray
    entries: np.ndarray
    used: np.ndarray
    path: np.ndarray
    random: np.ndarray


def margin(prior: Prior) -> int:
    """The most entries that one symbol can add: one at each depth of its path, and two for each symbol at a split."""
    return prior.longest + 2 + 2 * prior.n_symbols


# -- compiled ---------------------------------------------------------------------------------------------------------


@compiled
def _discount(prior, above, depth):
    """d_{above+1} ... d_depth, of a restaurant whose parent's depth is ``above``, -1 for the root."""
    return math.exp(prior.log_products[depth + 1] - prior.log_products[above + 1])


@compiled
def _concentration(prior, depth):
    return prior.concentration * math.exp(prior.log_products[depth + 1])


@compiled
def _find(tree, v, symbol, reorder=False):
    """The entry of a symbol in a restaurant, or -1; moved to the front of the list, if to be reordered."""
    entries = tree.entries
    e, before = tree.nodes[v].entry, -1
    while e >= 0 and entries[e].symbol != symbol:
        e, before = entries[e].next, e
    if reorder and e >= 0 and before >= 0:
        entries[before].next = entries[e].next
        entries[e].next = tree.nodes[v].entry
        tree.nodes[v].entry = e
    return e


@compiled
def descend(tree, prior, context, now, path, reorder=False):
    """Walks down with the symbols before context[now], the nearest first.

    Args:
      path: (longest + 2,) to be filled.
      reorder: whether to move each child that is met to the front of its siblings, to be found sooner the next time.

    Returns:
      (how many nodes of the path are matched whole, the child whose edge was left half way or -1, the matched depth).
    """
    text, nodes = tree.text, tree.nodes
    path[0] = 0
    n = 1
    depth = 0
    deepest = min(now, prior.longest)
    while depth < deepest:
        symbol = context[now - 1 - depth]
        child, before = nodes[path[n - 1]].child, -1
        while child >= 0 and nodes[child].symbol != symbol:
            child, before = nodes[child].sibling, child
        if child < 0:
            break
        if reorder and before >= 0:
            nodes[before].sibling = nodes[child].sibling
            nodes[child].sibling = nodes[path[n - 1]].child
            nodes[path[n - 1]].child = child
        end, bottom = nodes[child].end, nodes[child].depth
        depth += 1
        while depth < min(bottom, deepest) and text[end - 1 - depth] == context[now - 1 - depth]:
            depth += 1
        if depth < bottom:
            return n, child, depth
        path[n] = child
        n += 1
    return n, -1, depth


@compiled
def _new_entry(tree, v, symbol, customers, tables):
    e = tree.used[ENTRIES]
    tree.used[ENTRIES] += 1
    entry = tree.entries[e]
    entry.next = tree.nodes[v].entry
    entry.symbol = symbol
    entry.customers = customers
    entry.tables = tables
    tree.nodes[v].entry = e


@compiled
def _split(tree, prior, v, above, depth):
    """Makes of node v, whose parent's depth is ``above``, one of a smaller depth with all that v was as its only child.

    The upper one takes v's place in the array, so that nothing that points to v need be found.
    """
    nodes, entries = tree.nodes, tree.entries
    low = tree.used[NODES]
    tree.used[NODES] += 1
    nodes[low] = nodes[v]
    nodes[low].sibling = -1
    nodes[low].symbol = tree.text[nodes[v].end - 1 - depth]
    nodes[v].depth = depth
    nodes[v].child = low
    nodes[v].entry = -1
    nodes[v].customers = 0
    d_low = _discount(prior, depth, nodes[low].depth)
    d_both = _discount(prior, above, nodes[low].depth)
    e = nodes[low].entry
    while e >= 0:
        customers, tables = entries[e].customers, entries[e].tables
        n = tables if prior.one_table else broken_up(customers, tables, d_low, d_both, tree.random)
        entries[e].tables = n
        _new_entry(tree, v, entries[e].symbol, n, tables)
        nodes[v].customers += n
        e = entries[e].next
    nodes[low].tables = nodes[v].customers


@compiled
def _enter(tree, prior):
    """Makes the node of the context that the whole text is, and leaves its path in the tree."""
    nodes = tree.nodes
    now = tree.used[TEXT]
    n, child, depth = descend(tree, prior, tree.text, now, tree.path, True)
    if child >= 0:
        _split(tree, prior, child, nodes[tree.path[n - 1]].depth, depth)
        tree.path[n] = child
        n += 1
    if depth < min(now, prior.longest):
        leaf = tree.used[NODES]
        tree.used[NODES] += 1
        parent = tree.path[n - 1]
        nodes[leaf].depth = min(now, prior.longest)
        nodes[leaf].end = now
        nodes[leaf].symbol = tree.text[now - 1 - depth]
        nodes[leaf].child = -1
        nodes[leaf].sibling = nodes[parent].child
        nodes[leaf].entry = -1
        nodes[leaf].customers = 0
        nodes[leaf].tables = 0
        nodes[parent].child = leaf
        tree.path[n] = leaf
        n += 1
    tree.used[PATH] = n


@compiled
def _seat(tree, prior, symbol, parents, found):
    """A customer at the end of the path; while a table is new, another one in the parent's restaurant.

    Args:
      parents, found: (longest + 2,) scratch: the probability of the symbol above each restaurant, and its entry in it.
    """
    nodes, entries, path = tree.nodes, tree.entries, tree.path
    n = tree.used[PATH]
    p = 1.0 / prior.n_symbols
    above = -1
    for i in range(n):
        v = path[i]
        parents[i] = p
        found[i] = _find(tree, v, symbol, True)
        if not prior.one_table:
            p = _mix(tree, prior, v, found[i], above, p)
            above = nodes[v].depth
    for i in range(n - 1, -1, -1):
        v, e = path[i], found[i]
        nodes[v].customers += 1
        if e < 0:
            _new_entry(tree, v, symbol, 1, 1)
            nodes[v].tables += 1
            continue
        entries[e].customers += 1
        if prior.one_table:
            break
        d = _discount(prior, nodes[path[i - 1]].depth if i else -1, nodes[v].depth)
        new = (_concentration(prior, nodes[v].depth) + d * nodes[v].tables) * parents[i]
        old = entries[e].customers - 1 - d * entries[e].tables
        if uniform(tree.random) * (new + old) >= new:
            break
        entries[e].tables += 1
        nodes[v].tables += 1


@compiled
def _mix(tree, prior, v, e, above, p):
    """G_v(symbol) from p = G_parent(symbol): (c_s - d t_s + (theta + d t) p) / (theta + c) (T06)."""
    node = tree.nodes[v]
    if node.customers == 0:
        return p
    d = _discount(prior, above, node.depth)
    theta = _concentration(prior, node.depth)
    p *= (theta + d * node.tables) / (theta + node.customers)
    if e >= 0:
        p += (tree.entries[e].customers - d * tree.entries[e].tables) / (theta + node.customers)
    return p


@compiled
def _half_way(tree, prior, child, above, depth, weights):
    """The restaurant that would stand at ``depth`` on the edge to a child, its customers being expected fragments.

    The tables of a symbol are taken to be of equal size.

    Args:
      weights: (V,) to be filled: where a symbol is eaten there, (c_s - d t_s) / (theta + c).

    Returns:
      (theta + d t) / (theta + c).
    """
    d = _discount(prior, above, depth)
    d_low = _discount(prior, depth, tree.nodes[child].depth)
    theta = _concentration(prior, depth)
    total = theta
    e = tree.nodes[child].entry
    while e >= 0:
        entry = tree.entries[e]
        customers = float(entry.tables)
        if not prior.one_table and entry.customers > entry.tables:
            customers *= expected_fragments(entry.customers / entry.tables, d_low, d * d_low)
        weights[entry.symbol] = customers - d * entry.tables
        total += customers
        e = entry.next
    e = tree.nodes[child].entry
    while e >= 0:
        weights[tree.entries[e].symbol] /= total
        e = tree.entries[e].next
    return (theta + d * tree.nodes[child].tables) / total


@compiled
def _probability(tree, prior, context, now, path, weights):
    """P(context[now] | context[:now])."""
    symbol = context[now]
    n, child, depth = descend(tree, prior, context, now, path)
    p = 1.0 / prior.n_symbols
    above = -1
    for i in range(n):
        p = _mix(tree, prior, path[i], _find(tree, path[i], symbol), above, p)
        above = tree.nodes[path[i]].depth
    if child >= 0 and tree.nodes[child].customers > 0:
        p *= _half_way(tree, prior, child, above, depth, weights)
        if _find(tree, child, symbol) >= 0:
            p += weights[symbol]
    return p


@compiled
def distribution(tree, prior, context, now, p):
    """The same for all symbols at once, into p (V,)."""
    path = np.empty(prior.longest + 2, np.int32)
    weights = np.empty(prior.n_symbols)
    n, child, depth = descend(tree, prior, context, now, path)
    p[:] = 1.0 / prior.n_symbols
    above = -1
    for i in range(n):
        node = tree.nodes[path[i]]
        if node.customers > 0:
            d = _discount(prior, above, node.depth)
            theta = _concentration(prior, node.depth)
            p *= (theta + d * node.tables) / (theta + node.customers)
            e = node.entry
            while e >= 0:
                entry = tree.entries[e]
                p[entry.symbol] += (entry.customers - d * entry.tables) / (theta + node.customers)
                e = entry.next
        above = node.depth
    if child >= 0 and tree.nodes[child].customers > 0:
        p *= _half_way(tree, prior, child, above, depth, weights)
        e = tree.nodes[child].entry
        while e >= 0:
            p[tree.entries[e].symbol] += weights[tree.entries[e].symbol]
            e = tree.entries[e].next


@compiled
def static_bits(tree, prior, context, start):
    path = np.empty(prior.longest + 2, np.int32)
    weights = np.empty(prior.n_symbols)
    bits = 0.0
    for now in range(start, len(context)):
        bits -= math.log2(_probability(tree, prior, context, now, path, weights))
    return bits


@compiled
def predict(tree, prior, context, start, P):
    """The distribution of each symbol of context[start:] (N,), into P (N, V)."""
    for now in range(start, len(context)):
        distribution(tree, prior, context, now, P[now - start])


@compiled
def log2_probabilities(tree, prior, context, texts, targets, out):
    """log2 P(targets[b, t] | context, texts[b, :t]) into out (B, T), nothing being learnt."""
    path = np.empty(prior.longest + 2, np.int32)
    weights = np.empty(prior.n_symbols)
    known = np.empty(len(context) + texts.shape[1], context.dtype)
    known[: len(context)] = context
    for b in range(len(texts)):
        for t in range(texts.shape[1]):
            now = len(context) + t
            known[now] = targets[b, t]
            out[b, t] = math.log2(_probability(tree, prior, known, now, path, weights))
            known[now] = texts[b, t]


@compiled
def learn(tree, prior, symbols, start, margin, scored, P):
    """Learns symbols[start:], or as many as there is room for.  Returns (the first not learnt, bits).

    Args:
      P: (N, V) for the distribution of each symbol before it is learnt; or (0, V), for none.
    """
    parents = np.empty(prior.longest + 2)
    found = np.empty(prior.longest + 2, np.int32)
    path = np.empty(prior.longest + 2, np.int32)
    weights = np.empty(prior.n_symbols)
    bits = 0.0
    for i in range(start, len(symbols)):
        if tree.used[NODES] + 2 > len(tree.nodes) or tree.used[ENTRIES] + margin > len(tree.entries):
            return i, bits
        now = tree.used[TEXT]
        tree.text[now] = symbols[i]
        if scored:
            bits -= math.log2(_probability(tree, prior, tree.text, now, path, weights))
        if len(P):
            distribution(tree, prior, tree.text, now, P[i])
        _enter(tree, prior)
        _seat(tree, prior, symbols[i], parents, found)
        tree.used[TEXT] += 1
    return len(symbols), bits
