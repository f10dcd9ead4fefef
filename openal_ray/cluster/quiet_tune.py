"""What all uses of Ray Tune have in common: it says nothing itself, leaves nothing behind, and tells real errors."""

import contextlib
import io
import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cloudpickle
from ray.exceptions import RayTaskError

from openal_ray.storage import files
from openal_ray.storage.url import Place

_TUNE = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # ours hears SIGTERM too
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_MAX_PENDING_TRIALS_PG": "1",  # a second group that waits would only crowd the autoscaler
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # paths in a user's own code mean what they mean in a run
}


def cause(trial: Any) -> BaseException:
    """The trial's own error, with what Ray knows of it as its cause.

    Tune has just pickled it in this process's session folder; its own getters look where it will be copied later.
    """
    file = trial.pickled_error_file
    error = cloudpickle.loads(Path(file).read_bytes()) if file else RuntimeError("its process ended without a word")
    if not isinstance(error, RayTaskError):
        return error
    own: BaseException = error.cause
    own.__cause__ = error
    return own


@contextmanager
def emptied(folder: Place) -> Iterator[None]:
    """A folder for what Tune must write, removed afterwards."""
    files.remove(folder)  # of a driver that was killed
    try:
        yield
    finally:
        files.remove(folder)


@contextmanager
def quiet() -> Iterator[None]:
    """Tune prints its settings and a summary whatever verbose says; its variables and log levels are put back after."""
    loggers = [logging.getLogger(name) for name in ("ray.tune", "ray.air")]  # the listener is told of errors
    levels = [logger.level for logger in loggers]
    added = {name: value for name, value in _TUNE.items() if name not in os.environ}
    os.environ.update(added)
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with _interruptible(), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for name in added:
            os.environ.pop(name, None)


@contextmanager
def _interruptible() -> Iterator[None]:
    """An interrupt lets Tune end its trials and give their hardware back first; the next one ends it at once.

    Of an exception that is none to Python, such as KeyboardInterrupt, Tune's loop would leave everything as it is; it
    does end well on SIGUSR1, which it takes for itself. Signals reach the main thread alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    heard: list[int] = []

    def end(number: int, frame: Any) -> None:
        heard.append(number)
        if len(heard) > 1 or signal.getsignal(signal.SIGUSR1) == kept[signal.SIGUSR1]:  # Tune has not begun
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGUSR1)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
        if heard:
            raise KeyboardInterrupt
