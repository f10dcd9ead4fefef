"""Ray Train as a session: the same weights as in this process, also after a worker was killed."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import ray
import torch

from openal_ray import config
from openal_ray.cluster.trainers import TrainSession
from openal_ray.data.images import ArrayImages
from openal_ray.errors import ConfigError, TrainingError
from openal_ray.models.learners import Classifier
from openal_ray.storage.url import Url, place
from openal_ray.training.job import Epoch, Job
from openal_ray.training.loop import NoKeeper, train
from openal_ray.training.team import Team

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]
IMAGES = ArrayImages(np.random.default_rng(0).integers(0, 255, (200, 8, 8, 1), dtype=np.uint8))


def job(number: int, epochs: int = 4, workers: int = 1, lr: float = 1e-3, learner: object = None) -> Job:
    plan = config.Train(epochs=epochs, workers=workers, optimizer=config.Optimizer(lr=lr))
    indices = np.arange(100) + number
    return Job(
        f"round {number}", learner or Classifier(4), indices, indices % 4, plan, (0.5,), (0.5,), 1, number
    )  # fmt: skip


def alone(one: Job) -> dict[str, torch.Tensor]:
    return train(one, IMAGES, Team(), NoKeeper()).weights


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(ours[key], theirs[key]) for key in theirs)


def all_is_free(within: float) -> bool:
    """Whether nobody holds any of the cluster's four CPUs, which Ray tells a moment later."""
    end = time.perf_counter() + within
    while ray.available_resources().get("CPU", 0) < 4 and time.perf_counter() < end:
        time.sleep(0.2)
    return ray.available_resources().get("CPU", 0) == 4


def test_one_session_serves_many_jobs_and_survives_a_bad_one(tmp_path: Path) -> None:
    session = TrainSession(ray.put(IMAGES), job(0).plan, tmp_path)
    heard: list[Epoch] = []
    assert same(session.fit(job(0), heard.append).weights, alone(job(0)))
    assert [epoch.epoch for epoch in heard] == [0, 1, 2, 3]
    with pytest.raises(TrainingError, match="loss became nan|loss became inf"):
        session.fit(job(1, lr=1e30), heard.append)
    with pytest.raises(ConfigError, match="unknown model 'nothing'"):
        session.fit(job(1, learner=Classifier(4, name="nothing")), heard.append)
    begin = time.perf_counter()
    assert same(session.fit(job(2), heard.append).weights, alone(job(2)))
    assert time.perf_counter() - begin < 10  # no new start of Ray Train, which takes longer than this
    begin = time.perf_counter()
    session.close()
    assert time.perf_counter() - begin < 8  # Ray Train's cleaner would wait 12 s for a dashboard that is not there
    assert all_is_free(within=5)


@pytest.mark.parametrize("workers", [1, 2])
def test_nobody_waits_for_a_job_that_is_given_up(tmp_path: Path, workers: int) -> None:
    one = job(0, epochs=100_000, workers=workers)
    session = TrainSession(ray.put(IMAGES), one.plan, tmp_path)

    def give_up(epoch: Epoch) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session.fit(one, give_up)
    begin = time.perf_counter()
    session.close(wait=False)
    assert time.perf_counter() - begin < 5
    assert all_is_free(within=60)  # the group found nobody to talk to, and ended


def test_a_killed_worker_of_two_costs_no_accuracy(tmp_path: Path, bucket: Url, endpoint: str) -> None:
    """Rank 1 gets SIGKILL in the middle of a job: the weights are those of one undisturbed process, bit for bit.

    The checkpoints from which both go on lie in S3.
    """
    one = job(0, epochs=12, workers=2)
    scheme, _, address = endpoint.partition("://")
    run = place(f"{bucket}/run?endpoint_override={address}&scheme={scheme}")  # Ray started before the server
    session = TrainSession(ray.put(IMAGES), one.plan, run, save_seconds=0)
    heard: list[int] = []

    def kill_once(epoch: Epoch) -> None:
        heard.append(epoch.epoch)
        if epoch.epoch == 4 and len(heard) == 5:
            os.kill(ray.get(session.mailbox.pid.remote(1)), signal.SIGKILL)

    assert same(session.fit(one, kill_once).weights, alone(one))
    assert heard[-1] == 11
    session.close()
    assert any(each.name.startswith("checkpoint") for each in (run / "training" / "0").iterdir())
