"""What can be trained: a network and how to take one training step on it."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from openal_ray import config
from openal_ray.models import backbones

Look = Callable[[np.ndarray, Callable[[nn.Module, torch.Tensor], torch.Tensor]], np.ndarray]


class Learner(Protocol):
    """A recipe for a network, small enough to travel; the images and targets come from the driver."""

    def build(self, shape: tuple[int, int, int]) -> nn.Module:
        """A fresh network for images of `shape` (height, width, channels), drawn from torch's global generator."""
        ...

    def loss(
        self, network: nn.Module, images: torch.Tensor, targets: torch.Tensor, progress: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss of one batch, a scalar, and how many of its images are right now.

        network   what `build` returned, in training mode or, for validation, in eval mode
        images    [n, channels, H, W] normalised
        targets   [n] int64
        progress  the share of the epochs that are done, from 0 to below 1; 1 for validation
        The loss must be a plain mean over images, so that parts of a batch add up.
        """
        ...

    def reader(self) -> "Learner":
        """A learner whose network takes the same weights, without what matters to training alone, such as a file.

        It fetches nothing: a shard gets the weights with it, and may be where there is no internet.
        """
        ...


@runtime_checkable
class EpochLearner(Protocol):
    """A learner that wants to look at its images before every epoch."""

    def begin_epoch(self, network: nn.Module, epoch: int, targets: np.ndarray, look: Look) -> None:
        """Called on every rank; what it finds out belongs into the network's buffers.

        targets  int64 [L] of the job
        look     (positions, read) to the array that `read(network in eval mode, images)` gives for those images
        """
        ...


@runtime_checkable
class HeadLearner(Protocol):
    """A learner one part of whose network has an optimiser of its own, at a constant rate."""

    def head(self, network: nn.Module) -> tuple[nn.Module, config.Optimizer] | None:
        """That part, and how it is optimised; None if it shares the plan's optimiser and schedule."""
        ...


@dataclass(frozen=True, eq=False)
class Fitted:
    """A network that is ready: how to build it, and its weights; without weights, as it is built."""

    learner: Learner
    weights: Mapping[str, torch.Tensor] | None = None

    @property
    def digest(self) -> str:
        """Tells this network from any other."""
        digest = hashlib.blake2b(repr(self.learner).encode(), digest_size=16)
        for tensor in (self.weights or {}).values():
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Classifier:
    """A classifier trained with cross-entropy.

    class_weights  [C] how many images each image of a class counts for, or () if all count once
    blank          its weights come later, so published ones are not fetched
    """

    n_classes: int
    name: str = "small_cnn"
    pretrained: bool = False
    checkpoint: Path | str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] = ()
    blank: bool = False

    def build(self, shape: tuple[int, int, int]) -> nn.Module:
        return backbones.create(
            self.name, self.n_classes, shape,
            pretrained=self.pretrained, checkpoint=self.checkpoint, params=self.params, blank=self.blank,
        )  # fmt: skip

    def loss(
        self, network: nn.Module, images: torch.Tensor, targets: torch.Tensor, progress: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logits = network(images)
        return self.losses(logits, targets).mean(), (logits.argmax(1) == targets).sum()

    def losses(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Weighted cross-entropy of each image [n]."""
        logits = logits.float()
        # Not cross_entropy's own `weight`: it divides by the weights in the batch, which differ from part to part.
        losses = functional.cross_entropy(logits, targets, reduction="none", label_smoothing=self.label_smoothing)
        return losses * logits.new_tensor(self.class_weights)[targets] if self.class_weights else losses

    def reader(self) -> "Classifier":
        return replace(self, checkpoint=None, class_weights=(), blank=True)
