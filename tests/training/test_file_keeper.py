"""A training stopped at any epoch goes on from its file to the same weights; files of other jobs are left alone."""

from pathlib import Path

import pytest
import torch

from openal_ray.errors import RunError
from openal_ray.training import file_keeper
from openal_ray.training.file_keeper import FileKeeper
from openal_ray.training.job import Epoch, Job
from openal_ray.workers import train_here
from tests.training.jobs import IMAGES, job, same, trained

CPU = torch.device("cpu")
PLAN = {"epochs": 5, "augment": ["RandomHorizontalFlip"], "optimizer": {"name": "lars", "lr": 0.5}}


class Stopped(Exception):
    pass


def stopped_at(epoch: int, one: Job, folder: Path) -> None:
    def listener(done: Epoch) -> None:
        if done.epoch == epoch:
            raise Stopped

    with pytest.raises(Stopped):
        train_here(one, IMAGES, CPU, listener, folder)


@pytest.mark.parametrize("epoch", [0, 1, 4])
def test_it_goes_on_to_the_same_weights(epoch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_keeper, "SAVE_SECONDS", 0.0)
    one, told = job(**PLAN), []
    stopped_at(epoch, one, tmp_path)
    assert len(list((tmp_path / "training").glob("*.pt"))) == (1 if epoch else 0)
    finished = train_here(one, IMAGES, CPU, told.append, tmp_path)
    assert [done.epoch for done in told] == list(range(epoch, 5))  # what was saved is not done again
    assert same(finished.weights, trained(one).weights) and len(finished.history) == 5
    assert not (tmp_path / "training").exists()


def test_another_job_and_a_damaged_file_begin_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_keeper, "SAVE_SECONDS", 0.0)
    one, other = job(**PLAN), job(**PLAN | {"batch_size": 7})
    stopped_at(2, one, tmp_path)
    told: list[Epoch] = []
    train_here(other, IMAGES, CPU, told.append, tmp_path)
    assert len(told) == 5
    (file,) = (tmp_path / "training").glob("*.pt")
    file.write_bytes(file.read_bytes()[:100])
    assert same(train_here(one, IMAGES, CPU, told.append, tmp_path).weights, trained(one).weights)
    assert len(told) == 10


def test_short_trainings_write_nothing(tmp_path: Path) -> None:
    seen = []
    train_here(job(**PLAN), IMAGES, CPU, lambda epoch: seen.append(list(tmp_path.iterdir())), tmp_path)
    assert seen == [[]] * 5


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_keeper, "SAVE_SECONDS", 0.0)
    (tmp_path / "file").write_text("")
    keeper = FileKeeper(tmp_path / "file", job(), lambda epoch: None)
    with pytest.raises(RunError, match="a checkpoint cannot be written .* make room and resume"):
        keeper.epoch_done(Epoch(0, 5, 1.0, 0.5, 1.0, 0.5, 0.1), dict)
