"""Penn Treebank by LSTM language models, characters and words: Graves 2013 sec. 3.1.

    python -m experiments.penn_treebank --flagfile=experiments/flags/ptb_lstm.flags --data=FOLDER --workdir=runs/lstm
    python -m experiments.penn_treebank --workdir=runs/lstm --mode=evaluate --data=FOLDER
    python -m experiments.penn_treebank --workdir=runs/lstm --mode=sample --prompt="the company " --temperature=0.7
    python -m experiments.penn_treebank --workdir=runs/lstm --mode=score --text="the company said" --plot=surprise.png

Weight noise begins with the weights of a run without: --noise=fixed --init_from=runs/lstm.  --corpus may also be the
path of any text file; --unit=words reads words.
"""

import sys

from experiments import text
from hfrnn.text.experiment import G13
from hfrnn.text.report import Evaluation
from hfrnn.train.experiment import Limits

DEFAULT = G13
LIMITS = Limits(epochs=9, evaluate_every=400)
EVALUATION = Evaluation(dynamic=('sgd', 'rms'))


def main(argv):
    text.main(argv, __doc__, DEFAULT, LIMITS, EVALUATION, shipped='penn_treebank')


if __name__ == '__main__':
    main(sys.argv)
