import atexit
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

import jax
import numpy as np
import pytest

from tests.scripts import ROOT

# Most of the time of the tests, and of the scripts that they start, goes into compiling, and most of that into making
# fast what runs once.
QUICK_TO_COMPILE = '--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false'


def are_known(xla_flags):
    """An XLA that does not know a flag ends the process."""
    command = [sys.executable, '-c', 'import jax; jax.devices()']
    environment = os.environ | {'XLA_FLAGS': xla_flags, 'JAX_PLATFORMS': 'cpu'}
    return not subprocess.run(command, env=environment, capture_output=True).returncode


given = os.environ.get('XLA_FLAGS', '')  # with the flag of hfrnn.xla_flags, as hfrnn is imported above
if QUICK_TO_COMPILE not in given and are_known(QUICK_TO_COMPILE):  # a worker of xdist inherits them
    os.environ['XLA_FLAGS'] = f'{given} {QUICK_TO_COMPILE}'

if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:  # what is compiled twice in a session is compiled once
    folder = tempfile.mkdtemp(prefix='compiled-')
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ |= {'JAX_COMPILATION_CACHE_DIR': folder, 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0'}
jax.config.update('jax_compilation_cache_dir', os.environ['JAX_COMPILATION_CACHE_DIR'])
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)

if 'JAX_PLATFORMS' not in os.environ:  # also on a machine with a GPU, which has not four devices
    os.environ['JAX_PLATFORMS'] = 'cpu'
    jax.config.update('jax_platforms', 'cpu')
jax.config.update('jax_num_cpu_devices', 4)
jax.config.update('jax_numpy_rank_promotion', 'raise')


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what is to run in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """What starts scripts, and so takes longest, comes first: then all processes of the tests end together."""
    files = {}
    for item in items:
        files.setdefault(item.path, []).append(item)

    def scripts(tests):
        return sum('environment' in test.fixturenames for test in tests)

    items[:] = [test for tests in sorted(files.values(), key=scripts, reverse=True) for test in tests]


def pytest_runtest_setup(item):
    if item.get_closest_marker('four_devices') and jax.device_count() < 4:
        pytest.skip('asks for four devices')


@pytest.fixture(scope='module', autouse=True)
def compiled_programs_do_not_pile_up():
    """Each keeps memory maps, of which a process may have no more than some 65,000."""
    yield
    jax.clear_caches()


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


@pytest.fixture(scope='session')
def environment():
    """The environment of scripts: as it is, but without the folder of data sets."""
    return {k: v for k, v in os.environ.items() if k != 'HFRNN_DATA'}


@pytest.fixture(scope='session')
def text_run(tmp_path_factory):
    """The folder of a run of text_mrnn: a net, hardly trained, of the file ``text`` beside it."""
    folder = tmp_path_factory.mktemp('text_run')
    words = [
        'the',
        'cat',
        'sat',
        'on',
        'a',
        'mat',
        'and',
        'so',
        'did',
        'I',
        '(in',
        'truth)',
        '"hm"',
        'Spain,',
        'caf\xe9',
    ]
    rng = np.random.default_rng(0)
    lines = [' '.join(rng.choice(words, 14)) for _ in range(360)]
    lines += [' '.join(rng.choice(words[:9], 14)) for _ in range(10)]  # a long passage without brackets and quotes
    (folder / 'text').write_text('\n'.join(lines), encoding='utf-8')
    from experiments import text_mrnn

    flags = [f'--flagfile={ROOT}/experiments/flags/mrnn_ci.flags', f'--corpus={folder}/text', f'--workdir={folder}/run']
    flags += ['--optimizer=adam', '--steps=2', '--nocompressors', '--devices=1']
    text_mrnn.main(['text_mrnn', *flags])
    return folder / 'run'


@pytest.fixture(scope='session')
def pen_weights(tmp_path_factory):
    """A small file of a random net of handwriting, whose lines end soon."""
    from hfrnn import bundle
    from hfrnn.handwriting import models, synthetic

    sizes = {'layers': 1, 'hidden': 6, 'mixtures': 2, 'gaussians': 2}
    alphabet = synthetic.PRINTABLE.replace('@', '').replace('~', '')
    data = {'source': 'pens-0', 'alphabet': alphabet, 'scale': {'mean': [8.0, 0.1], 'sd': [40.0, 35.0]}}
    params = models.make('synthesis', models.Net(**sizes), len(alphabet)).init(jax.random.key(0))
    params['cell']['b_p'] = params['cell']['b_p'].at[-2:].set(np.log(0.1))
    path = tmp_path_factory.mktemp('weights') / 'small.npz'
    net = bundle.Bundle({'kind': 'handwriting', 'task': 'synthesis', **sizes}, data, {}, params)
    bundle.save(path, net, np.float16)
    return path


@pytest.fixture(scope='module')
def start(environment, request):
    """Starts the script that the test's module names as SCRIPT, or another, with more variables in its environment."""

    def start(*args, script=None, **variables):
        command = [sys.executable, '-m', script or request.module.SCRIPT, *args]
        pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, 'text': True}
        return subprocess.Popen(command, cwd=ROOT, env=environment | variables, **pipes)

    return start


@pytest.fixture(scope='module')
def call(start):
    """Runs the script to its end: (exit status, stdout, stderr)."""

    def call(*args, **kwargs):
        process = start(*args, **kwargs)
        try:
            out, err = process.communicate(timeout=300)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        return process.returncode, out, err

    return call


@pytest.fixture
def start_two_processes(environment):
    """``start_two_processes(script, *flags)``: two processes that are one run."""

    def start_two(script, *flags):
        with socket.socket() as s:
            s.bind(('127.0.0.1', 0))
            port = s.getsockname()[1]
        command = [sys.executable, '-m', f'experiments.{script}', *flags]
        command += ['--processes=2', f'--coordinator=127.0.0.1:{port}', '--cpu_devices=1']
        pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, 'text': True}
        return [subprocess.Popen([*command, f'--process={i}'], cwd=ROOT, env=environment, **pipes) for i in (0, 1)]

    return start_two


@pytest.fixture(scope='module')
def start_two(start):
    """Starts two processes that are one run, as ``start`` does."""

    def start_two(*flags):
        with socket.socket() as s:
            s.bind(('127.0.0.1', 0))
            port = s.getsockname()[1]
        flags = [*flags, '--processes=2', f'--coordinator=127.0.0.1:{port}', '--cpu_devices=1']
        return [start(*flags, f'--process={i}') for i in (0, 1)]

    return start_two


@pytest.fixture(scope='module')
def finished(tmp_path_factory, call, request):
    """A finished run of the flagfile that the test's module names as SMALL: its folder, and what it printed."""
    workdir = tmp_path_factory.mktemp('finished') / 'run'
    status, out, err = call(*request.module.SMALL, f'--workdir={workdir}')
    assert status == 0, err
    return workdir, out
