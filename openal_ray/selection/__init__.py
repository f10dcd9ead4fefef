"""Selection on plain arrays: which rows to pick, exactly; the halves beside it do the same over shards."""

import numpy as np

from openal_ray.selection import scores
from openal_ray.selection.batch_bald import CONFIGURATIONS, BatchBaldHalf, pick_batch_bald
from openal_ray.selection.halves import LocalHalves
from openal_ray.selection.k_center import KCenterHalf, pick_k_center
from openal_ray.selection.kmeans_pp import KMeansPPHalf, pick_kmeans_pp
from openal_ray.selection.stochastic import StochasticHalf, pick_stochastic
from openal_ray.selection.top_k import TopKHalf, pick_top_k

__all__ = ["batch_bald", "k_center", "kmeans_pp", "scores", "stochastic_top_k", "top_k"]


def top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """Positions int64 [k] of the k highest of `scores` [n], best first; ties go to the lower position.

    raises   ValueError if k > n or a score is NaN
    """
    half = TopKHalf(scores, np.arange(len(scores)))
    return pick_top_k(LocalHalves([half]), k).indices


def stochastic_top_k(
    scores: np.ndarray, k: int, rng: np.random.Generator, form: str = "power", beta: float = 1.0
) -> np.ndarray:
    """Positions int64 [k] drawn from `scores` [n] without replacement, in the order of the draw.

    form    the weight of a score s of rank r (1 = best): power s^beta, softmax exp(beta s), softrank r^-beta
    beta    > 0, the coldness: towards 0 a uniform draw, towards infinity top_k
    raises  ValueError if k > n, a score is NaN, form or beta is unknown, or a score is negative and the form power
    source  Kirsch et al. 2023 (arXiv 2106.12059)
    """
    half = StochasticHalf(scores, np.arange(len(scores)), int(rng.integers(2**63)), form, beta)
    return pick_stochastic(LocalHalves([half]), k, form, beta).indices


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


def batch_bald(
    mc_probs: np.ndarray, k: int, rng: np.random.Generator, configurations: int = CONFIGURATIONS
) -> np.ndarray:
    """Positions int64 [k] of the batch whose labels together say most about the weights, picked greedily.

    mc_probs        [n, T, C] class probabilities of T passes under dropout (`mc_probs` of the signals)
    configurations  all C^b label configurations of b picks are counted while there are so few; then so many are drawn
    raises          ValueError if k > n, configurations < 1, or rows are not probabilities
    source          Kirsch et al. 2019 (arXiv 1906.08158), Alg. 1
    """
    half = BatchBaldHalf(mc_probs, np.arange(len(mc_probs)))
    return pick_batch_bald(LocalHalves([half]), k, rng, configurations).indices
