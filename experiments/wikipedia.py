"""The raw bytes of Wikipedia by LSTM language models: Graves 2013 sec. 3.2.

    python -m experiments.wikipedia --flagfile=experiments/flags/enwik8_lstm.flags --data=FOLDER --workdir=runs/wiki

The corpus is enwik8: 96 million bytes to learn from, the last 4 million for the test, as in the paper; but the last
500,000 of the 96 million are kept for validation, on which dynamic evaluation is tuned.  The state starts anew every
100 sequences of 100 bytes.
"""

import sys

from experiments import text
from experiments.penn_treebank import EVALUATION, LIMITS
from hfrnn.text.experiment import G13
from hfrnn.train.settings import replace

DEFAULT = replace(G13, corpus='enwik8', held_out=500_000, reset_every=100, momentum=0.9)


def main(argv):
    text.main(argv, __doc__, DEFAULT, LIMITS, EVALUATION)


if __name__ == '__main__':
    main(sys.argv)
