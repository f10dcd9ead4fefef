"""The k highest scores over all shards; ties go to the lower dataset index."""

import numpy as np

from openal_ray.selection.halves import Halves, Picks, checked_sizes


class TopKHalf:
    """One shard's scores.

    scores   [n] higher = more wanted; infinities are allowed
    indices  int64 [n] ascending dataset indices
    raises   ValueError if a score is NaN or the lengths differ
    """

    def __init__(self, scores: np.ndarray, indices: np.ndarray) -> None:
        self._scores = np.asarray(scores, dtype=np.float64)
        self._indices = np.asarray(indices, dtype=np.int64)
        if self._scores.shape != self._indices.shape:
            raise ValueError(f"scores must have shape {self._indices.shape}, got {self._scores.shape}")
        nan = self._indices[np.isnan(self._scores)]
        if nan.size:
            raise ValueError(f"scores must be numbers, got NaN at {nan.size} place(s), first {nan[:5].tolist()}")

    def size(self) -> int:
        """The number of rows."""
        return self._scores.size

    def best(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Dataset indices and scores of this shard's best `min(k, n)`, in no particular order."""
        positions = best_positions(self._scores, min(k, self._scores.size))
        return self._indices[positions], self._scores[positions]


def best_positions(scores: np.ndarray, k: int) -> np.ndarray:
    """Ascending positions of the `k` highest of `scores` [n]; among equals the lower positions. O(n), no sort."""
    if k == 0:
        return np.empty(0, dtype=np.int64)
    lowest = np.partition(scores, scores.size - k)[scores.size - k]
    above = np.flatnonzero(scores > lowest)
    level = np.flatnonzero(scores == lowest)[: k - above.size]
    return np.sort(np.concatenate([above, level]))


def pick_top_k(halves: Halves, k: int) -> Picks:
    """The `k` highest scores, best first; no more than k candidates a shard travel.

    raises   ValueError if there are fewer than k rows
    """
    checked_sizes(halves, k)
    answers = halves.ask("best", k)
    indices = np.concatenate([found for found, _ in answers])
    scores = np.concatenate([values for _, values in answers])
    order = np.lexsort((indices, -scores))[:k]
    return Picks(indices[order], scores[order])
