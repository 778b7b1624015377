"""Tables of a Pitman-Yor restaurant, and how they break up where a restaurant is split in two; compiled by numba.

A restaurant of discount d_both = d_up d_low becomes a child of discount d_low below a new one of discount d_up, so that
with the new one integrated out it is what it was (WAGJT09): each of its tables is seated anew, as the customers of a
Chinese restaurant process of discount d_low and concentration -d_both are, and all the tables that this gives send one
customer each to one table of the new restaurant.

Sources: Wood, Archambeau, Gasthaus, James & Teh 2009 (WAGJT09); Gasthaus & Teh 2010 (GT10).
"""

import math

import numpy as np

try:
    from numba import njit
except ModuleNotFoundError as e:
    raise ModuleNotFoundError("this needs numba: pip install 'hfrnn[rivals]'", name='numba') from e

# A cached function is compiled anew when its own file changes, not when this one does: then touch context_tree.py too.
compiled = njit(cache=True, error_model='numpy')


@compiled
def uniform(random):
    """A number in [0, 1) by SplitMix64 (Steele, Lea & Flood 2014)."""
    random[0] += np.uint64(0x9E3779B97F4A7C15)
    z = random[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53


@compiled
def fragments(size, d_low, d_both, random):
    """Into how many tables one of ``size`` customers breaks up: as many as CRP(d_low, -d_both) opens for them."""
    k = 1
    for n in range(1, size):
        if uniform(random) * (n - d_both) < k * d_low - d_both:
            k += 1
    return k


@compiled
def expected_fragments(size, d_low, d_both):
    """The mean of ``fragments``, for any real size."""
    log_ratio = math.lgamma(size + d_low - d_both) - math.lgamma(size - d_both)
    log_ratio += math.lgamma(1 - d_both) - math.lgamma(d_low - d_both)
    return math.exp(log_ratio) / d_low + d_both / d_low


@compiled
def table_sizes(customers, tables, d, random):
    """(tables,) sizes, drawn with probability proportional to the product of Gamma(size - d) over the tables.

    From the last customer to the first it is drawn who opened a table, by generalised Stirling numbers
    S(n, k) = S(n-1, k-1) + (n - 1 - d k) S(n-1, k) (GT10); then the others sit down, each as CRP says.
    """
    if tables == 1:
        return np.array([customers])
    log_S = np.full((customers + 1, tables + 1), -np.inf)
    log_S[0, 0] = 0.0
    for n in range(1, customers + 1):
        for k in range(1, min(n, tables) + 1):
            opened = log_S[n - 1, k - 1]
            joined = log_S[n - 1, k] + math.log(n - 1 - d * k) if k < n else -np.inf
            most = max(opened, joined)
            if most > -np.inf:
                log_S[n, k] = most + math.log(math.exp(opened - most) + math.exp(joined - most))
    opens = np.zeros(customers + 1, np.bool_)
    k = tables
    for n in range(customers, 0, -1):
        if uniform(random) < math.exp(log_S[n - 1, k - 1] - log_S[n, k]):
            opens[n] = True
            k -= 1
    sizes = np.zeros(tables, np.int64)
    for n in range(1, customers + 1):
        if opens[n]:
            sizes[k] = 1
            k += 1
        else:
            left = uniform(random) * (n - 1 - d * k)
            j = 0
            while j < k - 1 and left >= sizes[j] - d:
                left -= sizes[j] - d
                j += 1
            sizes[j] += 1
    return sizes


@compiled
def broken_up(customers, tables, d_low, d_both, random, cells=2**18):
    """Into how many tables ``tables`` of them break up, ``customers`` sitting there in all.

    Where the table of Stirling numbers would have more than so many cells, customers and tables are first dealt out to
    groups as evenly as can be: an approximation, which bounds time and memory where a text is very regular.
    """
    if customers == tables:
        return tables
    groups = min(math.ceil(math.sqrt(customers * tables / cells)), tables)
    others = customers - tables  # but for one at each table
    n = 0
    for i in range(groups):
        t = tables * (i + 1) // groups - tables * i // groups
        c = others * (i + 1) // groups - others * i // groups + t
        for size in table_sizes(c, t, d_both, random):
            n += fragments(size, d_low, d_both, random)
    return n
