import os

import jax
import pytest

jax.config.update('jax_num_cpu_devices', 4)
jax.config.update('jax_numpy_rank_promotion', 'raise')


@pytest.fixture
def x64():
    """float64, for what is compared with derivatives."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope='session')
def data():
    """The folder of the big data sets."""
    folder = os.environ.get('HFRNN_DATA')
    if not folder:
        pytest.skip('HFRNN_DATA names no folder with the big data sets')
    return folder
