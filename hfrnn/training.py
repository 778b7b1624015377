"""From a model and an optimiser to a training step, and from steps to a run.

A step is ``step(state, batches) -> (state, metrics)``, made to run under ``parallel.spread``: every sum over
sequences is a ``psum`` over its axis.
"""

import contextlib
import functools
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from hfrnn.curvature import fisher_loss, gauss_newton, tanh_distance
from hfrnn.data import Batch
from hfrnn.model import Model
from hfrnn.parallel import AXIS
from hfrnn.weight_noise import Noise

Params = Any


class TrainState(NamedTuple):
    """Everything that the next step depends on, besides its batches."""

    params: Params
    opt_state: Any
    step: jax.Array


def init(model: Model, optimizer: optax.GradientTransformation, key: jax.Array) -> TrainState:
    """The state before the first step, with random weights."""
    return begin(optimizer, model.init(key))


def begin(optimizer: optax.GradientTransformation, params: Params) -> TrainState:
    """The state before the first step, with these weights."""
    return TrainState(params, optimizer.init(params), jnp.zeros((), jnp.int32))


def predict(model: Model, params: Params, batch: Batch, key: jax.Array | None = None):
    """The model's Prediction of every sequence: z (B, T, size), h (B, T, H).

    Args:
      key: of what the model leaves out while it is trained, for each sequence by itself; None for nothing.
    """
    if key is None:
        return jax.vmap(model.predict, (None, 0))(params, batch.xs)
    keys = jax.random.split(key, batch.weights.shape[0])
    return jax.vmap(lambda xs, key: model.run(params, None, xs, key)[1])(batch.xs, keys)


def nats(model: Model, z: jax.Array, batch: Batch) -> jax.Array:
    """The weighted sum of the negative log likelihoods of a batch's targets, given its z."""
    return jnp.sum(jax.vmap(jax.vmap(model.output.nll))(z, batch.targets) * batch.weights)


def nll(model: Model, params: Params, batch: Batch, key: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
    """(sum of nats, sum of weights) of one batch on one device; the key as in ``predict``."""
    return nats(model, predict(model, params, batch, key).z, batch), jnp.sum(batch.weights)


def chunked(function: Callable, batch: Any, chunk: int):
    """Sums ``function(part)`` over parts of at most ``chunk`` sequences: memory for one part is enough.

    The last part is filled up with sequences of weight 0, of which the function must make 0.

    Args:
      batch: a Batch, or any pytree of (B, ...).
    """
    B = jax.tree.leaves(batch)[0].shape[0]
    parts = -(-B // chunk)
    if parts == 1:
        return function(batch)
    size = -(-B // parts)

    def cut(leaf):
        leaf = jnp.concatenate([leaf, jnp.zeros((parts * size - B, *leaf.shape[1:]), leaf.dtype)])
        return leaf.reshape(parts, size, *leaf.shape[1:])

    batch = jax.tree.map(cut, batch)
    zeros = jax.tree.map(
        lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(function, jax.tree.map(lambda leaf: leaf[0], batch))
    )
    total, _ = jax.lax.scan(lambda total, part: (optax.tree.add(total, function(part)), None), zeros, batch)
    return total


def sum_and_gradient(model: Model, params: Params, batch: Batch, chunk: int):
    """((sum of nats, sum of weights), gradient of the sum) over all devices, ``chunk`` sequences at a time on each."""
    value_and_grad = jax.value_and_grad(functools.partial(nll, model), has_aux=True)
    return jax.lax.psum(chunked(lambda part: value_and_grad(params, part), batch, chunk), AXIS)


def sequences(batch: Batch) -> jax.Array:
    """How many sequences of a batch have any weight; the others only fill it up."""
    return jnp.sum(jnp.any(batch.weights > 0, axis=1))


def first_order_step(
    model: Model,
    optimizer: optax.GradientTransformation,
    chunk: int,
    *,
    per: str = 'target',
    noisy: Callable | None = None,
    seed: int = 0,
) -> Callable:
    """A gradient step on the mean nats per target, or per sequence; ``batches`` is one Batch.

    A loss, gradient or update that is not finite leaves the state as it was, and the metric ``finite`` says so.  The
    metrics ``nats`` (per target, without a complexity), ``targets``, ``sequences`` and ``gradient``, its norm, are of
    the whole batch.

    Args:
      per: the scale of the gradient, 'target' or 'sequence'.  Graves' rmsprop has an offset that belongs to the latter.
      noisy: ``noisy(params, key, batch) -> (objective, (sum of nats, sum of weights))``, of which the objective, a sum
        over sequences, is differentiated; None for ``nll``.  The key is another for every step, device and chunk, so
        that chunks of one sequence draw noise for each.
      seed: of those keys.

    Raises:
      ValueError: for another scale.
    """
    if per not in ('target', 'sequence'):
        raise ValueError(f"a gradient is per 'target' or per 'sequence', not {per!r}")

    def plain(params, _, part):
        nats, weight = nll(model, params, part)
        return nats, (nats, weight)

    value_and_grad = jax.value_and_grad(noisy or plain, has_aux=True)

    def step(state, batch):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), state.step), jax.lax.axis_index(AXIS))

        def of_part(part):
            part, places = part
            (_, sums), grads = value_and_grad(state.params, jax.random.fold_in(key, places[0]), part)
            return (*sums, sequences(part)), grads

        places = jnp.arange(batch.weights.shape[0])
        (loss, weight, count), grads = jax.lax.psum(chunked(of_part, (batch, places), chunk), AXIS)
        grads = optax.tree.scale(1 / (weight if per == 'target' else count), grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        new = TrainState(optax.apply_updates(state.params, updates), opt_state, state.step + 1)
        norm = optax.tree.norm(grads)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm) & jnp.isfinite(optax.tree.norm(updates))
        metrics = {'nats': loss / weight, 'targets': weight, 'sequences': count, 'gradient': norm, 'finite': finite}
        return optax.tree.where(finite, new, state), metrics

    return step


def noisy_nll(model: Model, noise: Noise, n_sequences: int) -> Callable:
    """``noisy`` of ``first_order_step``: nats at weights drawn once, and these sequences' share of the noise's cost.

    What the model leaves out while it is trained (``dropout`` of ``cells.lstm``) is drawn for each sequence, by its
    place in what ``first_order_step`` holds in memory at once.

    Args:
      n_sequences: of the training set, for each of which the n-th part of the cost is to be paid.
    """

    def noisy(params, key, batch):
        k_dropout = jax.random.fold_in(key, 2**31 - 1)  # no array of weights has that number, by which noise is drawn
        nats, weight = nll(model, noise.draw(key, params), batch, k_dropout)
        return nats + sequences(batch) / n_sequences * noise.cost(params), (nats, weight)

    return noisy


class HessianFreeBatches(NamedTuple):
    """The batches of one Hessian-Free step.

    Attributes:
      gradient: for the gradient.
      curvature: a smaller one, a subset of the first: for the Gauss-Newton matrix, and the objective of rho.
      backtrack: to choose among CG's iterates; the curvature's if None.
      line_search: for the line search; the gradient's if None.
    """

    gradient: Batch
    curvature: Batch
    backtrack: Batch | None = None
    line_search: Batch | None = None


def hessian_free_step(
    model: Model,
    optimizer: optax.GradientTransformationExtraArgs,
    chunk: int,
    mu: float = 0.0,
    preconditioned: bool = False,
    fisher_samples: int = 0,
    seed: int = 0,
) -> Callable:
    """A step of ``hessian_free``; ``batches`` is a HessianFreeBatches.

    The metrics are ``nats``, per target of the gradient's batch at the weights before the step, and ``finite``, whether
    these and the gradient are; what happened is in ``opt_state``, a ``hf.HessianFreeState``.  A step to where something
    is not finite is rejected there.

    Objective, gradient and curvature are sums over a sequence, means over sequences, as in Sutskever's release: that is
    the scale of lambda.  Matrix products are exact to float32: less spoils CG's conjugacy, and rho.

    Args:
      chunk: how many sequences of the gradient's batch are in memory at once, on each device.
      mu: the weight of structural damping (Martens & Sutskever 2011), whose distance, that of tanh units alone, is a
        sum over units and time; each time step with the largest weight of the targets from there on, so that padding
        behind the last adds nothing.
      preconditioned: whether to precondition CG by the squared gradients of the curvature batch's sequences, of which
        16 are in memory at once.
      fisher_samples: if not 0, the curvature is the Fisher matrix by so many samples of each output, drawn anew in
        each step; see ``curvature.fisher_loss``.
      seed: of these samples.

    Raises:
      ValueError: if the output's nll is not convex in z and there are no ``fisher_samples``.
    """
    if model.output.not_convex and not fisher_samples:
        raise ValueError(
            f'{model.output.not_convex} is not convex in z, and its Gauss-Newton matrix not positive: '
            'give Hessian-Free fisher_samples, or use a first-order method'
        )

    def objective(batch: Batch, params: Params) -> jax.Array:
        loss = chunked(lambda part: nll(model, params, part)[0], batch, chunk)
        return jax.lax.pmean(loss / batch.weights.shape[0], AXIS)

    def curved_loss(batch: Batch, params: Params, key: jax.Array):
        """A function of z whose Hessian is the curvature's."""
        if not fisher_samples:
            return lambda z: nats(model, z, batch)
        z = predict(model, params, batch).z
        keys = jax.random.split(jax.random.fold_in(key, jax.lax.axis_index(AXIS)), (fisher_samples, *z.shape[:-1]))
        drawn = jax.vmap(jax.vmap(jax.vmap(model.output.sample)), (0, None))(keys, z)
        return fisher_loss(model.output.nll, z, drawn, batch.weights)

    def curvature(batch: Batch, params: Params, key: jax.Array):
        B = batch.weights.shape[0]
        loss = curved_loss(batch, params, key)
        weights = jax.lax.cummax(jnp.asarray(batch.weights), axis=1, reverse=True)

        def distance(moved, here):
            return mu / B * jnp.sum(jax.vmap(jax.vmap(tanh_distance))(moved.h, here.h) * weights)

        local = gauss_newton(
            lambda params: predict(model, params, batch),
            lambda prediction: loss(prediction.z) / B,
            params,
            distance=distance if mu else None,
        )
        return lambda v, lam: jax.lax.pmean(local(v, lam), AXIS)

    def squared_gradients(batch: Batch, params: Params):
        def of_one(sequence):
            one = jax.tree.map(lambda leaf: leaf[None], sequence)
            return jax.tree.map(jnp.square, jax.grad(lambda p: nll(model, p, one)[0])(params))

        def of_part(part):
            return jax.tree.map(lambda leaf: jnp.sum(leaf, 0), jax.vmap(of_one)(part))

        total = chunked(of_part, batch, 16)
        return jax.lax.pmean(optax.tree.scale(1 / batch.weights.shape[0], total), AXIS)

    @jax.default_matmul_precision('highest')
    def step(state, batches: HessianFreeBatches):
        params, on = state.params, batches
        k_curvature, k_backtrack = jax.random.split(jax.random.fold_in(jax.random.key(seed), state.step))
        (loss, weight), grads = sum_and_gradient(model, params, on.gradient, chunk)
        B = on.gradient.weights.shape[0] * jax.lax.axis_size(AXIS)
        backtrack = on.curvature if on.backtrack is None else on.backtrack
        line_search = on.gradient if on.line_search is None else on.line_search
        updates, opt_state = optimizer.update(
            optax.tree.scale(1 / B, grads),
            state.opt_state,
            params,
            curvature=curvature(on.curvature, params, k_curvature),
            value_fn=functools.partial(objective, on.curvature),
            backtrack_fn=functools.partial(objective, backtrack),
            backtrack_curvature=None if on.backtrack is None else curvature(on.backtrack, params, k_backtrack),
            line_search_fn=functools.partial(objective, line_search),
            line_search_value=loss / B if on.line_search is None else None,
            squared_gradients=squared_gradients(on.curvature, params) if preconditioned else None,
        )
        metrics = {'nats': loss / weight, 'finite': jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(grads))}
        return TrainState(optax.apply_updates(params, updates), opt_state, state.step + 1), metrics

    return step


class Interrupted(Exception):
    """Ctrl-C or SIGTERM came; the state has been saved."""

    def __init__(self, signum: int):
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class NotFinite(ValueError):
    """A loss, gradient or update is not finite; the last state before, whose loss was finite, has been saved.

    Attributes:
      state: that state.
      seconds: of training, those of the step that failed among them.
    """

    def __init__(self, what: str, state: TrainState, seconds: float):
        super().__init__(f'{what}; the last good state, of step {int(state.step)}, is saved')
        self.state, self.seconds = state, seconds


def fit(
    step: Callable,
    state: TrainState,
    batches: Callable[[int], Any],
    *,
    steps: int,
    seconds: float,
    elapsed: float,
    save: Callable[[TrainState, float], None],
    save_every: float,
    on_step: Callable[[TrainState, dict, float], bool | None],
    clock: Callable[[], float] = time.monotonic,
) -> tuple[TrainState, float]:
    """Trains until ``steps`` are done or ``seconds`` are spent, whichever comes first.

    Ctrl-C, SIGTERM and a closed terminal do not wait for the step in flight: the state before it is saved, as it is
    when anything fails.

    Args:
      step: ``(state, batches) -> (state, metrics)``, spread over devices; a metric is ``finite``.
      batches: the batches of step number i, from i alone, so that a resumed run draws the same ones.
      elapsed: the seconds of training that were spent before.
      save: ``save(state, seconds)``; called every ``save_every`` seconds, and at the end.
      on_step: ``on_step(state, metrics, seconds)``, called after every step, whose own ``seconds`` are among its
        metrics in place of ``finite``; training ends there if it returns True.
      clock: what all these seconds are read from.

    Returns:
      The last state and the seconds spent in all.

    Raises:
      Interrupted: after a signal.
      NotFinite: if a step's loss, gradient or update is not finite.
    """
    begun = clock() - elapsed
    saved = begun + elapsed
    good = state  # the last state whose loss, gradient and update were seen, and were finite

    def keep(state):
        save(state, clock() - begun)

    with _signals() as caught:
        i = int(state.step)
        try:
            while i < steps and clock() - begun < seconds:
                started = clock()
                new, metrics = step(state, batches(i))
                while not caught and not all(leaf.is_ready() for leaf in jax.tree.leaves(metrics)):
                    time.sleep(0.001)
                if caught:
                    break
                metrics = jax.device_get(metrics)
                if not metrics.pop('finite'):
                    what = f'the loss, its gradient or the update is not finite at step {i + 1}'
                    raise NotFinite(what, good, clock() - begun)
                good, state, i = state, new, i + 1
                if on_step(state, metrics | {'seconds': clock() - started}, clock() - begun):
                    break
                if clock() - saved >= save_every:
                    keep(state)
                    saved = clock()
        except NotFinite:
            keep(good)
            raise
        except BaseException:  # whatever it is, no training is lost
            keep(state)
            raise
        elapsed = clock() - begun
        keep(state)
        if caught:
            raise Interrupted(caught[0])
    return state, elapsed


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def _signals():
    """Catches Ctrl-C, SIGTERM and a closed terminal; yields the list of those that came.

    What is ignored stays so, as by nohup; and a thread that is not the main one catches nothing.
    """
    caught = []
    main = threading.current_thread() is threading.main_thread()
    taken = [s for s in SIGNALS if main and signal.getsignal(s) is not signal.SIG_IGN]
    old = {s: signal.signal(s, lambda signum, frame: caught.append(signum)) for s in taken}
    try:
        yield caught
    finally:
        for s, handler in old.items():
            signal.signal(s, handler)
