"""The training loop: steps until their number or the time is up, saved at signals and failures."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import jax

from hfrnn.train.steps import TrainState

CLOCKS = {'wall': time.monotonic, 'processor': time.process_time}  # the second is the fair one on a busy machine


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

    with catch_signals() as caught:
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
def catch_signals():
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
