"""Where a strategy's features come from: the round's classifier, or a frozen encoder that saw other images."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from openal_ray.config_values import is_path
from openal_ray.models import clip, encoders
from openal_ray.models.clip import Clip
from openal_ray.models.contrastive import Looks
from openal_ray.models.learners import Fitted
from openal_ray.selection.distances import unit_rows
from openal_ray.signal_store import Signals
from openal_ray.strategies.strategy import Helpers, Round
from openal_ray.strategies.view import View

OWN_NETWORK = "classifier"
NAME = "encoder"


@dataclass(frozen=True)
class Features:
    """Features [n, D] of a helper network, or of the round's classifier.

    encoder          classifier, clip (as the configuration's keys under clip say), any timm name, or the path of what
                     `openal-ray pretrain` wrote
    encoder_weights  of the encoder: pretrained (timm's, fetched once), packaged (of an installed package), or a file
    unit             divide them by their norms
    of_pretrained    the signal that an encoder of `openal-ray pretrain` gives instead
    name             of the helper, and of the strategy's parameter
    looks            how such an encoder looks at an image, for signals of several views
    """

    encoder: str = OWN_NETWORK
    encoder_weights: str = encoders.PUBLISHED
    unit: bool = False
    of_pretrained: str = "features"
    name: str = NAME
    looks: Looks = Looks()

    def __post_init__(self) -> None:
        if self.encoder not in (OWN_NETWORK, clip.NAME):
            encoders.check(self.encoder, self.encoder_weights, self.name)

    @property
    def need(self) -> str:
        """The signal."""
        if self.encoder == OWN_NETWORK:
            return "features"
        if self.encoder == clip.NAME:
            return f"{clip.NAME}.features"
        return f"{self.name}.{self.of_pretrained if is_path(self.encoder) else 'features'}"

    @property
    def needs(self) -> dict[str, Any]:
        """What a Strategy declares for them; see `needs_of`."""
        return needs_of(self)

    def of(self, read: Signals) -> np.ndarray:
        """Their array [n, D]."""
        features = read[self.need]
        return unit_rows(np.asarray(features, dtype=np.float32)) if self.unit else features

    def labelled(self, view: View) -> np.ndarray | None:
        """Those of the labelled images [L, D], ascending by index; None if there are none."""
        return self.of(view.labelled.signals) if len(view.labelled.indices) else None

    def prepare(self, round: Round) -> Helpers:
        """The encoder, if there is one."""
        if self.encoder == OWN_NETWORK:
            return {}
        if self.encoder == clip.NAME:
            return prepare_clip(round)
        return {self.name: encoders.fitted(self.encoder, self.encoder_weights, round.mean, round.std, self.looks)}


def needs_of(*features: Features) -> dict[str, Any]:
    """What a Strategy declares for these. An encoder's features are read once, for labelled and other images."""
    own = tuple(dict.fromkeys(one.need for one in features if one.encoder == OWN_NETWORK))
    lasting = tuple(dict.fromkeys(one.need for one in features if one.encoder != OWN_NETWORK))

    def prepare(round: Round) -> Helpers:
        return {name: helper for one in features for name, helper in one.prepare(round).items()}

    found = {"needs": own, "needs_labelled": own} if own else {}
    return found | ({"needs_pool": lasting, "prepare": prepare} if lasting else {})


def prepare_clip(round: Round) -> Helpers:
    """The `prepare` of a strategy that needs signals of CLIP: clip.yes, clip.no, clip.probs, clip.features."""
    return {clip.NAME: Fitted(Clip.of(round.clip, round.classes, round.mean, round.std))}
