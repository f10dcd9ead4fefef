"""Strategies that look for images which stand for many others; with a frozen encoder they need no label to start."""

import numpy as np

from openal_ray.models.encoders import PUBLISHED
from openal_ray.selection import scores
from openal_ray.selection.cluster_margin import ClusterMarginHalf, pick_cluster_margin
from openal_ray.selection.coverage import CoverageHalf, pick_coverage
from openal_ray.selection.halves import Picks
from openal_ray.selection.k_means import KMeansHalf, fit_k_means, pick_nearest
from openal_ray.selection.kernels import RBF, Kernel, TopHat
from openal_ray.selection.radius import RadiusHalf, choose_radius
from openal_ray.selection.typical import TypicalHalf, clusters_wanted, pick_typical
from openal_ray.shard import Part
from openal_ray.strategies.features import OWN_NETWORK, Features
from openal_ray.strategies.strategy import Strategy
from openal_ray.strategies.view import View


def k_means(encoder: str = OWN_NETWORK, encoder_weights: str = PUBLISHED) -> Strategy:
    """K-means (Lloyd 1982; as a query strategy Zhdanov 2019, without weights): the image nearest to each of B centres.

    encoder, encoder_weights  see `openal_ray.strategies.features`
    Labelled images take no part. Empty clusters are filled by the lowest dataset indices.
    """
    features = Features(encoder, encoder_weights)

    def pick(view: View, budget: int, rng: np.random.Generator) -> Picks:
        halves = view.open(_k_means_half, features)
        return pick_nearest(halves, fit_k_means(halves, budget, rng))

    return Strategy(**features.needs, pick=pick, needs_start=False)


def typiclust(encoder: str = OWN_NETWORK, encoder_weights: str = PUBLISHED, max_clusters: int = 500) -> Strategy:
    """TypiClust (Hacohen et al. 2022, Alg. 1): the most typical image of each of the largest clusters without a label.

    encoder, encoder_weights  see `openal_ray.strategies.features`; the paper takes self-supervised features
    max_clusters              of all images, at most; otherwise one for each labelled and each asked image
    Differs from the authors' code: exact Lloyd for any number of clusters, instead of mini-batches above 50.
    """
    if max_clusters < 1:
        raise ValueError(f"max_clusters must be at least 1, got {max_clusters}")
    features = Features(encoder, encoder_weights, unit=True)

    def pick(view: View, budget: int, rng: np.random.Generator) -> Picks:
        covered = features.labelled(view)
        count = clusters_wanted(len(view.labelled.indices), view.candidates.count, budget, max_clusters)
        centres = fit_k_means(view.open(_k_means_half, features), count, rng, covered)
        return pick_typical(view.open(_typical_half, features), centres, budget, covered)

    return Strategy(**features.needs, pick=pick, needs_start=False)


def prob_cover(
    encoder: str = OWN_NETWORK, encoder_weights: str = PUBLISHED, radius: float | None = None, purity: float = 0.95
) -> Strategy:
    """ProbCover (Yehuda et al. 2022, Alg. 1): the ball that holds most images outside all balls so far.

    encoder, encoder_weights  see `openal_ray.strategies.features`; the paper takes self-supervised features
    radius                    of a ball, of features of norm 1; not given: the largest for which a share `purity` of
                              the balls holds one cluster alone (§3.3), with as many clusters as classes
    """
    features = Features(encoder, encoder_weights, unit=True)
    if radius is not None and radius <= 0 or not 0 < purity <= 1:
        raise ValueError(f"radius must be above 0 and purity above 0 and at most 1, got {radius} and {purity}")

    def pick(view: View, budget: int, rng: np.random.Generator) -> Picks:
        return _cover(view, features, TopHat(radius or _radius(view, features, rng, purity)), budget)

    return Strategy(**features.needs, pick=pick, needs_start=False)


def max_herding(encoder: str = OWN_NETWORK, encoder_weights: str = PUBLISHED, bandwidth: float = 1.0) -> Strategy:
    """MaxHerding (Bae et al. 2024, Alg. 1): the image that adds most to how close all images are to their nearest.

    encoder, encoder_weights  see `openal_ray.strategies.features`; the paper takes self-supervised features
    bandwidth                 of the RBF kernel on features of norm 1
    Differs from the authors' code: every image is looked at, not a subset of them.
    """
    if not bandwidth > 0:
        raise ValueError(f"bandwidth must be above 0, got {bandwidth}")
    features = Features(encoder, encoder_weights, unit=True)

    def pick(view: View, budget: int, rng: np.random.Generator) -> Picks:
        return _cover(view, features, RBF(bandwidth), budget)

    return Strategy(**features.needs, pick=pick, needs_start=False)


def cluster_margin(factor: float = 10.0) -> Strategy:
    """Cluster-Margin (Citovsky et al. 2021, Alg. 2): of the least sure images, some from each of their clusters.

    factor  candidates for each image asked: those of the smallest margin
    Differs from the paper: average linkage of the candidates alone, into B clusters, anew each round; the paper
    clusters the whole pool once, with a distance as the limit.
    """
    if not factor >= 1:
        raise ValueError(f"factor must be at least 1, got {factor}")

    def pick(view: View, budget: int, rng: np.random.Generator) -> Picks:
        return pick_cluster_margin(view.open(_cluster_margin_half), budget, rng, factor)

    return Strategy(needs=("probs", "features"), pick=pick)


def _cover(view: View, features: Features, kernel: Kernel, budget: int) -> Picks:
    return pick_coverage(view.open(_coverage_half, features, kernel), budget, features.labelled(view))


def _radius(view: View, features: Features, rng: np.random.Generator, purity: float) -> float:
    covered = features.labelled(view)
    count = min(view.n_classes, view.candidates.count)
    centres = fit_k_means(view.open(_k_means_half, features), count, rng, covered)
    return choose_radius(view.open(_radius_half, features), centres, rng, covered, purity)


def _k_means_half(part: Part, features: Features) -> KMeansHalf:
    return KMeansHalf(features.of(part.signals), part.indices, part.device)


def _typical_half(part: Part, features: Features) -> TypicalHalf:
    return TypicalHalf(features.of(part.signals), part.indices, part.device)


def _coverage_half(part: Part, features: Features, kernel: Kernel) -> CoverageHalf:
    return CoverageHalf(features.of(part.signals), part.indices, kernel, part.device)


def _radius_half(part: Part, features: Features) -> RadiusHalf:
    return RadiusHalf(features.of(part.signals), part.indices, part.device)


def _cluster_margin_half(part: Part) -> ClusterMarginHalf:
    return ClusterMarginHalf(scores.margin(part.signals["probs"]), part.signals["features"], part.indices)
