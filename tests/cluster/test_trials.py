"""A search on Ray Tune comes to what the same search in this process comes to."""

import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import ray
import torch
from ray.util import placement_group_table

from openal_ray.cluster.connect import free_resources
from openal_ray.cluster.trials import run_search
from openal_ray.errors import ConfigError, TrainingError
from openal_ray.models.learners import Classifier
from openal_ray.training.job import Job, Trained
from openal_ray.workers import search_here
from tests.training.jobs import IMAGES, N_CLASSES, job, same

RATES = [0.1, 1e30, 0.3, 0.01, 0.2]


class Climb:
    """Five trials in batches of two, whose numbers of images depend on earlier batches, so that order would show.

    The second diverges, and the last cannot be trained at all.
    """

    def __init__(self) -> None:
        self.outcomes: dict[int, Trained | TrainingError] = {}
        self.batch: dict[int, Job] = {}

    def propose(self) -> dict[int, Job]:
        if not self.batch.keys() - self.outcomes.keys():
            first = len(self.outcomes)
            self.batch = {number: self._job(number) for number in range(first, min(first + 2, len(RATES)))}
        return {number: each for number, each in self.batch.items() if number not in self.outcomes}

    def tell(self, number: int, outcome: Trained | TrainingError) -> None:
        self.outcomes[number] = outcome

    def _job(self, number: int) -> Job:
        done = [each for each in self.outcomes.values() if isinstance(each, Trained)]
        count = 10 + sum(round(100 * each.history[-1].validation_loss) for each in done) % 7
        learner = Classifier(N_CLASSES, name="nothing") if number == 4 else None
        return job(count, learner, validation=9, optimizer={"name": "sgd", "lr": RATES[number]})


def carried_out(trials: Climb, search: Callable[[Climb], None]) -> dict[int, Trained | TrainingError]:
    with pytest.raises(ConfigError, match="unknown model 'nothing'"):
        search(trials)
    return trials.outcomes


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_tune_trains_what_this_process_would(tmp_path: Path) -> None:
    here = carried_out(Climb(), lambda trials: search_here(trials, IMAGES, torch.device("cpu"), None))
    images = ray.put(IMAGES)
    there = carried_out(Climb(), lambda trials: run_search(trials, images, job().plan, tmp_path))
    assert sorted(there) == sorted(here) == [0, 1, 2, 3]
    for ours, theirs in ((here[number], there[number]) for number in (0, 2, 3)):
        assert isinstance(ours, Trained) and isinstance(theirs, Trained)
        assert same(ours.weights, theirs.weights)
    assert isinstance(there[1], TrainingError) and str(there[1]) == str(here[1])
    assert not (tmp_path / ".tune").exists()


def groups() -> set[str]:
    """The placement groups that there are."""
    return {name for name, group in placement_group_table().items() if group["state"] != "REMOVED"}


class Interrupted(Climb):
    """A search that is interrupted when its first trial is over."""

    def tell(self, number: int, outcome: Trained | TrainingError) -> None:
        super().tell(number, outcome)
        signal.raise_signal(signal.SIGINT)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.acceptance
@pytest.mark.usefixtures("ray_cluster")
def test_an_interrupt_leaves_no_trial_and_no_setting_behind(tmp_path: Path) -> None:
    levels = [logging.getLogger(name).level for name in ("ray.tune", "ray.air")]
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
    variables, before, free = dict(os.environ), groups(), free_resources()
    trials = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        run_search(trials, ray.put(IMAGES), job().plan, tmp_path)
    assert len(trials.outcomes) == 1
    assert groups() == before
    end = time.monotonic() + 30
    while free_resources()["CPU"] < free["CPU"]:
        assert time.monotonic() < end, "a trial is still there"
        time.sleep(0.1)
    assert [logging.getLogger(name).level for name in ("ray.tune", "ray.air")] == levels
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)] == handlers
    assert dict(os.environ) == variables
