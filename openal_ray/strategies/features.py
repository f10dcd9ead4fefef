"""Where a strategy's features come from: the round's classifier, or a frozen encoder that saw other images."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from openal_ray.models import clip, encoders
from openal_ray.models.clip import Clip
from openal_ray.models.learners import Fitted
from openal_ray.selection.distances import unit_rows
from openal_ray.signal_store import Signals
from openal_ray.strategies.strategy import Helpers, Round
from openal_ray.strategies.view import View

CLASSIFIER = "classifier"
NAME = "encoder"


@dataclass(frozen=True)
class Features:
    """Features [n, D] of the network called `encoder`, or of the round's classifier.

    encoder          classifier, clip (as the configuration's keys under clip say), any timm name, or the path of what
                     `openal-ray pretrain` wrote
    encoder_weights  of the encoder: pretrained (timm's, fetched once), packaged (of an installed package), or a file
    unit             divide them by their norms
    """

    encoder: str = CLASSIFIER
    encoder_weights: str = encoders.PUBLISHED
    unit: bool = False

    def __post_init__(self) -> None:
        if self.encoder not in (CLASSIFIER, clip.NAME):
            encoders.check(self.encoder, self.encoder_weights)

    @property
    def need(self) -> str:
        """The signal."""
        if self.encoder == CLASSIFIER:
            return "features"
        return f"{clip.NAME if self.encoder == clip.NAME else NAME}.features"

    @property
    def needs(self) -> dict[str, Any]:
        """What a Strategy declares for them. An encoder's features are read once, for labelled and other images."""
        if self.encoder == CLASSIFIER:
            return {"needs": (self.need,), "needs_labelled": (self.need,)}
        return {"needs_pool": (self.need,), "prepare": self._prepare}

    def of(self, read: Signals) -> np.ndarray:
        """Their array [n, D]."""
        features = read[self.need]
        return unit_rows(np.asarray(features, dtype=np.float32)) if self.unit else features

    def labelled(self, view: View) -> np.ndarray | None:
        """Those of the labelled images [L, D], ascending by index; None if there are none."""
        return self.of(view.labelled.signals) if len(view.labelled.indices) else None

    def _prepare(self, round: Round) -> Helpers:
        if self.encoder == clip.NAME:
            return prepare_clip(round)
        return {NAME: encoders.fitted(self.encoder, self.encoder_weights, round.mean, round.std)}


def prepare_clip(round: Round) -> Helpers:
    """The `prepare` of a strategy that needs signals of CLIP: clip.yes, clip.no, clip.probs, clip.features."""
    return {clip.NAME: Fitted(Clip.of(round.clip, round.classes, round.mean, round.std))}
