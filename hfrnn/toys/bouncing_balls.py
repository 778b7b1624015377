"""Bouncing balls, the natural-data example of Martens & Sutskever 2011: a net predicts the next frame of videos."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from hfrnn import plots
from hfrnn.bundle import Bundle, fit
from hfrnn.nets import cells, outputs
from hfrnn.nets.model import Model, continue_sequence, sequence_model, size
from hfrnn.toys import balls
from hfrnn.train import optimizers
from hfrnn.train.devices import check_memory, count, spread
from hfrnn.train.experiment import Experiment, summary
from hfrnn.train.loss import Batch, eval_step, padded_batches, sum_metrics
from hfrnn.train.optimizers import HESSIAN_FREE, HessianFree, Optimization
from hfrnn.train.settings import SEEDS, check, setting
from hfrnn.train.steps import init_state

NAME = 'bouncing_balls'
TEST, KNOWN, SHOWN, VALID = ((0, 0, stream) for stream in (1, 2, 3, 4))  # streams of videos that no step has


@dataclasses.dataclass(frozen=True)
class BouncingBalls:
    """Videos, net and training, which define a run."""

    size: int = setting(15, 'Pixels of a side of a frame.', low=2, high=200)
    balls: int = setting(3, 'Balls in the box.', low=1, high=20)
    radius: float = setting(0.12, 'Radius of a ball, in sides of the box.')
    speed: float = setting(0.05, 'Root mean square of the speed, in sides of the box a frame.')
    length: int = setting(50, 'Frames that a training video predicts, T.', low=1)
    cell: str = setting('rnn', 'The recurrent layer.', choices=('rnn', 'lstm'))
    hidden: int = setting(300, 'Hidden units, or cells, H.', low=1, high=10**6)
    seed: int = setting(
        0, 'Seed of initial weights and videos; test videos are always the same.', low=0, high=SEEDS - 1
    )
    batch: int = setting(500, 'Videos for a gradient, of all devices.', low=1)
    optimization: Optimization = Optimization(optimizer=HESSIAN_FREE, clip_norm=1.0)  # noqa: RUF009
    hessian_free: HessianFree = HessianFree(mu=0.03, damping=10.0, cg_iterations=80, curvature_batch=100)  # noqa: RUF009
    test_videos: int = setting(200, 'Videos for validation, and for the test.', low=1)


def bouncing_balls(s: BouncingBalls, *, chunk: int = 100, shown: int = 20, devices: int | None = None) -> Experiment:
    """The experiment of these settings.

    Args:
      chunk: videos in memory at once for a gradient, on each device.
      shown: frames to draw of a prediction and of a dream.
      devices: how many it will run on; all if None.

    Raises:
      SettingsError: for settings that do not go together.
      DataError: for balls that find no room in the box.
    """
    check(s)
    by_hf = s.optimization.optimizer == HESSIAN_FREE
    optimizers.check_sizes(s.optimization.optimizer, s.batch, s.hessian_free, devices)
    net = make_net(s.cell, s.hidden, s.size, reverse=not by_hf)
    optimizers.check_damping(net, s.optimization.optimizer, s.hessian_free)
    optimizer, step = optimizers.optimizer_and_step(net, s.optimization, s.hessian_free, chunk)
    weights = size(jax.eval_shape(net.init, jax.random.key(0)))
    check_memory(weights, optimizers.copies_of_weights(s.optimization.optimizer, s.hessian_free), devices=devices)

    def draw(stream, n, T=None):
        rng = np.random.default_rng(stream)
        return balls.draw(rng, n, T or s.length, s.size, balls=s.balls, radius=s.radius, speed=s.speed)

    def batch(i):
        return optimizers.batches(
            lambda stream, n: draw((s.seed, i, stream), n),
            s.optimization.optimizer,
            s.batch,
            s.hessian_free,
        )

    errors = spread(eval_step(net, squared=_squared_errors), devices)
    rows = count(devices) * min(chunk, -(-s.test_videos // count(devices)))

    def measure(params, videos):
        sums = sum_metrics(errors, params, padded_batches(videos, rows))
        return {'error': sums['squared'] / sums['targets'], 'nats': sums['nats'] / sums['targets']}

    valid = draw(VALID, s.test_videos)

    def bundle(params, history):
        model = {'kind': NAME, 'cell': s.cell, 'hidden': s.hidden, 'size': s.size}
        return Bundle(model, {}, summary(NAME, s, history), params)

    def report(bundle, history):
        params = fit(bundle, jax.eval_shape(net.init, jax.random.key(0)))
        test = draw(TEST, s.test_videos)
        results = {
            'cell': s.cell,
            'optimizer': s.optimization.optimizer,
            **{f'test_{name}': value for name, value in measure(params, test).items()},
            'without_learning': without_learning(test, draw(KNOWN, s.test_videos)),
        }
        frames = rows_of_frames(net, params, draw(SHOWN, 1, 2 * shown), shown)
        return {
            'results.json': results,
            'report.txt': table([results | {'parameters': weights, 'steps': history[-1]['step']}]),
            'frames.png': plots.frames(frames, s.size),
        }

    return Experiment(
        name=NAME,
        settings=s,
        init=functools.partial(init_state, net, optimizer),
        step=step,
        batch=batch,
        evaluate=lambda params: measure(params, valid),
        bundle=bundle,
        report=report,
        log_every=1 if by_hf else 20,
        title=f'{s.cell} of {weights:,} weights by {s.optimization.optimizer}',
    )


def make_net(cell: str, hidden: int, size: int, reverse: bool) -> Model:
    """A net that puts out the log odds of each pixel of the next frame.

    Args:
      reverse: LSTMs by reverse mode alone, and faster.
    """
    D = size**2
    layer = cells.rnn(D, hidden) if cell == 'rnn' else cells.lstm(D, hidden, reverse=reverse)
    return sequence_model(layer, outputs.bernoulli(D))


def _squared_errors(z: jax.Array, batch: Batch) -> jax.Array:
    """The sum over pixels of (P(1) - target)^2."""
    return jnp.sum(jnp.sum((jax.nn.sigmoid(z) - batch.targets) ** 2, -1) * batch.weights)


def without_learning(test: Batch, known: Batch) -> dict[str, float]:
    """Squared errors a frame of predictors that learn nothing: the last frame again, its motion again, the mean."""
    xs, targets = test.xs, test.targets
    again = np.clip(xs + np.diff(xs, axis=1, prepend=xs[:, :1]), 0, 1)
    guesses = {'the last frame': xs, 'the last change': again, 'the mean frame': known.xs.mean((0, 1))}
    return {name: float(np.mean(np.sum((guess - targets) ** 2, -1))) for name, guess in guesses.items()}


def rows_of_frames(net: Model, params, video: Batch, n: int) -> dict[str, np.ndarray]:
    """One video, its prediction, and how the net goes on without it: (n, size^2) frames by name."""
    frames = np.concatenate([video.xs[0], video.targets[0, -1:]])
    predicted = jax.nn.sigmoid(net.predict(params, video.xs[0]).z)
    rows = {'video': frames[1 : n + 1], 'predicted': predicted[:n], 'goes on': frames[n : 2 * n]}
    choices: dict[str, Callable] = {
        'alone, by P': lambda key, z: jax.nn.sigmoid(z),
        'alone, by samples': net.output.sample,
    }
    for name, choose in choices.items():
        go_on = jax.jit(functools.partial(continue_sequence, net, length=n, draw=choose))
        rows[name] = go_on(params, jax.random.key(0), frames[:n])
    return rows


def table(results: list[dict]) -> str:
    """Finished runs beside predictors that learn nothing."""
    lines = [f'{"on videos not seen":28s} {"error":>8s} {"nats":>8s}   a frame of the next one']
    for r in results:
        error, nats = ('-' if r[name] is None else f'{r[name]:.3f}' for name in ('test_error', 'test_nats'))
        size = f'{r["parameters"]:,} weights, {r["steps"]} steps'
        lines.append(f'{r["cell"] + " by " + r["optimizer"]:28s} {error:>8s} {nats:>8s}   {size}')
    lines += [f'{name:28s} {error:8.3f}' for name, error in results[0]['without_learning'].items()]
    return '\n'.join(lines) + '\n'
