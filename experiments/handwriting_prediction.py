"""Handwriting prediction: Graves 2013 (G13), sec. 4.

    python -m experiments.handwriting_prediction --flagfile=experiments/flags/handwriting_prediction_3x400.flags \\
        --data=FOLDER --workdir=runs/prediction

--mode=train trains, goes on if --workdir holds the same run, and ends by evaluating; --mode=evaluate repeats that end,
with the settings of the run.  --source=pens needs no data.

--mode=sample lets the net write what it likes, --copies lines of --points points, as SVG, PNG and JSON; --mode=inspect
draws the paper's figures; --mode=export makes a small file of a run's best weights.
"""

import sys

from experiments import handwriting
from hfrnn.handwriting.experiment import Handwriting

DEFAULT = Handwriting(task='prediction')


def main(argv):
    handwriting.main(argv, __doc__, DEFAULT)


if __name__ == '__main__':
    main(sys.argv)
