"""Penn Treebank by LSTM language models, characters and words: Graves 2013 sec. 3.1.

    python -m experiments.penn_treebank --flagfile=experiments/flags/ptb_lstm.flags --data=FOLDER --workdir=runs/lstm
    python -m experiments.penn_treebank --workdir=runs/lstm --mode=evaluate --data=FOLDER
    python -m experiments.penn_treebank --workdir=runs/lstm --mode=sample --prompt="the company " --temperature=0.7
    python -m experiments.penn_treebank --workdir=runs/lstm --mode=score --text="the company said" --plot=surprise.png

Weight noise begins with the weights of a run without: --noise=fixed --init_from=runs/lstm.  --corpus may also be the
path of any text file; --unit=words reads words.  The modes are those of experiments/language.py.
"""

from absl import flags

from experiments import cli, language

flags.adopt_module_key_flags(language)

if __name__ == '__main__':
    cli.run(language.main)
