"""Pictures of what was measured."""

import numpy as np
import pytest

from hfrnn import plots


def test_surprise_is_a_picture_of_any_text(tmp_path):
    for name, symbols in (
        ('letters', [*'what? \n', '\N{SNOWMAN}', '\x00', '$'] * 30),
        ('words', ['word', '<eos>', 'x' * 150, r'$\foo$']),
    ):
        path = tmp_path / f'{name}.png'
        plots.save(path, plots.surprise(symbols, np.linspace(0, 12, len(symbols))))
        assert path.read_bytes().startswith(b'\x89PNG')


@pytest.mark.parametrize(
    'training, validation', [((-600.0, -650.0), -830.0), ((-900.0, -950.0), -830.0), ((3.0, 2.0), 1.0)]
)
def test_a_learning_curve_shows_all_validation(training, validation):
    """Also where weight noise makes training the worse of the two."""
    rows = [{'seconds': i, 'nats': nats} for i, nats in enumerate(training)]
    rows[-1]['valid_nats'] = validation
    limits = plots.learning_curve({'a': rows}, y='nats').axes[0].get_ylim()
    assert limits[0] < min(*training, validation) and validation < limits[1]
