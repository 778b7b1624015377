"""The optimisers of runs: one table, one meaning for each name, and the settings that go with them."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from hfrnn.errors import SettingsError
from hfrnn.nets.model import Model
from hfrnn.optim import first_order as rules
from hfrnn.optim import hessian_free as hf
from hfrnn.train.devices import check_batches
from hfrnn.train.loss import Batch
from hfrnn.train.settings import setting
from hfrnn.train.steps import HessianFreeBatches, first_order_step, hessian_free_step


class Method(NamedTuple):
    """A first-order optimiser.

    Attributes:
      make: ``make(learning_rate, settings) -> optax transformation``; the rate may be a schedule, and the settings are
        Optimization, whose momentum a rule may read.
      rate: the learning rate if none is given.
      per: the scale of the gradients that its constants are made for: the mean nats per 'target' or per 'sequence'.
    """

    make: Callable[[Any, Any], optax.GradientTransformation]
    rate: float
    per: str = 'target'


# The table of first-order optimisers: a new one is a row here, and has the laws of tests/laws/test_optimizers.py.
FIRST_ORDER = {
    'adam': Method(lambda rate, s: optax.adam(rate), 1e-3),
    'sgd': Method(lambda rate, s: optax.sgd(rate, s.momentum), 1e-2),
    'rmsprop': Method(lambda rate, s: optax.rmsprop(rate), 1e-3),
    'graves_rmsprop': Method(lambda rate, s: rules.graves_rmsprop(rate), 1e-4, per='sequence'),
    'muon': Method(lambda rate, s: rules.muon(rate), 1e-3),
}
HESSIAN_FREE = 'hf'


@dataclasses.dataclass(frozen=True)
class Optimization:
    """The choice of the optimiser, and the settings of first-order methods."""

    optimizer: str = setting(
        'adam',
        "hf: Hessian-Free. graves_rmsprop: RMSProp as in Graves 2013. muon: Muon for an LSTM's W_h, Adam for the rest.",
        choices=(HESSIAN_FREE, *FIRST_ORDER),
    )
    learning_rate: float | None = setting(
        None,
        'First order: the peak learning rate; if not given, '
        + ', '.join(f'{rule.rate:g} for {name}' for name, rule in FIRST_ORDER.items())
        + '.',
        low=0.0,
        high=1e38,
    )
    momentum: float = setting(0.9, 'sgd: the momentum.', low=0.0, high=1.0)
    warmup_steps: int = setting(0, 'First order: the learning rate rises linearly from 0 over so many steps.', low=0)
    decay_steps: int = setting(0, 'First order: cosine decay ends at this step; 0 for none.', low=0)
    decay_epochs: float = setting(
        0.0, 'First order: it ends after so many epochs, where --decay_steps=0.', low=0.0, high=1e6
    )
    decay_to: float = setting(0.0, 'First order: the share of the peak that decay leaves.', low=0.0, high=1.0)
    clip_norm: float = setting(0.0, 'First order: clip the gradient to this norm; 0 for no clipping.', low=0.0)
    average: float = setting(
        0.0, 'Evaluate and keep an exponential average of the weights, of this decay; 0 for none.', low=0.0
    )


@dataclasses.dataclass(frozen=True)
class HessianFree:
    """The settings of Hessian-Free."""

    preset: str = setting(
        'martens2010', 'HF: a published variant: its CG, rho, backtracking and line search.', choices=tuple(hf.PRESETS)
    )
    damping: float | None = setting(None, "HF: lambda at the start; the preset's if not given.", low=1e-30)
    cg_iterations: int | None = setting(None, "HF: the most CG iterations in a step; the preset's if not given.", low=1)
    cg_tolerance: float | None = setting(None, "HF: CG's tolerance; the preset's if not given.", low=0.0)
    mu: float = setting(0.0, 'HF: the weight of structural damping; 0 for none.', low=0.0)
    curvature_batch: int = setting(2_400, 'HF: sequences for the curvature: the first so many of the batch.', low=1)
    own_batches: bool = setting(False, 'HF: draw separate batches, of that size, for backtracking and line search.')
    preconditioned: bool = setting(False, 'HF: precondition CG by squared gradients.')


@dataclasses.dataclass(frozen=True)
class WeightNoise:
    """Noise on the weights in training (Graves 2013)."""

    noise: str = setting('none', 'Noise on the weights in training.', choices=('none', 'fixed', 'adaptive'))
    noise_sd: float = setting(
        0.075,
        "The noise's standard deviation; adaptive: its initial one, unless --init_from has learnt others.",
        low=1e-30,
    )
    variance: str = setting(
        'squared',
        "adaptive: the estimate of the variances' derivatives; squared gradients in the papers.",
        choices=('squared', 'reparameterised'),
    )


def first_order(s: Optimization, steps_per_epoch: int = 1, last: Any = None) -> optax.GradientTransformation:
    """Clipping, the rule at its schedule of learning rates, and the average of the weights, in one chain.

    Args:
      last: a transformation of the rule's updates, before they are averaged; None for none.

    Raises:
      SettingsError: for an average that never forgets, or a schedule without room for its decay.
    """
    _check_average(s.average)
    if s.optimizer == 'sgd' and s.momentum >= 1:
        raise SettingsError(f'momentum={s.momentum} never forgets; it is below 1')
    rule = FIRST_ORDER[s.optimizer]
    rate = rule.rate if s.learning_rate is None else s.learning_rate
    end = s.decay_steps or (max(1, round(s.decay_epochs * steps_per_epoch)) if s.decay_epochs else 0)
    if end and end <= s.warmup_steps:
        raise SettingsError(f'warmup_steps={s.warmup_steps} leaves nothing of a decay that ends at step {end}')
    if end and s.warmup_steps:
        rate = optax.warmup_cosine_decay_schedule(0.0, rate, s.warmup_steps, end, s.decay_to * rate)
    elif end:
        rate = optax.cosine_decay_schedule(rate, end, s.decay_to)
    elif s.warmup_steps:
        rate = optax.linear_schedule(0.0, rate, s.warmup_steps)
    parts = [optax.clip_by_global_norm(s.clip_norm)] if s.clip_norm else []
    parts += [rule.make(rate, s), *([] if last is None else [last])]
    parts += [rules.averaged(s.average)] if s.average else []
    return optax.chain(*parts) if len(parts) > 1 else parts[0]


def hessian_free(s: HessianFree, average: float = 0.0) -> optax.GradientTransformationExtraArgs:
    """Hessian-Free by a preset and the settings that override it, and the average of the weights.

    Raises:
      SettingsError: for an average that never forgets.
    """
    _check_average(average)
    given = {'damping': s.damping, 'cg_iterations': s.cg_iterations, 'tolerance': s.cg_tolerance}
    optimizer = hf.PRESETS[s.preset](**{name: value for name, value in given.items() if value is not None})
    return optax.chain(optimizer, rules.averaged(average)) if average else optimizer


def _check_average(average):
    if average >= 1:
        raise SettingsError(f'average={average} never forgets; the decay of an average is below 1')


def copies_of_weights(optimizer: str, s: HessianFree | None = None) -> int:
    """How many copies of the weights a training holds: Hessian-Free keeps CG's iterates beside its vectors."""
    if optimizer != HESSIAN_FREE:
        return 8
    return 12 + hf.saved_iterates(hf.PRESETS[s.preset], s.cg_iterations)


def optimizer_and_step(
    model: Model, s: Optimization, hf: HessianFree, chunk: int, *, noisy: Callable | None = None, seed: int = 0
) -> tuple[optax.GradientTransformation, Callable]:
    """(the optimiser, its step on a ``Batch`` or on what ``batches`` draws) of independent sequences.

    Args:
      chunk: how many sequences are in memory at once for a gradient, on each device.
      noisy, seed: of first-order methods, as in ``first_order_step``.
    """
    if s.optimizer == HESSIAN_FREE:
        optimizer = hessian_free(hf, s.average)
        return optimizer, hessian_free_step(model, optimizer, chunk, hf.mu, hf.preconditioned)
    optimizer, per = first_order(s), FIRST_ORDER[s.optimizer].per
    return optimizer, first_order_step(model, optimizer, chunk, per=per, noisy=noisy, seed=seed)


def batches(draw: Callable[[int, int], Batch], optimizer: str, batch: int, hf: HessianFree) -> Any:
    """The batches of one step: a Batch, or for Hessian-Free a HessianFreeBatches.

    Args:
      draw: ``draw(stream, n)``, n sequences; each stream has sequences of its own.
      batch: sequences for a gradient.
    """
    gradient = draw(0, batch)
    if optimizer != HESSIAN_FREE:
        return gradient
    n = hf.curvature_batch
    own = (draw(1, n), draw(2, n)) if hf.own_batches else (None, None)
    return HessianFreeBatches(gradient, jax.tree.map(lambda leaf: leaf[:n], gradient), *own)


def check_sizes(optimizer: str, batch: int, hf: HessianFree, devices: int | None = None) -> None:
    """Checks that the devices divide the batches, and that the curvature's is part of the gradient's.

    Raises:
      SettingsError: if not.
    """
    if optimizer != HESSIAN_FREE:
        check_batches(devices, batch=batch)
        return
    if hf.curvature_batch > batch:
        raise SettingsError(f'curvature_batch={hf.curvature_batch} is larger than batch={batch}, of which it is a part')
    check_batches(devices, batch=batch, curvature_batch=hf.curvature_batch)


def check_damping(model: Model, optimizer: str, hf: HessianFree) -> None:
    """That structural damping is defined for the net, if Hessian-Free is to use it.

    Raises:
      SettingsError: if it is not.
    """
    if optimizer == HESSIAN_FREE and hf.mu and not model.tanh_units:
        raise SettingsError(f'mu={hf.mu}: structural damping is of tanh units; this net takes mu=0')
