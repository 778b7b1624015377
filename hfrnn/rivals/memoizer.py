"""The sequence memoizer: contexts of any length (but see ``longest``), each smoothed by the next shorter one (WAGJT09).

    model = memoizer.train(symbols, n_symbols)
    pitman_yor.static_bits(model, test), pitman_yor.online_bits(model, test), pitman_yor.static(model), ...

Exact where a context has a node in the tree, one seating given; elsewhere the restaurant is the one expected, as of
tables of equal size, where other programs draw one (context_tree).

Sources: Wood, Archambeau, Gasthaus, James & Teh 2009 (WAGJT09); Gasthaus & Teh 2010.
"""

from collections.abc import Sequence

import numpy as np

from hfrnn.rivals import pitman_yor

# Of depths 0, 1, ..., the last for all deeper.  Other programs for the memoizer have 0.05, 0.7, 0.8, 0.82, 0.84, ...,
# 0.95, and a concentration of 0 or 5; from there some twenty were tried by hand on Penn Treebank's validation text.
DISCOUNTS = (0.05, 0.65, 0.76, 0.8, 0.84, 0.88, 0.91, 0.92, 0.93, 0.94, 0.95, 0.96, 0.97)
CONCENTRATION = 10.0


def train(
    symbols: np.ndarray,
    n_symbols: int,
    *,
    discounts: Sequence[float] = DISCOUNTS,
    concentration: float = CONCENTRATION,
    longest: int = 1000,
    seed: int = 0,
) -> pitman_yor.PitmanYor:
    """The memoizer of a text (N,), in time and memory linear in N but where the text repeats itself at length.

    Customers are seated one by one as they come, by one draw each: a particle filter of one particle.

    Args:
      n_symbols: V.
      concentration: that of the root is this times the root's discount.
      longest: contexts that agree in so many symbols are taken for one.
      seed: of the seating.
    """
    prior = pitman_yor.prior(n_symbols, longest, discounts, concentration)
    return pitman_yor.learn(pitman_yor.empty(prior, seed), symbols)
