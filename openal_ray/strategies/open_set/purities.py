"""Purity scores by name: how surely an image is of a known class, for any composition with a standard strategy."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from openal_ray.models.detectors import Detector, OpenDetector
from openal_ray.selection.purity import post_hoc
from openal_ray.selection.purity.clipn import Prototypes, clipnal_margin, search_scale
from openal_ray.selection.purity.energies import known_log_odds, open_energy
from openal_ray.selection.purity.eoal import closed_entropy
from openal_ray.selection.purity.lfosa import activation_log_odds, activations
from openal_ray.selection.purity.mixture import MixtureHalf, fit_mixtures
from openal_ray.selection.purity.mqnet import labelled_similarity
from openal_ray.shard import Part
from openal_ray.strategies.features import prepare_clip
from openal_ray.strategies.open_set.detection import NAME, Plan, trained
from openal_ray.strategies.strategy import Helpers, Round, no_helpers
from openal_ray.strategies.view import Score, View

LOGITS = f"{NAME}.logits"
SURE = 0.0


@dataclass(frozen=True)
class Purity:
    """A purity score.

    needs, needs_labelled  signals, as of a Strategy
    score                  on the shards; None: it has to be fitted first
    fit                    what it learns from the round, on the driver: view to a score that runs on the shards
    needs_pool             signals of all images, of networks that stay the same
    helpers                makes those networks
    level                  where it says "as likely known as not"; None: it has no such point, and ranks alone
    build                  the learner of its detector, if it has one
    """

    needs: tuple[str, ...]
    score: Score | None = None
    fit: Callable[[View], Score] | None = None
    needs_labelled: tuple[str, ...] = ()
    needs_pool: tuple[str, ...] = ()
    helpers: Callable[[Round], Helpers] = no_helpers
    level: float | None = None
    build: Callable[[Any], Detector | OpenDetector] | None = None

    def fitted(self, view: View) -> Score:
        """The score of this round."""
        score = self.fit(view) if self.fit else self.score
        assert score is not None
        return score

    def prepare(self, plan: Plan | None) -> Callable[[Round], Helpers]:
        """Trains its detector."""
        return trained(self.build, plan) if self.build else self.helpers


def _lfosa(view: View) -> Score:
    n = view.n_classes

    def half(part: Part) -> MixtureHalf:
        return MixtureHalf(*activations(part.signals[LOGITS], n), part.indices, n)

    fit = fit_mixtures(view.open(half))
    floor = -1e6  # predicted unknown: -inf, which no mean of ranks could take

    def score(read: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.maximum(activation_log_odds(activations(read[LOGITS], n), fit), floor)

    return score


def _knn(view: View) -> Score:
    labelled = view.labelled.signals.get("features")
    if labelled is None or not len(labelled):
        return lambda read: np.zeros(len(read["features"]))
    return lambda read: post_hoc.neighbour_similarity(read["features"], labelled)


def _nearest(view: View) -> Score:
    labelled = view.labelled.signals.get("features")
    known = np.empty((0, 1)) if labelled is None else labelled
    return lambda read: labelled_similarity(read["features"], known)


def _vim(view: View) -> Score:
    signals = view.labelled.signals
    if not len(signals.get("features", ())):
        return lambda read: post_hoc.energy(read["logits"])
    fit = post_hoc.fit_vim(signals["features"], signals["logits"])
    return lambda read: fit.purity(read["features"], read["logits"])


def clipn(prototypes: bool) -> Purity:
    """CLIPNAL's margin; `prototypes` as in `selection.purity.clipn.clipnal_margin`."""

    def fit(view: View) -> Score:
        known, classes = view.answered.signals, view.answered_classes
        similar, own = None, None
        if prototypes:
            unit, labelled = known["clip.features"], classes < view.n_classes
            own = Prototypes.of(unit[labelled], classes[labelled], view.n_classes)
            similar = own.similarity(unit, np.where(labelled, classes, -1))
        scale = search_scale(known["clip.yes"], known["clip.no"], classes == view.n_classes, similar)

        def score(read: Mapping[str, np.ndarray]) -> np.ndarray:
            alike = own.similarity(read["clip.features"]) if own is not None else None
            return clipnal_margin(read["clip.yes"], read["clip.no"], scale, alike)

        return score

    needs = ("clip.features", "clip.yes", "clip.no")
    return Purity((), fit=fit, needs_pool=needs, helpers=prepare_clip, level=np.nextafter(SURE, 1.0))


PURITIES: dict[str, Purity] = {
    "detector": Purity(
        (LOGITS,), lambda read: known_log_odds(read[LOGITS]), level=SURE, build=lambda wider: Detector(wider)
    ),
    "lfosa": Purity((LOGITS,), fit=_lfosa, level=SURE, build=lambda wider: Detector(wider)),
    "eaoa": Purity(
        (LOGITS,), lambda read: -open_energy(read[LOGITS]), build=lambda wider: Detector(wider, 1.0, 0.01)
    ),
    "eoal": Purity(
        (LOGITS, f"{NAME}.binary_logits"),
        lambda read: known_log_odds(read[LOGITS]) - closed_entropy(read[f"{NAME}.binary_logits"]),
        level=SURE, build=lambda wider: OpenDetector(wider),
    ),
    "max_softmax": Purity(("logits",), lambda read: post_hoc.max_softmax(read["logits"])),
    "max_logit": Purity(("logits",), lambda read: post_hoc.max_logit(read["logits"])),
    "energy": Purity(("logits",), lambda read: post_hoc.energy(read["logits"])),
    "knn": Purity(("features",), fit=_knn, needs_labelled=("features",)),
    "mqnet": Purity(("features",), fit=_nearest, needs_labelled=("features",)),
    "clipn": clipn(prototypes=True),
    "vim": Purity(("features", "logits"), fit=_vim, needs_labelled=("features", "logits")),
}  # fmt: skip
"""Names as a configuration writes them; all higher = surer to be known."""
