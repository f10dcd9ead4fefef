"""Squared distances to the nearest centre: bounded for every row, exact for the rows that could be picked.

The exact distance is a float64 sum over the columns of one row and one centre, so it does not depend on what stands
beside them. Distances only shrink when centres are added, so an old bound stays a bound.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from openal_ray.selection.bounds import close_pairs, likely_nearest, upper_bounds
from openal_ray.selection.digits import Digits, concatenated, encode
from openal_ray.selection.halves import positions_of

Key = tuple[float, float]
"""(squared distance, -dataset index): rows are picked in descending order of it."""

_ROWS = 1024  # rows settled at a time
_PRODUCTS = 2**22  # row-centre pairs of which only a few need exact arithmetic, at a time
_FEW = 128  # rows whose bounds are lowered together even if some know more centres than others
_COPIED = 2**15  # rows copied at a time to have their bounds lowered
_GLIMPSE = 128  # centres by which all rows are sifted first,
_GROWTH = 4  # and so many times as many by which those are that may still be farthest, and again
_GOLDEN = (5**0.5 - 1) / 2  # its multiples fall apart evenly
_MANY = 16  # exact distances a row above which a second digit costs less
_NUMBERS = 2**17  # numbers in one piece of exact arithmetic: 1 MB of float64
_LEAST = 5e-324  # the smallest distance above zero: rows that coincide with a centre are nobody's farthest


def squared_distances(rows: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Exact squared distances float64 [n] of rows [n, D] to centres [n, D] or [D], one by one.

    Row by row in memory, numpy adds up each row on its own and always in the same order.
    """
    difference = np.subtract(rows, centres, dtype=np.float64, order="C")
    return np.square(difference, out=difference).sum(axis=1)


@dataclass(frozen=True)
class Points:
    """Rows with what a pick needs to know of them.

    indices  int64 [m] dataset indices
    rows     [m, D]
    squared  float64 [m] exact squared distances to the nearest centre
    """

    indices: np.ndarray
    rows: np.ndarray
    squared: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, positions: np.ndarray | list[int] | slice) -> "Points":
        return Points(self.indices[positions], self.rows[positions], self.squared[positions])

    @staticmethod
    def joined(parts: Sequence["Points"]) -> "Points":
        """The rows of all parts, in their order."""
        return Points(
            np.concatenate([part.indices for part in parts]),
            np.concatenate([part.rows for part in parts]),
            np.concatenate([part.squared for part in parts]),
        )


class NearestCentre:
    """n points and their distances to the nearest of a growing set of centres.

    points   [n, D] any float type, never copied
    indices  int64 [n] ascending dataset indices
    squared  float64 [n] exact squared distances to the centres before this object; None: there were none
    device   where the products for the bounds are made
    copies   keep rows equal to an earlier one; they are never farthest, but something else may speak for them
    raises   ValueError if a number is not finite

    Rows are looked at in three steps, each for fewer of them: old bound, bound from digits, exact distance.
    """

    def __init__(
        self,
        points: np.ndarray,
        indices: np.ndarray,
        squared: np.ndarray | None = None,
        device: str = "cpu",
        copies: bool = False,
    ) -> None:
        n = len(points)
        self._points, self._indices, self._device = points, indices, device
        self._origin = _middle(points)
        self._centres = points[:0]
        self._centre_digits = self._encoded(self._centres)
        self._digits = self._encoded(points)
        self._exact = np.full(n, np.inf) if squared is None else squared.copy()  # as of the first `_seen` centres
        self._bound = self._exact.copy()  # see `bounds`
        self._seen = np.zeros(n, dtype=np.int64)  # how many centres the exact distance knows of
        self._bounded = np.zeros(n, dtype=np.int64)  # how many the bound knows of, at least
        self._likely = np.full(n, -1, dtype=np.int32)  # the centre that seems nearest, if it would lower the bound
        self._hope = self._bound.copy()  # the squared distance that it seems to be at; else the bound
        if not copies:
            self._bound[_repeats(points, self._digits.norms)] = -1.0

    def _encoded(self, rows: np.ndarray, two: bool = False) -> Digits:
        return encode(rows, self._origin, two, self._device)

    def take(self, indices: np.ndarray) -> None:
        """Those of these dataset indices that are here are picked: never among the farthest again."""
        self._bound[positions_of(indices, self._indices)] = -1.0

    def add(self, centres: np.ndarray) -> None:
        """Add `centres` [m, D]; distances are computed when they matter. ValueError if D is not that of the points."""
        if centres.shape[1:] != self._points.shape[1:]:
            raise ValueError(f"centres must have shape [m, {self._points.shape[1]}], got {centres.shape}")
        # The first few are spread over all, even where they come sorted by class.
        centres = centres[np.argsort(np.arange(len(centres)) * _GOLDEN % 1)]
        self._centres = np.concatenate([self._centres, centres])
        self._centre_digits = concatenated(self._centre_digits, self._encoded(centres))

    def farthest(self, m: int, least: float = _LEAST) -> tuple[Points, Key]:
        """The farthest rows: between m / 2 and m of them, unless fewer are at least `least` away.

        returns  the rows, indices ascending, and a floor: no other row that is `least` away has a higher key
        """
        count = m
        while True:
            front, floor = self._fresh_front(count, least)
            self.settle(front)
            front = front[self._bound[front] >= floor]
            if floor == least or len(front) >= m // 2:
                break
            count *= 2
        key: Key = (floor, -np.inf)
        if len(front) > m:
            order = np.argsort(-self._bound[front], kind="stable")
            kept_back = front[order[m]]
            key = (float(self._bound[kept_back]), -float(self._indices[kept_back]))
            front = np.sort(front[order[:m]])
        return Points(self._indices[front], self._points[front], self._bound[front]), key

    def _front(self, count: int, least: float) -> tuple[np.ndarray, float]:
        """Positions of the rows whose bounds reach a floor: that of the `count` highest, but not under `least`."""
        floor = least
        if count < len(self._bound):
            floor = max(least, float(np.partition(self._bound, -count)[-count]))
        return np.flatnonzero(self._bound >= floor), floor

    def _fresh_front(self, count: int, least: float) -> tuple[np.ndarray, float]:
        """The same, once the bounds there know of all centres, and exactly of the one that seems nearest."""
        self._sift(count, least)
        front, floor = self._front(count, least)
        reach = 2 * count
        while (self._bounded[front] < len(self._centres)).any() or (self._likely[front] >= 0).any():
            self.lower(self._front(reach, least)[0])
            self._tighten(self._front(reach, least)[0])
            reach += reach // 2
            front, floor = self._front(count, least)
        return front, floor

    def _sift(self, count: int, least: float) -> None:
        """Lower bounds by ever more centres, for ever fewer rows: most fall behind the front after a few.

        What is left out here is made up for by `_fresh_front`; so the level need only be about that of its floor.
        """
        known = min(_GLIMPSE, len(self._centres))
        self.lower(np.flatnonzero(np.isinf(self._bound)), known)
        first, _ = self._front(2 * count, least)
        self.lower(first)
        if len(first) <= count:
            return
        level = np.partition(self._bound[first], -count)[-count]
        while known < len(self._centres):
            known *= _GROWTH
            self.lower(np.flatnonzero(self._bound >= level), known)

    @property
    def bounds(self) -> np.ndarray:
        """float64 [n]: never below the squared distance of a row to all centres; -1 for rows that are taken."""
        return self._bound

    def lower(self, positions: np.ndarray, upto: int | None = None) -> None:
        """Lower the bounds of these rows by the centres they do not know of, of the first `upto`."""
        upto = len(self._centres) if upto is None else min(upto, len(self._centres))
        stale = positions[self._bounded[positions] < upto]
        stale = stale[np.argsort(self._bounded[stale], kind="stable")]
        while len(stale):
            known = int(self._bounded[stale[0]])
            alike = int(np.searchsorted(self._bounded[stale], known, side="right"))
            rows = np.sort(stale[: min(max(alike, _FEW), _COPIED)])
            self._lower(rows, *likely_nearest([self._digits[_run(rows)]], [self._centre_digits[known:upto]]), known)
            self._bounded[rows] = upto
            stale = stale[len(rows) :]

    def _lower(self, rows: np.ndarray, bound: np.ndarray, likely: np.ndarray, hope: np.ndarray, known: int) -> None:
        self._bound[rows] = np.minimum(self._bound[rows], bound)
        closer = hope < self._hope[rows]
        rows = rows[closer]
        self._likely[rows], self._hope[rows] = likely[closer] + known, hope[closer]

    def _tighten(self, positions: np.ndarray) -> None:
        """Lower the bounds of these rows to the exact distance of the centre that seems nearest."""
        loose = positions[self._likely[positions] >= 0]
        step = max(1, _NUMBERS // self._points.shape[1])
        for low in range(0, len(loose), step):
            rows = loose[low : low + step]
            exact = squared_distances(self._points[rows], self._centres[self._likely[rows]])
            self._bound[rows] = np.minimum(self._bound[rows], exact)
        self._likely[loose], self._hope[loose] = -1, self._bound[loose]

    def settle(self, positions: np.ndarray) -> None:
        """Make the bounds of these rows exact; they know of all centres."""
        stale = positions[self._seen[positions] < len(self._centres)]
        stale = stale[np.argsort(self._seen[stale], kind="stable")]
        while len(stale):
            seen = int(self._seen[stale[0]])
            step = min(_ROWS, 1 + _PRODUCTS // (len(self._centres) - seen))
            self._see(stale[:step], seen)
            stale = stale[step:]
        self._seen[positions] = len(self._centres)
        self._bound[positions] = self._hope[positions] = self._exact[positions]
        self._likely[positions] = -1

    def _see(self, positions: np.ndarray, seen: int) -> None:
        """Lower the exact distances of these rows by the centres from number `seen` on."""
        rows, centres, known = self._points[positions], self._centres[seen:], self._exact[positions]
        row, centre = close_pairs([self._digits[positions]], [self._centre_digits[seen:]], self._bound[positions])
        if len(row) > _MANY * len(rows):  # tight clusters far from each other
            finer = [self._encoded(rows, two=True)], [self._encoded(centres, two=True)]
            row, centre = close_pairs(*finer, np.minimum(known, upper_bounds(*finer)))
        step = max(1, _NUMBERS // rows.shape[1])
        for low in range(0, len(row), step):
            pair = slice(low, low + step)
            np.minimum.at(known, row[pair], squared_distances(rows[row[pair]], centres[centre[pair]]))
        self._exact[positions] = known


def _run(positions: np.ndarray) -> np.ndarray | slice:
    """The same ascending `positions`, as a slice if none is left out between them: a slice copies no rows."""
    first, last = int(positions[0]), int(positions[-1])
    return slice(first, last + 1) if last - first + 1 == len(positions) else positions


def _middle(points: np.ndarray) -> np.ndarray | None:
    """About the mean of the points: seen from there, rows are shorter and bounds tighter."""
    sample = points[:: len(points) // 4096 + 1]
    middle = sample.sum(axis=0, dtype=np.float64) / max(1, len(sample))
    return middle.astype(points.dtype) if np.isfinite(middle).all() else None  # encode() names the row at fault


def _repeats(points: np.ndarray, norms: np.ndarray) -> np.ndarray:
    """Positions of rows equal to an earlier one: all of them, where equal `norms` [n] mean equal rows.

    The earlier one wins every tie, and once it is picked the others coincide with a centre: they are never farthest.
    """
    order = np.argsort(norms, kind="stable")
    same = np.flatnonzero(norms[order[1:]] == norms[order[:-1]])
    pieces = [same[low : low + _ROWS] for low in range(0, len(same), _ROWS)]
    equal = [np.all(points[order[piece]] == points[order[piece + 1]], axis=1) for piece in pieces]
    return order[same[np.concatenate(equal)] + 1] if equal else same
