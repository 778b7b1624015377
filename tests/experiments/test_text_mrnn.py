"""Text, through its real command line, in a process of its own."""

import json
import re
import signal
import time

import numpy as np
import pytest

from hfrnn.text import models, scoring
from hfrnn.text.alphabet import encode
from hfrnn.text.metrics import BITS
from hfrnn.train import run_folder
from tests.scripts import assert_refused, assert_same_run, last_params, newest, wait_for_step

SCRIPT = 'experiments.text_mrnn'
SMALL = ['--flagfile=experiments/flags/mrnn_ci.flags']


def test_training_leaves_what_it_promises(finished):
    workdir, out = finished
    results = json.loads((workdir / 'results.json').read_text())
    assert results['experiment'] == 'text_mrnn'
    assert results['corpus'] == 'pydoc'
    assert 0 < results['test_bits_per_char'] < 7
    assert 0 < results['train_bits_per_char'] < 7
    assert results['parameters'] > 1000
    assert results['seconds'] > 0
    assert 1 < results['compressors']['xz'] < 3
    for name in ('flags.json', 'metrics.jsonl', 'sample.txt', 'learning_curve.png', 'checkpoints'):
        assert (workdir / name).exists()
    assert (workdir / 'learning_curve.png').read_bytes().startswith(b'\x89PNG')
    rows = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
    assert [row['step'] for row in rows] == list(range(1, len(rows) + 1))
    assert 'valid_bits_per_char' in rows[-1]
    for word in ('rho', 'lambda', 'CG', 'elapsed', 'remaining', 'gzip', 'bzip2', 'xz', 'A sample'):
        assert word in out


def test_other_modes_need_only_the_folder(finished, call, tmp_path):
    workdir, _ = finished
    status, out, err = call('--mode=evaluate', f'--workdir={workdir}', '--nocompressors')
    assert (status, err) == (0, '')
    again = json.loads((workdir / 'results.json').read_text())
    assert f'{again["test_bits_per_char"]:.3f}' in out
    assert again['compressors'].keys() == {'gzip', 'bzip2', 'xz'}  # which training has measured

    status, out, _ = call('--mode=sample', f'--workdir={workdir}', '--sample_length=40')
    assert status == 0
    assert len(out) == 1 + 40 + 1
    assert (workdir / 'sample.txt').read_text().startswith(out[:-1])  # which evaluation has made longer
    status, out, _ = call('--mode=sample', f'--workdir={workdir}', '--prompt=The ', '--sample_length=30', '--beam=3')
    assert status == 0
    assert out.startswith('The ')
    assert len(out) == 4 + 30 + 1

    (tmp_path / 'a.txt').write_text('a name')
    status, by_file, _ = call('--mode=score', f'--workdir={workdir}', f'--input={tmp_path}/a.txt')
    assert status == 0
    plot = f'--plot={tmp_path}/a.png'
    assert call('--mode=score', f'--workdir={workdir}', '--text=a name', plot)[1] == by_file
    assert (tmp_path / 'a.png').read_bytes().startswith(b'\x89PNG')
    bits, per_char, n = map(float, re.findall(r'[\d.]+(?= bits| char)', by_file))
    assert n == 6
    assert abs(bits / 6 - per_char) < 1e-3


def test_scores_add_up(finished, call):
    """P(xy) = P(x) P(y | x)."""
    workdir, _ = finished
    net = models.open_net(str(workdir))

    def bits(before, content):
        before, content = (encode(part, net.alphabet) for part in (before, content))
        return scoring.static_reader(net.model)(net.params, content, before).nll.sum() * BITS

    _, out, err = call('--mode=score', f'--workdir={workdir}', '--prompt= the ', '--text=name')
    assert not err
    assert abs(bits(' ', 'the name') - bits(' ', 'the ') - float(out.split()[0])) < 1e-2


def test_killed_at_any_moment_it_goes_on_bit_for_bit(start, call, tmp_path):
    """kill -9 after some checkpoints, once with the newest one damaged; then the same command."""
    flags = [*SMALL, '--steps=7', '--nocompressors', '--save_minutes=0']
    flags += ['--preset=sutskever2011', '--own_batches', '--preconditioned']
    assert call(*flags, f'--workdir={tmp_path}/whole')[0] == 0
    cut = tmp_path / 'cut'
    for kill in (2, 4):
        process = start(*flags, f'--workdir={cut}')
        wait_for_step(cut, kill, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    steps = sorted(int(p.name) for p in (cut / 'checkpoints').iterdir() if p.name.isdigit())
    assert len(steps) >= 2
    for path in (cut / 'checkpoints' / str(steps[-1])).rglob('*'):
        if path.is_file() and path.stat().st_size > 1000:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (cut / 'checkpoints' / '99.orbax-checkpoint-tmp').mkdir()
    with (cut / 'metrics.jsonl').open('a') as f:
        f.write('{"step": 99, "sec')
    status, out, err = call(*flags, f'--workdir={cut}')
    assert status == 0, err
    assert 'damaged and passed over' in err
    assert f'goes on from step {steps[-2]}' in out
    assert_same_run(tmp_path / 'whole', cut)


def test_a_signal_saves_first(start, tmp_path):
    flags = [*SMALL, f'--workdir={tmp_path}/run', '--steps=100000', '--save_minutes=100']
    process = start(*flags)
    metrics = tmp_path / 'run' / 'metrics.jsonl'
    while not metrics.exists() or len(metrics.read_text().splitlines()) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert 'SIGINT' in err
    assert 'Traceback' not in err
    assert newest(tmp_path / 'run') >= 2


def assert_close_runs(a, b):
    for left, right in zip(last_params(a), last_params(b), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-4)


def test_devices_and_processes_change_no_number(finished, start_two, call, tmp_path):
    """Two devices, of one process and of two."""
    flags = [*SMALL, '--nocompressors']
    status, _, err = call(*flags, f'--workdir={tmp_path}/one', '--cpu_devices=2')
    assert status == 0, err
    assert_close_runs(finished[0], tmp_path / 'one')
    both = start_two(*flags, '--minutes=inf', f'--workdir={tmp_path}/two')
    ends = [(*process.communicate(timeout=300), process.returncode) for process in both]
    assert [end[2] for end in ends] == [0, 0], ends
    assert 'A sample' in ends[0][0]
    assert [line for line in ends[1][0].splitlines() if '[Gloo]' not in line] == []
    assert_close_runs(tmp_path / 'one', tmp_path / 'two')


def test_devices_change_no_number_of_adam(call, tmp_path):
    for n in (1, 2):
        flags = ['--optimizer=adam', f'--cpu_devices={n}', '--steps=2', '--nocompressors']
        status, _, err = call(*SMALL, *flags, f'--workdir={tmp_path}/{n}')
        assert status == 0, err
    assert_close_runs(tmp_path / '1', tmp_path / '2')


def test_two_processes_stop_together_and_go_on(start_two, tmp_path):
    flags = [*SMALL, '--optimizer=adam', '--nocompressors', '--minutes=inf', f'--workdir={tmp_path}/run']
    both = start_two(*flags, '--steps=100000', '--save_minutes=0')
    wait_for_step(tmp_path / 'run', 2, both[0])
    for process in both:
        process.send_signal(signal.SIGTERM)
    for process in both:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 128 + signal.SIGTERM, err
        assert 'stopped by SIGTERM' in err
    reached = newest(tmp_path / 'run')
    again = start_two(*flags, f'--steps={reached + 1}')
    ends = [(*process.communicate(timeout=300), process.returncode) for process in again]
    assert [end[2] for end in ends] == [0, 0], ends
    assert f'goes on from step {reached}' in ends[0][0]


@pytest.mark.parametrize(
    'flags, said',
    [
        (['--corpus=/no/such.txt'], 'no file /no/such.txt'),
        (['--corpus={empty}'], 'is empty'),
        (['--corpus={short}'], 'too short'),
        (['--corpus={binary}'], 'not UTF-8'),
        (['--corpus=ptb'], 'HFRNN_DATA'),
        (['--length=50', '--unscored=50'], 'leaves nothing to score'),
        (['--curvature_batch=64'], 'is no part of --batch'),
        (['--length=10000000'], 'too few for sequences'),
        (['--devices=9'], 'there are 1'),
        (['--cpu_devices=3'], 'does not divide among 3 devices'),
        (['--processes=2'], '--coordinator'),
        (['--hidden=0'], '--hidden'),
        (['--hidden=100000', '--factors=100000'], 'make it or its batches smaller'),
        (['--batch=40000000', '--curvature_batch=40000000'], 'make it or its batches smaller'),
        (['--damping=inf'], '--damping=inf is no number'),
        (['--sample_length=1000000000000'], '--sample_length'),
        (['--hidden=many'], '--hidden'),
        (['--mode=dance'], '--mode'),
        (['--nonsense=1'], 'nonsense'),
        (['stray'], 'stray'),
        (['--workdir={busy}'], 'holds no run'),
        (['--mode=sample', '--workdir={nowhere}'], 'holds no run'),
        (['--workdir='], '--workdir'),
        (['--flagfile=/no/such.flags'], 'such.flags'),
    ],
    ids=lambda v: v[-1] if isinstance(v, list) else '',
)
def test_bad_input_is_one_clear_line(flags, said, call, tmp_path):
    places = {'nowhere': tmp_path / 'nowhere', 'busy': tmp_path / 'busy'}
    places['busy'].mkdir()
    (places['busy'] / 'precious').write_text('mine')
    for name, content in {'empty': b'', 'short': b'abc', 'binary': b'\xff\xfe' * 999}.items():
        places[name] = tmp_path / name
        places[name].write_bytes(content)
    assert_refused(call(*SMALL, f'--workdir={tmp_path}/run', *(flag.format(**places) for flag in flags)), said)
    assert not (tmp_path / 'run').exists()


def test_a_run_with_other_flags_is_not_touched(finished, call):
    workdir, _ = finished
    before = (workdir / 'metrics.jsonl').read_text()
    for flags, said in (
        ([*SMALL, '--hidden=13'], 'hidden'),
        ([*SMALL, '--corpus=README.md'], 'corpus'),
        (['--mode=sample', '--hidden=13'], 'hidden'),
        (['--mode=sample', '--prompt=\N{SNOWMAN}'], 'not in the alphabet'),
        (['--mode=sample', '--prompt='], 'prompt is empty'),
        (['--mode=score'], '--text or --input'),
        (['--mode=score', '--text='], 'empty'),
        (['--mode=score', '--input=/no/such'], 'no file'),
        (['--mode=score', '--text=a', '--plot=a.svg'], 'in .png'),
        (['--mode=sample', '--beam=9000', '--sample_length=20000'], 'a beam holds'),
        (['--mode=evaluate', '--beam=9000', '--sample_length=20000'], 'a beam holds'),
        (['--mode=analyse', '--corpus=novel.txt'], 'corpus'),
    ):
        assert_refused(call(f'--workdir={workdir}', *flags), said)
    assert (workdir / 'metrics.jsonl').read_text() == before


@pytest.mark.parametrize(
    'flags, about, modes',
    [
        ({'task': 'addition', 'hidden': 3}, {}, ['evaluate', 'sample']),
        ({'hidden': 3, 'layers': 1}, {'alphabet': 'ab'}, ['score']),
    ],
)
def test_a_run_of_another_experiment_is_told_apart(call, tmp_path, flags, about, modes):
    run_folder.close(run_folder.train_in(str(tmp_path / 'run'), flags, about))
    for mode in modes:
        assert_refused(call(f'--mode={mode}', f'--workdir={tmp_path}/run', '--text=a'), 'another experiment')


def test_first_order_that_diverges_stops_with_the_last_good_state(call, tmp_path):
    flags = [*SMALL, '--optimizer=rmsprop', '--learning_rate=1e38', '--steps=20', '--clock=processor']
    flags.append(f'--workdir={tmp_path}/run')
    status, _, err = call(*flags)
    assert status == 1
    assert 'not finite' in err
    status, out, _ = call('--mode=evaluate', f'--workdir={tmp_path}/run', '--nocompressors')
    assert status == 0
    assert 'nan' not in out
