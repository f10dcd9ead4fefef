"""A search on Ray Tune comes to what the same search in this process comes to."""

from collections.abc import Callable
from pathlib import Path

import pytest
import ray
import torch

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
