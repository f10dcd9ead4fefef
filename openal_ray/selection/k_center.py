"""Greedy k-center over shards: k times, take the point farthest from all centres so far. Exact, in few exchanges.

A shard answers with its farthest points, their exact distances, and a floor: every point it kept back lies below. The
driver picks among what it got for as long as the best of it reaches the highest floor: until then no point kept back
could win or tie, so these are the picks of plain greedy, hundreds of them an exchange. Inside the driver the same
argument, once more, picks among the few farthest of what it got.

Source: Sener & Savarese 2018 (arXiv 1708.00489), Alg. 1. Differs: no robust MIP step.
"""

import numpy as np

from openal_ray.selection.halves import Halves, Picks, checked_rows, checked_sizes, filled_up, lowest_left
from openal_ray.selection.nearest import Key, NearestCentre, Points, squared_distances

_FRONT = 256  # rows among which the driver picks one by one: up to some 700 columns they fit the second-level cache
_CANDIDATES, _MOST = 2, 3  # rows asked for, all shards together, for every pick: at first, and at most
_SPARE = 1000  # more of them at first, up to _MOST: for fewer picks than that, rows cost less than another exchange
_MARGIN = 1.5  # how many times the rows that the picks still missing would need at the yield of the last exchange
_FEWEST = 128  # rows asked of one shard at least
_UNDERFLOW = 2.0**-1074  # what one float64 operation can lose below its smallest number


class KCenterHalf:
    """One shard's points.

    points   [n, D] features; distances are Euclidean, in the units of the features
    indices  int64 [n] ascending dataset indices
    device   where this shard's products are made; the picks are the same
    raises   ValueError if the shapes do not fit or a number is not finite
    """

    def __init__(self, points: np.ndarray, indices: np.ndarray, device: str = "cpu") -> None:
        self._indices = np.asarray(indices, dtype=np.int64)
        points = checked_rows("points", points, len(self._indices))
        self._nearest = NearestCentre(points, self._indices, device=device)

    def size(self) -> int:
        """The number of rows."""
        return len(self._indices)

    def candidates(self, m: int, centres: np.ndarray | None, taken: np.ndarray) -> tuple[Points, Key]:
        """At most `m` of the farthest points, and their floor (see `NearestCentre.farthest`).

        centres  [c, D] to be added before; None: nothing
        taken    dataset indices picked since the last question
        """
        self._nearest.take(taken)
        if centres is not None and len(centres):
            self._nearest.add(centres)
        return self._nearest.farthest(m)

    def lowest(self, k: int, picked: np.ndarray) -> np.ndarray:
        """The lowest `k` dataset indices that are not `picked`."""
        return lowest_left(self._indices, k, picked)


def pick_k_center(halves: Halves, k: int, covered: np.ndarray | None = None) -> Picks:
    """Pick `k` centres; scores are their distances to the centres before them (infinite for the very first).

    covered  [m, D] centres that exist already (labelled images)
    raises   ValueError if there are fewer than k rows
    """
    shards, wanted = len(checked_sizes(halves, k)), min(_MOST * k, _CANDIDATES * k + _SPARE)
    picks = Picks(np.empty(0, dtype=np.int64), np.empty(0))
    centres, taken = covered, picks.indices
    while len(picks.indices) < k:
        m = max(_FEWEST, -(-wanted // shards))
        new = _certain_picks(halves.ask("candidates", m, centres, taken), k - len(picks.indices))
        if not len(new):  # every point left coincides with a centre
            break
        picks = Picks(np.append(picks.indices, new.indices), np.append(picks.scores, np.sqrt(new.squared)))
        centres, taken = new.rows, new.indices
        wanted = min(_MOST * k, int(_MARGIN * wanted * (k - len(picks.indices)) / len(new)))
    return filled_up(picks, halves, k)


def _certain_picks(offers: list[tuple[Points, Key]], k: int) -> Points:
    """Up to `k` picks, in the order picked, that no point kept back by a shard could change."""
    floor = max(key for _, key in offers)
    points = Points.joined([points for points, _ in offers])
    points = points[np.argsort(points.indices)]
    pool = NearestCentre(points.rows, points.indices, points.squared)
    picks = [points[:0]]
    while k > 0:
        new = _one_by_one(*pool.farthest(_FRONT, least=floor[0]), floor, k)
        if not len(new):
            break
        pool.take(new.indices)
        pool.add(new.rows)
        picks.append(new)
        k -= len(new)
    return Points.joined(picks)


def _one_by_one(front: Points, front_floor: Key, pool_floor: Key, k: int) -> Points:
    """Up to `k` picks among `front`, in the order picked, for as long as they reach both floors.

    Products of all pairs bound the distances; that of a row is made exact, again and again, once it seems to be next.
    """
    floor = max(front_floor, pool_floor)
    rows = front.rows.astype(np.float64)
    between, error = _rounded_distances(rows)
    exact, upper = front.squared.copy(), front.squared.copy()
    lowest = np.full(len(rows), np.inf)  # of `between`, to the picks that the exact distance does not know of
    taken = np.zeros(len(rows), dtype=bool)
    picked: list[int] = []
    while len(picked) < min(k, len(rows)):
        best = int(upper.argmax())
        if (upper[best], -front.indices[best]) < floor:
            break
        if lowest[best] < np.inf:
            nearest = np.flatnonzero(taken & (between[best] <= lowest[best] + 2 * error))
            exact[best] = upper[best] = min(exact[best], squared_distances(rows[nearest], rows[best]).min())
            lowest[best] = np.inf
            continue
        picked.append(best)
        taken[best], upper[best] = True, -1.0
        np.minimum(lowest, between[best], out=lowest, where=between[best] - error < exact)
        np.minimum(upper, between[best] + error, out=upper)
    return Points(front.indices[picked], front.rows[picked], exact[picked])


def _rounded_distances(rows: np.ndarray) -> tuple[np.ndarray, float]:
    """Squared distances float64 [n, n] by products, and how far at most any of them is from `squared_distances`.

    Seen from the first row, in roundings of |x|² + |y|²: D for the norms, D for twice the product, 2 D for the sum of
    squares, since |x - y|² is at most twice that; 64 for all the rest.
    """
    moved = rows - rows[:1]
    squares = np.einsum("nd,nd->n", moved, moved)
    between = squares[:, None] + squares - 2 * (moved @ moved.T)
    roundings = 4 * rows.shape[1] + 64
    return between, roundings * (2.0**-53 * 2 * float(squares.max(initial=0)) + _UNDERFLOW)
