"""EOAL: two entropies, of binary classifiers of the known classes and of distances to clusters of rejected images.

Safaei et al. 2024 (AAAI), section 3. A query is spread over clusters of the images predicted known by
`quotas.pick_by_cluster`, with those predicted unknown as spare rows.
"""

from typing import Literal

import numpy as np

from openal_ray.selection.nearest import squared_distances
from openal_ray.selection.purity.energies import softplus

Form = Literal["official", "openal"]
"""openal: the closed-set entropy stays in nats, so that it weighs ln 2 as much."""


def closed_entropy(binary_logits: np.ndarray, form: Form = "official") -> np.ndarray:
    """Mean entropy of the C binary classifiers float64 [n], 0 = all are sure, 1 (ln 2 in openal's form) = none is.

    binary_logits  [n, 2, C]: negative, positive
    """
    logits = np.asarray(binary_logits, dtype=np.float64)
    gap = np.ascontiguousarray(np.abs(logits[:, 1] - logits[:, 0]))
    # Of p = sigmoid(gap): -p ln p - (1 - p) ln(1 - p) = ln(1 + e^-gap) + gap · (1 - p).
    entropy = (softplus(-gap) + gap * np.exp(-softplus(gap))).mean(axis=1)
    return entropy / np.log(2) if form == "official" else entropy


def distance_entropy(features: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Entropy of softmax(-distances to the centres of rejected images) ÷ ln m float64 [n]; 1 = equally near to all.

    features, centres  [n, D] and [m, D]; distances are Euclidean
    With a single centre, or none, it says nothing and is 0.
    """
    if len(centres) < 2:
        return np.zeros(len(features))
    away = np.stack([np.sqrt(squared_distances(features, centre)) for centre in centres], axis=1)
    away -= away.min(axis=1, keepdims=True)
    weights = np.exp(-away)
    total = weights.sum(axis=1)
    entropy = np.log(total) + (weights * away).sum(axis=1) / total
    return np.clip(entropy / np.log(len(centres)), 0.0, 1.0)


def eoal_score(
    binary_logits: np.ndarray, features: np.ndarray, centres: np.ndarray, form: Form = "official"
) -> np.ndarray:
    """S_dist - S_closed float64 [n]; higher = more wanted (the paper takes the lowest of its negative)."""
    return distance_entropy(features, centres) - closed_entropy(binary_logits, form)


def query_groups(detector_logits: np.ndarray, clusters: np.ndarray, n_clusters: int) -> np.ndarray:
    """Groups int64 [n] for `pick_by_cluster(…, spare=True)`: the cluster of a row predicted known, else n_clusters.

    detector_logits  [n, C+1], the last = unknown
    clusters         int64 [n]
    """
    known = np.asarray(detector_logits).argmax(axis=1) < detector_logits.shape[1] - 1
    return np.where(known, clusters, n_clusters)
