"""The choice of a rate on validation text."""

import math

import numpy as np
import pytest

from hfrnn.errors import DataError
from hfrnn.text import tuning


@pytest.mark.parametrize('best', [1e-7, 3e-4, 0.9, 50.0])
@pytest.mark.parametrize('cliff', [1.0, math.inf, math.nan])
def test_tuning_finds_the_valley_and_shuns_the_cliff(best, cliff):
    def measure(rate):
        assert rate > 0
        return (math.log(rate / best)) ** 2 if rate < 5 * best or cliff == 1 else cliff

    rate, value = tuning.tune(measure, 1e-2, most=30)
    assert best / 2 < rate < best * 2
    assert value == measure(rate)


def test_where_the_weights_diverge_at_every_rate_none_is_chosen():
    with pytest.raises(DataError, match='diverge'):
        tuning.tuned(lambda rate, decay: math.nan, with_rms=True)


def test_too_little_to_tune_on_is_named():
    with pytest.raises(DataError, match='too few to tune'):
        tuning.check_tuning_text(np.zeros(999))
    tuning.check_tuning_text(np.zeros(1000))
