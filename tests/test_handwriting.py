import jax
import pytest

from hfrnn import handwriting, model


@pytest.mark.parametrize(
    'net, weights',
    [
        (handwriting.prediction_net(1, 900), 3_366_121),
        (handwriting.prediction_net(), 3_368_121),
        (handwriting.synthesis_net(57), 3_653_751),
    ],
    ids=['1x900', '3x400', 'synthesis'],
)
def test_nets_are_as_large_as_the_papers(net, weights):
    """G13 sec. 4.2 and 5.2: about 3.4 and 3.7 million, counted here with peepholes and every skip connection."""
    assert model.size(jax.eval_shape(net.init, jax.random.key(0))) == weights
