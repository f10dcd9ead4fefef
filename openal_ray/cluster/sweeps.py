"""Runs as trials of Ray Tune: one light process each, which drives its run as `openal-ray run` would.

Tune starts trials where there is room, tries a failed one again, and may stop one early. It keeps no state that
matters: a trial finds all that it has done in its own run folder, so nothing needs to be restored from Tune.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

import ray
import torch
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

from openal_ray.cluster.quiet_tune import cause, emptied, quiet
from openal_ray.cluster.reservation import bundles
from openal_ray.config import Config
from openal_ray.data.dataset import Dataset
from openal_ray.listener import SweepListener
from openal_ray.storage import files
from openal_ray.storage.url import Place
from openal_ray.sweep_file import Asha

Work = Callable[[Config, Dataset, Callable[[dict[str, Any]], None]], None]
"""One run from wherever it stands to its end; it tells of each round by a row with `round` and `accuracy`."""

MOST_ROUNDS = 1_000_000


def run_trials(
    trials: Mapping[str, Config], datasets: Mapping[str, Dataset], work: Work, listener: SweepListener,
    at_once: int, retries: int, asha: Asha | None, scratch: Place,
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
    with quiet(), emptied(scratch):
        tune.Tuner(
            reserving,
            param_space={"run": tune.grid_search(list(trials))},
            tune_config=tune.TuneConfig(
                metric="accuracy", mode="max", max_concurrent_trials=at_once, reuse_actors=_alike(trials),
                scheduler=ASHAScheduler("rounds_done", max_t=MOST_ROUNDS, **reductions) if asha else FIFOScheduler(),
            ),
            run_config=tune.RunConfig(
                name="trials", verbose=0, callbacks=[_Teller(listener)], **files.for_ray(scratch),
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
        self._listener.failed(trial.config["run"], cause(trial), again=True)

    def on_trial_error(self, trial: Any, **others: Any) -> None:
        self._listener.failed(trial.config["run"], cause(trial), again=False)

    def on_trial_complete(self, trial: Any, **others: Any) -> None:
        self._listener.ended(trial.config["run"])
