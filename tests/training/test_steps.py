"""Steps of training against the same steps written out in plain PyTorch, option by option."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from openal_ray.models.learners import Classifier
from openal_ray.training import batches
from openal_ray.training.job import Job
from tests.training.jobs import (
    N_CLASSES,
    PIXELS,
    Flat,
    Weights,
    assert_close,
    fresh,
    job,
    network_input,
    plain_sgd,
    same,
    trained,
)


@pytest.mark.parametrize("count", [22, 21, 6, 2])
def test_sgd_is_the_written_out_loop(count: int) -> None:
    one = job(count)
    assert_close(trained(one).weights, plain_sgd(one))


def test_the_weights_really_moved_and_are_the_jobs_alone() -> None:
    start = fresh(job()).state_dict()
    torch.manual_seed(1)
    first = trained(job()).weights
    torch.manual_seed(2)
    assert same(trained(job()).weights, first)
    assert not same(first, start)
    assert all(tensor.device.type == "cpu" and not tensor.requires_grad for tensor in first.values())


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    trained(job(learner=Classifier(N_CLASSES, params={"drop_rate": 0.5}), augment=["RandomHorizontalFlip"]))
    assert torch.equal(torch.get_rng_state(), before)


def pairs(order: list[np.ndarray]) -> list[np.ndarray]:
    return [np.concatenate(order[first : first + 2]) for first in range(0, len(order), 2)]


@pytest.mark.parametrize("count", [20, 22, 25])
def test_two_accumulated_batches_are_one_of_both(count: int) -> None:
    """22 images make batches of 5, 5, 4, 4, 4: the parts differ, and the last step has a single batch."""
    one = job(count, Flat((1.0, 2.0, 0.5, 3.0)), accumulate=2)
    assert_close(trained(one).weights, plain_sgd(one, pairs))


def test_one_image_alone_is_a_batch() -> None:
    one = job(1, Flat())
    assert_close(trained(one).weights, plain_sgd(one))
    with_batchnorm = trained(job(1))
    assert len(with_batchnorm.history) == 3 and with_batchnorm.history[0].accuracy in (0, 1)


def test_a_batch_size_of_one_trains_a_batchnorm_down_to_one_pixel() -> None:
    learner = Classifier(N_CLASSES, "resnet10t")  # 8 pixels halved five times: one value a channel and image
    assert len(trained(job(2, learner, batch_size=1, epochs=1)).history) == 1


def test_without_labels_the_fresh_network_is_returned() -> None:
    nothing = trained(job(0, validation=5))
    assert nothing.history == ()
    assert same(nothing.weights, fresh(job()).state_dict())


def test_start_weights() -> None:
    first = trained(job()).weights
    kept = {name: tensor.clone() for name, tensor in first.items()}
    second = job(start=first, epochs=1)
    network = fresh(second)
    network.load_state_dict(first)
    assert_close(trained(second).weights, by_hand(network, second, functional.cross_entropy))
    assert same(first, kept)


def by_hand(network: torch.nn.Module, one: Job, loss_of: Callable[..., torch.Tensor]) -> Weights:
    """The job by torch.optim, with a loss on logits and targets."""
    optimizer = torch.optim.SGD(network.parameters(), lr=one.plan.optimizer.lr, **one.plan.optimizer.params)
    network.train()
    for epoch in range(one.plan.epochs):
        for positions in batches.of_epoch(len(one.indices), one.plan, one.order_seed, epoch):
            optimizer.zero_grad()
            logits = network(network_input(one.indices[positions]))
            loss_of(logits, torch.from_numpy(one.targets[positions])).backward()
            optimizer.step()
    return network.state_dict()


def test_label_smoothing_momentum_and_weight_decay_are_pytorchs() -> None:
    optimizer = {"name": "sgd", "lr": 0.05, "params": {"momentum": 0.9, "weight_decay": 0.01, "nesterov": True}}
    one = job(learner=Classifier(N_CLASSES, label_smoothing=0.2), optimizer=optimizer)
    expected = by_hand(fresh(one), one, lambda logits, t: functional.cross_entropy(logits, t, label_smoothing=0.2))
    assert_close(trained(one).weights, expected)


def test_class_weights_multiply_each_images_loss() -> None:
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0])
    one = job(learner=Classifier(N_CLASSES, class_weights=tuple(weights.tolist())))

    def weighted(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return -(logits.log_softmax(1)[torch.arange(len(targets)), targets] * weights[targets]).sum() / len(targets)

    assert_close(trained(one).weights, by_hand(fresh(one), one, weighted))


def test_a_schedule_steps_once_a_step() -> None:
    """Cosine over 3 epochs of 5 batches, two batches a step: 9 steps."""
    one = job(25, Flat(), accumulate=2, scheduler={"name": "cosine"})
    network = fresh(one)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=9)
    for epoch in range(3):
        for positions in pairs(batches.of_epoch(25, one.plan, one.order_seed, epoch)):
            optimizer.zero_grad()
            logits = network(network_input(one.indices[positions]))
            functional.cross_entropy(logits, torch.from_numpy(one.targets[positions])).backward()
            optimizer.step()
            scheduler.step()
    assert_close(trained(one).weights, network.state_dict())


def test_steps_per_epoch() -> None:
    one = job(22, steps_per_epoch=3, epochs=4)
    history = trained(one).history
    assert [epoch.epoch for epoch in history] == [0, 1, 2, 3]
    assert_close(trained(one).weights, plain_sgd(one))


def test_bfloat16_is_pytorchs_autocast() -> None:
    one = job(learner=Flat(), precision="bfloat16")
    network = fresh(one)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for epoch in range(3):
        for positions in batches.of_epoch(22, one.plan, one.order_seed, epoch):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = network(network_input(one.indices[positions]))
            functional.cross_entropy(logits.float(), torch.from_numpy(one.targets[positions])).backward()
            optimizer.step()
    ours = trained(one).weights
    assert_close(ours, network.state_dict())
    assert {tensor.dtype for tensor in ours.values()} == {torch.float32}
    assert not same(ours, trained(job(learner=Flat())).weights)


class Watching(Flat):
    """Keeps what it is given to learn from."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[bool, list[torch.Tensor]] = {True: [], False: []}

    def loss(self, network: torch.nn.Module, images: torch.Tensor, targets: torch.Tensor, progress: float) -> tuple:
        self.seen[network.training].append(images.detach().clone())
        return super().loss(network, images, targets, progress)

    def images(self, training: bool) -> torch.Tensor:
        return torch.cat(self.seen[training])


def test_augmentation_changes_what_is_trained_on_and_nothing_else() -> None:
    learner = Watching()
    trained(job(10, learner, validation=6, epochs=2, augment=[{"RandomCrop": {"padding": 4}}]))
    held_out = network_input(len(PIXELS) - 1 - np.arange(6))
    torch.testing.assert_close(learner.images(training=False), torch.cat([held_out, held_out]))
    seen = learner.images(training=True)
    pictures = network_input(3 + np.arange(10))
    moved = [not any(torch.allclose(image, picture, atol=1e-5) for picture in pictures) for image in seen]
    assert len(seen) == 20 and sum(moved) > 15  # one crop in 81 is the picture itself
    black = (0 - 0.4) / 0.3
    assert torch.isclose(seen[:, :, [0, -1]], torch.tensor(black)).any()  # padded before normalising


def test_every_epoch_has_draws_of_its_own_that_follow_from_the_order_seed() -> None:
    """One image is cropped twice an epoch, in one of 81 ways."""

    def crops(order_seed: int) -> list[bytes]:
        learner = Watching()
        one = job(1, learner, epochs=8, augment=[{"RandomCrop": {"padding": 4}}])
        trained(replace(one, order_seed=order_seed))
        return [image.numpy().tobytes() for image in learner.images(training=True)]

    assert len(set(crops(1))) > 10
    assert crops(1) == crops(1) != crops(2)


def test_an_epoch_reports_the_mean_over_images() -> None:
    """With a rate too small to matter, every batch meets the fresh network."""
    one = job(22, Flat(), validation=7, optimizer={"name": "sgd", "lr": 1e-12}, epochs=1)
    told = []
    history = trained(one, told.append).history
    network = fresh(one)

    def measured(indices: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
        logits = network(network_input(indices)).detach()
        truth = torch.from_numpy(targets)
        return functional.cross_entropy(logits, truth).item(), float((logits.argmax(1) == truth).float().mean())

    assert (history[0].loss, history[0].accuracy) == pytest.approx(measured(one.indices, one.targets))
    assert (history[0].validation_loss, history[0].validation_accuracy) == pytest.approx(measured(*one.validation))
    assert told == list(history) and history[0].seconds > 0 and history[0].epochs == 1
