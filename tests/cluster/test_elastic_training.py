"""Training workers that come and go with the cluster: the weights of one process, bit for bit."""

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import ray

from openal_ray import config
from openal_ray.cluster import trainers, workers
from openal_ray.cluster.workers import RayWorkers
from openal_ray.data.images import ArrayImages
from openal_ray.models.learners import Classifier
from openal_ray.runs import as_config
from openal_ray.shard import Settings
from openal_ray.training.job import Epoch, Job
from openal_ray.training.loop import NoKeeper, train
from openal_ray.training.team import Team
from tests.cluster.nodes import another_node, reclaim
from tests.training.jobs import same

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]
IMAGES = ArrayImages(np.random.default_rng(0).integers(0, 255, (200, 8, 8, 1), dtype=np.uint8))
EPOCHS = 200


class Followed:
    """Workers of a run whose number follows the cluster, and how many each group of them has had."""

    def __init__(self, folder: Path, **plan: float) -> None:
        self.configuration = as_config(
            {"strategy": "random", "shards": 1, "train": {"workers": [1, 2], "epochs": EPOCHS} | plan}
        )
        self.sizes: list[int] = []
        images = {"train": IMAGES, "test": IMAGES}
        self.workers = RayWorkers(images, Settings(config.Read(), (0.5,), (0.5,)), self.configuration, folder)

    def job(self) -> Job:
        indices, learner = np.arange(100), Classifier(4, params={"drop_rate": 0.2})
        return Job("round 0", learner, indices, indices % 4, self.configuration.train, (0.5,), (0.5,), 1, 2)

    def fit(self, listener: Callable[[Epoch], None]) -> bool:
        """Whether the weights are those of a process that trains alone."""
        one = self.job()

        def listening(name: str, epoch: Epoch) -> None:
            session = self.workers._sessions[0]
            working = 1 + (ray.get(session.mailbox.pid.remote(1)) is not None)
            if self.sizes[-1:] != [working]:
                self.sizes.append(working)
            listener(epoch)

        found = self.workers.fit({one.name: one}, listening)[one.name].weights
        return same(found, train(one, IMAGES, Team(), NoKeeper()).weights)


@pytest.fixture
def followed(tmp_path: Path) -> Iterator[Callable[..., Followed]]:
    with ExitStack() as ends:

        def make(**plan: float) -> Followed:
            made = Followed(tmp_path, **plan)
            ends.callback(made.workers.close)
            return made

        yield make


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster is looked at all the time, and checkpoints are made after every epoch."""
    monkeypatch.setattr(trainers, "RESIZE_SECONDS", 5.0)
    monkeypatch.setattr(workers, "TrainSession", partial(trainers.TrainSession, save_seconds=0))


def test_a_training_has_as_many_workers_as_there_is_room_for(followed: Callable[..., Followed]) -> None:
    mine = followed(epochs=10)
    assert mine.workers.mode == "per_round" and mine.workers.share.take_turns
    assert mine.fit(lambda epoch: None) and mine.sizes == [2]


@pytest.mark.acceptance
@pytest.mark.parametrize("end", ["lost", "reclaimed"])
def test_training_goes_on_without_a_node_that_is_gone_or_going(followed: Callable[..., Followed], end: str) -> None:
    with another_node() as second:
        mine = followed(cpus_per_worker=3)  # of this machine's four CPUs: one worker a node
        taken: list[int] = []

        def take_away(epoch: Epoch) -> None:
            if mine.sizes[-1] == 2 and epoch.epoch >= 10 and not taken:
                taken.append(epoch.epoch)
                second.signal(signal.SIGKILL) if end == "lost" else reclaim(second.node_id, seconds=5)

        assert mine.fit(take_away)
        assert taken and mine.sizes[-2:] == [2, 1]
