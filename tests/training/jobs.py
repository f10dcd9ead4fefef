"""Small trainings on random pictures, and the same training written out plainly in PyTorch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from openal_ray import config
from openal_ray.data.images import ArrayImages
from openal_ray.models.learners import Classifier, Learner
from openal_ray.training import batches
from openal_ray.training.job import Epoch, Job, Trained
from openal_ray.training.loop import NoKeeper, train
from openal_ray.training.team import Team

N_CLASSES, MEAN, STD = 4, 0.4, 0.3
PIXELS = np.random.default_rng(0).integers(0, 256, (80, 8, 8, 1), dtype=np.uint8)
IMAGES = ArrayImages(PIXELS)
CLASSES = np.random.default_rng(1).integers(0, N_CLASSES, len(PIXELS))
Weights = dict[str, torch.Tensor]


class Flat:
    """A learner without BatchNorm, whose loss is a plain mean over images, so that parts of a batch add up exactly."""

    def __init__(self, class_weights: tuple[float, ...] = ()) -> None:
        self.classifier = Classifier(N_CLASSES, class_weights=class_weights)

    def build(self, shape: tuple[int, int, int]) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), 16), nn.Tanh(), nn.Linear(16, N_CLASSES))

    def loss(self, network: nn.Module, images: torch.Tensor, targets: torch.Tensor, progress: float) -> tuple[Any, Any]:
        return self.classifier.loss(network, images, targets, progress)


def job(
    count: int = 22, learner: Learner | None = None, start: Weights | None = None, validation: int = 0, **plan: Any
) -> Job:
    """A job on the images 3, 4, 5 …; SGD at a constant rate unless the plan says otherwise; the last are held out."""
    plain = {"epochs": 3, "batch_size": 5, "optimizer": {"name": "sgd", "lr": 0.1}, "scheduler": {"name": "constant"}}
    indices, held_out = 3 + np.arange(count), len(PIXELS) - 1 - np.arange(validation)
    return Job(
        name="round 1",
        learner=learner or Classifier(N_CLASSES),
        indices=indices,
        targets=CLASSES[indices],
        plan=config.Train.model_validate(plain | plan),
        mean=(MEAN,),
        std=(STD,),
        init_seed=11,
        order_seed=12,
        validation=(held_out, CLASSES[held_out]),
        start=start,
    )


def trained(one: Job, listener: Callable[[Epoch], None] = lambda epoch: None) -> Trained:
    return train(one, IMAGES, Team(), NoKeeper(listener))


def network_input(indices: np.ndarray) -> torch.Tensor:
    """Normalised images as plain PyTorch would have them: [n, 1, 8, 8] float32."""
    pixels = torch.from_numpy(PIXELS[indices]).permute(0, 3, 1, 2).contiguous()
    return (pixels.float() / 255 - MEAN) / STD


def fresh(one: Job) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(one.init_seed)
        return one.learner.build((8, 8, 1))


def plain_sgd(one: Job, steps_of: Callable[[list[np.ndarray]], list[np.ndarray]] = lambda order: order) -> Weights:
    """The job's weights by stochastic gradient descent written out, on the batches that `steps_of` makes of its own."""
    network = fresh(one).train()
    for epoch in range(one.plan.epochs):
        for positions in steps_of(batches.of_epoch(len(one.indices), one.plan, one.order_seed, epoch)):
            inputs, targets = network_input(one.indices[positions]), torch.from_numpy(one.targets[positions])
            loss, _ = one.learner.loss(network, inputs, targets, 0.0)
            network.zero_grad()
            loss.backward()
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter -= one.plan.optimizer.lr * parameter.grad
    return network.state_dict()


def assert_close(ours: Weights, theirs: Weights) -> None:
    """Equal up to the order of float32 sums."""
    assert list(ours) == list(theirs)
    for name, tensor in theirs.items():
        torch.testing.assert_close(
            ours[name], tensor, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


def same(ours: Weights, theirs: Weights) -> bool:
    """Equal bit for bit."""
    return list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in theirs)
