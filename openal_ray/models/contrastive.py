"""SimCLR and CSI: networks that learn from images without labels, by telling views of one image from all others."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from openal_ray import config
from openal_ray.errors import ConfigError
from openal_ray.models import views
from openal_ray.models.learners import Classifier

SHIFTS = 4  # of an image: as it is, and three others
Shift = Literal["rotation", "cutperm"]


class ContrastiveNetwork(nn.Module):
    """A backbone of timm's contract without its last layer, a projection head, and for CSI a head for the shift.

    It gives the projection [n, projection] of norm 1, float32; with `shifts=True` also the shifts' logits [n, SHIFTS].

    width     of the backbone's features
    incoming  what comes before the backbone, for images of another data set
    """

    def __init__(self, backbone: Any, width: int, projection: int, shifts: bool) -> None:
        super().__init__()
        self.incoming: nn.Module = nn.Identity()
        self.backbone = backbone
        self.projection = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, projection))
        self.shift = nn.Linear(width, SHIFTS) if shifts else None

    def forward(self, images: torch.Tensor, shifts: bool = False) -> Any:
        features = self.forward_head(self.forward_features(images), pre_logits=True)
        projection = self.forward_projection(features)
        return (projection, self.shift(features)) if shifts and self.shift is not None else projection

    def forward_features(self, images: torch.Tensor) -> Any:
        return self.backbone.forward_features(self.incoming(images))

    def forward_head(self, maps: torch.Tensor, pre_logits: bool = False) -> Any:
        return self.backbone.forward_head(maps, pre_logits=pre_logits)

    def forward_projection(self, features: torch.Tensor) -> torch.Tensor:
        """Features [n, width] to the projection."""
        return functional.normalize(self.projection(features).float(), dim=1)


@dataclass(frozen=True)
class SimCLR:
    """Trains an encoder to find, for a view of an image, the other view of it (Chen et al. 2020, §2); targets: none.

    backbone     made with n_classes=0; a network of the user's own must follow timm's contract
    mean, std    of the images' normalisation, which is undone for the views: these are made of pixels in 0 … 1
    projection   width of what is compared
    temperature  of the similarities

    The accuracy of a batch is the share of views whose nearest other view is their partner. Every process of a team
    compares the images of its own part of a batch with each other alone, so the loss is one of smaller batches there.
    Differs from the paper in its views (see `views.changed`), and compares without gathering from all processes.
    """

    backbone: Classifier
    mean: tuple[float, ...]
    std: tuple[float, ...]
    projection: int = 128
    temperature: float = 0.5
    views: config.Views = field(default_factory=config.Views)

    def build(self, shape: tuple[int, int, int]) -> ContrastiveNetwork:
        return _build(self, shape, shifts=False)

    def loss(
        self, network: nn.Module, images: torch.Tensor, targets: torch.Tensor, progress: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        loss, hits = nt_xent(network(_changed(self, _two_of_each(self, images))), self.temperature)
        return loss, hits.mean() * len(images)

    def reader(self) -> "SimCLR":
        return replace(self, backbone=self.backbone.reader())


@dataclass(frozen=True)
class CSI:
    """SimCLR where shifted copies of an image count as other images, and the shift is told too (Tack et al. 2020, §2).

    shift         rotation: quarter turns, of square images; cutperm: halves swapped, up and down, left and right
    shift_weight  of the cross-entropy of the shift, λ in the paper
    The others are as in SimCLR, and so is what is said there of teams.
    """

    backbone: Classifier
    mean: tuple[float, ...]
    std: tuple[float, ...]
    projection: int = 128
    temperature: float = 0.5
    views: config.Views = field(default_factory=config.Views)
    shift: Shift = "rotation"
    shift_weight: float = 1.0

    def build(self, shape: tuple[int, int, int]) -> ContrastiveNetwork:
        if self.shift == "rotation" and shape[0] != shape[1]:
            raise ConfigError(
                f"pretrain.shift=rotation turns square images, got {shape[0]}×{shape[1]}; "
                "choose cutperm, or set data.image_size"
            )
        return _build(self, shape, shifts=True)

    def loss(
        self, network: nn.Module, images: torch.Tensor, targets: torch.Tensor, progress: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        copies = shifted(_two_of_each(self, images), self.shift)
        projection, logits = network(_changed(self, copies), shifts=True)
        loss, hits = nt_xent(projection, self.temperature)
        told = functional.cross_entropy(
            logits.float(), torch.arange(SHIFTS, device=logits.device).repeat(len(images) * 2)
        )
        return loss + self.shift_weight * told, hits.mean() * len(images)

    def reader(self) -> "CSI":
        return replace(self, backbone=self.backbone.reader())


def nt_xent(projection: torch.Tensor, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The normalised, temperature-scaled cross-entropy of views, a scalar, and whether each view finds its partner.

    projection  [2m, D] of norm 1; row i and row i + m are views of one image
    returns     the mean over all 2m views of -log softmax over the 2m - 1 others at the partner; float32 [2m] of 0, 1
    source      Chen et al. 2020, eq. 1 and Alg. 1
    """
    with torch.autocast(projection.device.type, enabled=False):  # exp of a rounded 1 / temperature is far off
        similarities = projection @ projection.T / temperature
        similarities = similarities.masked_fill(_diagonal(similarities), -torch.inf)
        partners = torch.arange(len(projection), device=projection.device).roll(len(projection) // 2)
        return functional.cross_entropy(similarities, partners), (similarities.argmax(1) == partners).float()


def shifted(pixels: torch.Tensor, shift: Shift) -> torch.Tensor:
    """Every image [n, channels, H, W] in its SHIFTS shifts, one image after the other: [n · SHIFTS, channels, H, W]."""
    if shift == "rotation":
        copies = [torch.rot90(pixels, quarters, (2, 3)) for quarters in range(SHIFTS)]
    else:
        half = (-(pixels.shape[2] // 2), -(pixels.shape[3] // 2))
        copies = [pixels, pixels.roll(half[1], 3), pixels.roll(half[0], 2), pixels.roll(half, (2, 3))]
    return torch.stack(copies, dim=1).flatten(0, 1)


def _build(learner: SimCLR | CSI, shape: tuple[int, int, int], shifts: bool) -> ContrastiveNetwork:
    backbone: Any = learner.backbone.build(shape)
    if not (hasattr(backbone, "forward_features") and hasattr(backbone, "forward_head")):
        raise ConfigError(
            f"model.name: pre-training needs features, and {type(backbone).__name__} gives none: write "
            "forward_features(images) and forward_head(maps, pre_logits=False), as timm's models do"
        )
    backbone.eval()  # so that the one black image moves no statistic
    with torch.no_grad():
        features = backbone.forward_head(
            backbone.forward_features(torch.zeros(1, shape[2], *shape[:2])), pre_logits=True
        )
    backbone.train()
    return ContrastiveNetwork(backbone, features.shape[1], learner.projection, shifts)


def _two_of_each(learner: SimCLR | CSI, images: torch.Tensor) -> torch.Tensor:
    """Pixels in 0 … 1 of the images twice over, [2n, …], each flipped or not."""
    mean, std = (images.new_tensor(value).reshape(1, -1, 1, 1) for value in (learner.mean, learner.std))
    pixels = (images * std + mean).clamp(0, 1)
    return views.flipped(pixels.repeat(2, 1, 1, 1), learner.views.flip)


def _changed(learner: SimCLR | CSI, pixels: torch.Tensor) -> torch.Tensor:
    """A view of each picture, normalised."""
    mean, std = (pixels.new_tensor(value).reshape(1, -1, 1, 1) for value in (learner.mean, learner.std))
    with torch.no_grad(), torch.autocast(pixels.device.type, enabled=False):
        made = (views.changed(pixels, learner.views) - mean) / std
    return made.contiguous(memory_format=torch.channels_last)


def _diagonal(square: torch.Tensor) -> torch.Tensor:
    return torch.eye(len(square), dtype=torch.bool, device=square.device)
