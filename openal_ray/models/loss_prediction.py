"""Learning Loss (Yoo & Kweon 2019): a classifier with a small head that predicts its own loss from its stages' maps."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from openal_ray.errors import ConfigError
from openal_ray.models.learners import Classifier, Learner
from openal_ray.models.widths import stage_widths

STAGES = 4  # of a network's stages the last so many are looked at, as in the paper
Pairing = Literal["neighbours", "ends"]
Ranking = Literal["margin", "logistic"]


class LossPredictor(nn.Module):
    """A classifier of timm's contract, and a head on its last stages: pooling, a layer of `hidden` each, one number.

    In training mode it gives {"logits": [n, C], "predicted_loss": [n]}, in eval mode the logits.

    widths  channels of those stages
    """

    def __init__(self, classifier: Any, widths: list[int], hidden: int) -> None:
        super().__init__()
        self.classifier = classifier
        self.branches = nn.ModuleList(nn.Sequential(nn.Linear(width, hidden), nn.ReLU()) for width in widths)
        self.last = nn.Linear(hidden * len(widths), 1)

    def forward(self, images: torch.Tensor, detach: bool = False) -> Any:
        """detach  keeps the head's gradients out of the classifier."""
        if not self.training:
            return self.classifier(images)
        maps, stages = self.forward_intermediates(images)
        stages = [stage.detach() for stage in stages] if detach else stages
        return {"logits": self.forward_head(maps), "predicted_loss": self.forward_loss(stages)}

    def forward_loss(self, stages: list[torch.Tensor]) -> torch.Tensor:
        """The predicted loss [n] from the stages' maps [n, C_i, H_i, W_i], the last ones of which count."""
        pooled = [stage.mean(dim=(2, 3)) for stage in stages[-len(self.branches) :]]
        hidden = [branch(stage) for branch, stage in zip(self.branches, pooled, strict=True)]
        predicted: torch.Tensor = self.last(torch.cat(hidden, dim=1)).squeeze(1)
        return predicted

    def forward_intermediates(self, images: torch.Tensor, norm: bool = False) -> Any:
        return self.classifier.forward_intermediates(images, norm=norm)

    def forward_features(self, images: torch.Tensor) -> Any:
        return self.classifier.forward_features(images)

    def forward_head(self, maps: torch.Tensor, pre_logits: bool = False) -> Any:
        return self.classifier.forward_head(maps, pre_logits=pre_logits)

    def get_classifier(self) -> Any:
        return self.classifier.get_classifier()


@dataclass(frozen=True)
class LossPrediction:
    """Trains a classifier and the prediction of its loss together.

    weight        of the ranking loss beside the cross-entropy
    margin        by which the larger of two predicted losses shall lead, with ranking=margin
    detach_share  share of the epochs after which the head no longer teaches the classifier
    pairing       neighbours: images 2i and 2i+1 of a batch; ends: the i-th from the front and from the back. With an
                  odd number one image has no partner
    ranking       margin: hinge loss of the paper; logistic: cross-entropy of the sign, as in TA-VAAL

    Pairs are made in the part of a batch that a worker has, and every part has one at least.
    """

    classifier: Learner
    weight: float = 1.0
    margin: float = 1.0
    hidden: int = 128
    detach_share: float = 0.6
    pairing: Pairing = "neighbours"
    ranking: Ranking = "margin"

    def build(self, shape: tuple[int, int, int]) -> nn.Module:
        classifier: Any = self.classifier.build(shape)
        if not hasattr(classifier, "forward_intermediates"):
            raise ConfigError(
                f"learning_loss looks at the maps of a network's stages, and {type(classifier).__name__} has no "
                "forward_intermediates, which gives them in timm's models; choose one of those or small_cnn"
            )
        return LossPredictor(classifier, stage_widths(classifier, shape)[-STAGES:], self.hidden)

    def loss(
        self, network: nn.Module, images: torch.Tensor, targets: torch.Tensor, progress: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not network.training:
            return self.classifier.loss(network, images, targets, progress)
        outputs = network(images, detach=progress > self.detach_share)
        return self.loss_of(outputs, targets), (outputs["logits"].argmax(1) == targets).sum()

    def loss_of(self, outputs: dict[str, torch.Tensor], targets: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy and weighted mean ranking loss of a batch, a scalar."""
        if isinstance(self.classifier, Classifier):
            losses = self.classifier.losses(outputs["logits"], targets)
        else:
            losses = functional.cross_entropy(outputs["logits"].float(), targets, reduction="none")
        return losses.mean() + self.weight * self._ranking(outputs["predicted_loss"].float(), losses.detach())

    def reader(self) -> "LossPrediction":
        return replace(self, classifier=self.classifier.reader())

    def _ranking(self, predicted: torch.Tensor, losses: torch.Tensor) -> torch.Tensor:
        one, other = self._pairs(len(losses))
        if not len(one):
            return predicted.sum() * 0.0
        larger = (losses[one] > losses[other]).float()
        lead = predicted[one] - predicted[other]
        if self.ranking == "logistic":
            return functional.binary_cross_entropy_with_logits(lead, larger)
        return (self.margin - (2 * larger - 1) * lead).clamp(min=0).mean()

    def _pairs(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        half = count // 2
        places = torch.arange(half)
        if self.pairing == "ends":
            return places, count - 1 - places
        return 2 * places, 2 * places + 1
