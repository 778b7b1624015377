"""The raw bytes of Wikipedia by LSTM language models: Graves 2013 sec. 3.2.

    python -m experiments.wikipedia --flagfile=experiments/flags/enwik8_lstm.flags --data=FOLDER --workdir=runs/wiki

The corpus is enwik8: 96 million bytes to learn from, the last 4 million for the test, as in the paper; but the last
500,000 of the 96 million are kept for validation, on which dynamic evaluation is tuned.  The state starts anew every
100 sequences of 100 bytes.  The modes are those of experiments/language.py.
"""

from absl import flags

from experiments import cli, language

flags.adopt_module_key_flags(language)
for name, value in {'corpus': 'enwik8', 'held_out': 500_000, 'reset_every': 100, 'momentum': 0.9}.items():
    flags.FLAGS.set_default(name, value)

if __name__ == '__main__':
    cli.run(language.main)
