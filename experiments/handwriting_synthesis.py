"""Handwriting synthesis: Graves 2013 (G13), sec. 5.

    python -m experiments.handwriting_synthesis --flagfile=experiments/flags/synthesis_3x400.flags \\
        --data=FOLDER --workdir=runs/synthesis

--mode=train trains, goes on if --workdir holds the same run, and ends by evaluating; --mode=evaluate reads a finished
or unfinished run, and takes from it the flags that define it.  --source=pens needs no data.
"""

import sys

from absl import app, flags

from experiments import cli, handwriting
from hfrnn.handwriting import synthesis_net

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(cli)
flags.adopt_module_key_flags(handwriting)

MODE = flags.DEFINE_enum('mode', 'train', ['train', 'evaluate'], 'What to do.')

flags.DEFINE_integer('gaussians', 10, 'Of the window over the text, K.', lower_bound=1)  # defines a run


def make_net(n_symbols, dtype):
    return synthesis_net(
        n_symbols,
        FLAGS.layers,
        FLAGS.hidden,
        FLAGS.mixtures,
        FLAGS.gaussians,
        FLAGS.clip or None,
        FLAGS.output_clip or None,
        dtype,
    )


TASK = handwriting.Task('handwriting_synthesis', sys.modules[__name__], (MODE,), make_net, reads_text=True)


def main(argv):
    mode = {'train': handwriting.train, 'evaluate': handwriting.evaluate}[MODE.value]
    cli.main(argv, lambda: mode(TASK))


if __name__ == '__main__':
    app.run(main)
