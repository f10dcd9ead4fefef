"""Networks that tell images of known classes from others: one output more, and what some papers add to its loss."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from openal_ray import config, seeds
from openal_ray.models.learners import Classifier, Look
from openal_ray.models.widths import feature_width
from openal_ray.selection.purity.clusters import Clusterer, centres_of, clusters_of


@dataclass(frozen=True)
class Detector:
    """A classifier with one class more, for rejected images, trained with cross-entropy of logits ÷ temperature.

    LfOSA (Ning et al. 2022, §3.1). With energy_weight > 0 the free energy of the known logits is pushed below energy_in
    for known images and above energy_out for rejected ones: EAOA (CVPR 2025, §3).

    classifier  with n_classes + 1 outputs, the last = of no known class
    """

    classifier: Classifier
    temperature: float = 0.5
    energy_weight: float = 0.0
    energy_in: float = -25.0
    energy_out: float = -7.0

    def build(self, shape: tuple[int, int, int]) -> nn.Module:
        return self.classifier.build(shape)

    def loss(
        self, network: nn.Module, images: torch.Tensor, targets: torch.Tensor, progress: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logits = network(images).float()
        loss = self.classifier.losses(logits / self.temperature, targets).mean()
        if self.energy_weight:
            loss = loss + self.energy_weight * self._energy_loss(logits, targets)
        return loss, (logits.argmax(1) == targets).sum()

    def reader(self) -> "Detector":
        return replace(self, classifier=self.classifier.reader())

    def _energy_loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        energy = -logits[:, :-1].logsumexp(dim=1)
        known = targets < logits.shape[1] - 1
        too_high = (energy - self.energy_in).clamp(min=0).square()
        too_low = (self.energy_out - energy).clamp(min=0).square()
        return _mean(too_high[known]) + _mean(too_low[~known])


class OpenNetwork(nn.Module):
    """A detector with a binary classifier for each known class on its features, and cluster centres.

    In training mode it gives {"logits": [n, C+1], "binary": [n, 2, C], "features": [n, D]}, in eval mode the logits.
    centres, n_centres  buffers: means [C, D] of clusters of rejected images, of which so many count
    """

    centres: torch.Tensor
    n_centres: torch.Tensor

    def __init__(self, detector: Any, n_classes: int, width: int) -> None:
        super().__init__()
        self.detector, self.n_classes = detector, n_classes
        self.binary = nn.Linear(width, 2 * n_classes, bias=False)
        self.register_buffer("centres", torch.zeros(n_classes, width))
        self.register_buffer("n_centres", torch.zeros((), dtype=torch.int64))

    def forward(self, images: torch.Tensor) -> Any:
        if not self.training:
            return self.detector(images)
        maps = self.forward_features(images)
        features = self.forward_head(maps, pre_logits=True)
        return {"logits": self.forward_head(maps), "binary": self._binary(features), "features": features}

    def forward_features(self, images: torch.Tensor) -> Any:
        return self.detector.forward_features(images)

    def forward_head(self, maps: torch.Tensor, pre_logits: bool = False) -> Any:
        return self.detector.forward_head(maps, pre_logits=pre_logits)

    def forward_binary(self, maps: torch.Tensor) -> torch.Tensor:
        """[n, 2, C]: no and yes for each class."""
        return self._binary(self.forward_head(maps, pre_logits=True))

    def _binary(self, features: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.binary(features).reshape(len(features), 2, self.n_classes)
        return found


def own_optimizer(lr: float = 0.01, nesterov: bool = True) -> config.Optimizer:
    """How the authors of EOAL train the binary classifiers, at a constant rate; OpenAL without Nesterov's momentum."""
    params = {"momentum": 0.9, "weight_decay": 5e-4, "nesterov": nesterov}
    return config.Optimizer(name="sgd", lr=lr, params=params)


@dataclass(frozen=True)
class OpenDetector:
    """EOAL's detector (Safaei et al. 2024, §3): cross-entropy, binary classifiers, and clusters of rejected images.

    classifier   with n_classes + 1 outputs
    rejected     share alpha of the loss that is of rejected images, where a batch has some
    tuplet       weight of the pull towards the own cluster's centre
    recluster    epochs between clusterings of the rejected images (the authors: 1)
    clusterer    kmeans, or finch as the authors (see `selection.purity.finch` for its licence)
    binary       the optimiser of the binary classifiers; None: they share the detector's, and its schedule
    Differs: an image's own cluster is that of the nearest centre, which is its cluster as long as features move little.
    """

    classifier: Classifier
    temperature: float = 0.5
    rejected: float = 0.8
    tuplet: float = 0.1
    recluster: int = 10
    clusterer: Clusterer = "kmeans"
    binary: config.Optimizer | None = field(default_factory=own_optimizer)

    @property
    def n_classes(self) -> int:
        return self.classifier.n_classes - 1

    def build(self, shape: tuple[int, int, int]) -> nn.Module:
        detector: Any = self.classifier.build(shape)
        return OpenNetwork(detector, self.n_classes, feature_width(detector, shape))

    def head(self, network: nn.Module) -> tuple[nn.Module, config.Optimizer] | None:
        assert isinstance(network, OpenNetwork)
        return None if self.binary is None else (network.binary, self.binary)

    def begin_epoch(self, network: nn.Module, epoch: int, targets: np.ndarray, look: Look) -> None:
        assert isinstance(network, OpenNetwork)
        rejected = np.flatnonzero(targets == self.n_classes)
        if epoch % self.recluster or not len(rejected):
            return
        features = look(rejected, lambda one, images: one.forward_head(one.forward_features(images), pre_logits=True))  # type: ignore[operator]
        clusters = clusters_of(features, self.n_classes, self.clusterer, seeds.rng(0, epoch, "clusters"))
        centres = torch.from_numpy(centres_of(features, clusters)[: self.n_classes]).float()
        network.centres[: len(centres)] = centres.to(network.centres.device)
        network.n_centres.fill_(len(centres))

    def loss(
        self, network: nn.Module, images: torch.Tensor, targets: torch.Tensor, progress: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        outputs = network(images)
        logits = (outputs["logits"] if network.training else outputs).float()
        loss = self.classifier.losses(logits / self.temperature, targets).mean()
        if network.training:
            loss = loss + self._open_loss(outputs["binary"].float(), targets)
            assert isinstance(network, OpenNetwork)
            loss = loss + self.tuplet * self._tuplet_loss(network, outputs["features"].float(), targets)
        return loss, (logits.argmax(1) == targets).sum()

    def reader(self) -> "OpenDetector":
        return replace(self, classifier=self.classifier.reader())

    def _open_loss(self, binary: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        no, yes = functional.log_softmax(binary, dim=1).unbind(dim=1)  # [n, C] each
        known = targets < self.n_classes
        own = functional.one_hot(targets.clamp(max=self.n_classes - 1), self.n_classes).bool()
        others = (-no).masked_fill(own, 0.0)[known]  # the hardest of the other classes
        loss = (_mean(-yes[own & known[:, None]]) + _mean(others.amax(dim=1) if self.n_classes else others)) / 2
        if known.all():
            return loss
        unsure = -(yes + no)[~known].sum(dim=1) / self.n_classes / 2  # pushes every pair to one half
        return (1 - self.rejected) * loss + self.rejected * _mean(unsure)

    def _tuplet_loss(self, network: OpenNetwork, features: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        rejected, count = features[targets == self.n_classes], int(network.n_centres)
        if not count or not len(rejected):
            return features.sum() * 0.0
        distances = torch.cdist(rejected, network.centres[:count])
        own, where = distances.min(dim=1)
        gaps = (own[:, None] - distances).scatter(1, where[:, None], -torch.inf)
        apart = functional.softplus(gaps.logsumexp(dim=1)) if count > 1 else torch.zeros_like(own)
        return (0.1 * own + apart).mean()


def _mean(values: torch.Tensor) -> torch.Tensor:
    """0 for nothing, where a mean would be nan."""
    return values.mean() if len(values) else values.sum()
