"""The two halves of every distributed selection: a driver function asks, the shard halves answer.

A shard half is a plain object built on one shard from that shard's arrays and `indices` (int64 [n], the ascending
dataset indices of its rows). A driver half is a function `(halves, ..., k) -> Picks` that knows nothing but `Halves`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import fsum
from typing import Any, Protocol

import numpy as np

BLOCK = 1024
"""Dataset indices come in blocks of so many; a block is never split between shards, so sums over a block do not
depend on the number of shards."""


@dataclass(frozen=True)
class Picks:
    """What a selection chose, in the order picked.

    indices  int64 [k] dataset indices
    scores   float64 [k] the acquisition score of each at the moment it was picked
    notes    arrays [k, …] to be remembered: later rounds see them with the answers
    """

    indices: np.ndarray
    scores: np.ndarray
    notes: Mapping[str, np.ndarray] = field(default_factory=dict)


class Halves(Protocol):
    """The shard halves of one selection, one a shard, wherever they live."""

    def ask(self, verb: str, *args: Any) -> list[Any]:
        """The same question to every half; answers in shard order."""
        ...

    def ask_each(self, verb: str, args: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Its own question to each half; answers in shard order."""
        ...


class LocalHalves:
    """Halves that live in this process."""

    def __init__(self, halves: Sequence[Any]) -> None:
        self._halves = list(halves)

    def ask(self, verb: str, *args: Any) -> list[Any]:
        """Call `verb(*args)` on every half, one after the other."""
        return [getattr(half, verb)(*args) for half in self._halves]

    def ask_each(self, verb: str, args: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Call `verb` on every half with its own arguments."""
        return [getattr(half, verb)(*mine) for half, mine in zip(self._halves, args, strict=True)]


class JoinedHalves:
    """Halves, and one more that lives in this process: that of the labelled images, which the driver knows."""

    def __init__(self, halves: Halves, here: Any) -> None:
        self._halves, self._here = halves, here

    def ask(self, verb: str, *args: Any) -> list[Any]:
        """The same question to all; the answer of the half here comes last."""
        return [*self._halves.ask(verb, *args), getattr(self._here, verb)(*args)]

    def ask_each(self, verb: str, args: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Its own question to each; the last is for the half here."""
        return [*self._halves.ask_each(verb, args[:-1]), getattr(self._here, verb)(*args[-1])]


def checked_sizes(halves: Halves, k: int) -> list[int]:
    """The number of rows of every half (verb `size`), once it is known that they can fill `k`."""
    sizes = halves.ask("size")
    check_k(k, sum(sizes))
    return sizes


def check_k(k: int, n_rows: int) -> None:
    """Raises ValueError if `n_rows` rows cannot fill `k`."""
    if not 0 <= k <= n_rows:
        raise ValueError(f"k must be between 0 and the {n_rows} rows there are, got {k}")


def filled_up(picks: Picks, halves: Halves, k: int) -> Picks:
    """`picks`, followed by the lowest dataset indices not picked (verb `lowest`) with score 0 until there are `k`."""
    missing = k - len(picks.indices)
    if not missing:
        return picks
    rest = np.sort(np.concatenate(halves.ask("lowest", missing, picks.indices)))[:missing]
    return Picks(np.append(picks.indices, rest), np.append(picks.scores, np.zeros(missing)))


def checked_rows(name: str, rows: np.ndarray, n: int) -> np.ndarray:
    """`rows` as an array of floats, once it is known to have shape [n, D] with D > 0."""
    rows = np.asarray(rows)
    if rows.ndim != 2 or len(rows) != n or not rows.shape[1]:
        raise ValueError(f"{name} must have shape [{n}, D] with D > 0, got {rows.shape}")
    return rows if rows.dtype.kind == "f" else rows.astype(np.float64)


def blocks_of(indices: np.ndarray) -> list[tuple[int, slice]]:
    """The number of each block that has some of the ascending dataset indices, and the positions of its rows."""
    numbers = indices // BLOCK
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    return [(int(numbers[a]), slice(a, b)) for a, b in pairwise([*starts.tolist(), len(numbers)])]


def sum_of_blocks(sums: Iterable[Iterable[float]]) -> float:
    """The sum over all blocks of all halves; fsum rounds once, so the order does not matter."""
    return fsum(value for of_half in sums for value in of_half)


def positions_of(wanted: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Positions in the ascending dataset indices `indices` of those `wanted` that are there."""
    positions = np.searchsorted(indices, wanted)
    inside = positions < len(indices)
    positions, wanted = positions[inside], wanted[inside]
    return positions[indices[positions] == wanted]


def lowest_left(indices: np.ndarray, k: int, picked: np.ndarray) -> np.ndarray:
    """A half's answer to `lowest`: the first `k` of its ascending dataset indices that are not `picked`."""
    return indices[~np.isin(indices, picked)][:k]
