"""Certified bounds on squared distances between rows and centres, from the digits of their factors.

A row is the outer product of its factors (one factor: the row itself), so |x|, <x, c> and cos(x, c) are the products of
those of the factors. Digits give each cosine up to r + r' + r r' (r, r' their relative remainders; Cauchy-Schwarz),
hence the product of the cosines up to some known e, and since 2|x||c| <= |x|² + |c|²,

    |x - c|²  lies in  (1 ± e) (|x|² + |c|²) - 2 <x, c>  =  (1 ± e) (|x|² + |c|² - 2 <x, c> / (1 ± e)).

The right-hand form needs no error of each pair. Every rounding below is a multiple of |x|² + |c|² too, and is in e.
"""

from collections.abc import Sequence
from functools import reduce
from math import frexp

import numpy as np
import torch

from openal_ray.selection.digits import ROUNDING, Digits, inner_products

_UNDERFLOW = 2.0**-120  # more than float32 can lose below its smallest number, in the frame's unit²
_TILE = 512  # rows and centres at a time: their products stay in the second-level cache until the minimum is taken


def upper_bounds(rows: Sequence[Digits], centres: Sequence[Digits]) -> np.ndarray:
    """float64 [n]: at least the squared distance of each row to the nearest of the `centres` (at least one).

    rows, centres   their factors
    """
    frame = _Frame(rows, centres)
    best = np.empty(frame.n_rows, np.float32)
    for low in range(0, frame.n_rows, _TILE):
        tile = slice(low, low + _TILE)
        parts = [slice(first, first + _TILE) for first in range(0, frame.n_centres, _TILE)]
        minima = [frame.squared(tile, part, 1 + frame.error).amin(dim=1) for part in parts]
        best[tile] = torch.stack(minima).amin(dim=0).cpu().numpy()
    squared = (1 + frame.error) * (frame.row_squares + best)
    return (np.maximum(squared, 0.0) + _UNDERFLOW) * frame.unit**2


def close_pairs(rows: Sequence[Digits], centres: Sequence[Digits], limit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row and centre positions of all pairs whose squared distance may be at most the row's `limit` [n]."""
    frame = _Frame(rows, centres)
    shrunk = np.where(frame.error < 1, 1 - frame.error, 1.0)
    highest = (limit / frame.unit**2 + _UNDERFLOW) / shrunk - frame.row_squares
    highest[frame.error >= 1] = np.inf  # digits that leave out more than they keep exclude nothing
    close = frame.squared(slice(None), slice(None), shrunk) <= frame.tensor(highest)[:, None]
    return np.divmod(np.flatnonzero(close.cpu().numpy()), frame.n_centres)


class _Frame:
    """Everything about rows and centres but their products.

    unit         a power of two, so that float32 does not overflow and another unit changes no digit of any result
    row_squares  float64 [n] squared norms of the rows, in unit²
    error        float64 [n] the e of the module's formula, for each row and any of the centres
    """

    def __init__(self, rows: Sequence[Digits], centres: Sequence[Digits]) -> None:
        self._rows, self._centres = rows, centres
        self.n_rows, self.n_centres = len(rows[0]), len(centres[0])
        row_norms, centre_norms = (_product([f.norms for f in factors]) for factors in (rows, centres))
        largest = max(row_norms.max(initial=0), centre_norms.max(initial=0))
        self.unit = 2.0 ** frexp(largest)[1] if largest > 0 else 1.0
        self.error = _relative_error(rows, centres)
        self.row_squares = np.square(row_norms / self.unit)
        self._row_scale = row_norms / self.unit / _product([f.lengths for f in rows])
        self._centre_squares = self.tensor(np.square(centre_norms / self.unit))
        self._centre_scale = self.tensor(-2 * centre_norms / self.unit / _product([f.lengths for f in centres]))

    def tensor(self, values: np.ndarray) -> torch.Tensor:
        """float32, on the device of the digits."""
        return torch.from_numpy(values.astype(np.float32)).to(self._rows[0].first.device)

    def squared(self, rows: slice, centres: slice, divisor: np.ndarray) -> torch.Tensor:
        """float32 [n, m]: |c|² - 2 <x, c> / divisor, in unit².

        One operation at a time, none fused: that would round differently at the edge of a tile.
        """
        factors = zip(self._rows, self._centres, strict=True)
        result = reduce(torch.Tensor.mul_, [inner_products(one[rows], other[centres]) for one, other in factors])
        result *= self._centre_scale[centres]
        result *= self.tensor(self._row_scale[rows] / divisor[rows])[:, None]
        result += self._centre_squares[centres]
        return result


def _product(arrays: list[np.ndarray]) -> np.ndarray:
    return reduce(np.multiply, arrays)


def _relative_error(rows: Sequence[Digits], centres: Sequence[Digits]) -> np.ndarray:
    """float64 [n]: the e of the module's formula."""
    total = np.ones(len(rows[0]))
    columns = 0
    for one, other in zip(rows, centres, strict=True):
        theirs = float(other.remainders.max(initial=0))
        unused = one.seconds * float(other.seconds.max(initial=0))  # second digit times second digit
        total *= 1 + one.remainders + theirs + one.remainders * theirs + unused
        columns += one.first.shape[1]
    return total - 1 + (2 * columns + 32) * ROUNDING
