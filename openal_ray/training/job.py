"""What a training is asked for, as plain data, and what comes of it; the loop is in loop.py."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from openal_ray import config
from openal_ray.models.learners import Learner


@dataclass(frozen=True, eq=False)
class Job:
    """One training, complete: the same job gives the same weights on any number of workers of the same kind.

    indices, targets        [L] the images to learn from and their classes
    validation              [V] indices and [V] classes, never test images; may be empty
    start                   weights to begin with, or None for fresh ones
    init_seed, order_seed   seeds of the fresh weights, and of batches, augmentation and dropout
    """

    name: str
    learner: Learner
    indices: np.ndarray
    targets: np.ndarray
    plan: config.Train
    mean: tuple[float, ...]
    std: tuple[float, ...]
    init_seed: int
    order_seed: int
    validation: tuple[np.ndarray, np.ndarray] = field(default_factory=lambda: (np.empty(0, int), np.empty(0, int)))
    start: Mapping[str, torch.Tensor] | None = None

    @property
    def digest(self) -> str:
        """Tells this job from any other, so that no checkpoint of another one is continued."""
        plan = self.plan.model_dump(exclude=set(config.WHERE_IT_TRAINS))
        parts = [self.name, self.learner, plan, self.init_seed, self.order_seed, self.mean, self.std]
        digest = hashlib.blake2b(repr(parts).encode(), digest_size=16)
        for array in (self.indices, self.targets, *self.validation):
            digest.update(np.ascontiguousarray(array).tobytes())
        for tensor in (self.start or {}).values():
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Epoch:
    """What one epoch of training came to; accuracies are shares of images, validation is nan without a split.

    images  how many were trained on, by all processes together
    """

    epoch: int
    epochs: int
    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float
    seconds: float
    images: int = 0


@dataclass(frozen=True, eq=False)
class Trained:
    """Weights on the CPU, and the epochs that led to them."""

    weights: dict[str, torch.Tensor]
    history: tuple[Epoch, ...]


def kept_epoch(plan: config.Train, history: Sequence[Epoch]) -> int:
    """Position in `history` of the epoch whose weights a training keeps; the earlier of two that are as good.

    Without a validation split it is the last.
    """
    if plan.weights == "last" or all(math.isnan(epoch.validation_loss) for epoch in history):
        return len(history) - 1
    if plan.weights == "best_accuracy":
        return max(range(len(history)), key=lambda number: history[number].validation_accuracy)
    losses = [math.inf if math.isnan(epoch.validation_loss) else epoch.validation_loss for epoch in history]
    return losses.index(min(losses))
