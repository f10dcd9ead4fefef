"""Certified bounds on squared distances between rows and centres, from the digits of their factors.

A row is the outer product of its factors (one factor: the row itself), so |x|, <x, c> and cos(x, c) are the products of
those of the factors. Digits give each cosine up to r + r' + r r' (r, r' their relative remainders; Cauchy-Schwarz),
hence the product of the cosines up to some known e, and since 2|x||c| <= |x|² + |c|²,

    |x - c|²  lies in  (1 ± e) (|x|² + |c|²) - 2 <x, c>  =  (1 ± e) (|x|² + |c|² - 2 <x, c> / (1 ± e)).

The right-hand form needs no error of each pair. Every rounding below is a multiple of |x|² + |c|² too, and is in e.
"""

from collections.abc import Iterator, Sequence
from functools import reduce
from math import frexp

import numpy as np
import torch

from openal_ray.selection.digits import ROUNDING, Digits, Room

_UNDERFLOW = 2.0**-120  # more than float32 can lose below its smallest number, in the frame's unit²
_PRODUCTS = 2**17  # of one tile: they stay in the second-level cache until all is done with them
_ROWS, _CENTRES = 4096, 256  # at most


def upper_bounds(rows: Sequence[Digits], centres: Sequence[Digits]) -> np.ndarray:
    """float64 [n]: at least the squared distance of each row to the nearest of the `centres` (at least one).

    rows, centres   their factors
    """
    frame = _Frame(rows, centres)
    best = frame.tensor(np.full(frame.n_rows, np.inf))
    for some, _, squared in frame.tiles(1 + frame.error):
        torch.minimum(best[some], squared.amin(dim=1), out=best[some])
    return frame.upper(best)


def likely_nearest(rows: Sequence[Digits], centres: Sequence[Digits]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same bounds; positions int64 [n] of the centres they are about; their squared distances, uncertified."""
    frame = _Frame(rows, centres)
    best = frame.tensor(np.full(frame.n_rows, np.inf))
    positions = torch.zeros(frame.n_rows, dtype=torch.int64, device=best.device)
    for some, others, squared in frame.tiles(1 + frame.error):
        lowest = _lowest(squared)
        values = squared.gather(1, lowest[:, None])[:, 0]
        closer = values < best[some]
        torch.where(closer, values, best[some], out=best[some])
        torch.where(closer, lowest + others.start, positions[some], out=positions[some])
    nearest, upper = positions.cpu().numpy(), frame.upper(best)
    slack = frame.error * (frame.row_squares + frame.centre_squares[nearest]) * frame.unit**2
    return upper, nearest, upper - slack


def _lowest(values: torch.Tensor) -> torch.Tensor:
    """Position of the lowest value of each row; numpy finds it ten times faster than torch."""
    return torch.from_numpy(values.numpy().argmin(axis=1)) if values.device.type == "cpu" else values.argmin(dim=1)


def close_pairs(rows: Sequence[Digits], centres: Sequence[Digits], limit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row and centre positions of all pairs whose squared distance may be at most the row's `limit` [n]."""
    frame = _Frame(rows, centres)
    shrunk = np.where(frame.error < 1, 1 - frame.error, 1.0)
    highest = (limit / frame.unit**2 + _UNDERFLOW) / shrunk - frame.row_squares
    highest[frame.error >= 1] = np.inf  # digits that leave out more than they keep exclude nothing
    limits = frame.tensor(highest)[:, None]
    found = [np.empty((2, 0), np.int64)]
    for some, others, squared in frame.tiles(shrunk):
        close = (squared <= limits[some]).cpu().numpy()
        row, centre = np.divmod(np.flatnonzero(close), close.shape[1])
        found.append(np.stack([row + some.start, centre + others.start]))
    row, centre = np.concatenate(found, axis=1)
    return row, centre


class _Frame:
    """Everything about rows and centres but their products.

    unit         a power of two, so that float32 does not overflow and another unit changes no digit of any result
    row_squares, centre_squares   float64 [n] and [m] squared norms, in unit²
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
        self.centre_squares = np.square(centre_norms / self.unit)
        self._centre_scale = self.tensor(-2 * centre_norms / self.unit / _product([f.lengths for f in centres]))

    def tensor(self, values: np.ndarray) -> torch.Tensor:
        """float32, on the device of the digits."""
        return torch.from_numpy(values.astype(np.float32)).to(self._rows[0].first.device)

    def upper(self, best: torch.Tensor) -> np.ndarray:
        """Bounds float64 [n] on squared distances, from the lowest that `tiles(1 + error)` has for each row."""
        squared = (1 + self.error) * (self.row_squares + best.cpu().numpy())
        return (np.maximum(squared, 0.0) + _UNDERFLOW) * self.unit**2

    def tiles(self, divisor: np.ndarray) -> Iterator[tuple[slice, slice, torch.Tensor]]:
        """Rows, centres, and |c|² - 2 <x, c> / divisor in unit², float32, overwritten by the next tile.

        One operation at a time, none fused: that would round differently at the edge of a tile.
        """
        row_scale, centre_squares = self.tensor(self._row_scale / divisor)[:, None], self.tensor(self.centre_squares)
        wide = max(1, min(_CENTRES, self.n_centres))
        high = max(1, min(_PRODUCTS // wide, _ROWS, self.n_rows))
        rooms = [Room(high * wide, row_scale.device) for _ in self._rows]
        parts = [slice(low, min(low + _CENTRES, self.n_centres)) for low in range(0, self.n_centres, _CENTRES)]
        centres = [[factor[part] for factor in self._centres] for part in parts]
        for low in range(0, self.n_rows, high):
            some = slice(low, min(low + high, self.n_rows))
            rows = [factor[some] for factor in self._rows]
            for part, others in zip(parts, centres, strict=True):
                factors = zip(rooms, rows, others, strict=True)
                squared = reduce(torch.Tensor.mul_, [room.inner_products(x, c) for room, x, c in factors])
                squared *= self._centre_scale[part]
                squared *= row_scale[some]
                squared += centre_squares[part]
                yield some, part, squared


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
