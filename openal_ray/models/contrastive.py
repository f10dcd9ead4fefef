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
from openal_ray.models.widths import feature_width

SHIFTS = 4  # of an image: as it is, and three others
Shift = Literal["rotation", "cutperm"]


@dataclass(frozen=True)
class Looks:
    """How often an encoder looks at an image that CCAL scores, each time at another view of it.

    count  views of an image; the same draws serve all images
    share  of the area that a view shows
    """

    count: int = 10
    share: float = 0.54

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 < self.share <= 1:
            raise ValueError(f"views must be at least 1 and crop in 0 … 1, got {self.count} and {self.share}")


@dataclass(frozen=True)
class Pixels:
    """Pixels in 0 … 1 of normalised images, and back."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def of(self, images: torch.Tensor) -> torch.Tensor:
        mean, std = self._like(images)
        return (images * std + mean).clamp(0, 1)

    def normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        mean, std = self._like(pixels)
        return ((pixels - mean) / std).contiguous(memory_format=torch.channels_last)

    def _like(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [images.new_tensor(value).reshape(1, -1, 1, 1) for value in (self.mean, self.std)]


class ContrastiveNetwork(nn.Module):
    """A backbone of timm's contract without its last layer, a projection head, and for CSI a head for the shift.

    It gives the projection [n, projection] of norm 1, float32; with `shifts=True` also the shifts' logits [n, SHIFTS].

    learner   what trains it
    width     of the backbone's features
    incoming  what comes before the backbone, for images of another data set
    looks     how it looks at images that are scored
    """

    def __init__(self, backbone: Any, learner: "Contrastive", width: int) -> None:
        super().__init__()
        self.incoming: nn.Module = nn.Identity()
        self.learner, self.looks = learner, Looks()
        self.backbone = backbone
        self.projection = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, learner.projection))
        self.shift = nn.Linear(width, SHIFTS) if learner.shift else None

    def extra_repr(self) -> str:
        """What its signals depend on besides its layers: signals that are kept for other runs go by it."""
        learner = self.learner
        return f"{learner.mean}, {learner.std}, {learner.shift}, {learner.views!r}, {self.looks!r}"

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

    def forward_views(self, images: torch.Tensor, shifts: bool = False) -> torch.Tensor:
        """The mean of the projections, before they are scaled to norm 1, over views of each image: [n, projection].

        shifts  of each image in each of its shifts: [n, SHIFTS, projection]
        source  CCAL (Du et al. 2021), by the authors' code. Differs: view v draws the same for all images and shifts
        """
        learner, copies = self.learner, 1
        with torch.autocast(images.device.type, enabled=False):
            pixels = learner.pixels.of(self.incoming(images.float()))
        total: Any = 0.0
        for number in range(self.looks.count):
            generator = torch.Generator().manual_seed(number)
            view = views.flipped(pixels, learner.views.flip, generator)
            if shifts and learner.shift:
                view, copies = shifted(view, learner.shift), SHIFTS
            shown = learner.views.model_copy(update={"smallest_crop": self.looks.share})
            view = learner.view(view, shown, generator, self.looks.share)
            features = self.forward_head(self.backbone.forward_features(view), pre_logits=True)
            total = total + self.projection(features).float()
        mean: torch.Tensor = total / self.looks.count
        return mean.unflatten(0, (len(images), copies)) if shifts else mean


@dataclass(frozen=True)
class Contrastive:
    """Trains an encoder to find, for a view of an image, the other view of it: SimCLR (Chen et al. 2020, §2).

    With a `shift` it is CSI (Tack et al. 2020, §2): shifted copies of an image count as other images, and the shift is
    told too. Targets play no part.
    backbone      made with n_classes=0; a network of the user's own must follow timm's contract
    mean, std     of the images' normalisation, which is undone for the views: these are made of pixels in 0 … 1
    projection    width of what is compared
    temperature   of the similarities
    shift         None; rotation: quarter turns, of square images; cutperm: halves swapped, up and down, left and right
    shift_weight  of the cross-entropy of the shift, λ in the paper

    The accuracy of a batch is the share of views whose nearest other view is their partner. The images of a micro-batch
    are compared with each other alone, so the loss is one of smaller batches where there are several.
    Differs from the papers in its views (see `views.changed`), and compares without gathering from all micro-batches.
    """

    backbone: Classifier
    mean: tuple[float, ...]
    std: tuple[float, ...]
    projection: int = 128
    temperature: float = 0.5
    views: config.Views = field(default_factory=config.Views)
    shift: Shift | None = None
    shift_weight: float = 1.0

    @property
    def pixels(self) -> Pixels:
        """From its images to pixels, and back."""
        return Pixels(self.mean, self.std)

    def build(self, shape: tuple[int, int, int]) -> ContrastiveNetwork:
        if self.shift == "rotation" and shape[0] != shape[1]:
            raise ConfigError(
                f"pretrain.shift=rotation turns square images, got {shape[0]}×{shape[1]}; "
                "choose cutperm, or set data.image_size"
            )
        backbone: Any = self.backbone.build(shape)
        if not (hasattr(backbone, "forward_features") and hasattr(backbone, "forward_head")):
            raise ConfigError(
                f"model.name: pre-training needs features, and {type(backbone).__name__} gives none: write "
                "forward_features(images) and forward_head(maps, pre_logits=False), as timm's models do"
            )
        return ContrastiveNetwork(backbone, self, feature_width(backbone, shape))

    def loss(
        self, network: nn.Module, images: torch.Tensor, targets: torch.Tensor, progress: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        twice = views.flipped(self.pixels.of(images).repeat(2, 1, 1, 1), self.views.flip)  # the two views of each
        if self.shift is None:
            loss, hits = nt_xent(network(self.view(twice, self.views)), self.temperature)
            return loss, hits.mean() * len(images)
        projection, logits = network(self.view(shifted(twice, self.shift), self.views), shifts=True)
        loss, hits = nt_xent(projection, self.temperature)
        told = functional.cross_entropy(
            logits.float(), torch.arange(SHIFTS, device=logits.device).repeat(len(images) * 2)
        )
        return loss + self.shift_weight * told, hits.mean() * len(images)

    def view(self, pixels: torch.Tensor, shown: config.Views, *further: Any) -> torch.Tensor:
        """A view of each picture, normalised; see `views.changed`."""
        with torch.no_grad(), torch.autocast(pixels.device.type, enabled=False):
            return self.pixels.normalised(views.changed(pixels, shown, *further))

    def reader(self) -> "Contrastive":
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


def _diagonal(square: torch.Tensor) -> torch.Tensor:
    return torch.eye(len(square), dtype=torch.bool, device=square.device)
