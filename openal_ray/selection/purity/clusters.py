"""Clusters of rejected images, and of candidates, by k-means or by FINCH; for EOAL."""

from typing import Literal

import numpy as np

from openal_ray.selection.distances import nearest
from openal_ray.selection.halves import LocalHalves
from openal_ray.selection.k_means import KMeansHalf, fit_k_means
from openal_ray.selection.purity.finch import cluster_means, partition_into
from openal_ray.selection.similarity import directions

Clusterer = Literal["kmeans", "finch"]


def clusters_of(features: np.ndarray, count: int, clusterer: Clusterer, rng: np.random.Generator) -> np.ndarray:
    """The cluster int64 [m], from 0, of rows that are all here: rejected images, of which there are few enough.

    features   [m, D]; only their directions count, as in EOAL
    count      clusters, fewer where there are fewer different rows; at least 1
    clusterer  kmeans, which is ours; finch, the authors' choice (see `finch`), which takes no draw
    """
    if not len(features):
        return np.empty(0, dtype=np.int64)
    if clusterer == "finch":
        return partition_into(features, count)
    rows = directions(features)
    centres = fit_k_means(LocalHalves([KMeansHalf(rows, np.arange(len(rows)))]), min(count, len(rows)), rng)
    return np.unique(nearest(rows, centres)[0], return_inverse=True)[1]


def centres_of(features: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """The mean row float64 [k, D] of every cluster, none without rows; in the units of the features."""
    return cluster_means(features, clusters) if len(features) else np.empty((0, features.shape[1]))
