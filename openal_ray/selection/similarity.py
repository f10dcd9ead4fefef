"""Cosines to the most similar rows: float64 products find out which, up to a bound on their rounding.

How a library adds up a product depends on what stands beside a row, so products only rule pairs out; what is decided or
returned is one row times one row, added up by itself.
"""

import numpy as np

from openal_ray.selection.distances import checked_points, unit_rows

_PRODUCTS = 2**22  # rough cosines at a time: 32 MB
_NUMBERS = 2**17  # numbers in one piece of exact arithmetic: 1 MB of float64


def directions(features: np.ndarray) -> np.ndarray:
    """The rows of `features` [n, D] in float64 and of norm 1; rows of zeros stay.

    raises   ValueError for another shape, or a number that is not finite
    """
    return unit_rows(checked_points("features", features, len(features)).astype(np.float64))


def cosines(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """<rows[i], others[i]> float64 [n] of unit rows, each pair by itself."""
    result = np.empty(len(rows))
    step = max(1, _NUMBERS // max(1, rows.shape[1]))
    for low in range(0, len(rows), step):
        result[low : low + step] = (rows[low : low + step] * others[low : low + step]).sum(axis=1)
    return result


def most_similar(rows: np.ndarray, others: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of the unit rows [n, D] its `k` most similar `others` [m, D], also unit rows, most similar first.

    returns  positions int64 [n, k] in `others`, ties to the lower one; cosines float64 [n, k]
    raises   ValueError unless 1 <= k <= m
    """
    n, m = len(rows), len(others)
    if not 1 <= k <= m:
        raise ValueError(f"k must be between 1 and the {m} rows there are, got {k}")
    slack = (2 * rows.shape[1] + 16) * 2.0**-53
    positions, values = np.empty((n, k), dtype=np.int64), np.empty((n, k))
    step = max(1, _PRODUCTS // m)
    for low in range(0, n, step):
        tile = rows[low : low + step]
        rough = tile @ others.T
        least = np.partition(rough, m - k, axis=1)[:, m - k]
        row, other = np.nonzero(rough >= (least - 2 * slack)[:, None])
        exact = _pairs(tile, others, row, other)
        order = np.lexsort((other, -exact, row))
        first = order[np.searchsorted(row, np.arange(len(tile)))[:, None] + np.arange(k)]
        positions[low : low + step], values[low : low + step] = other[first], exact[first]
    return positions, values


def _pairs(rows: np.ndarray, others: np.ndarray, row: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The cosines of the pairs of positions `row` [p] and `other` [p], copied in pieces."""
    step = max(1, _NUMBERS // max(1, rows.shape[1]))
    parts = [slice(low, low + step) for low in range(0, len(row), step)]
    return np.concatenate([np.empty(0), *(cosines(rows[row[part]], others[other[part]]) for part in parts)])


def products(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """<rows[i], others[j]> float64 [n, m], each pair added up by itself; for few others."""
    result = np.empty((len(rows), len(others)))
    for place, other in enumerate(others):
        result[:, place] = cosines(rows, np.broadcast_to(other, rows.shape))
    return result
