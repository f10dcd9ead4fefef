"""Selection on plain arrays: which rows to pick, exactly; the halves beside it do the same over shards."""

import numpy as np

from openal_ray.selection import scores
from openal_ray.selection.halves import LocalHalves
from openal_ray.selection.k_center import KCenterHalf, pick_k_center
from openal_ray.selection.kmeans_parallel import KMeansParallelHalf, pick_kmeans_parallel
from openal_ray.selection.kmeans_pp import KMeansPPHalf, pick_kmeans_pp
from openal_ray.selection.top_k import TopKHalf, pick_top_k
from openal_ray.selection.two_level import TwoLevelHalf, pick_two_level

__all__ = ["k_center", "kmeans_pp", "scores", "top_k"]


def top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """Positions int64 [k] of the k highest of `scores` [n], best first; ties go to the lower position.

    raises   ValueError if k > n or a score is NaN
    """
    half = TopKHalf(scores, np.arange(len(scores)))
    return pick_top_k(LocalHalves([half]), k).indices


def k_center(points: np.ndarray, covered: np.ndarray | None, k: int, parts: int = 0) -> np.ndarray:
    """Positions int64 [k] of greedy k-center: k times, the point farthest from all centres so far.

    points   [n, D] candidates; distances are Euclidean, in the units of the features
    covered  [m, D] centres that exist already (labelled images); None or m = 0: the first pick is position 0
    parts    0: exact; else the two-level form over so many parts, of at most four times the least covering radius
    raises   ValueError if k > n or a number is not finite
    source   Sener & Savarese 2018 (arXiv 1708.00489), Alg. 1. Differs: no robust MIP step. Malkomes et al. 2015 (NIPS)
             for two levels.
    """
    indices = np.arange(len(points))
    if parts:
        return pick_two_level(LocalHalves([TwoLevelHalf(points, indices, parts)]), k, covered).picks.indices
    return pick_k_center(LocalHalves([KCenterHalf(points, indices)]), k, covered).indices


def kmeans_pp(left: np.ndarray, right: np.ndarray, k: int, rng: np.random.Generator, rounds: int = 0) -> np.ndarray:
    """Positions int64 [k] of k-means++ seeding on the outer products left[i] ⊗ right[i], which are never built.

    First the largest norm (lowest position on ties), then D² sampling without repeats.
    left, right  [n, C] and [n, D]
    rounds       0: the exact law; else k-means|| with so many rounds of oversampling, which is not the D² law
    raises       ValueError if k > n or a number is not finite
    source       Ash et al. 2020 (arXiv 1906.03671), Alg. 1; Bahmani et al. 2012 (arXiv 1203.6402) for k-means||
    """
    indices = np.arange(len(left))
    if rounds:
        return pick_kmeans_parallel(LocalHalves([KMeansParallelHalf(left, right, indices)]), k, rounds, rng).indices
    return pick_kmeans_pp(LocalHalves([KMeansPPHalf(left, right, indices)]), k, rng).indices
