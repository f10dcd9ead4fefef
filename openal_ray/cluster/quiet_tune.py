"""What all uses of Ray Tune have in common: it says nothing itself, leaves nothing behind, and tells real errors."""

import contextlib
import io
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cloudpickle
from ray.exceptions import RayTaskError

from openal_ray.cluster.connect import signals_kept
from openal_ray.storage import files
from openal_ray.storage.url import Place

_TUNE = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the sweep as it ends a run
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
    """Tune prints its settings and a summary whatever verbose says, and takes SIGINT and SIGUSR1 for itself."""
    for name, value in _TUNE.items():
        os.environ.setdefault(name, value)
    kept = signal.getsignal(signal.SIGUSR1)
    for name in ("ray.tune", "ray.air"):  # the listener is told of errors
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        with signals_kept(), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        signal.signal(signal.SIGUSR1, kept)
