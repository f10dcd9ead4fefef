"""The signals that a shard has read, block by block, in memory or on its machine's disk."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

Signals = Mapping[str, np.ndarray]
Allocate = Callable[[tuple[int, ...], np.dtype], np.ndarray]


@dataclass(frozen=True)
class Reading:
    """Signals of some images: row i of every array belongs to dataset index indices[i]; indices ascend."""

    indices: np.ndarray
    signals: Signals

    def only(self, wanted: np.ndarray) -> "Reading":
        """The rows of those of the ascending indices `wanted` that are there."""
        if np.array_equal(wanted, self.indices):
            return self
        rows = np.flatnonzero(np.isin(self.indices, wanted, assume_unique=True))
        return Reading(self.indices[rows], {name: signal[rows] for name, signal in self.signals.items()})


def disk_array(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array in an unnamed file: the operating system keeps in memory what fits, and frees all of it in the end."""
    if not np.prod(shape):
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile(prefix="openal_ray-") as file:
        return np.memmap(file, dtype, "w+", shape=shape)


class SignalStore:
    """Readings by name. Blocks are joined when a reading is first asked for, and their own copies dropped.

    allocate  makes the arrays: np.empty, or disk_array for pools larger than memory
    """

    def __init__(self, allocate: Allocate = np.empty) -> None:
        self._allocate = allocate
        self._blocks: dict[str, dict[int, Reading]] = {}
        self._joined: dict[str, Reading] = {}

    def add(self, reading: str, block: int, part: Reading) -> None:
        """Keeps one block's signals, as yet unread under this name."""
        self._blocks.setdefault(reading, {})[block] = self._join([part])

    def get(self, reading: str) -> Reading | None:
        """The whole reading, ascending by index; None if there is none."""
        blocks = self._blocks.pop(reading, None)
        if blocks:
            known = [self._joined.pop(reading)] if reading in self._joined else []
            parts = sorted([*known, *blocks.values()], key=lambda part: part.indices[:1].tolist())
            self._joined[reading] = parts[0] if len(parts) == 1 else self._join(parts)
        return self._joined.get(reading)

    def drop(self, reading: str) -> None:
        self._blocks.pop(reading, None)
        self._joined.pop(reading, None)

    def clear(self) -> None:
        self._blocks.clear()
        self._joined.clear()

    def _join(self, parts: list[Reading]) -> Reading:
        indices = np.concatenate([part.indices for part in parts])
        joined = {}
        for name, first in parts[0].signals.items():
            joined[name] = self._allocate((len(indices), *first.shape[1:]), first.dtype)
            np.concatenate([part.signals[name] for part in parts], out=joined[name])
        return Reading(indices, joined)
