"""ProbCover's radius: the largest for which most balls hold points of one cluster only.

A ball is impure once it reaches the nearest point of another cluster. So the share of pure balls needs no search over
radii: it is the share of points whose distance to that point is at least the radius.

Source: Yehuda et al. 2022 (arXiv 2205.11320), section 3.3: pseudo-labels by k-means into as many clusters as there are
classes, purity at least 0.95. Differs: the exact radius instead of the best of a grid; balls around a sample of points
(all points may be inside them).
"""

from math import ceil

import numpy as np

from openal_ray.selection.distances import checked_points, nearest
from openal_ray.selection.halves import Halves, JoinedHalves, blocks_of
from openal_ray.selection.k_means import LABELLED_FROM

_TILE = 1024  # points looked at together


class RadiusHalf:
    """One shard's points.

    points, indices, device, raises   as for `KMeansHalf`
    """

    def __init__(self, points: np.ndarray, indices: np.ndarray, device: str = "cpu") -> None:
        self._indices = np.asarray(indices, dtype=np.int64)
        self._points = checked_points("points", points, len(self._indices))
        self._device = device
        self._clusters = np.full(len(self._indices), -1, dtype=np.int64)

    def sample(self, centres: np.ndarray, seed: int, m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """This shard's part of a sample of `m` points over all shards: lots, points and clusters.

        centres  float64 [k, D] of the clusters that all rows are put into
        seed     of the lots, one for each row; the lowest of all shards are the sample
        """
        self._clusters, _ = nearest(self._points, centres, device=self._device)
        lots = np.empty(len(self._indices))
        for number, block in blocks_of(self._indices):
            lots[block] = np.random.default_rng([seed, number]).random(block.stop - block.start)
        lowest = np.argsort(lots, kind="stable")[:m]
        return lots[lowest], self._points[lowest], self._clusters[lowest]

    def others(self, rows: np.ndarray, clusters: np.ndarray) -> np.ndarray:
        """Squared distance of each row [m, D] to the nearest point here in another cluster; infinite if none."""
        squared = np.full(len(rows), np.inf)
        for low in range(0, len(self._points), _TILE):
            tile = slice(low, low + _TILE)
            different = clusters[:, None] != self._clusters[tile]
            squared = np.minimum(squared, nearest(rows, self._points[tile], different, self._device)[1])
        return squared


def choose_radius(
    halves: Halves,
    centres: np.ndarray,
    rng: np.random.Generator,
    covered: np.ndarray | None = None,
    purity: float = 0.95,
    sample: int = 1000,
) -> float:
    """The largest radius for which at least a share `purity` of the balls is pure; infinite if there is one cluster.

    centres  float64 [k, D] of k clusters (`fit_k_means`), k the number of classes
    covered  [m, D] points that count like those of the shards (labelled images)
    sample   points that get a ball, or all if there are fewer
    raises   ValueError if there is no point, or purity is not in 0 … 1
    """
    if not 0 < purity <= 1:
        raise ValueError(f"purity must be above 0 and at most 1, got {purity}")
    if covered is not None and len(covered):
        halves = JoinedHalves(halves, RadiusHalf(covered, LABELLED_FROM + np.arange(len(covered))))
    seed = int(rng.integers(2**63))
    parts = zip(*halves.ask("sample", centres, seed, sample), strict=True)
    lots, rows, clusters = (np.concatenate(part) for part in parts)
    drawn = np.argsort(lots, kind="stable")[:sample]
    if not len(drawn):
        raise ValueError("a radius needs at least one point")
    squared = np.min(halves.ask("others", rows[drawn], clusters[drawn]), axis=0)
    distances = np.sort(np.sqrt(squared))
    return float(distances[len(distances) - ceil(purity * len(distances))])
