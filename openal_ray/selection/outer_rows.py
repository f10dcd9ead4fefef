"""Rows that are outer products, kept as their two factors, and exact distances between them.

|a ⊗ h - b ⊗ g|² = |a|²|h|² + |b|²|g|² - 2 <a, b> <h, g>, so C·D numbers a row are never needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from openal_ray.selection.digits import Digits, encode

_TILE = 1024  # rows converted to float64 at a time


@dataclass(frozen=True)
class OuterRows:
    """n rows left[i] ⊗ right[i].

    indices      int64 [n] dataset indices
    left, right  [n, C] and [n, D] any float type
    """

    indices: np.ndarray
    left: np.ndarray
    right: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, positions: np.ndarray | list[int] | slice) -> "OuterRows":
        return OuterRows(self.indices[positions], self.left[positions], self.right[positions])

    def digits(self, device: str = "cpu") -> list[Digits]:
        """The digits of both factors, for `bounds`."""
        return [encode(self.left, device=device), encode(self.right, device=device)]

    @staticmethod
    def joined(parts: Sequence["OuterRows"]) -> "OuterRows":
        """The rows of all parts, in their order."""
        return OuterRows(
            np.concatenate([part.indices for part in parts]),
            np.concatenate([part.left for part in parts]),
            np.concatenate([part.right for part in parts]),
        )


def squared_norms(rows: OuterRows) -> np.ndarray:
    """float64 [n], each from its own row alone, so equal whatever rows stand beside it."""
    norms = np.empty(len(rows))
    for low in range(0, len(rows), _TILE):
        tile = rows[low : low + _TILE]
        left, right = (np.square(factor, dtype=np.float64, order="C").sum(axis=1) for factor in (tile.left, tile.right))
        norms[low : low + _TILE] = left * right
    return norms


def squared_distances(rows: OuterRows, others: OuterRows) -> tuple[np.ndarray, np.ndarray]:
    """float64 [n, m] squared distances, and a bound on their rounding.

    What could be rounding alone is 0: a row is at distance 0 of itself and of its copies.
    """
    left, right = (
        one.astype(np.float64) @ other.astype(np.float64).T
        for one, other in ((rows.left, others.left), (rows.right, others.right))
    )
    squares = np.add.outer(squared_norms(rows), squared_norms(others))
    distances = squares - 2.0 * left * right
    rounding = squares * ((rows.left.shape[1] + rows.right.shape[1] + 8) * 2.0**-52)
    distances[distances <= rounding] = 0.0
    return distances, rounding
