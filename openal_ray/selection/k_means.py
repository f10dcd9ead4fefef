"""k-means over shards: D² seeding, then Lloyd's steps that do not depend on shards, tiles or machines.

A row goes to its nearest centre by exact float64 distances, the lower centre on ties. Sums are made in float64 within
a block of dataset indices, which no shard shares, and in integers above that, so shards may add up theirs.

Source: Lloyd 1982; Arthur & Vassilvitskii 2007 (k-means++). Differs: the first centre of the start is the row of
largest norm, not a draw (see `kmeans_pp`); a cluster that loses all its rows goes to the row farthest from its centre.
"""

import numpy as np

from openal_ray.selection.distances import checked_points, nearest
from openal_ray.selection.exact_sums import Scale
from openal_ray.selection.halves import (
    BLOCK,
    Halves,
    JoinedHalves,
    Picks,
    blocks_of,
    checked_sizes,
    filled_up,
    lowest_left,
    positions_of,
)
from openal_ray.selection.kmeans_pp import KMeansPPHalf, pick_kmeans_pp
from openal_ray.selection.outer_rows import OuterRows
from openal_ray.selection.thinning import Proposals

LABELLED_FROM = 2**48
"""Rows that the driver adds are numbered from here: they get blocks, and so random streams, of their own."""


class KMeansHalf:
    """One shard's points, and the clusters they are in.

    points   [n, D] any float type; for cosine distances give rows of norm 1 (`distances.unit_rows`)
    indices  int64 [n] ascending dataset indices; a block of BLOCK consecutive ones has all its rows here
    device   where this shard's products are made; the clusters are the same
    raises   ValueError if the shapes do not fit or a number is not finite
    """

    def __init__(self, points: np.ndarray, indices: np.ndarray, device: str = "cpu") -> None:
        self._indices = np.asarray(indices, dtype=np.int64)
        self._points = checked_points("points", points, len(self._indices))
        self._device = device
        self._blocks = blocks_of(self._indices)
        self._clusters = np.full(len(self._indices), -1, dtype=np.int64)
        self._squared = np.full(len(self._indices), np.inf)
        self._seeding: KMeansPPHalf | None = None

    def size(self) -> int:
        """The number of rows."""
        return len(self._indices)

    def shape(self) -> tuple[int, float]:
        """D, and the largest absolute number."""
        return self._points.shape[1], float(max(self._points.max(initial=0), -self._points.min(initial=0)))

    def largest(self) -> tuple[OuterRows, list[float]]:
        """See `KMeansPPHalf.largest`; here a point is the outer product of 1 and itself."""
        ones = np.ones((len(self._points), 1), dtype=np.float32)
        self._seeding = KMeansPPHalf(ones, self._points, self._indices, self._device)
        return self._seeding.largest()

    def propose(
        self, seed: int, window: float, exact: bool, indices: np.ndarray, left: np.ndarray, right: np.ndarray
    ) -> tuple[Proposals, list[float]]:
        """See `KMeansPPHalf.propose`; asked after `largest`."""
        if self._seeding is None:
            raise RuntimeError("ask `largest` before `propose`")
        return self._seeding.propose(seed, window, exact, indices, left, right)

    def rows(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Those of the dataset indices that are here, and their points float64 [m, D]."""
        positions = positions_of(indices, self._indices)
        return self._indices[positions], self._points[positions].astype(np.float64)

    def assign(self, centres: np.ndarray, scale: Scale) -> tuple[int, np.ndarray, np.ndarray]:
        """Puts every row into the cluster of its nearest centre.

        centres  float64 [k, D]
        returns  the number of rows that changed cluster; rows by cluster int64 [k]; their sums int64 [2, k, D]
        """
        self._seeding = None
        before = self._clusters
        self._clusters, self._squared = nearest(self._points, centres, device=self._device)
        counts = np.bincount(self._clusters, minlength=len(centres))
        sums = np.zeros((2, *centres.shape), dtype=np.int64)
        for _, block in self._blocks:
            order = np.argsort(self._clusters[block], kind="stable")
            found, starts = np.unique(self._clusters[block][order], return_index=True)
            rows = self._points[block][order].astype(np.float64)
            sums[:, found] += scale.integers(np.add.reduceat(rows, starts, axis=0))
        return int((self._clusters != before).sum()), counts, sums

    def farthest(self, m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The `m` rows farthest from their centres: dataset indices, squared distances, points float64."""
        order = np.lexsort((self._indices, -self._squared))[:m]
        return self._indices[order], self._squared[order], self._points[order].astype(np.float64)

    def closest(self, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of the cluster of each centre: rows int64 [k]; index and squared distance of its row nearest to the centre.

        An empty cluster has index -1 and distance infinity.
        """
        clusters, squared = nearest(self._points, centres, device=self._device)
        indices, distances = np.full(len(centres), -1, dtype=np.int64), np.full(len(centres), np.inf)
        order = np.lexsort((self._indices, squared, clusters))
        found, first = np.unique(clusters[order], return_index=True)
        indices[found], distances[found] = self._indices[order[first]], squared[order[first]]
        return np.bincount(clusters, minlength=len(centres)), indices, distances

    def lowest(self, k: int, picked: np.ndarray) -> np.ndarray:
        """The lowest `k` dataset indices that are not `picked`."""
        return lowest_left(self._indices, k, picked)


def fit_k_means(
    halves: Halves, k: int, rng: np.random.Generator, covered: np.ndarray | None = None, iterations: int = 30
) -> np.ndarray:
    """Centres float64 [k, D] of k clusters, after Lloyd's steps until no row moves, `iterations` of them at most.

    covered  [m, D] rows that count like those of the shards (labelled images)
    raises   ValueError if there are fewer than k rows
    """
    if covered is not None and len(covered):
        halves = JoinedHalves(halves, KMeansHalf(covered, LABELLED_FROM + np.arange(len(covered))))
    n_rows = sum(checked_sizes(halves, k))
    shapes = halves.ask("shape")
    scale = Scale.of(BLOCK * max(largest for _, largest in shapes), n_rows)
    centres = _rows(halves, pick_kmeans_pp(halves, k, rng).indices, shapes[0][0])
    for _ in range(iterations if k else 0):
        moved, counts, sums = (sum(parts) for parts in zip(*halves.ask("assign", centres, scale), strict=True))
        if not moved:
            break
        means = scale.numbers(sums) / np.maximum(counts, 1)[:, None]
        centres = _refilled(halves, np.where(counts[:, None] > 0, means, centres), np.flatnonzero(counts == 0))
    return centres


def _rows(halves: Halves, indices: np.ndarray, d: int) -> np.ndarray:
    """The points of these dataset indices, float64 [k, D], in their order."""
    found = halves.ask("rows", indices)
    where = np.concatenate([there for there, _ in found])
    rows = np.concatenate([np.empty((0, d)), *(points for _, points in found)])
    return rows[np.argsort(where)[np.argsort(np.argsort(indices))]]


def _refilled(halves: Halves, centres: np.ndarray, empty: np.ndarray) -> np.ndarray:
    """`centres`, the `empty` ones moved to the rows farthest from their centres, each to its own."""
    if len(empty):
        indices, squared, rows = (
            np.concatenate(parts) for parts in zip(*halves.ask("farthest", len(empty)), strict=True)
        )
        order = np.lexsort((indices, -squared))[: len(empty)]
        order = order[squared[order] > 0]
        centres[empty[: len(order)]] = rows[order]
    return centres


def pick_nearest(halves: Halves, centres: np.ndarray) -> Picks:
    """For each of the k clusters the row nearest to its centre, bigger clusters first; scores are the clusters' sizes.

    Rows belong to the cluster of their nearest centre, so they are distinct. For clusters without any row (fewer
    distinct rows than clusters) the lowest dataset indices not picked follow, with score 0.
    centres  float64 [k, D]
    raises   ValueError if there are fewer than k rows
    """
    checked_sizes(halves, len(centres))
    if not len(centres):
        return Picks(np.empty(0, dtype=np.int64), np.empty(0))
    counts, indices, squared = (np.stack(parts) for parts in zip(*halves.ask("closest", centres), strict=True))
    sizes = counts.sum(axis=0)
    by_distance = np.lexsort((indices, squared), axis=0)[:1]
    found = np.take_along_axis(indices, by_distance, axis=0)[0]
    order = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)]
    return filled_up(Picks(found[order], sizes[order].astype(np.float64)), halves, len(centres))
