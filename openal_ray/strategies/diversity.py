"""Strategies that spread a query over the pool's features."""

import numpy as np

from openal_ray.models.encoders import PUBLISHED
from openal_ray.selection.halves import Picks
from openal_ray.selection.k_center_balanced import KCenterBalancedHalf, pick_k_center_balanced
from openal_ray.shard import Part
from openal_ray.signal_store import Signals
from openal_ray.strategies.features import CLASSIFIER, Features
from openal_ray.strategies.strategy import Strategy, View


def k_center(encoder: str = CLASSIFIER, encoder_weights: str = PUBLISHED) -> Strategy:
    """Core-set (Sener & Savarese 2018, Alg. 1): cover the pool's features with as small a ball as possible.

    encoder, encoder_weights  see `openal_ray.strategies.features`
    Differs from the paper: greedy only, without the mixed-integer refinement, as in common practice.
    """

    features = Features(encoder, encoder_weights)

    def pick(view: View, budget: int, rng: np.random.Generator) -> Picks:
        return view.k_center(features.need, budget)

    return Strategy(**features.needs, pick=pick, needs_start=encoder == CLASSIFIER)


def k_center_balanced(weight: float = 5.0) -> Strategy:
    """Class-balanced core-set (Bengar et al. 2022, as OpenAL's KCenterGreedyCB): also from classes that lack images.

    weight  of the balance against the distance
    Differs: all classes count, also those without a label yet; see `openal_ray.selection.k_center_balanced`.
    """
    if not 0 <= weight < np.inf:
        raise ValueError(f"weight must be finite and at least 0, got {weight}")

    def pick(view: View, budget: int, rng: np.random.Generator) -> Picks:
        covered = view.labelled.signals["features"] if len(view.labelled.indices) else None
        counts = np.bincount(view.pool.classes, minlength=view.n_classes)
        return pick_k_center_balanced(view.open(_balanced_half), budget, covered, counts, weight)

    return Strategy(needs=("probs", "features"), needs_labelled=("features",), pick=pick)


def badge() -> Strategy:
    """BADGE (Ash et al. 2020, Alg. 1): k-means++ over the last layer's gradients at the predicted class.

    A gradient is residual ⊗ features, and distances between outer products need only the factors, so the
    [n, C·D] embedding is never built. Differs from the paper: the first pick is the largest gradient, as in its
    authors' code, not a draw; the sign of the residual is turned, which no distance sees.
    """

    def pick(view: View, budget: int, rng: np.random.Generator) -> Picks:
        return view.kmeans_pp(residual, lambda read: read["features"], budget, rng)

    return Strategy(needs=("probs", "features"), pick=pick)


def residual(read: Signals) -> np.ndarray:
    """Probabilities minus the one-hot predicted class [n, C]: the loss's gradient at the logits."""
    probs = read["probs"]
    result = probs.copy()
    result[np.arange(len(probs)), probs.argmax(1)] -= 1
    return result


def _balanced_half(part: Part) -> KCenterBalancedHalf:
    return KCenterBalancedHalf(part.signals["features"], part.signals["probs"], part.indices, part.device)
