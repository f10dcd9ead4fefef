"""Strategies that spread a query over the pool's features."""

import numpy as np

from openal_ray.models.encoders import PUBLISHED
from openal_ray.selection.halves import Picks
from openal_ray.selection.k_center_balanced import KCenterBalancedHalf, pick_k_center_balanced
from openal_ray.shard import Part
from openal_ray.signal_store import Signals
from openal_ray.strategies.features import OWN_NETWORK, Features
from openal_ray.strategies.strategy import Strategy
from openal_ray.strategies.view import View


def k_center(parts: int = 0, encoder: str = OWN_NETWORK, encoder_weights: str = PUBLISHED) -> Strategy:
    """Core-set (Sener & Savarese 2018, Alg. 1): cover the pool's features with as small a ball as possible.

    parts                     0: the picks are exactly those of greedy. Else the pool is cut into so many parts, a
                              each of which lies on one shard (Malkomes et al. 2015): three exchanges, one part in
                              memory at a time, within four times the least covering radius. Fewer parts than shards
                              leave shards without work
    encoder, encoder_weights  see `openal_ray.strategies.features`
    Differs from the paper: greedy only, without the mixed-integer refinement, as in common practice.
    """
    _refuse_negative("parts", parts)
    features = Features(encoder, encoder_weights)

    def pick(view: View, budget: int, rng: np.random.Generator) -> Picks:
        return view.two_level(features.need, budget, parts) if parts else view.k_center(features.need, budget)

    guarantee = f"4-approximation of the covering radius (parts={parts})" if parts else "exact"
    return Strategy(
        **features.needs, pick=pick, needs_start=encoder == OWN_NETWORK, parts=parts, guarantee=guarantee
    )  # fmt: skip


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


def badge(rounds: int = 0) -> Strategy:
    """BADGE (Ash et al. 2020, Alg. 1): k-means++ over the last layer's gradients at the predicted class.

    A gradient is residual ⊗ features, and distances between outer products need only the factors, so the
    [n, C·D] embedding is never built. Differs from the paper: the first pick is the largest gradient, as in its
    authors' code, not a draw; the sign of the residual is turned, which no distance sees. With rounds=0 the draws
    follow the D² law exactly; else k-means|| with so many rounds takes its place (Bahmani et al. 2012).
    """
    _refuse_negative("rounds", rounds)

    def pick(view: View, budget: int, rng: np.random.Generator) -> Picks:
        if rounds:
            return view.kmeans_parallel(residual, features, budget, rounds, rng)
        return view.kmeans_pp(residual, features, budget, rng)

    guarantee = f"k-means|| with {rounds} rounds, not the D² law" if rounds else "exact"
    return Strategy(needs=("probs", "features"), pick=pick, guarantee=guarantee)


def features(read: Signals) -> np.ndarray:
    """The last layer's inputs [n, D]."""
    return read["features"]


def residual(read: Signals) -> np.ndarray:
    """Probabilities minus the one-hot predicted class [n, C]: the loss's gradient at the logits."""
    probs = read["probs"]
    result = probs.copy()
    result[np.arange(len(probs)), probs.argmax(1)] -= 1
    return result


def _balanced_half(part: Part) -> KCenterBalancedHalf:
    return KCenterBalancedHalf(part.signals["features"], part.signals["probs"], part.indices, part.device)


def _refuse_negative(name: str, value: int) -> None:
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"{name} must be a whole number of at least 0, got {value!r}")
