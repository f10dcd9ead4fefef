"""Selection on plain arrays: which rows to pick, exactly; the halves beside it do the same over shards."""

import numpy as np

from openal_ray.selection.alpha_mix import AlphaMixHalf, pick_alpha_mix
from openal_ray.selection.alpha_steps import first_steps
from openal_ray.selection.batch_bald import CONFIGURATIONS, BatchBaldHalf, pick_batch_bald
from openal_ray.selection.cluster_margin import ClusterMarginHalf, pick_cluster_margin
from openal_ray.selection.coverage import CoverageHalf, pick_coverage
from openal_ray.selection.halves import LocalHalves
from openal_ray.selection.k_center import KCenterHalf, pick_k_center
from openal_ray.selection.k_center_balanced import KCenterBalancedHalf, pick_k_center_balanced
from openal_ray.selection.k_means import KMeansHalf, fit_k_means, pick_nearest
from openal_ray.selection.kernels import RBF, Kernel, TopHat
from openal_ray.selection.kmeans_parallel import KMeansParallelHalf, pick_kmeans_parallel
from openal_ray.selection.kmeans_pp import KMeansPPHalf, pick_kmeans_pp
from openal_ray.selection.stochastic import StochasticHalf, pick_stochastic
from openal_ray.selection.top_k import TopKHalf, pick_top_k
from openal_ray.selection.two_level import TwoLevelHalf, pick_two_level
from openal_ray.selection.typical import TypicalHalf, clusters_wanted, pick_typical


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


def k_means(points: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Positions int64 [k] of the rows nearest to the centres of `k` clusters, bigger clusters first.

    points  [n, D]; for cosine distances give rows of norm 1
    raises  ValueError if k > n or a number is not finite
    source  Lloyd 1982 from a k-means++ start (Arthur & Vassilvitskii 2007)
    """
    halves = LocalHalves([KMeansHalf(points, np.arange(len(points)))])
    return pick_nearest(halves, fit_k_means(halves, k, rng)).indices


def prob_cover(points: np.ndarray, covered: np.ndarray | None, k: int, radius: float) -> np.ndarray:
    """Positions int64 [k] of ProbCover: k times, the ball that holds most points outside all balls so far.

    points   [n, D] candidates, and points to be covered
    covered  [m, D] centres that exist already (labelled images); None or m = 0: there are none
    radius   of a ball, which is open: a point at this distance is outside (see `radius.choose_radius`)
    raises   ValueError if k > n or a number is not finite
    source   Yehuda et al. 2022 (arXiv 2205.11320), Alg. 1
    """
    return _cover(points, covered, k, TopHat(radius))


def max_herding(points: np.ndarray, covered: np.ndarray | None, k: int, bandwidth: float = 1.0) -> np.ndarray:
    """Positions int64 [k] of MaxHerding: k times, the point that adds most to the mean of max exp(-d² / bandwidth²).

    points, covered   as for `prob_cover`; rows of norm 1 (`distances.unit_rows`) for the default bandwidth
    raises            ValueError if k > n or a number is not finite
    source            Bae et al. 2024 (arXiv 2407.12212), Alg. 1
    """
    return _cover(points, covered, k, RBF(bandwidth))


def typiclust(
    points: np.ndarray, covered: np.ndarray | None, k: int, rng: np.random.Generator, max_clusters: int = 500
) -> np.ndarray:
    """Positions int64 [k] of TypiClust: the most typical points of the largest clusters without a label.

    points   [n, D] candidates; the paper gives them norm 1 (`distances.unit_rows`)
    covered  [m, D] labelled points; None or m = 0: there are none
    raises   ValueError if k > n or a number is not finite
    source   Hacohen et al. 2022 (arXiv 2202.02794), Alg. 1
    """
    indices = np.arange(len(points))
    n_clusters = clusters_wanted(0 if covered is None else len(covered), len(points), k, max_clusters)
    centres = fit_k_means(LocalHalves([KMeansHalf(points, indices)]), n_clusters, rng, covered)
    return pick_typical(LocalHalves([TypicalHalf(points, indices)]), centres, k, covered).indices


def cluster_margin(
    scores: np.ndarray, points: np.ndarray, k: int, rng: np.random.Generator, factor: float = 10
) -> np.ndarray:
    """Positions int64 [k] of Cluster-Margin: of the factor · k most uncertain, random ones of the smallest clusters.

    scores  [n] uncertainty, higher = more wanted
    points  [n, D] what is clustered
    raises  ValueError if k > n, a score is NaN or a number is not finite
    source  Citovsky et al. 2021 (arXiv 2107.14263), Alg. 2
    """
    half = ClusterMarginHalf(scores, points, np.arange(len(points)))
    return pick_cluster_margin(LocalHalves([half]), k, rng, factor).indices


def _cover(points: np.ndarray, covered: np.ndarray | None, k: int, kernel: Kernel) -> np.ndarray:
    half = CoverageHalf(points, np.arange(len(points)), kernel)
    return pick_coverage(LocalHalves([half]), k, covered).indices


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
