"""Laws of the metrics of handwriting."""

import jax.numpy as jnp
import numpy as np
from numpy.testing import assert_allclose

from hfrnn.handwriting.metrics import pen_sums, word_recall
from hfrnn.nets import outputs
from hfrnn.train.loss import eval_step
from tests.train.test_first_order_step import NET, alone, lines, one_by_one, params_of


def test_lines_are_measured_as_by_hand(x64):
    """Nats of a line, at rest and in all, and squared error of a point, whatever fills the batch up."""
    params, batch = params_of(), lines()
    rest = np.array([-0.3, 0.2])
    batch.targets[0, :2, :2] = rest
    batch.targets[1, 0, 0] = rest[0]  # moves in y
    batch.targets[batch.weights == 0, :2] = rest
    found = alone(eval_step(NET, **pen_sums(NET, rest)))(params, batch)
    assert (found['targets'], found['targets_at_rest'], found['sequences']) == (14, 2, 3)
    total, resting, errors = 0.0, 0.0, 0.0
    for line in one_by_one(batch):
        for z, target in zip(NET.predict(params, line.xs[0]).z, line.targets[0], strict=True):
            m = outputs.mixture(z)
            total += NET.output.nll(z, target)
            resting += NET.output.nll(z, target) * (target[:2] == rest).all()
            errors += sum((float(jnp.exp(m.log_pi) @ m.mu[axis]) - target[axis]) ** 2 for axis in (0, 1))
    assert_allclose((found['nats'], found['nats_at_rest'], found['squared']), (total, resting, errors))


def test_words_are_read_in_order_whatever_their_case_and_punctuation():
    reference = "I can't, she 'said': caf\xe9."
    for same in (reference, 'I CAN\u2019T she_said cafe\u0301'):
        assert word_recall(reference, same) == (5, 5, 5)
    assert word_recall(reference, 'I ? she sald no, no') == (5, 5, 2)
    assert word_recall(reference, 'said she') == (5, 2, 1)
    assert word_recall(reference, '') == (5, 0, 0)
    assert word_recall('the kettle sings before the rain', 'zz zz sings zz the zz') == (6, 6, 2)
