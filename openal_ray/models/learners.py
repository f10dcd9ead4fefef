"""What can be trained: a network and how to take one training step on it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn import functional

from openal_ray.models import backbones


class Learner(Protocol):
    """A recipe for a network, small enough to travel; the images and targets come from the driver."""

    def build(self, shape: tuple[int, int, int]) -> nn.Module:
        """A fresh network for images of `shape` (height, width, channels), drawn from torch's global generator."""
        ...

    def loss(
        self, network: nn.Module, images: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss of one batch, a scalar, and how many of its images are right now.

        network  what `build` returned, or a shell around it that shares the gradients: only call it
        images   [n, channels, H, W] normalised
        targets  [n] int64
        The loss must be a plain mean over images, so that parts of a batch add up.
        """
        ...


@dataclass(frozen=True)
class Classifier:
    """A classifier trained with cross-entropy.

    class_weights  [C] how many images each image of a class counts for, or () if all count once
    """

    n_classes: int
    name: str = "small_cnn"
    pretrained: bool = False
    checkpoint: Path | str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] = ()

    def build(self, shape: tuple[int, int, int]) -> nn.Module:
        return backbones.create(
            self.name, self.n_classes, shape,
            pretrained=self.pretrained, checkpoint=self.checkpoint, params=self.params,
        )  # fmt: skip

    def loss(
        self, network: nn.Module, images: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logits = network(images).float()
        # Not cross_entropy's own `weight`: it divides by the weights in the batch, which differ from part to part.
        losses = functional.cross_entropy(logits, targets, reduction="none", label_smoothing=self.label_smoothing)
        if self.class_weights:
            losses = losses * logits.new_tensor(self.class_weights)[targets]
        return losses.mean(), (logits.argmax(1) == targets).sum()
