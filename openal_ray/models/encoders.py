"""Frozen encoders: networks trained elsewhere whose features say what images have in common, before any label."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from openal_ray.config_values import is_path
from openal_ray.errors import ConfigError
from openal_ray.models import backbones, encoder_file
from openal_ray.models.checkpoints import PACKAGED
from openal_ray.models.contrastive import Contrastive, Looks
from openal_ray.models.learners import Fitted
from openal_ray.models.pixels import Refit

PUBLISHED = "pretrained"  # timm's own weights, fetched once
AS_PUBLISHED = Looks()


@dataclass(frozen=True)
class Encoder:
    """A timm network as it was published, behind the data set's own pictures.

    name     any timm name
    weights  pretrained (timm's, fetched once), packaged (of an installed package), or a file
    mean     of the data set's normalisation, which is undone
    std      likewise
    size     pixels a side that the network gets; None: what it was trained on
    blank    the weights come later, so none are fetched or read
    """

    name: str
    weights: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int | None = None
    blank: bool = False

    def build(self, shape: tuple[int, int, int]) -> nn.Module:
        import timm

        published: Any = timm.get_pretrained_cfg(self.name)
        size = self.size or published.input_size[-1]
        network = backbones.create(
            self.name, published.num_classes, (size, size, 3), pretrained=self.weights == PUBLISHED, blank=self.blank,
            checkpoint=None if self.blank or self.weights == PUBLISHED else Path(self.weights),
        )  # fmt: skip
        return FrozenEncoder(network, Refit((size, size), (self.mean, self.std), (published.mean, published.std)))

    def loss(self, network: nn.Module, images: torch.Tensor, targets: torch.Tensor, progress: float) -> Any:
        raise NotImplementedError("a frozen encoder is not trained")

    def reader(self) -> "Encoder":
        return replace(self, blank=True)


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


@dataclass(frozen=True)
class SavedEncoder:
    """An encoder that `openal-ray pretrain` trained, behind a data set's own pictures.

    learner    what trained it
    shape      of the images that it was trained on
    mean, std  of the normalisation of the images that come
    looks      how it looks at images that CCAL scores
    """

    learner: Contrastive
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    looks: Looks = AS_PUBLISHED

    def build(self, shape: tuple[int, int, int]) -> nn.Module:
        network = self.learner.build(self.shape)
        network.incoming, network.looks = self.refit(), self.looks
        return network

    def refit(self) -> Refit:
        """From the images that come to those that it was trained on."""
        return Refit(self.shape[:2], (self.mean, self.std), (self.learner.mean, self.learner.std))

    def loss(self, network: nn.Module, images: torch.Tensor, targets: torch.Tensor, progress: float) -> Any:
        raise NotImplementedError("a frozen encoder is not trained")

    def reader(self) -> "SavedEncoder":
        return self  # what is read from a file fetches nothing


def check(name: str, weights: str, key: str = "encoder") -> None:
    """Raises ConfigError for an encoder that does not exist; builds nothing.

    key  of the strategy that names it, for people
    """
    if is_path(name):
        _read(name, key)
        return
    if ":" in name or name == "small_cnn":
        raise ConfigError(
            f"strategy.{key}: {name!r} is no network of timm's, such as tf_efficientnet_lite0, "
            "and no path of what `openal-ray pretrain` wrote, such as runs/encoder/encoder.pt"
        )
    backbones.check_name(name)
    if weights not in (PUBLISHED, PACKAGED) and not Path(weights).expanduser().is_file():
        raise ConfigError(f"strategy.encoder_weights: must be {PUBLISHED}, {PACKAGED} or a file, got {weights!r}")


def tells_shifts(name: str, key: str = "encoder") -> bool:
    """Whether that is the path of an encoder of CSI; raises ConfigError."""
    return is_path(name) and _read(name, key).learner.shift is not None


def fitted(
    name: str, weights: str, mean: tuple[float, ...], std: tuple[float, ...], looks: Looks = AS_PUBLISHED
) -> Fitted:
    """The encoder of that name or path, for images normalised with `mean` and `std`; see `Encoder` for `weights`."""
    if not is_path(name):
        return Fitted(Encoder(name, weights, mean, std))
    saved = encoder_file.read(name)
    encoder = SavedEncoder(saved.learner, saved.shape, mean, std, looks)
    incoming = {f"incoming.{key}": tensor for key, tensor in encoder.refit().state_dict().items()}
    return Fitted(encoder, {**saved.weights, **incoming})


def _read(name: str, key: str) -> encoder_file.Saved:
    try:
        return encoder_file.read(name)
    except ConfigError as error:
        raise ConfigError(f"strategy.{key}: {error}") from None
