"""The best rows of every group over shards, by several keys in order; groups are predicted classes or clusters."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from openal_ray.selection.halves import Halves, Picks, checked_sizes


@dataclass(frozen=True)
class Ranked:
    """Rows by group, within a group best first.

    indices  int64 [m] dataset indices
    groups   int64 [m]
    keys     float64 [m, K]
    """

    indices: np.ndarray
    groups: np.ndarray
    keys: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, positions: np.ndarray | slice) -> "Ranked":
        return Ranked(self.indices[positions], self.groups[positions], self.keys[positions])

    def best(self, depths: np.ndarray) -> "Ranked":
        """The first depths[g] rows of each group g, groups ascending; ties go to the lower dataset index."""
        order = np.lexsort((self.indices, *(-self.keys.T[::-1]), self.groups))
        groups = self.groups[order]
        rank = np.arange(len(order)) - np.searchsorted(groups, groups)
        return self[order[rank < depths[groups]]]

    @staticmethod
    def joined(parts: Sequence["Ranked"]) -> "Ranked":
        """The rows of all parts, in their order."""
        return Ranked(
            *(np.concatenate([getattr(part, name) for part in parts]) for name in ("indices", "groups", "keys"))
        )


class GroupedHalf:
    """One shard's rows.

    keys      [n] or [n, K] higher = more wanted; a column decides where those before it are equal
    groups    int64 [n] in 0 … n_groups-1; -1: in none, never picked
    indices   int64 [n] ascending dataset indices
    raises    ValueError if a key is NaN or the lengths differ
    """

    def __init__(self, keys: np.ndarray, groups: np.ndarray, indices: np.ndarray, n_groups: int = 1) -> None:
        keys = np.asarray(keys, dtype=np.float64)
        keys = keys[:, None] if keys.ndim == 1 else keys
        groups = np.asarray(groups, dtype=np.int64)
        if groups.shape != (len(indices),) or len(keys) != len(indices) or (groups >= n_groups).any():
            raise ValueError(
                f"keys and groups must be of {len(indices)} rows and groups below {n_groups}, got {list(keys.shape)} "
                f"and {list(groups.shape)}, highest {groups.max(initial=-1)}"
            )
        nan = np.asarray(indices)[np.isnan(keys).any(axis=1)]
        if nan.size:
            raise ValueError(f"keys must be numbers, got NaN at {nan.size} place(s), first {nan[:5].tolist()}")
        member = groups >= 0
        self._rows = Ranked(np.asarray(indices, dtype=np.int64)[member], groups[member], keys[member])
        self._n_groups = n_groups

    def size(self) -> int:
        """The number of rows in a group."""
        return len(self._rows)

    def counts(self) -> np.ndarray:
        """int64 [n_groups]: rows by group."""
        return np.bincount(self._rows.groups, minlength=self._n_groups)

    def best(self, depths: np.ndarray, picked: np.ndarray) -> Ranked:
        """The best depths[g] rows of each group that are not among the dataset indices `picked`."""
        rows = self._rows if not len(picked) else self._rows[~np.isin(self._rows.indices, picked)]
        return rows.best(depths)


def best_of_groups(halves: Halves, depths: np.ndarray, picked: np.ndarray | None = None) -> Ranked:
    """The best depths[g] rows of each group over all shards, none of `picked`; no more than that a shard travel."""
    picked = np.empty(0, dtype=np.int64) if picked is None else picked
    return Ranked.joined(halves.ask("best", depths, picked)).best(depths)


def pick_ranked(halves: Halves, k: int) -> Picks:
    """The best `k` rows by their keys, whatever their group; scores are the first key.

    raises   ValueError if there are fewer than k rows
    """
    checked_sizes(halves, k)
    depths = np.full(len(halves.ask("counts")[0]), k)
    rows = best_of_groups(halves, depths)
    rows = Ranked(rows.indices, np.zeros_like(rows.groups), rows.keys).best(np.array([k]))
    return Picks(rows.indices, rows.keys[:, 0])
