"""Squared distances to the nearest centre: bounded for every row, exact for the rows that could be picked.

The exact distance is a float64 sum over the columns of one row and one centre, so it does not depend on what stands
beside them. Distances only shrink when centres are added, so an old bound stays a bound.
"""

from dataclasses import dataclass

import numpy as np

from openal_ray.selection.bounds import nearest_pairs, upper_bounds
from openal_ray.selection.digits import Digits, concatenated, encode

Key = tuple[float, float]
"""(squared distance, -dataset index): rows are picked in descending order of it."""

_ROWS = 1024  # rows settled at a time
_NUMBERS = 2**17  # numbers in one piece of exact arithmetic: 1 MB of float64
_LEAST = 5e-324  # the smallest distance above zero: rows that coincide with a centre are nobody's farthest


def squared_distances(rows: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Exact squared distances float64 [n] of rows [n, D] to centres [n, D] or [D], one by one."""
    difference = np.subtract(rows, centres, dtype=np.float64)
    return np.square(difference, out=difference).sum(axis=1)


@dataclass(frozen=True)
class Farthest:
    """Some rows, and what is known of all others.

    indices  int64 [m] dataset indices, ascending
    rows     [m, D]
    squared  float64 [m] exact squared distances to the nearest centre
    floor    every row that is not here has a lower key, or coincides with a centre
    """

    indices: np.ndarray
    rows: np.ndarray
    squared: np.ndarray
    floor: Key


class NearestCentre:
    """n points and their distances to the nearest of a growing set of centres.

    points   [n, D] any float type, never copied
    indices  int64 [n] ascending dataset indices
    squared  float64 [n] exact squared distances to the centres before this object; None: there were none
    device   where the products for the bounds are made
    raises   ValueError if a number is not finite
    """

    def __init__(
        self, points: np.ndarray, indices: np.ndarray, squared: np.ndarray | None = None, device: str = "cpu"
    ) -> None:
        n = len(points)
        self._points, self._indices, self._device = points, indices, device
        self._origin = points[:: n // 4096 + 1].mean(axis=0, dtype=np.float64).astype(points.dtype) if n else None
        self._exact = np.full(n, np.inf) if squared is None else squared.copy()  # as of the first `_seen` centres
        self._seen = np.zeros(n, dtype=np.int64)
        self._bound = self._exact.copy()  # never below the distance to all centres; -1 for taken rows
        self._rows: Digits | None = None
        self._centres = points[:0]
        self._centre_digits = self._encoded(self._centres, two=True)

    def _encoded(self, rows: np.ndarray, two: bool) -> Digits:
        return encode(rows, self._origin, two, self._device)

    def take(self, indices: np.ndarray) -> None:
        """Those of these dataset indices that are here are picked: never among the farthest again."""
        self._bound[np.isin(self._indices, indices)] = -1.0

    def add(self, centres: np.ndarray) -> None:
        """Add `centres` [m, D]; exact distances are computed when they matter."""
        self._centres = np.concatenate([self._centres, centres])
        self._centre_digits = concatenated([self._centre_digits, self._encoded(centres, two=True)])

    def bound_all(self, centres: np.ndarray) -> None:
        """Lower every bound by `centres` [m, D]: one product, no exact arithmetic."""
        if self._rows is None:
            self._rows = self._encoded(self._points, two=False)
        bound = upper_bounds([self._rows], [self._encoded(centres, two=False)])
        np.minimum(self._bound, bound, out=self._bound)

    def farthest(self, m: int, least: float = _LEAST) -> Farthest:
        """The farthest rows: between m / 4 and m of them, unless fewer are at least `least` away."""
        count = m
        while True:
            floor = least
            if count < len(self._bound):
                floor = max(least, float(np.partition(self._bound, -count)[-count]))
            front = np.flatnonzero(self._bound >= floor)
            self._settle(front)
            front = front[self._bound[front] >= floor]
            if floor == least or len(front) >= m // 4:
                return self._highest(front, m, floor)
            count *= 2

    def _highest(self, front: np.ndarray, m: int, floor: float) -> Farthest:
        """The m highest keys of `front`, ascending positions of settled rows that are all the rows from `floor` on."""
        key: Key = (floor, -np.inf)
        if len(front) > m:
            order = np.argsort(-self._bound[front], kind="stable")
            omitted = front[order[m]]
            key = (float(self._bound[omitted]), -float(self._indices[omitted]))
            front = np.sort(front[order[:m]])
        return Farthest(self._indices[front], self._points[front], self._bound[front], key)

    def _settle(self, positions: np.ndarray) -> None:
        """Make the bounds of these rows exact."""
        for seen in np.unique(self._seen[positions]):
            stale = positions[self._seen[positions] == seen]
            for low in range(0, len(stale) if seen < len(self._centres) else 0, _ROWS):
                self._see(stale[low : low + _ROWS], int(seen))
        self._seen[positions] = len(self._centres)
        self._bound[positions] = self._exact[positions]

    def _see(self, positions: np.ndarray, seen: int) -> None:
        """Lower the exact distances of these rows by the centres from number `seen` on."""
        rows, known = self._points[positions], self._exact[positions]
        row, centre = nearest_pairs([self._encoded(rows, two=True)], [self._centre_digits[seen:]], known)
        step = max(1, _NUMBERS // rows.shape[1])
        for low in range(0, len(row), step):
            pair = slice(low, low + step)
            np.minimum.at(
                known, row[pair], squared_distances(rows[row[pair]], self._centres[seen:][centre[pair]])
            )
        self._exact[positions] = known
