"""Greedy k-center over shards: k times, take the point farthest from all centres so far. Exact, in few exchanges.

A shard answers with its farthest points, their exact distances, and a floor: every point it kept back lies below. The
driver picks among what it got for as long as the best of it reaches the highest floor: until then no point kept back
could win or tie, so these are the picks of plain greedy, hundreds of them an exchange. Inside the driver the same
argument, once more, picks among the few farthest of what it got.

Source: Sener & Savarese 2018 (arXiv 1708.00489), Alg. 1. Differs: no robust MIP step.
"""

import numpy as np

from openal_ray.selection.halves import Halves, Picks, check_budget
from openal_ray.selection.nearest import Farthest, Key, NearestCentre, squared_distances

_FRONT = 64  # rows among which the driver picks one by one: they stay in the first-level cache
_CANDIDATES = 2  # rows asked for, all shards together, for every pick still to make
_FEWEST = 128  # rows asked of one shard at least


class KCenterHalf:
    """One shard's points.

    points   [n, D] features; distances are Euclidean, in the units of the features
    indices  int64 [n] ascending dataset indices
    device   where this shard's products are made; the picks are the same
    raises   ValueError if the shapes do not fit or a number is not finite
    """

    def __init__(self, points: np.ndarray, indices: np.ndarray, device: str = "cpu") -> None:
        points = np.asarray(points)
        self._indices = np.asarray(indices, dtype=np.int64)
        if points.ndim != 2 or len(points) != len(self._indices):
            raise ValueError(f"points must have shape [{len(self._indices)}, D], got {points.shape}")
        self._nearest = NearestCentre(points, self._indices, device=device)
        self._left = np.ones(len(self._indices), dtype=bool)

    def size(self) -> int:
        """The number of rows."""
        return len(self._indices)

    def candidates(self, m: int, centres: np.ndarray | None, taken: np.ndarray) -> Farthest:
        """At most `m` of the farthest points, once `centres` [c, D] are added and the indices `taken` are picked."""
        self._left[np.isin(self._indices, taken)] = False
        self._nearest.take(taken)
        if centres is not None and len(centres):
            self._nearest.add(centres)
            self._nearest.bound_all(centres)
        return self._nearest.farthest(m)

    def lowest(self, k: int) -> np.ndarray:
        """The lowest `k` dataset indices that are not picked."""
        return self._indices[self._left][:k]


def pick_k_center(halves: Halves, k: int, covered: np.ndarray | None = None) -> Picks:
    """Pick `k` centres; scores are their distances to the centres before them (infinite for the very first).

    covered  [m, D] centres that exist already (labelled images)
    raises   ValueError if there are fewer than k rows
    """
    n_halves = check_budget(halves, k)
    picks: list[Farthest] = []
    missing, centres, taken = k, covered, np.empty(0, dtype=np.int64)
    while missing > 0:
        m = max(_FEWEST, -(-_CANDIDATES * missing // n_halves))
        new = _certain_picks(halves.ask("candidates", m, centres, taken), missing)
        if not new: # the points left coincide with centres
            ...
        picks += new
        centres = np.concatenate([pick.rows for pick in new]) 
    return ...


def _certain_picks(offers: list[Farthest], k: int) -> list[Farthest]:
    """Up to `k` picks, in the order picked, that no point kept back by a shard can change."""
    indices = np.concatenate([offer.indices for offer in offers])
    order = np.argsort(indices)
    rows = np.concatenate([offer.rows for offer in offers])[order]
    squared = np.concatenate([offer.squared for offer in offers])[order]
    floor = max(offer.floor for offer in offers)
    pool = NearestCentre(rows, indices[order], squared)
    picks: list[Farthest] = []
    while k > 0:
        front = pool.farthest(_FRONT, least=floor[0])
        new = _one_by_one(front, max(floor, front.floor), k)
        if not len(new.indices):
            break
        pool.take(new.indices)
        pool.add(new.rows)
        picks.append(new)
        k -= len(new.indices)
    return picks


def _one_by_one(front: Farthest, floor: Key, k: int) -> Farthest:
    """Up to `k` picks among the rows of `front`, in the order picked, as long as they reach `floor`."""
    rows, squared = front.rows.astype(np.float64), front.squared.copy()
    picked: list[int] = []
    distances: list[float] = []
    while len(picked) < min(k, len(squared)):
        best = int(squared.argmax())
        if (squared[best], -front.indices[best]) < floor:
            break
        picked.append(best)
        distances.append(float(squared[best]))
        np.minimum(squared, squared_distances(rows, rows[best]), out=squared)
        squared[best] = -1.0
    return Farthest(front.indices[picked], front.rows[picked], np.array(distances), floor)
