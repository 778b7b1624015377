"""Handwriting prediction: Graves 2013 (G13), sec. 4.

    python -m experiments.handwriting_prediction --flagfile=experiments/flags/handwriting_prediction_3x400.flags \\
        --data=FOLDER --workdir=runs/prediction

--mode=train trains, goes on if --workdir holds the same run, and ends by evaluating; --mode=evaluate reads a finished
or unfinished run, and takes from it the flags that define it.  --source=pens needs no data.

--mode=sample lets the net write what it likes, --copies lines of --points points, as SVG, PNG and JSON; --mode=look
draws the paper's figures; --mode=export makes of a run a small file of weights.
"""

import sys

from absl import flags

from experiments import cli, handwriting, handwriting_writing
from hfrnn.errors import SettingsError
from hfrnn.handwriting.models import prediction_net

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(cli)
flags.adopt_module_key_flags(handwriting)
flags.adopt_module_key_flags(handwriting_writing)

MODES = {
    'train': handwriting.train,
    'evaluate': handwriting.evaluate,
    'sample': handwriting_writing.sample,
    'look': handwriting_writing.look,
    'export': handwriting_writing.export,
}
MODE = flags.DEFINE_enum('mode', 'train', list(MODES), 'What to do.')


def make_net(n_symbols, **while_training):
    return prediction_net(
        FLAGS.layers,
        FLAGS.hidden,
        FLAGS.mixtures,
        clip=FLAGS.clip or None,
        output_clip=FLAGS.output_clip or None,
        **while_training,
    )


TASK = handwriting.Task(
    'handwriting_prediction', sys.modules[__name__], (MODE, *handwriting_writing.FREE), make_net, reads_text=False
)


def main(argv):
    def mode():
        if FLAGS.text is not None or FLAGS.text_file is not None:
            raise SettingsError('a prediction net writes what it likes; texts are written by handwriting_synthesis')
        cli.check_weights(MODE.value)
        MODES[MODE.value](TASK)

    cli.main(argv, mode)


if __name__ == '__main__':
    cli.run(main)
