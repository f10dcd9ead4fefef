"""Frozen encoders: networks trained elsewhere whose features say what images have in common, before any label."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from openal_ray.errors import ConfigError
from openal_ray.models import backbones
from openal_ray.models.checkpoints import PACKAGED
from openal_ray.models.pixels import Refit

PUBLISHED = "pretrained"  # timm's own weights, fetched once


@dataclass(frozen=True)
class Encoder:
    """A timm network as it was published, behind the data set's own pictures.

    name     any timm name
    weights  pretrained (timm's, fetched once), packaged (of an installed package), or a file
    mean     of the data set's normalisation, which is undone
    std      likewise
    size     pixels a side that the network gets; None: what it was trained on
    """

    name: str
    weights: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int | None = None

    def build(self, shape: tuple[int, int, int]) -> nn.Module:
        import timm

        published: Any = timm.get_pretrained_cfg(self.name)
        size = self.size or published.input_size[-1]
        network = backbones.create(
            self.name, published.num_classes, (size, size, 3),
            pretrained=self.weights == PUBLISHED, checkpoint=None if self.weights == PUBLISHED else Path(self.weights),
        )  # fmt: skip
        return FrozenEncoder(network, Refit(size, (self.mean, self.std), (published.mean, published.std)))

    def loss(self, network: nn.Module, images: torch.Tensor, targets: torch.Tensor, progress: float) -> Any:
        raise NotImplementedError("a frozen encoder is not trained")

    def reader(self) -> "Encoder":
        return self


class FrozenEncoder(nn.Module):
    """`network` behind a change of size, channels and normalisation."""

    def __init__(self, network: Any, refit: Refit) -> None:
        super().__init__()
        self.network, self.refit = network, refit

    def forward_features(self, images: torch.Tensor) -> Any:
        return self.network.forward_features(self.refit(images))

    def forward_head(self, maps: torch.Tensor, pre_logits: bool = False) -> Any:
        return self.network.forward_head(maps, pre_logits=pre_logits)

    def forward(self, images: torch.Tensor) -> Any:
        return self.forward_head(self.forward_features(images))


def check(name: str, weights: str) -> None:
    """Raises ConfigError for an encoder that does not exist; builds nothing."""
    if ":" in name or name == "small_cnn":
        raise ConfigError(f"strategy.encoder: {name!r} is no network of timm's, such as tf_efficientnet_lite0")
    backbones.check_name(name)
    if weights not in (PUBLISHED, PACKAGED) and not Path(weights).expanduser().is_file():
        raise ConfigError(f"strategy.encoder_weights: must be {PUBLISHED}, {PACKAGED} or a file, got {weights!r}")
