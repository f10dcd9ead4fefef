"""Selection on plain arrays: which rows to pick, exactly; the halves beside it do the same over shards."""

import numpy as np

from openal_ray.selection import scores
from openal_ray.selection.alpha_mix import AlphaMixHalf, pick_alpha_mix
from openal_ray.selection.alpha_steps import first_steps
from openal_ray.selection.halves import LocalHalves
from openal_ray.selection.k_center import KCenterHalf, pick_k_center
from openal_ray.selection.k_center_balanced import KCenterBalancedHalf, pick_k_center_balanced
from openal_ray.selection.k_means import KMeansHalf, fit_k_means, pick_nearest
from openal_ray.selection.kmeans_pp import KMeansPPHalf, pick_kmeans_pp
from openal_ray.selection.top_k import TopKHalf, pick_top_k

__all__ = ["alpha_mix", "k_center", "k_center_balanced", "k_means", "kmeans_pp", "scores", "top_k"]


def top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """Positions int64 [k] of the k highest of `scores` [n], best first; ties go to the lower position.

    raises   ValueError if k > n or a score is NaN
    """
    half = TopKHalf(scores, np.arange(len(scores)))
    return pick_top_k(LocalHalves([half]), k).indices


def k_center(points: np.ndarray, covered: np.ndarray | None, k: int) -> np.ndarray:
    """Positions int64 [k] of greedy k-center: k times, the point farthest from all centres so far.

    points   [n, D] candidates; distances are Euclidean, in the units of the features
    covered  [m, D] centres that exist already (labelled images); None or m = 0: the first pick is position 0
    raises   ValueError if k > n or a number is not finite
    source   Sener & Savarese 2018 (arXiv 1708.00489), Alg. 1. Differs: no robust MIP step.
    """
    half = KCenterHalf(points, np.arange(len(points)))
    return pick_k_center(LocalHalves([half]), k, covered).indices


def kmeans_pp(left: np.ndarray, right: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Positions int64 [k] of k-means++ seeding on the outer products left[i] ⊗ right[i], which are never built.

    First the largest norm (lowest position on ties), then D² sampling without repeats.
    left, right  [n, C] and [n, D]
    raises       ValueError if k > n or a number is not finite
    source       Ash et al. 2020 (arXiv 1906.03671), Alg. 1
    """
    half = KMeansPPHalf(left, right, np.arange(len(left)))
    return pick_kmeans_pp(LocalHalves([half]), k, rng).indices


def k_means(points: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Positions int64 [k] of the rows nearest to the centres of `k` clusters, bigger clusters first.

    points  [n, D]; for cosine distances give rows of norm 1
    raises  ValueError if k > n or a number is not finite
    source  Lloyd 1982 from a k-means++ start (Arthur & Vassilvitskii 2007)
    """
    halves = LocalHalves([KMeansHalf(points, np.arange(len(points)))])
    return pick_nearest(halves, fit_k_means(halves, k, rng)).indices


def alpha_mix(
    features: np.ndarray,
    logits: np.ndarray,
    weights: np.ndarray,
    anchors: np.ndarray,
    k: int,
    rng: np.random.Generator,
    cap: float = 1 / 32,
) -> np.ndarray:
    """Positions int64 [k] of ALFA-Mix before a linear head: spread-out images that features of labelled ones confuse.

    features  [n, D] the input of the head
    logits    [n, C] its output; log-probabilities will do
    weights   [C, D] of the head; its bias is in the logits
    anchors   [A, D] mean labelled feature vectors (`alpha_mix.class_anchors`)
    cap       how far a step goes; the candidates are those of as few steps as give k
    raises    ValueError if k > n, shapes do not fit or a number is not finite
    source    Parvaneh et al. 2022 (arXiv 2203.07034), Alg. 1, with the closed form for alpha; see `alpha_mix`
    """
    steps = first_steps(features, logits, weights, anchors, cap)
    half = AlphaMixHalf(features, steps, np.arange(len(steps)))
    return pick_alpha_mix(LocalHalves([half]), k, rng).indices


def k_center_balanced(
    points: np.ndarray,
    probs: np.ndarray,
    covered: np.ndarray | None,
    class_counts: np.ndarray,
    k: int,
    weight: float = 5.0,
) -> np.ndarray:
    """Positions int64 [k] of greedy k-center that also gives every class its share.

    Each pick minimises -d_i + weight / C · |R - p_i - sum of p over the picks|_1, d_i the distance to the nearest
    centre and R_c = max(floor((L + k) / C) - n_c, 0) for n_c of L labelled images; ties go to the lower position.
    points        [n, D] candidates; distances are Euclidean, in the units of the features
    probs         [n, C] class probabilities, rows that sum to one
    covered       [m, D] centres that exist already; None or m = 0: the first pick is position 0
    class_counts  int [C] labelled images of every class, 0 where there are none
    raises        ValueError if k > n, shapes do not fit, a number is not finite or a probability is below 0
    source        Bengar et al. 2022 (arXiv 2110.04543), as OpenAL's KCenterGreedyCB has it
    """
    half = KCenterBalancedHalf(points, probs, np.arange(len(points)))
    return pick_k_center_balanced(LocalHalves([half]), k, covered, class_counts, weight).indices
