"""Runs as trials of Ray Tune: one light process each, which drives its run as `openal-ray run` would.

Tune starts trials where there is room, tries a failed one again, and may stop one early. It keeps no state that
matters: a trial finds all that it has done in its own run folder, so nothing needs to be restored from Tune.
"""

import contextlib
import io
import logging
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cloudpickle
import ray
import torch
from ray import tune
from ray.exceptions import RayTaskError
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

from openal_ray.cluster.connect import signals_kept
from openal_ray.cluster.reservation import bundles
from openal_ray.config import Config
from openal_ray.data.dataset import Dataset
from openal_ray.listener import SweepListener
from openal_ray.sweep_file import Asha

Work = Callable[[Config, Dataset, Callable[[dict[str, Any]], None]], None]
"""One run from wherever it stands to its end; it tells of each round by a row with `round` and `accuracy`."""

_TUNE = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the sweep as it ends a run
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_MAX_PENDING_TRIALS_PG": "1",  # a second group that waits would only crowd the autoscaler
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # paths in a user's own code mean what they mean in a run
}
MOST_ROUNDS = 1_000_000


def run_trials(
    trials: Mapping[str, Config], datasets: Mapping[str, Dataset], work: Work, listener: SweepListener,
    at_once: int, retries: int, asha: Asha | None, scratch: Path,
) -> None:  # fmt: skip
    """Works off adapted configurations, in their order; failed ones are told to the listener. Needs a connected Ray.

    datasets  by the trials' names; one that several share is stored once and mapped by all trials of a node
    scratch   a folder that all nodes can write to, for what Tune must write; removed
    """
    stored = {id(dataset): ray.put(dataset) for dataset in datasets.values()}
    images = {name: stored[id(dataset)] for name, dataset in datasets.items()}
    trial = tune.with_parameters(_trial, trials=dict(trials), images=images, work=work)
    reserving = tune.with_resources(trial, lambda chosen: tune.PlacementGroupFactory(bundles(trials[chosen["run"]])))
    reductions = {"grace_period": asha.grace, "reduction_factor": asha.reduction} if asha else {}
    with _quiet(), _scratch(scratch):
        tune.Tuner(
            reserving,
            param_space={"run": tune.grid_search(list(trials))},
            tune_config=tune.TuneConfig(
                metric="accuracy", mode="max", max_concurrent_trials=at_once, reuse_actors=_alike(trials),
                scheduler=ASHAScheduler("rounds_done", max_t=MOST_ROUNDS, **reductions) if asha else FIFOScheduler(),
            ),
            run_config=tune.RunConfig(
                name="trials", storage_path=str(scratch), verbose=0, callbacks=[_Teller(listener)],
                failure_config=tune.FailureConfig(max_failures=retries),
            ),
        ).fit()  # fmt: skip


def _trial(chosen: dict[str, str], trials: Mapping[str, Config], images: Mapping[str, Any], work: Work) -> None:
    """What runs in a trial's process."""
    configuration = trials[chosen["run"]]
    if not ray.get_gpu_ids():
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # else it sees GPUs that it did not reserve
    torch.set_num_threads(max(1, int(configuration.train.cpus_per_worker)))
    work(
        configuration,
        ray.get(images[chosen["run"]]),
        lambda row: tune.report({**row, "rounds_done": row["round"] + 1}),
    )


def _alike(trials: Mapping[str, Config]) -> bool:
    """Whether one process may serve trial after trial, which saves each the start of one."""
    return len({repr(bundles(trial)) for trial in trials.values()}) == 1


class _Teller(tune.Callback):
    """Passes on what the sweep's listener wants to know."""

    def __init__(self, listener: SweepListener) -> None:
        self._listener = listener

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune stores its callbacks for a restore, which nobody asks for

    def on_trial_result(self, trial: Any, result: dict[str, Any], **others: Any) -> None:
        self._listener.round_done(trial.config["run"], result)

    def on_trial_recover(self, trial: Any, **others: Any) -> None:
        self._listener.failed(trial.config["run"], _cause(trial), again=True)

    def on_trial_error(self, trial: Any, **others: Any) -> None:
        self._listener.failed(trial.config["run"], _cause(trial), again=False)

    def on_trial_complete(self, trial: Any, **others: Any) -> None:
        self._listener.ended(trial.config["run"])


def _cause(trial: Any) -> BaseException:
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
def _scratch(folder: Path) -> Iterator[None]:
    shutil.rmtree(folder, ignore_errors=True)  # of a driver that was killed
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _quiet() -> Iterator[None]:
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
