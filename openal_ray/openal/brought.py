"""What a caller with a training loop of their own brings along: a network, a data set, a transform."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from openal_ray.errors import ConfigError
from openal_ray.models.learners import Classifier

Normalisation = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation per channel, of pixels in 0 … 1."""


@dataclass(frozen=True, kw_only=True)
class Given(Classifier):
    """A classifier whose network is a copy of the caller's.

    fresh  with a last layer that is drawn anew and gives n_classes: what helpers begin with
    """

    model: nn.Module
    fresh: bool = False

    def build(self, shape: tuple[int, int, int]) -> nn.Module:
        network = copy.deepcopy(self.model).cpu()  # where a shard expects it, wherever the caller trains
        if self.fresh:
            _replace_last_layer(network, self.n_classes)
        return network


def _replace_last_layer(network: Any, n_classes: int) -> None:
    """Puts a new linear layer in the place of get_classifier(), or of the last linear layer if there is no such method.

    raises  ConfigError  if that is no linear layer
    """
    linear = {name: module for name, module in network.named_modules() if isinstance(module, nn.Linear)}
    last = network.get_classifier() if hasattr(network, "get_classifier") else next(reversed(linear.values()), None)
    path = next((name for name, module in linear.items() if module is last), "")
    if not path:
        raise ConfigError(
            "the strategy trains further networks with a last layer of their own, and that of "
            f"{type(network).__name__} is not a linear layer inside it: write get_classifier(), as timm's models do"
        )
    parent, _, name = path.rpartition(".")
    old = linear[path]
    setattr(network.get_submodule(parent), name, nn.Linear(old.in_features, n_classes, old.bias is not None))


class TransformedImages:
    """A map-style data set through the caller's transform: float32 [n, H, W, channels], ready for the network."""

    def __init__(self, dataset: Any, transform: Any) -> None:
        self.dataset = copy.copy(dataset)
        if transform is not None:
            if not hasattr(dataset, "transform"):
                raise ConfigError(
                    f"transform: {type(dataset).__name__} has no `.transform` that it could replace; "
                    "give transform=None and a data set whose images are tensors, ready for the network"
                )
            self.dataset.transform = transform
        self.shape: tuple[int, int, int] = self.load(np.array([0])).shape[1:]

    def __len__(self) -> int:
        return len(self.dataset)

    def load(self, indices: np.ndarray) -> np.ndarray:
        items = [self.dataset[int(index)] for index in indices]
        images = [item[0] if isinstance(item, tuple | list) else item for item in items]
        if not all(isinstance(image, torch.Tensor) and image.ndim == 3 for image in images):
            raise ConfigError(
                f"transform: an image must become a tensor [channels, height, width], got {type(images[0]).__name__}"
            )
        return torch.stack([image.float() for image in images]).permute(0, 2, 3, 1).numpy()

    def ids(self, indices: np.ndarray) -> list[str]:
        return [str(index) for index in indices]

    @property
    def normalisation(self) -> Normalisation | None:
        """That of the transform's last step, if this is a Normalize, as in torchvision."""
        transform = getattr(self.dataset, "transform", None)
        steps: Sequence[Any] = getattr(transform, "transforms", [transform])
        last: Any = steps[-1] if len(steps) else None
        if not (hasattr(last, "mean") and hasattr(last, "std")):
            return None
        mean, std = (tuple(np.atleast_1d(np.asarray(each, dtype=float)).tolist()) for each in (last.mean, last.std))
        return mean, std


class Labels:
    """The classes of images, looked up for those that are asked about and no others; -1 is of no known class.

    They are those the data set lists as `targets` or `labels`, or the second part of its items, each read once.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self._listed = getattr(dataset, "targets", getattr(dataset, "labels", None))
        self._read: dict[int, int] = {}

    def of(self, indices: np.ndarray) -> np.ndarray | None:
        """int64 [n]; None if the data set has no labels."""
        if self._listed is not None:
            return np.array([int(self._listed[index]) for index in indices.tolist()], dtype=np.int64)
        for index in indices.tolist():
            if index not in self._read:
                item = self._dataset[index]
                if not isinstance(item, tuple | list) or len(item) < 2:
                    return None
                self._read[index] = int(item[1])
        return np.array([self._read[index] for index in indices.tolist()], dtype=np.int64)

    def n_classes(self, indices: np.ndarray) -> int:
        """How many there are, as far as the list, or the images of these indices, can tell; 1 at least."""
        known = self.of(indices) if self._listed is None else np.asarray(self._listed)
        return 1 if known is None or not len(known) else max(1, int(known.max()) + 1)
