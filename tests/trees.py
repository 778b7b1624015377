"""Trees of arrays, compared."""

import functools

import jax
from numpy.testing import assert_allclose


def assert_trees_close(a, b, **kwargs):
    jax.tree.map(functools.partial(assert_allclose, **kwargs), a, b)
