"""k-means++ seeding on outer products over shards, as BADGE uses it: rows are left[i] ⊗ right[i], never built.

First the row of largest norm, then each next one with probability proportional to D², its squared distance to the
nearest pick. Source: Ash et al. 2020 (arXiv 1906.03671), Alg. 1; Arthur & Vassilvitskii 2007 for D² seeding.
"""

from typing import Any

import numpy as np

from openal_ray.selection.halves import BLOCK, Halves, Picks, check_budget


class KMeansPPHalf:
    """One shard's factors and D² weights.

    left, right  [n, C] and [n, D]; row i stands for the outer product left[i] ⊗ right[i]
    indices      int64 [n] ascending dataset indices
    raises       ValueError if the shapes do not fit or a number is not finite
    """

    def __init__(self, left: np.ndarray, right: np.ndarray, indices: np.ndarray) -> None:
        self._indices = np.asarray(indices, dtype=np.int64)
        self._left = _checked("left", left, len(self._indices))
        self._right = _checked("right", right, len(self._indices))
        self._norms = _dots(self._left, self._left) * _dots(self._right, self._right)
        self._weights = np.full(len(self._indices), np.inf)
        self._taken = np.zeros(len(self._indices), dtype=bool)
        blocks = self._indices // BLOCK
        self._starts = np.flatnonzero(np.diff(blocks, prepend=-1))
        self._blocks = blocks[self._starts]

    def size(self) -> int:
        """The number of rows."""
        return len(self._indices)

    def largest(self) -> tuple[float, int]:
        """Squared norm and dataset index of the largest row; the lowest index on ties."""
        if not len(self._norms):
            return -1.0, -1
        position = int(self._norms.argmax())
        return float(self._norms[position]), int(self._indices[position])

    def take(self, index: int) -> tuple[np.ndarray, np.ndarray, float] | None:
        """The factors and weight of a picked row, if it lives here; its weight is zero from now on."""
        position = int(np.searchsorted(self._indices, index))
        if position == len(self._indices) or self._indices[position] != index:
            return None
        weight = min(float(self._weights[position]), float(self._norms[position]))
        self._taken[position] = True
        return self._left[position], self._right[position], weight

    def refresh(self, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lower the weights by a new pick; returns the numbers of this shard's blocks and the sums of their weights."""
        norm = (left @ left) * (right @ right)
        squared = self._norms + norm - 2.0 * _dots(self._left, left) * _dots(self._right, right)
        squared[squared <= 1e-13 * (self._norms + norm)] = 0.0
        np.minimum(self._weights, squared, out=self._weights)
        self._weights[self._taken] = 0.0
        sums = [part.sum() for part in np.split(self._weights, self._starts[1:])] if len(self._weights) else []
        return self._blocks, np.array(sums, dtype=np.float64)

    def draw(self, block: int, mass: float) -> int | None:
        """The dataset index at which the running sum of the block's weights passes `mass`."""
        rows = np.flatnonzero(self._indices // BLOCK == block)
        if not rows.size:
            return None
        running = np.cumsum(self._weights[rows])
        drawable = np.flatnonzero(self._weights[rows])
        position = min(int(np.searchsorted(running, mass, side="right")), int(drawable[-1]))
        return int(self._indices[rows[position]])

    def lowest(self) -> int | None:
        """The lowest dataset index not picked yet."""
        rest = np.flatnonzero(~self._taken)
        return int(self._indices[rest[0]]) if rest.size else None


def pick_kmeans_pp(halves: Halves, k: int, rng: np.random.Generator) -> Picks:
    """Pick `k` rows; scores are their D² weights at the pick (the first: its squared norm).

    Where all weights left are zero (duplicates of picks), the lowest dataset indices follow.
    raises   ValueError if there are fewer than k rows
    """
    check_budget(halves, k)
    indices, scores = np.empty(k, dtype=np.int64), np.empty(k)
    factors: list[Any] = []
    for pick in range(k):
        if pick == 0:
            index = max(halves.ask("largest"), key=lambda answer: (answer[0], -answer[1]))[1]
        else:
            index = _draw(halves, halves.ask("refresh", *factors), rng.random())
        *factors, scores[pick] = _only(halves.ask("take", index))
        indices[pick] = index
    return Picks(indices, scores)


def _draw(halves: Halves, answers: list[tuple[np.ndarray, np.ndarray]], uniform: float) -> int:
    """One dataset index with probability proportional to its weight."""
    blocks = np.concatenate([numbers for numbers, _ in answers])
    order = np.argsort(blocks)
    sums = np.concatenate([values for _, values in answers])[order]
    running = np.cumsum(sums)
    if running[-1] == 0.0:
        return min(index for index in halves.ask("lowest") if index is not None)
    mass = uniform * running[-1]
    position = min(int(np.searchsorted(running, mass, side="right")), int(np.flatnonzero(sums)[-1]))
    return _only(halves.ask("draw", int(blocks[order][position]), mass - (running[position] - sums[position])))


def _only(answers: list[Any]) -> Any:
    (answer,) = [answer for answer in answers if answer is not None]
    return answer


def _dots(rows: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Inner products [n] in float64, each from its own row alone, so equal whatever rows stand beside it."""
    return (rows * other).sum(axis=1)


def _checked(name: str, rows: np.ndarray, n: int) -> np.ndarray:
    rows = np.asarray(rows, dtype=np.float64)
    if rows.ndim != 2 or len(rows) != n:
        raise ValueError(f"{name} must have shape [{n}, ...], got {rows.shape}")
    if not np.isfinite(rows).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    return rows
