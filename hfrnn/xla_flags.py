"""A guard against wrong sums on CPUs: jaxlib 0.10.2 miscompiles some fused reductions (issue 39103 of jax-ml/jax).

There, a matrix-vector product under ``vmap``, squared and summed, over more than 32,768 rows in float32, or 16,384 in
float64, gives some rows the values of others.  The sums are right without YNNPACK fusions, which the empty value of the
flag turns off.
"""

import os
import warnings

import jaxlib

AFFECTED = ('0.10.2',)
NAME = 'xla_cpu_experimental_ynn_fusion_type'


def turn_off_wrong_fusions() -> None:
    """Adds the flag to XLA_FLAGS, which XLA reads when JAX makes its first backend.

    It does nothing for other versions of jaxlib, or if XLA_FLAGS already names the flag.  It warns if a backend exists.
    """
    flags = os.environ.get('XLA_FLAGS', '')
    if jaxlib.__version__ not in AFFECTED or NAME in flags:
        return
    from jax._src import xla_bridge  # no public function says so without making a backend

    if xla_bridge.backends_are_initialized():
        warnings.warn(
            f'jaxlib {jaxlib.__version__} computes some sums wrongly on CPUs, and JAX is running already: '
            f'import hfrnn before the first computation, or set XLA_FLAGS=--{NAME}= (with the empty value)',
            stacklevel=3,
        )
        return
    os.environ['XLA_FLAGS'] = f'{flags} --{NAME}='.lstrip()
