"""Handwriting synthesis: Graves 2013 (G13), sec. 5.

    python -m experiments.handwriting_synthesis --flagfile=experiments/flags/handwriting_synthesis_3x400.flags \\
        --data=FOLDER --workdir=runs/synthesis
    python -m experiments.handwriting_synthesis --text="Hello" --bias=1 --output=hello

--mode=train trains, goes on if --workdir holds the same run, and ends by evaluating; --mode=evaluate repeats that end,
with the settings of the run.  --source=pens needs no data.

With a text, --mode=write writes it as SVG, PNG and JSON, with a net of the package, a file or a run; --mode=inspect
draws the paper's figures, of the text as the net writes it or, without one, of lines of data.  --mode=export makes a
small file of a run's best weights.
"""

import sys

from experiments import handwriting
from hfrnn.handwriting.experiment import Handwriting

DEFAULT = Handwriting(task='synthesis')


def main(argv):
    handwriting.main(argv, __doc__, DEFAULT)


if __name__ == '__main__':
    main(sys.argv)
