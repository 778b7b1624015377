"""Handwriting synthesis: Graves 2013 (G13), sec. 5.

    python -m experiments.handwriting_synthesis --flagfile=experiments/flags/handwriting_synthesis_3x400.flags \\
        --data=FOLDER --workdir=runs/synthesis
    python -m experiments.handwriting_synthesis --text="Hello" --bias=1 --output=hello

--mode=train trains, goes on if --workdir holds the same run, and ends by evaluating; --mode=evaluate reads a finished
or unfinished run, and takes from it the flags that define it.  --source=pens needs no data.

With a text, --mode=write writes it as SVG, PNG and JSON, with weights of the package, a file or a run; --mode=look
draws the paper's figures, of the text as the net writes it or, without one, of lines of data.  --mode=export makes of a
run a small file of weights.
"""

import sys

from absl import flags

from experiments import cli, handwriting, handwriting_writing
from hfrnn.errors import SettingsError
from hfrnn.handwriting.models import synthesis_net

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(cli)
flags.adopt_module_key_flags(handwriting)
flags.adopt_module_key_flags(handwriting_writing)

MODES = {
    'train': handwriting.train,
    'evaluate': handwriting.evaluate,
    'write': handwriting_writing.write,
    'look': handwriting_writing.look,
    'export': handwriting_writing.export,
}
MODE = flags.DEFINE_enum('mode', None, list(MODES), 'What to do: write if there is a text, else train.')

flags.DEFINE_integer('gaussians', 10, 'Of the window over the text, K.', lower_bound=1)  # defines a run


def make_net(n_symbols, **while_training):
    return synthesis_net(
        n_symbols,
        FLAGS.layers,
        FLAGS.hidden,
        FLAGS.mixtures,
        FLAGS.gaussians,
        clip=FLAGS.clip or None,
        output_clip=FLAGS.output_clip or None,
        **while_training,
    )


TASK = handwriting.Task(
    'handwriting_synthesis', sys.modules[__name__], (MODE, *handwriting_writing.FREE), make_net, reads_text=True
)


def main(argv):
    text = FLAGS.text is not None or FLAGS.text_file is not None

    def mode():
        name = MODE.value or ('write' if text else 'train')
        if text and name not in ('write', 'look'):
            raise SettingsError(f'--mode={name} writes no text; leave --mode out')
        cli.check_weights(name)
        MODES[name](TASK)

    cli.main(argv, mode)


if __name__ == '__main__':
    cli.run(main)
