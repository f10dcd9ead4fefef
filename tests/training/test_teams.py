"""Real teams of two processes: the weights of one process, whatever the batches, and one end when the loss is nan."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, multiprocessing

from openal_ray.errors import TrainingError
from openal_ray.models.learners import Classifier
from openal_ray.training.job import Job
from openal_ray.training.loop import NoKeeper, Team, train
from tests.training.jobs import IMAGES, N_CLASSES, Flat, Weights, assert_close, job, same, trained

SIZE = 2


def jobs() -> dict[str, Job]:
    """Odd batches, one image alone, fewer images than processes, and options that must mean the same for any team."""
    return {
        "even": job(20, Flat(), batch_size=4),
        "odd": job(25, Flat(), batch_size=5),
        "last one odd": job(22, Flat(), batch_size=8),
        "one image": job(1, Flat(), validation=1),
        "batches of one": job(3, Flat(), batch_size=1, epochs=1),
        "accumulated": job(22, Flat(), accumulate=2),
        "class weights": job(22, Flat((1.0, 2.0, 0.5, 3.0)), validation=9, weights="best"),
        "momentum and one cycle": job(
            25, Flat(), optimizer={"name": "adamw", "lr": 0.01}, scheduler={"name": "one_cycle"}, steps_per_epoch=3
        ),
    }


def batchnorm() -> Job:
    """Running statistics are of each process's own images, so they differ between them."""
    return job(21, Classifier(N_CLASSES), validation=9, epochs=2)


def member(rank: int, folder: str) -> None:
    """One process of the team: does every job and writes down what came of it."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=SIZE)
    team, found = Team(rank=rank, size=SIZE), {}
    for name, one in {**jobs(), "batchnorm": batchnorm(), "again": batchnorm()}.items():
        made = train(one, IMAGES, team, NoKeeper())
        losses = [(epoch.loss, epoch.accuracy, epoch.validation_loss) for epoch in made.history]
        found[name] = {"weights": made.weights, "losses": torch.tensor(losses)}
    try:
        train(job(learner=Flat(), optimizer={"name": "sgd", "lr": 1e38}), IMAGES, team, NoKeeper())
    except TrainingError as error:
        found["error"] = str(error)
    torch.save(found, f"{folder}/rank{rank}.pt")
    distributed.barrier()
    # Not through Python's own end, where gloo's threads, now and then, abort the process: "terminate called …".
    os._exit(0)


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder: Path = tmp_path_factory.mktemp("team")
    multiprocessing.spawn(member, (str(folder),), nprocs=SIZE)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(SIZE)]


@pytest.mark.parametrize("name", jobs())
def test_two_processes_train_the_weights_of_one(team: list[dict[str, Any]], name: str) -> None:
    alone = trained(jobs()[name])
    assert_close(team[0][name]["weights"], alone.weights)
    losses = torch.tensor([(epoch.loss, epoch.accuracy, epoch.validation_loss) for epoch in alone.history])
    torch.testing.assert_close(team[0][name]["losses"], losses, equal_nan=True, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [*jobs(), "batchnorm"])
def test_both_processes_end_alike(team: list[dict[str, Any]], name: str) -> None:
    """Every one of them must take the same decisions, or the others would wait for it for ever."""
    first, second = (mine[name] for mine in team)
    assert same(first["weights"], second["weights"])
    torch.testing.assert_close(first["losses"], second["losses"], equal_nan=True, rtol=0, atol=0)


def test_the_measured_network_is_the_returned_one(team: list[dict[str, Any]]) -> None:
    """The validation loss of a team comes from rank 0's BatchNorm statistics: one process finds the same with them."""
    final = team[0]["batchnorm"]
    assert measured(final["weights"]) == pytest.approx(final["losses"][-1, 2].item(), rel=1e-4)


def measured(weights: Weights) -> float:
    """The validation loss of given weights, in plain PyTorch."""
    one = batchnorm()
    network = one.learner.build((8, 8, 1)).eval()
    network.load_state_dict(weights)
    inputs = torch.from_numpy(IMAGES.load(one.validation[0])).permute(0, 3, 1, 2).float() / 255
    loss, _ = one.learner.loss(network, (inputs - one.mean[0]) / one.std[0], torch.from_numpy(one.validation[1]), 1.0)
    return loss.item()


def test_a_team_repeats_itself(team: list[dict[str, Any]]) -> None:
    assert same(team[0]["batchnorm"]["weights"], team[0]["again"]["weights"])
    other = trained(replace(batchnorm(), order_seed=99)).weights
    assert not same(team[0]["batchnorm"]["weights"], other)


def test_a_loss_that_is_not_finite_ends_both(team: list[dict[str, Any]]) -> None:
    assert "the training loss became" in team[0]["error"] and team[0]["error"] == team[1]["error"]
