"""CLIP and CLIPN as one frozen network: how near an image is to texts that name a class, and that deny it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from openal_ray import config
from openal_ray.errors import ConfigError
from openal_ray.models import prompts
from openal_ray.models.clip_weights import NO_TEXTS, Architecture, Source, Towers, image_tower
from openal_ray.models.pixels import Refit
from openal_ray.models.text_embeddings import class_embeddings

NAME = "clip"  # of the network, in signals such as clip.yes


@dataclass(frozen=True)
class Clip:
    """CLIP behind the data set's own pictures. Texts are embedded where it is built, once.

    names         [C] the words for each class
    forms         sentences with a place for them
    no_forms      those given to what says no
    mean, std     of the data set's normalisation, which is undone
    cache         where embedded texts are kept
    architecture  once known, it is built without weights, which then come from elsewhere
    """

    source: Source
    names: tuple[str, ...]
    forms: tuple[str, ...]
    no_forms: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    cache: Path = field(compare=False, repr=False)
    architecture: Architecture | None = None

    @staticmethod
    def of(section: config.Clip, classes: Sequence[str], mean: tuple[float, ...], std: tuple[float, ...]) -> "Clip":
        """What a configuration asks for, on the classes of a data set; raises ConfigError."""
        forms = prompts.templates(section.templates)
        no_forms = prompts.templates(section.negated_templates, "negated_templates") if section.negated else forms
        source = Source(section.model, section.pretrained, section.checkpoint, section.negated)
        return Clip(source, prompts.words(classes, section.class_names), forms, no_forms, mean, std, section.cache)

    def build(self, shape: tuple[int, int, int]) -> nn.Module:
        if self.architecture is None:
            architecture, towers = self.source.architecture(), self.source.towers()
            refit = self._refit(architecture, self.source.normalisation)
            return ZeroShot(refit, towers.image, *self._texts(towers), towers.scale)
        refit = self._refit(self.architecture, ((0.0,) * 3, (1.0,) * 3))
        yes = torch.zeros(len(self.names), self.architecture["embed_dim"])
        no = torch.zeros_like(yes) if self.source.says_no else None
        return ZeroShot(refit, image_tower(self.architecture), yes, no, 1.0)

    def loss(self, network: nn.Module, images: torch.Tensor, targets: torch.Tensor, progress: float) -> Any:
        raise NotImplementedError("CLIP is not trained")

    def reader(self) -> "Clip":
        return replace(self, architecture=self.architecture or self.source.architecture())

    def _texts(self, towers: Towers) -> tuple[torch.Tensor, torch.Tensor | None]:
        yes = class_embeddings(towers.yes, prompts.sentences(self.names, self.forms), len(self.names), self.cache)
        if towers.no is None:
            return yes, None
        said = prompts.sentences(self.names, self.no_forms)
        return yes, class_embeddings(towers.no, said, len(self.names), self.cache)

    def _refit(self, architecture: Architecture, wanted: tuple[tuple[float, ...], tuple[float, ...]]) -> nn.Module:
        size = architecture["vision_cfg"]["image_size"]
        return Refit(size if isinstance(size, int) else size[0], (self.mean, self.std), wanted)


class ZeroShot(nn.Module):
    """Images to unit embeddings, and from there to cosines with the texts on each class; logits are those of CLIP.

    refit    from the data set's pictures to what the image tower takes
    yes, no  [C, D] unit embeddings
    """

    yes: torch.Tensor
    no: torch.Tensor | None
    scale: torch.Tensor

    def __init__(
        self, refit: nn.Module, image: nn.Module, yes: torch.Tensor, no: torch.Tensor | None, scale: float
    ) -> None:
        super().__init__()
        self.refit, self.image = refit, image
        self.register_buffer("yes", yes)
        self.register_buffer("no", no)
        self.register_buffer("scale", torch.tensor(scale))

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """Unit embeddings [n, D] float32."""
        return functional.normalize(self.image(self.refit(images)).float(), dim=1)

    def forward_head(self, maps: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        return maps if pre_logits else self.scale * self.forward_cosines(maps, "yes")

    def forward_cosines(self, maps: torch.Tensor, answer: str) -> torch.Tensor:
        """Cosines [n, C] float32 with the texts that say yes or no, whatever the precision of the image tower."""
        texts = self.yes if answer == "yes" else self.no
        if texts is None:
            raise ConfigError(f"{NAME}.{answer}: {NO_TEXTS}")
        with torch.autocast(maps.device.type, enabled=False):
            return maps.float() @ texts.T

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(images))


def check(section: config.Clip, classes: Sequence[str], needs: Iterable[str]) -> None:
    """Raises ConfigError for what can be known to be wrong before any weight is fetched.

    needs  signals, of which those of this network matter
    """
    mine = [need for need in needs if need.startswith(f"{NAME}.")]
    if not mine:
        return
    asked = Clip.of(section, classes, (), ())
    asked.source.architecture()
    if f"{NAME}.no" in mine and not asked.source.says_no:
        raise ConfigError(f"{NAME}.no: {NO_TEXTS}")
