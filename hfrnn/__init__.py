"""Recurrent nets that generate sequences, and Hessian-Free optimisation.

For a net of one's own the optimiser is here, as ``from hfrnn import hessian_free, gauss_newton``; the page that says
what to pass is that of the module ``hfrnn.optim.hessian_free``.  All else is imported from its module.
"""

from hfrnn.optim.curvature import fisher_loss, gauss_newton, tanh_distance
from hfrnn.optim.hessian_free import HessianFreeState, hessian_free, martens2010, martens_sutskever2012, sutskever2011
from hfrnn.xla_flags import turn_off_wrong_fusions

__all__ = [
    'HessianFreeState',
    'fisher_loss',
    'gauss_newton',
    'hessian_free',
    'martens2010',
    'martens_sutskever2012',
    'sutskever2011',
    'tanh_distance',
]

turn_off_wrong_fusions()  # no import before this line makes a backend
