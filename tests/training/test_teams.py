"""Real teams of processes: the weights of one process, bit for bit, and one end when the loss is nan."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, multiprocessing, nn
from torch.nn import functional

from openal_ray.errors import TrainingError
from openal_ray.models.detectors import OpenDetector
from openal_ray.models.learners import Classifier
from openal_ray.training.job import Job
from openal_ray.training.loop import NoKeeper, train
from openal_ray.training.micro_batches import MicroBatches
from openal_ray.training.team import Team
from tests.training.jobs import IMAGES, N_CLASSES, Flat, Weights, assert_close, fresh, job, same, trained

MICRO_BATCHES = 4
SIZES = (2, 3, 4)  # three share four unevenly


def plain_jobs() -> dict[str, Job]:
    """Odd batches, one image alone, fewer images than parts, and options that must mean the same for any team."""
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


class Remembering(nn.Module):
    """A network whose next step depends on a buffer of its last; one of its layers plays no part."""

    seen: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.idle = nn.Linear(64, N_CLASSES), nn.Linear(2, 2)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.seen = self.seen + images.mean()  # bound to another tensor, as some networks do
        return self.layer(functional.dropout(images.flatten(1), 0.2, self.training)) * (1 + self.seen.tanh())


class Remembers(Flat):
    def build(self, shape: tuple[int, int, int]) -> nn.Module:
        return Remembering()


def jobs() -> dict[str, Job]:
    """What depends on the process that does it: BatchNorm, dropout, augmentation, buffers, an optimiser apart."""
    moving = {"augment": ["RandomHorizontalFlip"], "optimizer": {"name": "adamw", "lr": 0.01}}
    return {
        **plain_jobs(),
        "batchnorm": job(21, Classifier(N_CLASSES), validation=9, epochs=2),
        "dropout": job(
            25, Classifier(N_CLASSES, params={"drop_rate": 0.5}), validation=9, epochs=3, batch_size=8, accumulate=2,
            weights="best", **moving,
        ),
        "bfloat16": job(21, Classifier(N_CLASSES), epochs=2, precision="bfloat16"),
        "buffers": job(25, Remembers(), validation=9, epochs=2),
        "detector": job(25, OpenDetector(Classifier(N_CLASSES), recluster=2), epochs=3, batch_size=8),
    }  # fmt: skip


def shared_out(one: Job, micro_batches: int = MICRO_BATCHES) -> Job:
    return replace(one, plan=one.plan.model_copy(update={"micro_batches": micro_batches}))


def outcome(one: Job, team: Team) -> dict[str, Any]:
    made = train(one, IMAGES, team, NoKeeper())
    losses = [(epoch.loss, epoch.accuracy, epoch.validation_loss, epoch.images) for epoch in made.history]
    return {"weights": made.weights, "losses": torch.tensor(losses, dtype=torch.float64)}


def member(rank: int, folder: str, size: int) -> None:
    """One process of the team: does every job and writes down what came of it."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
    team = Team(rank=rank, size=size)
    found: dict[str, Any] = {name: outcome(shared_out(one), team) for name, one in jobs().items()}
    diverging = shared_out(job(learner=Flat(), optimizer={"name": "sgd", "lr": 1e38}))
    try:
        train(diverging, IMAGES, team, NoKeeper())
    except TrainingError as error:
        found["error"] = str(error)
    torch.save(found, f"{folder}/rank{rank}.pt")
    distributed.barrier()
    # Not through Python's own end, where gloo's threads, now and then, abort the process: "terminate called …".
    os._exit(0)


@pytest.fixture(scope="module", params=SIZES)
def team(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    folder: Path = tmp_path_factory.mktemp("team")
    multiprocessing.spawn(member, (str(folder), request.param), nprocs=request.param)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(request.param)]


@pytest.fixture(scope="module")
def alone() -> dict[str, dict[str, Any]]:
    """The same jobs in this process, one micro-batch after the other."""
    return {name: outcome(shared_out(one), Team()) for name, one in jobs().items()}


@pytest.mark.parametrize("name", jobs())
def test_any_number_of_processes_trains_the_weights_of_one(
    team: list[dict[str, Any]], alone: dict[str, dict[str, Any]], name: str
) -> None:
    """On every rank, or the others would take other decisions and wait for it for ever."""
    for mine in team:
        assert same(mine[name]["weights"], alone[name]["weights"])
        torch.testing.assert_close(mine[name]["losses"], alone[name]["losses"], equal_nan=True, rtol=0, atol=0)


def test_a_loss_that_is_not_finite_ends_all(team: list[dict[str, Any]]) -> None:
    assert "the training loss became" in team[0]["error"]
    assert {mine["error"] for mine in team} == {team[0]["error"]}


@pytest.mark.parametrize("name", plain_jobs())
def test_micro_batches_change_no_more_than_the_order_of_sums(alone: dict[str, dict[str, Any]], name: str) -> None:
    """Where no image's part depends on the others: the weights and losses of whole batches."""
    whole = outcome(shared_out(plain_jobs()[name], 1), Team())
    assert_close(alone[name]["weights"], whole["weights"])
    torch.testing.assert_close(alone[name]["losses"], whole["losses"], equal_nan=True, rtol=1e-4, atol=1e-5)


def test_weights_that_play_no_part_stay_as_they_are() -> None:
    """Not even weight decay touches them, as in training without micro-batches."""
    one = job(25, Remembers(), optimizer={"name": "adamw", "lr": 0.1, "params": {"weight_decay": 0.5}})
    weights = outcome(shared_out(one), Team())["weights"]
    assert torch.equal(weights["idle.weight"], fresh(one).state_dict()["idle.weight"])
    assert not torch.equal(weights["layer.weight"], fresh(one).state_dict()["layer.weight"])


def test_more_processes_than_micro_batches_are_refused() -> None:
    with pytest.raises(ValueError, match="3 processes cannot share 2 micro-batches"):
        MicroBatches(nn.Linear(2, 2), Team(size=3), 2)


def test_the_measured_network_is_the_returned_one(alone: dict[str, dict[str, Any]]) -> None:
    final = alone["batchnorm"]
    assert measured(final["weights"]) == pytest.approx(final["losses"][-1, 2].item(), rel=1e-4)


def measured(weights: Weights) -> float:
    """The validation loss of given weights, in plain PyTorch."""
    one = jobs()["batchnorm"]
    network = one.learner.build((8, 8, 1)).eval()
    network.load_state_dict(weights)
    inputs = torch.from_numpy(IMAGES.load(one.validation[0])).permute(0, 3, 1, 2).float() / 255
    loss, _ = one.learner.loss(network, (inputs - one.mean[0]) / one.std[0], torch.from_numpy(one.validation[1]), 1.0)
    return loss.item()


def test_each_micro_batch_draws_for_itself() -> None:
    """Dropout of two parts that hold the same images must differ, or half of the randomness were lost."""
    drawn: list[torch.Tensor] = []

    class Listening(Remembering):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            drawn.append(torch.rand(3))
            return super().forward(images)

    class Listens(Remembers):
        def build(self, shape: tuple[int, int, int]) -> nn.Module:
            return Listening()

    trained(shared_out(job(16, Listens(), batch_size=8, epochs=2)))
    assert len({tuple(draws.tolist()) for draws in drawn}) == len(drawn) == 2 * 2 * MICRO_BATCHES
