"""Cluster-Margin: the most uncertain candidates, clustered, and picked from the small clusters first.

Source: Citovsky et al. 2021 (arXiv 2107.14263), Alg. 2: round robin over the clusters from the smallest to the largest,
a random candidate of each, clusters without any left skipped. Differs: the candidates are clustered in every round, the
paper clusters the whole pool once (Alg. 1); by default as many clusters as picks, so that a cluster has `factor`
candidates on average, instead of a distance threshold.
"""

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage

from openal_ray.selection.distances import checked_points
from openal_ray.selection.halves import Halves, Picks, checked_sizes
from openal_ray.selection.top_k import TopKHalf, best_positions

_FACTOR = 10  # candidates a pick, as in the paper's experiments on Open Images
_MOST = 20_000  # candidates whose pairwise distances the driver holds, twice: 3.2 GB


class ClusterMarginHalf:
    """One shard's scores and points.

    scores   [n] uncertainty, higher = more wanted (the paper's margin is `scores.margin`)
    points   [n, D] what is clustered: the features
    indices  int64 [n] ascending dataset indices
    raises   ValueError if the shapes do not fit, a score is NaN or a number is not finite
    """

    def __init__(self, scores: np.ndarray, points: np.ndarray, indices: np.ndarray) -> None:
        self._top = TopKHalf(scores, indices)
        self._scores = np.asarray(scores, dtype=np.float64)
        self._indices = np.asarray(indices, dtype=np.int64)
        self._points = checked_points("points", points, len(self._indices))

    def size(self) -> int:
        """The number of rows."""
        return self._top.size()

    def best(self, m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Dataset indices, scores and points of this shard's best `min(m, n)`."""
        positions = best_positions(self._scores, min(m, len(self._scores)))
        return self._indices[positions], self._scores[positions], self._points[positions]


def pick_cluster_margin(
    halves: Halves,
    k: int,
    rng: np.random.Generator,
    factor: float = _FACTOR,
    n_clusters: int | None = None,
    threshold: float | None = None,
) -> Picks:
    """Pick `k` rows; scores are their uncertainties.

    factor      candidates a pick: the ceil(factor · k) most uncertain rows, lowest index on ties, but 20 000 at most
    n_clusters  of the candidates, by average linkage of Euclidean distances; None: k
    threshold   clusters that are farther apart are not joined, instead of a number of clusters
    raises      ValueError if there are fewer than k rows, k > 20 000, factor < 1, or both or senseless limits are given
    """
    n_rows = sum(checked_sizes(halves, k))
    _check(k, factor, n_clusters, threshold)
    if not k:
        return Picks(np.empty(0, dtype=np.int64), np.empty(0))
    m = min(n_rows, _MOST, int(np.ceil(factor * k)))
    indices, scores, rows = (np.concatenate(part) for part in zip(*halves.ask("best", m), strict=True))
    best = np.sort(np.lexsort((indices, -scores))[:m])
    best = best[np.argsort(indices[best])]
    clusters = _clusters(rows[best].astype(np.float64), k if n_clusters is None else n_clusters, threshold)
    picks = best[_round_robin(clusters, k, rng)]
    return Picks(indices[picks], scores[picks])


def _check(k: int, factor: float, n_clusters: int | None, threshold: float | None) -> None:
    if k > _MOST:
        raise ValueError(f"cluster_margin compares all its candidates with each other: k must be <= {_MOST}, got {k}")
    if not factor >= 1:
        raise ValueError(f"factor must be >= 1, got {factor}")
    if n_clusters is not None and threshold is not None:
        raise ValueError("give n_clusters or threshold, not both")
    if n_clusters is not None and n_clusters < 1:
        raise ValueError(f"n_clusters must be >= 1, got {n_clusters}")
    if threshold is not None and not threshold >= 0:
        raise ValueError(f"threshold must be >= 0, got {threshold}")


def _clusters(rows: np.ndarray, n_clusters: int, threshold: float | None) -> np.ndarray:
    """The cluster of each row [m]."""
    if len(rows) == 1:
        return np.ones(1, dtype=np.int64)
    tree = linkage(rows, method="average")
    if threshold is not None:
        return fcluster(tree, threshold, criterion="distance")
    return fcluster(tree, n_clusters, criterion="maxclust")


def _round_robin(clusters: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Positions int64 [k] of random rows of the clusters, one of each in turn, small clusters first.

    Clusters of equal size have their turn in the order of their first rows.
    """
    _, firsts, of_row, sizes = np.unique(clusters, return_index=True, return_inverse=True, return_counts=True)
    turn_of_cluster = np.empty(len(sizes), dtype=np.int64)
    turn_of_cluster[np.lexsort((firsts, sizes))] = np.arange(len(sizes))
    turns = turn_of_cluster[of_row]
    shuffled = rng.permutation(len(clusters))
    grouped = shuffled[np.argsort(turns[shuffled], kind="stable")]
    starts = np.searchsorted(turns[grouped], np.arange(len(sizes)))
    rounds = np.arange(len(grouped)) - starts[turns[grouped]]
    return grouped[np.lexsort((turns[grouped], rounds))][:k]
