"""Exact squared distances of the pairs that matter: float64 products find out which, up to a bound on their rounding.

How a library adds up a product depends on the machine and on what stands beside a row. So products only rule pairs out,
and what is decided or returned comes from `squared_distances`, where a row and a centre are all that counts.
"""

import numpy as np
import torch

from openal_ray.selection.digits import row_norms
from openal_ray.selection.halves import checked_rows
from openal_ray.selection.nearest import squared_distances

_LARGEST = 1e70  # squares of such numbers, and their sums, are far from overflow
_NUMBERS = 2**17  # numbers in one piece of exact arithmetic: 1 MB of float64
_TILE = 1024  # rows looked at together


def checked_points(name: str, points: np.ndarray, n: int) -> np.ndarray:
    """`points` as an array of floats, once it is known to have shape [n, D] with D > 0 and finite numbers."""
    points = checked_rows(name, points, n)
    for low in range(0, n, _TILE):
        largest = np.abs(points[low : low + _TILE]).max(axis=1).astype(np.float64)
        wrong = np.flatnonzero(~(largest < _LARGEST))
        if wrong.size:
            raise ValueError(f"{name} must be finite and below {_LARGEST:g}; row {low + wrong[0]} is not")
    return points


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """`rows` [n, D] divided by their Euclidean norms, float32 or float64; rows of zeros stay."""
    rows = rows.astype(np.promote_types(rows.dtype, np.float32), copy=False)
    norms = row_norms(rows)[:, None]
    return rows / np.where(norms > 0, norms, 1)


def squared_about(rows: np.ndarray, others: np.ndarray, device: str = "cpu") -> tuple[np.ndarray, np.ndarray]:
    """Squared distances float64 [n, m] of rows [n, D] and others [m, D] up to a slack [n] of each row."""
    one, other = (torch.from_numpy(np.array(part, dtype=np.float64)).to(device) for part in (rows, others))
    squares, other_squares = (part.square().sum(dim=1) for part in (one, other))
    result = torch.addmm(other_squares[None], one, other.t(), alpha=-2).add_(squares[:, None]).cpu().numpy()
    largest = float(other_squares.max()) if len(others) else 0.0
    # Cauchy-Schwarz, and 2|x||c| <= |x|² + |c|²: every rounding is a multiple of this sum.
    slack = (squares.cpu().numpy() + largest) * ((2 * rows.shape[1] + 16) * 2.0**-53)
    return result, slack


def exact_pairs(rows: np.ndarray, others: np.ndarray, row: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Exact squared distances float64 [p] of the pairs of positions `row` [p] and `other` [p]."""
    step = max(1, _NUMBERS // rows.shape[1])
    parts = [slice(low, low + step) for low in range(0, len(row), step)]
    return np.concatenate([np.empty(0), *(squared_distances(rows[row[part]], others[other[part]]) for part in parts)])


def nearest(
    rows: np.ndarray, others: np.ndarray, allowed: np.ndarray | None = None, device: str = "cpu"
) -> tuple[np.ndarray, np.ndarray]:
    """For each row the position of the nearest of the `others`, lowest on ties, and the exact squared distance.

    allowed  bool [n, m] pairs that count; None: all. Rows without any get position -1 and distance infinity.
    """
    positions, squared = np.full(len(rows), -1, dtype=np.int64), np.full(len(rows), np.inf)
    if not len(others):
        return positions, squared
    for low in range(0, len(rows), _TILE):
        tile = slice(low, low + _TILE)
        rough, slack = squared_about(rows[tile], others, device)
        if allowed is not None:
            rough[~allowed[tile]] = np.inf
        close = rough <= (rough.min(axis=1) + 2 * slack)[:, None]
        row, other = np.nonzero(close & (rough < np.inf))
        exact = exact_pairs(rows[tile], others, row, other)
        order = np.lexsort((other, exact, row))
        found, first = np.unique(row[order], return_index=True)
        positions[low + found], squared[low + found] = other[order[first]], exact[order[first]]
    return positions, squared
