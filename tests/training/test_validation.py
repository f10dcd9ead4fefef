"""Which epoch's weights are returned and when training stops, with a loss whose course is known in advance."""

import numpy as np
import pytest
import torch
from torch import nn

from openal_ray.config import Train
from openal_ray.training.job import Epoch, kept_epoch
from tests.training.jobs import job, trained


class Slider(nn.Module):
    """One number, which is also its answer."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(()))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.value


class Sliding:
    """Training moves the number up by the learning rate each step; validation measures how far it is from `target`."""

    def __init__(self, *target: float) -> None:
        self.target = torch.tensor(target)

    def build(self, shape: tuple[int, int, int]) -> nn.Module:
        return Slider()

    def loss(self, network: nn.Module, images: torch.Tensor, targets: torch.Tensor, progress: float) -> tuple:
        value = network(images)
        loss = -value if network.training else (value - self.target).abs().min()
        return loss, torch.zeros(())


def value_after(target: tuple[float, ...], validation: int = 5, **plan: object) -> tuple[float, list[Epoch]]:
    """The returned number after one step of 0.1 an epoch, and the epochs."""
    made = trained(job(5, Sliding(*target), validation=validation, **plan))
    return made.weights["value"].item(), list(made.history)


def test_best_returns_the_weights_of_the_epoch_of_lowest_validation_loss() -> None:
    value, history = value_after((0.32,), epochs=6, weights="best")
    assert [epoch.validation_loss for epoch in history] == pytest.approx([0.22, 0.12, 0.02, 0.08, 0.18, 0.28])
    assert value == pytest.approx(0.3)


def test_last_returns_the_last() -> None:
    assert value_after((0.32,), epochs=6)[0] == pytest.approx(0.6)
    assert value_after((0.62,), epochs=6, weights="best")[0] == pytest.approx(0.6)  # the last is the best


@pytest.mark.parametrize(("patience", "epochs"), [(1, 4), (2, 5), (3, 6), (9, 8)])
def test_patience_is_the_number_of_epochs_without_a_better_one(patience: int, epochs: int) -> None:
    value, history = value_after((0.32,), epochs=8, patience=patience)
    assert len(history) == epochs and value == pytest.approx(0.1 * epochs)
    assert value_after((0.32,), epochs=8, patience=patience, weights="best")[0] == pytest.approx(0.3)


def test_patience_begins_anew_with_every_better_epoch() -> None:
    """Distances .1 0 .1 .2 .1 .0 …: two epochs without a better one, then one that is not better than the second."""
    value, history = value_after((0.2001, 0.6), epochs=20, patience=4, weights="best")
    losses = [epoch.validation_loss for epoch in history]
    assert losses == pytest.approx([0.1001, 0.0001, 0.0999, 0.1999, 0.1, 0.0, 0.1, 0.2, 0.3, 0.4], abs=1e-5)
    assert value == pytest.approx(0.6)


def test_without_a_validation_split_training_goes_to_the_end() -> None:
    value, history = value_after((0.32,), validation=0, epochs=6, patience=1, weights="best")
    assert len(history) == 6 and value == pytest.approx(0.6)
    assert np.isnan([history[0].validation_loss, history[0].validation_accuracy]).all()


def test_a_validation_loss_of_nan_is_never_the_best() -> None:
    value, history = value_after((float("nan"),), epochs=6, patience=2)
    assert len(history) == 3 and np.isnan([epoch.validation_loss for epoch in history]).all()


class Apart(Sliding):
    """Right on every image while the number is near 0.2 or 0.3, wherever the loss is lowest."""

    def loss(self, network: nn.Module, images: torch.Tensor, targets: torch.Tensor, progress: float) -> tuple:
        near = (network(images) - 0.25).abs() < 0.1
        return super().loss(network, images, targets, progress)[0], near * torch.tensor(float(len(targets)))


def test_best_accuracy_returns_the_first_of_the_epochs_with_the_highest() -> None:
    made = trained(job(5, Apart(0.52), validation=5, epochs=6, weights="best_accuracy"))
    assert [epoch.validation_accuracy for epoch in made.history] == [0, 1, 1, 0, 0, 0]
    assert made.weights["value"].item() == pytest.approx(0.2)
    assert kept_epoch(Train(weights="best_accuracy"), made.history) == 1
    assert [kept_epoch(Train(weights=weights), made.history) for weights in ("last", "best")] == [5, 4]
    plain = trained(job(5, Apart(0.52), validation=5, epochs=6, weights="best"))
    assert plain.weights["value"].item() == pytest.approx(0.5)


class Late(Sliding):
    """Its validation loss is nan until the number has passed 0.25, and then rises."""

    def loss(self, network: nn.Module, images: torch.Tensor, targets: torch.Tensor, progress: float) -> tuple:
        loss, right = super().loss(network, images, targets, progress)
        return (loss if network.training else (network(images) - 0.25).log()), right


def test_any_number_is_better_than_nan() -> None:
    made = trained(job(5, Late(0.0), validation=5, epochs=5, weights="best"))
    assert np.isnan([epoch.validation_loss for epoch in made.history]).tolist() == [True, True, False, False, False]
    assert made.weights["value"].item() == pytest.approx(0.3)


def test_measuring_leaves_no_trace_in_the_network() -> None:
    """The same weights, BatchNorm's statistics included, with and without a validation split."""
    without, with_split = trained(job(22)).weights, trained(job(22, validation=9)).weights
    assert all(torch.equal(without[name], with_split[name]) for name in without)
