"""Generating text with recurrent nets: Sutskever, Martens & Hinton 2011.

    python -m experiments.text_mrnn --flagfile=experiments/flags/quickstart.flags
    python -m experiments.text_mrnn --workdir=runs/quickstart --mode=sample --prompt="The " --sample_length=500

The multiplicative RNN by Hessian-Free, on any text; and every other cell and optimiser, to set beside it.
"""

import sys

from experiments import text
from hfrnn.text.experiment import SMH11
from hfrnn.text.report import Evaluation
from hfrnn.train.experiment import Limits

DEFAULT = SMH11
LIMITS = Limits(steps=160, evaluate_every=10)
EVALUATION = Evaluation(stride=200, context=50)


def main(argv):
    text.main(argv, __doc__, DEFAULT, LIMITS, EVALUATION, measure_compressors=True)


if __name__ == '__main__':
    main(sys.argv)
