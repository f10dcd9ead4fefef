"""Two-level k-center over shards: a 4-approximation in three exchanges, with one part of a shard in memory at a time.

The pool is cut into a fixed number of parts. Each part picks k of its rows by exact greedy, with the labelled rows as
common start; the driver picks k of all these by exact greedy again. With r the smallest radius with which any k centres
besides the labelled ones cover the pool, wherever they lie: greedy covers a part within 2 r, and the parts' picks
within 2 r, so every row lies within 4 r of a pick. How far it really is gets measured.

A part is made of blocks of dataset indices and must lie in one shard: picks depend on the number of parts, never on
that of shards. The driver holds up to parts · k rows. All parts together do more arithmetic than exact greedy, which
looks at few rows closely: this form is for exchanges that are dear and for rows that do not fit in memory.

Source: Malkomes et al. 2015 (NIPS), composable core-sets for k-center. Differs: centres that exist already are the
start of both levels; Gonzalez 1985 for the factor 2 of greedy.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from openal_ray.selection.halves import (
    BLOCK,
    Halves,
    LocalHalves,
    Picks,
    check_k,
    checked_rows,
)
from openal_ray.selection.k_center import KCenterHalf, pick_k_center
from openal_ray.selection.nearest import NearestCentre


@dataclass(frozen=True)
class Cover:
    """What two-level k-center chose, and how well that covers the pool.

    radius  the largest distance of any row to the nearest centre, exact
    least   no k further centres, wherever they lie, have a smaller radius than this; so radius / least bounds the
            factor that the picks lose
    """

    picks: Picks
    radius: float
    least: float


class TwoLevelHalf:
    """One shard's points, part by part; a part is copied when its turn comes.

    points   [n, D] features; distances are Euclidean, in the units of the features
    indices  int64 [n] ascending dataset indices; row i is of part (indices[i] // BLOCK) % parts
    device   where this shard's products are made; the picks are the same
    raises   ValueError if the shapes do not fit, or there is no part
    """

    def __init__(self, points: np.ndarray, indices: np.ndarray, parts: int, device: str = "cpu") -> None:
        if parts < 1:
            raise ValueError(f"parts must be at least 1, got {parts}")
        self._indices = np.asarray(indices, dtype=np.int64)
        self._points = checked_rows("points", points, len(self._indices))
        self._part_of = self._indices // BLOCK % parts
        self._device = device

    def sizes(self) -> dict[int, int]:
        """The number of rows of each part that has some here."""
        return {int(part): int((self._part_of == part).sum()) for part in np.unique(self._part_of)}

    def core_set(self, k: int, covered: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Dataset indices, ascending, and rows of the picks of every part: k of each, or all that it has."""
        picked = np.zeros(len(self._indices), dtype=bool)
        for positions, points in self._parts():
            half = KCenterHalf(points, np.arange(len(points)), self._device)
            picked[positions[pick_k_center(LocalHalves([half]), min(k, len(points)), covered).indices]] = True
        return self._indices[picked], self._points[picked]

    def radius(self, centres: np.ndarray) -> float:
        """The largest distance of a row to the nearest of the `centres` [c, D], exact; 0 if there is no row."""
        largest = 0.0
        for positions, points in self._parts():
            nearest = NearestCentre(points, positions, device=self._device)
            nearest.add(centres)
            largest = max(largest, float(nearest.farthest(2)[0].squared.max(initial=0.0)))
        return float(np.sqrt(largest))

    def _parts(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Positions, ascending, and points of one part after the other."""
        for part in np.unique(self._part_of):
            positions = np.flatnonzero(self._part_of == part)
            yield positions, self._points[positions]


def pick_two_level(halves: Halves, k: int, covered: np.ndarray | None = None) -> Cover:
    """Pick `k` centres in three exchanges; scores are their distances to the centres before them.

    halves   of TwoLevelHalf, all with the same number of parts
    covered  [m, D] centres that exist already (labelled images)
    raises   ValueError if there are fewer than k rows, or a part lies in more than one shard
    """
    sizes = halves.ask("sizes")
    _check_whole(sizes)
    n_rows = sum(sum(of_half.values()) for of_half in sizes)
    check_k(k, n_rows)
    indices, rows = (np.concatenate(arrays) for arrays in zip(*halves.ask("core_set", k, covered), strict=True))
    order = np.argsort(indices)
    indices, rows = indices[order], rows[order]
    # One more than wanted: its distance to all centres before it is what the bound `least` is made of.
    found = pick_k_center(LocalHalves([KCenterHalf(rows, indices)]), min(k + 1, len(rows)), covered)
    picks = Picks(found.indices[:k], found.scores[:k])
    chosen = rows[np.searchsorted(indices, picks.indices)]
    centres = chosen if covered is None or not len(covered) else np.concatenate([covered, chosen])
    if not len(centres):
        return Cover(picks, np.inf, np.inf)
    return Cover(picks, max(halves.ask("radius", centres)), float(found.scores[k:].sum()) / 2)


def _check_whole(sizes: list[dict[int, int]]) -> None:
    for part, count in Counter(part for of_half in sizes for part in of_half).items():
        if count > 1:
            raise ValueError(
                f"each part must lie in one shard, and part {part} lies in {count} of {len(sizes)}: "
                "a strategy says in Strategy(parts=…) what is to lie together"
            )
