"""The training loop: steps up to a number or a time, with the state saved on signals and failures."""

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
    """A loss, gradient or update is not finite; the last state with finite ones has been saved.

    Attributes:
      state: that state.
      seconds: of training, including the step that failed.
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
    """Trains for ``steps`` steps or ``seconds`` seconds, whichever comes first.

    Ctrl-C, SIGTERM and a closed terminal do not wait for the step in flight: the state before it is saved, as it is
    after any failure.

    Args:
      step: ``(state, batches) -> (state, metrics)``, spread over devices; one metric is ``finite``.
      batches: ``batches(i)`` for step i, a function of i alone, so that a resumed run gets the same ones.
      elapsed: the seconds of earlier training.
      save: ``save(state, seconds)``, called every ``save_every`` seconds and at the end.
      on_step: ``on_step(state, metrics, seconds)``, called after every step; the metrics contain the step's own
        ``seconds`` and not ``finite``.  Training ends if it returns True.
      clock: the source of all these seconds.

    Returns:
      The last state, and the seconds of all training.

    Raises:
      Interrupted: after a signal.
      NotFinite: if a step's loss, gradient or update is not finite.
    """
    begun = clock() - elapsed
    saved = begun + elapsed
    good = state  # the last state whose loss, gradient and update are known to be finite

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
        except BaseException:  # any failure: no training is lost
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
    """Catches Ctrl-C, SIGTERM and a closed terminal; yields the list of signals received.

    Ignored signals stay ignored, as under nohup.  Outside the main thread it catches nothing.
    """
    caught = []
    main = threading.current_thread() is threading.main_thread()
    handled = [s for s in SIGNALS if main and signal.getsignal(s) is not signal.SIG_IGN]
    old = {s: signal.signal(s, lambda signum, frame: caught.append(signum)) for s in handled}
    try:
        yield caught
    finally:
        for s, handler in old.items():
            signal.signal(s, handler)
