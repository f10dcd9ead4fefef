"""Order statistics of a score over all shards, exactly, and what they are good for: ranks, and levels of filters.

The bits of a float64, read as an integer, are in the order of the numbers (once those of negative numbers are turned
around). So the driver finds the r-th number digit by digit of sixteen: one question a digit, for any number of r.
"""

from dataclasses import dataclass

import numpy as np

from openal_ray.selection.halves import Halves

_SIGN = np.uint64(2**63)


class QuantilesHalf:
    """One shard's scores.

    scores    [n] any float type; infinities are allowed
    indices   int64 [n] ascending dataset indices
    raises    ValueError if a score is NaN or the lengths differ
    """

    def __init__(self, scores: np.ndarray, indices: np.ndarray) -> None:
        scores = np.asarray(scores, dtype=np.float64)
        if scores.shape != np.shape(indices):
            raise ValueError(f"scores must have shape [{len(indices)}], got {list(scores.shape)}")
        if np.isnan(scores).any():
            raise ValueError(f"scores must be numbers, got NaN at {int(np.isnan(scores).sum())} place(s)")
        self._sorted = np.sort(scores)

    def size(self) -> int:
        """The number of rows."""
        return len(self._sorted)

    def below(self, levels: np.ndarray) -> np.ndarray:
        """How many scores are below each level; all of them for NaN."""
        return np.searchsorted(self._sorted, levels, side="left")


def highest(halves: Halves, ranks: np.ndarray) -> np.ndarray:
    """The scores float64 of the given ranks int64, 1 = the highest.

    raises   ValueError for a rank that is not there
    """
    ranks = np.asarray(ranks, dtype=np.int64)
    n = sum(halves.ask("size"))
    if len(ranks) and not 1 <= ranks.min() <= ranks.max() <= n:
        raise ValueError(f"ranks must be 1 … {n}, got {ranks.min()} … {ranks.max()}")
    lower = n - ranks  # so many scores may be below
    found = np.zeros(len(ranks), dtype=np.uint64)
    digits = np.arange(16, dtype=np.uint64)
    for shift in range(60, -4, -4):
        tries = found[:, None] | (digits << np.uint64(shift))
        counts = sum(halves.ask("below", _number(tries)))
        fitting = (counts <= lower[:, None]).sum(axis=1) - 1  # counts rise with the digit, and 0 always fits
        found = tries[np.arange(len(ranks)), fitting]
    return _number(found)


def filter_level(halves: Halves, least: int, level: float) -> float:
    """`level`, or lower where fewer than `least` rows reach it: so low that they do, or that all rows do."""
    n = sum(halves.ask("size"))
    rank = min(least, n)
    return min(level, float(highest(halves, np.array([rank]))[0])) if rank > 0 else level


@dataclass(frozen=True)
class Quantiles:
    """Scores at equal steps of rank, ascending float64 [m]."""

    scores: np.ndarray

    def shares(self, scores: np.ndarray) -> np.ndarray:
        """About the share of all rows below each score [n], in 0 … 1, to 1 / m; equals count one half."""
        low, high = (np.searchsorted(self.scores, scores, side=side) for side in ("left", "right"))
        result: np.ndarray = (low + high) / (2 * len(self.scores))
        return result


def fit_quantiles(halves: Halves, count: int = 1024) -> Quantiles:
    """`count` of them at most; raises ValueError if there is no row."""
    n = sum(halves.ask("size"))
    if not n:
        raise ValueError("quantiles need at least one row")
    count = min(count, n)
    places = (2 * np.arange(count) + 1) * n // (2 * count)  # the middles of equal parts
    return Quantiles(highest(halves, n - places))


def _number(ordered: np.ndarray) -> np.ndarray:
    """The float64 that stands at this place of the order; -inf for places before it."""
    ordered = np.maximum(ordered, np.uint64(2**52 - 1))
    bits = np.where(ordered >= _SIGN, ordered ^ _SIGN, ~ordered)
    return bits.view(np.float64)
