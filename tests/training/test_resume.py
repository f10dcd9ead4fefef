"""A training that goes on from any saved epoch ends with the weights of one that was never disturbed, bit for bit."""

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from openal_ray import config
from openal_ray.models.detectors import OpenDetector
from openal_ray.models.learners import Classifier
from openal_ray.training.job import Epoch, Job, Trained
from openal_ray.training.loop import State, train
from openal_ray.training.team import Team
from tests.training.jobs import IMAGES, N_CLASSES, job, same, trained


class Saving:
    """Writes every epoch's state as bytes, and begins from some if there are any."""

    def __init__(self, begin: bytes | None = None) -> None:
        self.begin = begin
        self.saved: list[bytes] = []

    def resume(self) -> State | None:
        return self.begin and torch.load(io.BytesIO(self.begin), weights_only=True)

    def epoch_done(self, epoch: Epoch, state: Callable[[], State]) -> None:
        buffer = io.BytesIO()
        torch.save(state(), buffer)
        self.saved.append(buffer.getvalue())


def run(one: Job, begin: bytes | None = None) -> tuple[Trained, list[bytes]]:
    keeper = Saving(begin)
    return train(one, IMAGES, Team(), keeper), keeper.saved


SGD = {"name": "sgd", "lr": 0.05, "params": {"momentum": 0.9}}
PLANS: dict[str, dict[str, Any]] = {
    "sgd and steps": {"optimizer": SGD, "scheduler": {"name": "step", "params": {"gamma": 0.5}}},
    "warm-up and milestones": {"warmup_epochs": 1.5, "scheduler": {"name": "multi_step"}},
    "adamw and one cycle": {"optimizer": {"name": "adamw", "lr": 0.01}, "scheduler": {"name": "one_cycle"}},
    "warm-up and one cycle": {"optimizer": SGD, "warmup_epochs": 1, "scheduler": {"name": "one_cycle"}},
    "cosine, shorter epochs": {"scheduler": {"name": "cosine"}, "steps_per_epoch": 3},
    "accumulated augmented": {"accumulate": 2, "augment": ["RandomHorizontalFlip"], "precision": "bfloat16"},
    "best with patience": {"optimizer": SGD, "weights": "best", "patience": 3},
}


@pytest.mark.parametrize("name", PLANS)
def test_resuming_after_any_epoch_gives_the_same_weights(name: str) -> None:
    learner = Classifier(N_CLASSES, params={"drop_rate": 0.5})
    one = job(learner=learner, validation=9, **({"epochs": 5} | PLANS[name]))
    undisturbed, saved = run(one)
    assert len(saved) == len(undisturbed.history) >= 4
    for state in saved:
        resumed, _ = run(one, state)
        assert same(resumed.weights, undisturbed.weights)
        untimed = [[replace(epoch, seconds=0.0) for epoch in made.history] for made in (resumed, undisturbed)]
        assert untimed[0] == untimed[1]


def test_a_detector_goes_on_with_its_clusters_and_both_its_optimisers() -> None:
    one = job(learner=OpenDetector(Classifier(N_CLASSES), recluster=2), epochs=5)
    undisturbed, saved = run(one)
    assert undisturbed.weights["n_centres"] > 0
    for state in saved:
        assert same(run(one, state)[0].weights, undisturbed.weights)


def test_buffers_outside_a_networks_state_go_on_too() -> None:
    class Counting(nn.Module):
        seen: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(64, N_CLASSES)
            self.register_buffer("seen", torch.zeros(()), persistent=False)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            self.seen = self.seen + self.training
            return self.layer(images.flatten(1)) * (1 + 1 / (1 + self.seen))

    class Counts(Classifier):
        def build(self, shape: tuple[int, int, int]) -> nn.Module:
            return Counting()

    one = job(learner=Counts(N_CLASSES), epochs=4)
    undisturbed, saved = run(one)
    for state in saved:
        assert same(run(one, state)[0].weights, undisturbed.weights)


def test_the_best_weights_survive_though_no_later_epoch_is_better() -> None:
    one = job(validation=9, epochs=8, weights="best", optimizer={"name": "sgd", "lr": 1.0})
    undisturbed, saved = run(one)
    losses = [epoch.validation_loss for epoch in undisturbed.history]
    assert losses.index(min(losses)) < 7
    assert same(run(one, saved[-1])[0].weights, undisturbed.weights)
    assert not same(
        undisturbed.weights, trained(replace(one, plan=one.plan.model_copy(update={"weights": "last"}))).weights
    )


def changed(**parts: Any) -> str:
    return replace(job(validation=3, start={"a": torch.ones(2), "b": torch.tensor(3)}), **parts).digest


def test_a_digest_tells_jobs_apart() -> None:
    one = job(validation=3)
    others = [
        {"name": "round 2"},
        {"learner": Classifier(N_CLASSES, label_smoothing=0.1)},
        {"indices": one.indices + 1},
        {"targets": (one.targets + 1) % N_CLASSES},
        {"plan": config.Train(epochs=4)},
        {"mean": (0.1,)},
        {"std": (0.1,)},
        {"init_seed": 5},
        {"order_seed": 5},
        {"validation": (one.validation[0], (one.validation[1] + 1) % N_CLASSES)},
        {"start": None},
        {"start": {"a": torch.ones(2), "b": torch.tensor(4)}},
        {"start": {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor(3)}},
    ]
    digests = [changed(**other) for other in others]
    assert len({changed(), *digests}) == len(others) + 1
    assert changed() == changed(indices=one.indices.copy(), start={"a": torch.ones(2), "b": torch.tensor(3)})


def test_a_digest_depends_on_what_is_trained_and_not_on_where() -> None:
    elsewhere = config.Train(epochs=4, workers=2, micro_batches=2, mode="per_round", retries=5, gpus_per_worker=1)
    assert changed(plan=config.Train(epochs=4, micro_batches=2)) == changed(plan=elsewhere)
    assert changed(plan=config.Train(epochs=4)) != changed(plan=elsewhere)


def test_a_digest_does_not_depend_on_how_weights_lie_in_memory() -> None:
    maps = torch.randn(2, 3, 4, 5)
    assert changed(start={"a": maps}) == changed(start={"a": maps.to(memory_format=torch.channels_last)})
    assert np.unique([changed(start={"a": maps}), changed(start={"a": maps + 1})]).size == 2
