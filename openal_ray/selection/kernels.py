"""Kernels of coverage: how much a centre covers a point, as an integer, so that sums are exact in any order."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from openal_ray.selection.distances import exact_pairs, squared_about

_TILE = 1024  # points looked at together


class Kernel(Protocol):
    """A function of the distance that never rises with it."""

    @property
    def top(self) -> int:
        """The level at distance 0, below 2^31."""
        ...

    def levels(self, squared: np.ndarray) -> np.ndarray:
        """int32 levels of exact squared distances."""
        ...

    def upper(self, squared: torch.Tensor) -> torch.Tensor:
        """Levels of squared distances, of the same float type and rounded upwards."""
        ...


@dataclass(frozen=True)
class TopHat:
    """1 at distances below the radius, else 0: the balls of ProbCover."""

    radius: float
    top: int = 1

    def __post_init__(self) -> None:
        if not self.radius > 0:
            raise ValueError(f"radius must be > 0, got {self.radius}")

    def levels(self, squared: np.ndarray) -> np.ndarray:
        return (np.sqrt(squared) < self.radius).astype(np.int32)

    def upper(self, squared: torch.Tensor) -> torch.Tensor:
        return (squared < self.radius**2 * (1 + 1e-6)).to(squared.dtype)


@dataclass(frozen=True)
class RBF:
    """exp(-d² / bandwidth²), in multiples of 1 / top."""

    bandwidth: float = 1.0
    top: int = 2**30

    def __post_init__(self) -> None:
        if not 0 < self.bandwidth < np.inf:
            raise ValueError(f"bandwidth must be > 0 and finite, got {self.bandwidth}")

    def levels(self, squared: np.ndarray) -> np.ndarray:
        return np.rint(self.top * np.exp(squared / -(self.bandwidth**2))).astype(np.int32)

    def upper(self, squared: torch.Tensor) -> torch.Tensor:
        # In float32 the exponential is off by less than 2^-18 wherever it reaches the first level.
        return squared.mul(-1 / self.bandwidth**2).exp_().mul_(self.top * (1 + 2**-17)).round_()


def levels(kernel: Kernel, rows: np.ndarray, others: np.ndarray, device: str = "cpu") -> np.ndarray:
    """int32 [n, m]: the kernel's levels of the exact distances of rows [n, D] and others [m, D]."""
    result = np.empty((len(rows), len(others)), dtype=np.int32)
    for low in range(0, len(others), _TILE):
        part = slice(low, low + _TILE)
        squared, slack = squared_about(rows, others[part], device)
        lowest = kernel.levels(squared + slack[:, None])
        highest = kernel.levels(np.maximum(squared - slack[:, None], 0))
        row, other = np.nonzero(lowest != highest)
        lowest[row, other] = kernel.levels(exact_pairs(rows, others[part], row, other))
        result[:, part] = lowest
    return result
