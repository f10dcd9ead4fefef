"""Extremes, means and standard deviations of columns over all shards; shards answer with sums that are integers."""

from dataclasses import dataclass

import numpy as np

from openal_ray.selection.exact_sums import Scale
from openal_ray.selection.halves import BLOCK, Halves, blocks_of


@dataclass(frozen=True)
class Moments:
    """float64 [K] each; std is that of the population, and 1 where a column is constant."""

    mean: np.ndarray
    std: np.ndarray

    def standardised(self, columns: np.ndarray) -> np.ndarray:
        """(columns - mean) / std of [n, K]."""
        return (np.asarray(columns, dtype=np.float64) - self.mean) / self.std


@dataclass(frozen=True)
class Extents:
    """float64 [K] each: the lowest and the highest number of every column."""

    low: np.ndarray
    high: np.ndarray

    def scaled(self, columns: np.ndarray) -> np.ndarray:
        """[n, K] brought to 0 … 1; 0 where a column is constant."""
        span = self.high - self.low
        return (np.asarray(columns, dtype=np.float64) - self.low) / np.where(span > 0, span, 1.0)


class ColumnsHalf:
    """One shard's columns.

    columns   [n, K] any float type
    indices   int64 [n] ascending dataset indices; a block of BLOCK consecutive ones has all its rows here
    raises    ValueError if a number is not finite, or the lengths differ
    """

    def __init__(self, columns: np.ndarray, indices: np.ndarray) -> None:
        self._columns = np.asarray(columns, dtype=np.float64)
        if self._columns.ndim != 2 or len(self._columns) != len(indices):
            raise ValueError(f"columns must have shape [{len(indices)}, K], got {list(self._columns.shape)}")
        finite = np.isfinite(self._columns).all(axis=1)
        if not finite.all():
            raise ValueError(f"columns must be finite; at index {np.asarray(indices)[~finite][0]} they are not")
        self._starts = [block.start for _, block in blocks_of(np.asarray(indices))]

    def size(self) -> int:
        """The number of rows."""
        return len(self._columns)

    def extent(self) -> tuple[np.ndarray, np.ndarray]:
        """The lowest and the highest number of every column; infinite on an empty shard."""
        return self._columns.min(axis=0, initial=np.inf), self._columns.max(axis=0, initial=-np.inf)

    def sums(self, scale: Scale) -> np.ndarray:
        """int64 [2, K]."""
        return self._summed(self._columns, scale)

    def squares(self, mean: np.ndarray, scale: Scale) -> np.ndarray:
        """int64 [2, K]: sums of squared differences from `mean` [K]."""
        return self._summed(np.square(self._columns - mean), scale)

    def _summed(self, columns: np.ndarray, scale: Scale) -> np.ndarray:
        blocks = np.add.reduceat(columns, self._starts, axis=0) if len(columns) else columns
        return scale.integers(blocks).sum(axis=1)


def fit_extents(halves: Halves) -> Extents:
    """Of all shards together."""
    low, high = zip(*halves.ask("extent"), strict=True)
    return Extents(np.min(low, axis=0), np.max(high, axis=0))


def fit_moments(halves: Halves) -> Moments:
    """Of all shards together; raises ValueError if there is no row."""
    count = sum(halves.ask("size"))
    if not count:
        raise ValueError("a mean needs at least one row")
    extents = fit_extents(halves)
    scale = Scale.of(BLOCK * float(max(extents.high.max(), -extents.low.min())), count)
    mean = scale.numbers(sum(halves.ask("sums", scale))) / count
    scale = Scale.of(BLOCK * 4 * float((extents.high - extents.low).max()) ** 2, count)
    std = np.sqrt(scale.numbers(sum(halves.ask("squares", mean, scale))) / count)
    return Moments(mean, np.where((std > 0) & (extents.high > extents.low), std, 1.0))
