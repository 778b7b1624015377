"""How fast an LSTM language model learns, beside the same net as torch.nn.LSTM, on this machine and in one run.

    pip install -e '.[torch]'; python -m experiments.benchmark_lstm
    python -m experiments.benchmark_lstm --hidden=400 --batch=32

Characters per second of training (one step: gradient and Adam's update, the state carried), by this library and by
torch, in turn, and once more with the LSTM's products in bfloat16; and of static and dynamic evaluation.  torch's LSTM
has no peepholes and clips no derivatives inside.
Where torch is not installed, or JAX has a GPU, it says so and leaves it out.  --cpu_devices=N divides training among
so many devices.
"""

import importlib.util
import os
import platform

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

from experiments import cli
from hfrnn.errors import SettingsError
from hfrnn.nets import cells, model, outputs
from hfrnn.optim import weight_noise
from hfrnn.text import scoring
from hfrnn.text.batches import stream_batch
from hfrnn.train.devices import replicate, spread
from hfrnn.train.truncated_bptt import init_carried_state, truncated_bptt_step

HIDDEN = flags.DEFINE_integer('hidden', 1000, 'LSTM cells.', lower_bound=1)
BATCH = flags.DEFINE_integer('batch', 64, 'Streams.', lower_bound=1)
LENGTH = flags.DEFINE_integer('length', 100, 'Symbols of a sequence.', lower_bound=1)
SEGMENT = flags.DEFINE_integer('segment', 20, 'Dynamic evaluation: symbols between two changes.', lower_bound=1)
SEGMENTS = flags.DEFINE_integer('segments', 25, 'Dynamic evaluation: how many of them.', lower_bound=1)
REPEATS = flags.DEFINE_integer('repeats', 5, 'The best of so many.', lower_bound=1)
FLAGS = flags.FLAGS
flags.declare_key_flag('cpu_devices')
SYMBOLS = 50
PIECE = 100  # symbols that static evaluation reads at once
RATE = 1e-3


def main(argv):
    cli.begin(argv)
    jax.config.update('jax_num_cpu_devices', FLAGS.cpu_devices or 1)  # they share the cores
    with cli.errors_in_a_line('nothing is kept'):
        measure()


def measure():
    if BATCH.value % jax.device_count():
        raise SettingsError(f'--batch={BATCH.value} does not divide among {jax.device_count()} devices')
    B, T, H = BATCH.value, LENGTH.value, HIDDEN.value
    symbols = np.random.default_rng(0).integers(0, SYMBOLS, B * T + 1).astype(np.uint8)
    net = make_net()
    weights = net.init(jax.random.key(0))

    text = np.resize(symbols, SEGMENT.value * SEGMENTS.value)
    whole = np.resize(symbols, -(-len(text) // PIECE) * PIECE)  # all that is read is counted
    static = scoring.static_reader(net, PIECE)
    learning = scoring.dynamic_reader(net, SEGMENT.value, SEGMENTS.value)
    candidates = {
        'training': (ours(net, weights, symbols), B * T),
        'training, bfloat16': (ours(make_net(jnp.bfloat16), weights, symbols), B * T),
        'training, torch.nn.LSTM': (torchs(symbols), B * T),
        'static evaluation': (lambda: static(weights, whole, SYMBOLS), len(whole)),
        'dynamic evaluation, sgd': (lambda: learning(weights, text, SYMBOLS, scoring.Rule(1e-4, 0.0)), len(text)),
        'dynamic evaluation, rms': (
            lambda: learning(weights, text, SYMBOLS, scoring.Rule(1e-4, 1e-3, jax.tree.map(jnp.ones_like, weights))),
            len(text),
        ),
    }
    print(f'{jax.devices()[0].device_kind}, {os.cpu_count()} CPU cores, {platform.machine()}, JAX {jax.__version__}')
    print(f'LSTM of {H} cells, {model.size(weights):,} weights; training on {B} streams, sequences of {T}')
    best = cli.best_times({name: run for name, (run, _) in candidates.items() if run is not None}, REPEATS.value)
    print(f'{"characters a second":28s} {"wall":>10s} {"CPU":>10s}')
    for name, (wall, cpu) in best.items():
        n = candidates[name][1]
        print(f'{name:28s} {n / wall:10,.0f} {n / cpu:10,.0f}')
    if 'training, torch.nn.LSTM' not in best:
        print(without_torch())


def make_net(dtype=None):
    lstm = cells.lstm(SYMBOLS, HIDDEN.value, clip=1.0, reverse=True, dtype=dtype)
    return model.sequence_model(lstm, outputs.categorical(SYMBOLS))


def ours(net, weights, symbols):
    """A function that makes one training step."""
    optimizer = optax.adam(RATE)
    state = replicate(init_carried_state(net, optimizer, weights, BATCH.value))
    step = spread(truncated_bptt_step(net, optimizer, weight_noise.noise('none'), jax.random.key(0), 1))
    data = stream_batch(symbols[:-1], BATCH.value, LENGTH.value, 0, SYMBOLS)
    return lambda: jax.block_until_ready(step(state, data))


def without_torch():
    """Why torch is left out; nothing if it is not."""
    if jax.devices()[0].platform != 'cpu':
        return 'torch is measured beside JAX on a CPU alone: JAX_PLATFORMS=cpu for its line'
    if importlib.util.find_spec('torch') is None:
        return "torch is not installed: pip install -e '.[torch]' for its line"
    return ''


def torchs(symbols):
    """The same for torch, None where that is left out."""
    if without_torch():
        return None
    torch = importlib.import_module('torch')
    F = torch.nn.functional
    lstm, readout = torch.nn.LSTM(SYMBOLS, HIDDEN.value), torch.nn.Linear(HIDDEN.value, SYMBOLS)
    adam = torch.optim.Adam([*lstm.parameters(), *readout.parameters()], lr=RATE)
    text = torch.from_numpy(symbols.astype(np.int64))
    xs, targets = (part.reshape(BATCH.value, LENGTH.value).T for part in (text[:-1], text[1:]))
    state = [torch.zeros(1, BATCH.value, HIDDEN.value) for _ in range(2)]

    def step():
        adam.zero_grad()
        ys, _ = lstm(F.one_hot(xs, SYMBOLS).float(), state)
        F.cross_entropy(readout(ys).reshape(-1, SYMBOLS), targets.reshape(-1)).backward()
        adam.step()

    return step


if __name__ == '__main__':
    cli.run(main)
