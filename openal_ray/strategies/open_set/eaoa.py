"""EAOA: the most ambiguous of the images that two energies call known."""

import numpy as np

from openal_ray.models.detectors import Detector
from openal_ray.record import PastQuery
from openal_ray.selection.halves import Picks
from openal_ray.selection.purity.eaoa import EaoaHalf, next_factor, pick_eaoa
from openal_ray.selection.purity.energies import open_energy
from openal_ray.shard import Part
from openal_ray.strategies.open_set.detection import NAME, Plan, check_plan, trained
from openal_ray.strategies.strategy import Strategy
from openal_ray.strategies.view import View

LOGITS, FEATURES = f"{NAME}.logits", f"{NAME}.features"


def eaoa(
    target: float = 0.6, factor: float = 5.0, neighbours: int = 250, energy_weight: float = 0.01,
    train: Plan | None = None,
) -> Strategy:  # fmt: skip
    """EAOA (Zong et al. 2025, §3): of each class the purest images, and of these the most ambiguous.

    target         purity that the number of candidates is steered to
    factor         candidates for each image of the first query
    neighbours     how many reverse neighbours count
    energy_weight  of the detector's margin loss on energies
    train          keys of `train` for the detector; otherwise it trains as the classifier does
    Differs: see `openal_ray.selection.purity.eaoa`.
    """
    if not 0 < target < 1 or factor < 1 or neighbours < 1 or energy_weight < 0:
        raise ValueError(
            "target must lie between 0 and 1, factor and neighbours be at least 1 and energy_weight at least 0, got "
            f"{target}, {factor}, {neighbours} and {energy_weight}"
        )
    check_plan(train)

    def pick(view: View, budget: int, rng: np.random.Generator) -> Picks:
        known = view.answered.signals.get(FEATURES)
        features = np.empty((0, 1)) if known is None else known
        now = _factor(view.history, factor, target)
        return pick_eaoa(
            view.open(_half), budget, features, view.answered_classes, view.n_classes, now, rng, neighbours
        )

    return Strategy(
        needs=("logits", LOGITS, FEATURES), needs_labelled=(FEATURES,), pick=pick,
        prepare=trained(lambda wider: Detector(wider, 1.0, energy_weight), train),
        purity=lambda read: -open_energy(read[LOGITS]),
    )  # fmt: skip


def _factor(history: tuple[PastQuery, ...], factor: float, target: float) -> float:
    """k_t of this round, from the purities of all queries before it."""
    for past in history[1:]:
        factor = next_factor(factor, float((past.answers >= 0).mean()), target)
    return factor


def _half(part: Part) -> EaoaHalf:
    return EaoaHalf(part.signals["logits"], part.signals[LOGITS], part.signals[FEATURES], part.indices)
