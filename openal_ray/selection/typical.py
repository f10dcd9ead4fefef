"""TypiClust over shards: from the largest clusters without a label, the rows that lie densest.

A row's typicality is the inverse of its mean distance to its nearest neighbours within its cluster. It does not change
while picks are made, nor does the order in which clusters have their turn depend on it. So the driver first plans how
many rows each cluster gives, and the shards look at the rows of those clusters only, once: each is shown to all shards,
a few thousand at a time, and each shard keeps the distances of its own rows to their nearest.

Source: Hacohen et al. 2022 (arXiv 2202.02794), Alg. 1 (TPC_RP). Differs: neighbours are the labelled and picked rows of
the cluster too (the authors' code leaves them out, and takes half the cluster if it is small); after every pick the
clusters are looked at anew (the code goes round them in a fixed order); clusters of 5 rows are not small (in the code
they are).
"""

import heapq
from collections.abc import Iterator

import numpy as np

from openal_ray.selection.distances import checked_points, exact_pairs, nearest, squared_about
from openal_ray.selection.halves import Halves, JoinedHalves, Picks, checked_sizes
from openal_ray.selection.k_means import LABELLED_FROM

_NEIGHBOURS = 20  # K of the paper, section 3.2
_SMALL = 5  # rows below which a cluster is left out while others can be asked, as in the authors' code
_MOST_CLUSTERS = 500  # of the authors' code
_NOT_ZERO = 1e-5  # added to a mean distance, as in the authors' code: copies have a typicality too
_SHOWN = 4096  # rows shown to all shards at a time
_TILE = 1024  # own rows compared with them at a time


def clusters_wanted(n_labelled: int, n_unlabelled: int, k: int, most: int = _MOST_CLUSTERS) -> int:
    """As many clusters as there will be labels, but not more than `most`: TypiClust's rule."""
    return min(n_labelled + k, most, n_labelled + n_unlabelled)


class TypicalHalf:
    """One shard's points, and the clusters they are in.

    points    [n, D] any float type; the paper gives them norm 1 (`distances.unit_rows`)
    indices   int64 [n] ascending dataset indices
    labelled  these rows count in their clusters, but are not picked
    device    where this shard's products are made; the picks are the same
    raises    ValueError if the shapes do not fit or a number is not finite
    """

    def __init__(self, points: np.ndarray, indices: np.ndarray, device: str = "cpu", labelled: bool = False) -> None:
        self._indices = np.asarray(indices, dtype=np.int64)
        self._points = checked_points("points", points, len(self._indices))
        self._device, self._labelled = device, labelled
        self._clusters = np.full(len(self._indices), -1, dtype=np.int64)
        self._members: dict[int, np.ndarray] = {}
        self._queue = self._clusters[:0]
        self._squared = np.empty((0, _NEIGHBOURS))

    def size(self) -> int:
        """The number of rows."""
        return len(self._indices)

    def assign(self, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Puts every row into the cluster of its nearest centre; rows and labelled rows by cluster, int64 [k]."""
        self._clusters, _ = nearest(self._points, centres, device=self._device)
        counts = np.bincount(self._clusters, minlength=len(centres))
        return counts, counts * self._labelled

    def want(self, clusters: np.ndarray) -> None:
        """The rows of these clusters are going to be shown and compared."""
        members = np.flatnonzero(np.isin(self._clusters, clusters))
        self._queue = members[np.argsort(self._clusters[members], kind="stable")]  # a cluster's rows come together
        numbers, starts = np.unique(self._clusters[self._queue], return_index=True)
        self._members = dict(zip(numbers.tolist(), np.split(self._queue, starts[1:]), strict=False))
        self._squared = np.full((len(self._points) if len(members) else 0, _NEIGHBOURS), np.inf)

    def show(self, m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The next `m` wanted rows: dataset indices, clusters, points."""
        shown, self._queue = self._queue[:m], self._queue[m:]
        return self._indices[shown], self._clusters[shown], self._points[shown]

    def compare(self, indices: np.ndarray, clusters: np.ndarray, rows: np.ndarray) -> None:
        """Own rows get to know these rows, [m], [m] and [m, D], of their clusters."""
        for cluster in np.unique(clusters).tolist():
            theirs = np.flatnonzero(clusters == cluster)
            mine = self._members.get(cluster, theirs[:0])
            for low in range(0, len(mine), _TILE):
                self._meet(mine[low : low + _TILE], indices[theirs], rows[theirs])

    def _meet(self, mine: np.ndarray, indices: np.ndarray, rows: np.ndarray) -> None:
        """The rows at positions `mine` lower their distances to the nearest by these rows."""
        rough, slack = squared_about(self._points[mine], rows, self._device)
        rough[self._indices[mine][:, None] == indices] = np.inf  # nobody is their own neighbour
        limit = self._squared[mine, -1]
        if len(rows) > _NEIGHBOURS:
            limit = np.minimum(limit, np.partition(rough, _NEIGHBOURS - 1, axis=1)[:, _NEIGHBOURS - 1] + slack)
        row, other = np.nonzero((rough <= (limit + slack)[:, None]) & (rough < np.inf))
        exact = exact_pairs(self._points[mine], rows, row, other)
        self._squared[mine] = _merged(self._squared[mine], row, exact)

    def typical(self, quotas: np.ndarray, neighbours: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The most typical rows of each cluster: clusters, dataset indices, mean distances to their neighbours.

        quotas, neighbours   int64 [k] rows asked, and neighbours that count, of each cluster
        """
        found = [(self._clusters[:0], self._indices[:0], np.empty(0))]
        for cluster, members in self._members.items() if not self._labelled else ():
            count = int(neighbours[cluster])
            nearby = np.sqrt(np.ascontiguousarray(self._squared[members, :count]))
            means = nearby.sum(axis=1) / count if count else np.full(len(members), np.inf)
            best = np.lexsort((members, means))[: quotas[cluster]]
            found.append((np.full(len(best), cluster), self._indices[members[best]], means[best]))
        clusters, indices, distances = (np.concatenate(part) for part in zip(*found, strict=True))
        return clusters, indices, distances


def _merged(known: np.ndarray, row: np.ndarray, new: np.ndarray) -> np.ndarray:
    """The smallest of each row of `known` [n, K] and of the numbers `new` [p] that belong to rows `row` [p], sorted."""
    n, k = known.shape
    rows = np.concatenate([np.repeat(np.arange(n), k), row])
    values = np.concatenate([known.ravel(), new])
    order = np.lexsort((values, rows))
    starts = np.searchsorted(rows[order], np.arange(n))
    return values[order][starts[:, None] + np.arange(k)]


def pick_typical(halves: Halves, centres: np.ndarray, k: int, covered: np.ndarray | None = None) -> Picks:
    """Pick `k` rows; scores are their typicalities (0 for a row that is alone in its cluster).

    centres  float64 [c, D] of the clusters of all rows (`fit_k_means` with `clusters_wanted` and the same `covered`)
    covered  [m, D] labelled rows
    raises   ValueError if there are fewer than k rows
    """
    checked_sizes(halves, k)
    if covered is not None and len(covered):
        here = TypicalHalf(covered, LABELLED_FROM + np.arange(len(covered)), labelled=True)
        halves = JoinedHalves(halves, here)
    if not k:
        return Picks(np.empty(0, dtype=np.int64), np.empty(0))
    sizes, labelled = (sum(counts) for counts in zip(*halves.ask("assign", centres), strict=True))
    turns = np.fromiter(_turns(sizes, labelled, k), dtype=np.int64, count=k)
    quotas = np.bincount(turns, minlength=len(centres))
    halves.ask("want", np.flatnonzero(quotas))
    _show_all(halves)
    answers = halves.ask("typical", quotas, np.minimum(_NEIGHBOURS, sizes - 1))
    clusters, indices, means = (np.concatenate(part) for part in zip(*answers, strict=True))
    order = np.lexsort((indices, means, clusters))
    firsts = np.searchsorted(clusters[order], turns)
    picks = order[firsts + _times_before(turns)]
    return Picks(indices[picks], 1 / (means[picks] + _NOT_ZERO))


def _turns(sizes: np.ndarray, labelled: np.ndarray, k: int) -> Iterator[int]:
    """The cluster of each pick: fewest labels and picks, then largest, then lowest number; small ones at the end."""
    heap = [
        (size < _SMALL, known, -size, cluster)
        for cluster, (size, known) in enumerate(zip(sizes.tolist(), labelled.tolist(), strict=True))
        if known < size
    ]
    heapq.heapify(heap)
    for _ in range(k):
        small, known, size, cluster = heapq.heappop(heap)
        if known + 1 < -size:
            heapq.heappush(heap, (small, known + 1, size, cluster))
        yield cluster


def _times_before(turns: np.ndarray) -> np.ndarray:
    """How often each entry [k] has been there before."""
    order = np.argsort(turns, kind="stable")
    _, starts, counts = np.unique(turns[order], return_index=True, return_counts=True)
    before = np.empty_like(turns)
    before[order] = np.arange(len(turns)) - np.repeat(starts, counts)
    return before


def _show_all(halves: Halves) -> None:
    """Every wanted row meets the rows of all shards that are in its cluster."""
    share = -(-_SHOWN // len(halves.ask("size")))
    while True:
        indices, clusters, rows = (np.concatenate(part) for part in zip(*halves.ask("show", share), strict=True))
        if not len(indices):
            return
        halves.ask("compare", indices, clusters, rows)
