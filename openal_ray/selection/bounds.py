"""Certified bounds on squared distances between rows and centres, from the digits of their factors.

A row is the outer product of its factors (one factor: the row itself), so |x|, <x, c> and cos(x, c) are the products of
those of the factors. Digits give each cosine with an error of at most r + r' + r r' (r, r': their relative remainders;
Cauchy-Schwarz), hence the cosine of the products with a known error e. As 2|x||c| <= |x|² + |c|²,

    |x - c|²  lies in  |x|² + |c|² - 2 <x, c>  ±  e (|x|² + |c|²),

and every rounding below is a multiple of |x|² + |c|² too, so it is counted in e.
"""

from collections.abc import Sequence
from math import frexp, prod

import numpy as np
import torch

from openal_ray.selection.digits import ROUNDING, Digits, inner_products

_UNDERFLOW = 2.0**-120  # more than float32 can lose below its smallest number, in the frame's unit²
_TILE = 1024  # rows and centres at a time: their products stay in the cache until the minimum is taken


def upper_bounds(rows: Sequence[Digits], centres: Sequence[Digits]) -> np.ndarray:
    """float64 [n]: for each row, at least its squared distance to the nearest of the `centres`.

    rows, centres   their factors; every factor has as many rows
    """
    frame = _Frame(rows, centres)
    best = np.empty(len(frame.error), np.float32)
    for low in range(0, len(best), _TILE):
        tile = slice(low, low + _TILE)
        minima = [
            frame.squared(tile, slice(first, first + _TILE), 1 + frame.error[tile]).amin(dim=1)
            for first in range(0, len(frame.centre_squares), _TILE)
        ]
        best[tile] = torch.stack(minima).amin(dim=0).cpu().numpy()
    squared = (1.0 + frame.error) * (frame.row_squares + best.astype(np.float64)) + _UNDERFLOW
    return np.maximum(squared, 0.0) * frame.unit**2


def nearest_pairs(
    rows: Sequence[Digits], centres: Sequence[Digits], known: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Row and centre positions of every pair that may be the nearest and below `known` [n] squared distances."""
    frame = _Frame(rows, centres)
    everything = slice(None)
    squared = frame.squared(everything, everything, np.ones_like(frame.error))
    squared += frame.tensor(frame.row_squares)[:, None]
    error = frame.tensor(frame.error)[:, None] * (
        frame.tensor(frame.row_squares)[:, None] + frame.tensor(frame.centre_squares)
    ) + _UNDERFLOW
    limit = torch.minimum((squared + error).amin(dim=1), frame.tensor(known / frame.unit**2 * (1 + 2 * ROUNDING)))
    row, centre = torch.nonzero(squared - error <= limit[:, None], as_tuple=True)
    return row.cpu().numpy(), centre.cpu().numpy()


class _Frame:
    """Everything about rows and centres but their products, in a unit that keeps float32 from overflowing.

    unit             a power of two, so that changing it changes no digit of any result
    row_squares, centre_squares   float64 squared norms, in unit²
    error            float32 [n] the e of the module's formula
    """

    def __init__(self, rows: Sequence[Digits], centres: Sequence[Digits]) -> None:
        row_norms, centre_norms = (prod(factor.norms for factor in factors) for factors in (rows, centres))
        largest = max(row_norms.max(initial=0), centre_norms.max(initial=0))
        self.unit = 2.0 ** frexp(largest)[1] if largest > 0 else 1.0
        self.row_squares = np.square(row_norms / self.unit)
        self.centre_squares = np.square(centre_norms / self.unit)
        self.error = _relative_error(rows, centres)
        self._rows, self._centres = rows, centres
        self._row_scale = row_norms / self.unit / prod(factor.lengths.astype(np.float64) for factor in rows)
        self._centre_scale = -2 * centre_norms / self.unit / prod(f.lengths.astype(np.float64) for f in centres)

    def tensor(self, values: np.ndarray) -> torch.Tensor:
        """float32, on the device of the digits."""
        return torch.from_numpy(values.astype(np.float32)).to(self._rows[0].first.device)

    def squared(self, rows: slice, centres: slice, divisor: np.ndarray) -> torch.Tensor:
        """float32 [n, m]: |c|² - 2 <x, c> / divisor [n].

        One operation at a time: a fused multiply-add would round differently at the edge of a tile.
        """
        factors = zip(self._rows, self._centres, strict=True)
        products = [inner_products(one[rows], other[centres]) for one, other in factors]
        result = products[0]
        for product in products[1:]:
            result *= product
        result *= self.tensor(self._centre_scale[centres])
        result *= self.tensor(self._row_scale[rows] / divisor)[:, None]
        result += self.tensor(self.centre_squares[centres])
        return result


def _relative_error(rows: Sequence[Digits], centres: Sequence[Digits]) -> np.ndarray:
    """float32 [n]: the e of the module's formula for each row and any of the centres."""
    total = np.ones(len(rows[0]))
    columns = 0
    for one, other in zip(rows, centres, strict=True):
        theirs = float(other.remainders.max(initial=0))
        unused = one.seconds * float(other.seconds.max(initial=0))
        total *= 1.0 + one.remainders + theirs + one.remainders * theirs + unused
        columns += one.first.shape[1]
    return (total - 1.0 + (2 * columns + 32) * ROUNDING).astype(np.float32)
