"""Recurrent nets that generate sequences, and Hessian-Free optimisation.

    import hfrnn

    hfrnn.write('Hello')                                    # lines by hand; in a notebook they show themselves
    hfrnn.sample('penn_treebank', prompt='the company ')    # text
    hfrnn.score('penn_treebank', 'the company said')        # bits per character
    net = hfrnn.load('runs/mine')                           # a net that ships, a file of one, or a run
    hfrnn.train.run(experiment, 'runs/mine')                # any run

For a net of one's own the optimiser is here, as ``from hfrnn import hessian_free, gauss_newton``; the page that says
what to pass is that of the module ``hfrnn.optim.hessian_free``.  All else is imported from its module.

To read the library: ``nets.cells`` and ``nets.model``; ``optim.hessian_free``, with ``curvature`` and
``conjugate_gradient``; ``train.experiment``, the life of a run; ``text.experiment`` and ``handwriting.experiment``.
"""

from hfrnn import train
from hfrnn.bundle import Bundle, check_kind, load
from hfrnn.errors import DataError
from hfrnn.optim.curvature import fisher_loss, gauss_newton, tanh_distance
from hfrnn.optim.hessian_free import HessianFreeState, hessian_free, martens2010, martens_sutskever2012, sutskever2011
from hfrnn.xla_flags import turn_off_wrong_fusions

__all__ = [
    'Bundle',
    'HessianFreeState',
    'fisher_loss',
    'gauss_newton',
    'hessian_free',
    'load',
    'martens2010',
    'martens_sutskever2012',
    'sample',
    'score',
    'sutskever2011',
    'tanh_distance',
    'train',
    'write',
]

turn_off_wrong_fusions()  # no import before this line makes a backend


def write(text: str, net: str | Bundle = 'iamondb', *, bias: float = 0.5, seed: int = 0, width: int = 40):
    """Writes a text by hand.

    Args:
      text: of any length up to 64 lines.
      net: a synthesis net, or the name of one, as ``load`` takes it.
      bias: 0 writes as people do, more is neater (Graves 2013 sec. 5.4).
      seed: another seed, another writing.
      width: characters in a line, at most.

    Returns:
      ``handwriting.generate.Written``: the strokes of each line, which show themselves as SVG in a notebook.

    Raises:
      DataError: if the text is empty or too long, has a character that cannot be written, or the net is another.
    """
    from hfrnn.handwriting import generate

    net = _loaded(net)
    check_kind(net, 'handwriting', task='synthesis')
    if width < 1:
        raise DataError(f'width={width}: a line has one character or more')
    writer = generate.open_writer(net)
    lines, _ = generate.to_lines(text, writer.alphabet, width)
    return generate.write(writer, lines, bias=bias, seed=seed)


def sample(
    net: str | Bundle, *, prompt: str | None = None, length: int = 500, temperature: float = 1.0, seed: int = 0
) -> str:
    """A prompt, and a text that a net goes on with.

    Args:
      net: a net of text, or the name of one, as ``load`` takes it.
      prompt: the end of a line if None.
      length: symbols to draw.
      temperature: 1 draws from the net's own distribution, 0 takes the likeliest symbol each time.
      seed: another seed, another text.

    Raises:
      DataError: if the net's alphabet lacks a character of the prompt, or the net is another.
      SettingsError: if the length, temperature or seed is out of bounds.
    """
    from hfrnn.text import generate, models
    from hfrnn.train.settings import check

    s = generate.Sampling(prompt, length, temperature, sample_seed=seed)
    check(s)
    return generate.sample_as(s, models.open_net(_loaded(net)))


def score(net: str | Bundle, text: str, *, prompt: str | None = None) -> float:
    """The bits per symbol that a net, frozen, gives a text: -log2 P(text | prompt) / its symbols.

    Args:
      net: a net of text, or the name of one, as ``load`` takes it.
      prompt: what it reads first; the end of a line if None.

    Raises:
      DataError: if the net's alphabet lacks a character, the text is empty, or the net is another.
    """
    from hfrnn.text import models, scoring

    return scoring.bits_per_symbol(models.open_net(_loaded(net)), text, prompt)


def _loaded(net):
    return net if isinstance(net, Bundle) else load(net)
