"""The algorithms as their papers write them, in float64, one pick at a time: what every fast form must reproduce."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from openal_ray.selection.halves import BLOCK, LocalHalves


def k_center(points: np.ndarray, covered: np.ndarray, k: int) -> list[int]:
    """Positions of greedy k-center, lowest position on ties, the squares of each row added up on its own."""
    squared = np.full(len(points), np.inf)
    for centre in covered:
        squared = np.minimum(squared, np.square(points.astype(float) - centre.astype(float)).sum(axis=1))
    picks: list[int] = []
    for _ in range(k):
        squared[picks] = -1.0
        picks.append(int(np.argmax(squared)))
        squared = np.minimum(squared, np.square(points.astype(float) - points[picks[-1]].astype(float)).sum(axis=1))
    return picks


def two_level(points: np.ndarray, indices: np.ndarray, covered: np.ndarray, k: int, parts: int) -> list[int]:
    """Positions picked by greedy among those that greedy picked in each part; rows ascend by dataset index."""
    part_of = indices // BLOCK % parts
    chosen: list[int] = []
    for part in set(part_of.tolist()):
        mine = np.flatnonzero(part_of == part)
        chosen += mine[k_center(points[mine], covered, min(k, len(mine)))].tolist()
    core_set = np.sort(chosen)
    return core_set[k_center(points[core_set], covered, k)].tolist()


def radius(points: np.ndarray, picks: list[int]) -> float:
    """The largest distance of a point to its nearest pick."""
    return float(np.linalg.norm(points[:, None] - points[picks][None], axis=2).min(axis=1).max())


def least_radius(points: np.ndarray, k: int) -> float:
    """The radius of the best k centres among the points, by trying all of them."""
    return min(radius(points, list(picks)) for picks in itertools.combinations(range(len(points)), k))


def outer(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The materialised outer products [n, C * D] in float64."""
    return np.einsum("nc,nd->ncd", left.astype(float), right.astype(float)).reshape(len(left), -1)


def kmeans_pp_law(left: np.ndarray, right: np.ndarray, k: int) -> dict[tuple[int, ...], float]:
    """Probability of every sequence of `k` picks."""
    rows = outer(left, right)
    squared = np.square(rows[:, None] - rows[None]).sum(axis=2)
    law = {(int(np.argmax(np.square(rows).sum(axis=1))),): 1.0}
    for _ in range(k - 1):
        longer = {}
        for picks, probability in law.items():
            weights = squared[list(picks)].min(axis=0)
            for position in np.flatnonzero(weights):
                longer[(*picks, int(position))] = probability * float(weights[position] / weights.sum())
        law = longer
    return law


def split(half: Any, n_shards: int, *arrays: np.ndarray, indices: np.ndarray | None = None) -> "Counting":
    """`half` over the rows of `arrays`, block b of the dataset indices on shard b % n_shards."""
    indices = np.arange(len(arrays[0])) if indices is None else indices
    owner = indices // BLOCK % n_shards
    return Counting([half(*(array[owner == s] for array in arrays), indices[owner == s]) for s in range(n_shards)])


class Counting(LocalHalves):
    """Halves in this process that keep what was asked and answered."""

    def __init__(self, halves: Sequence[Any]) -> None:
        super().__init__(halves)
        self.exchanges: list[tuple[str, tuple[Any, ...], list[Any]]] = []

    def ask(self, verb: str, *args: Any) -> list[Any]:
        self.exchanges.append((verb, args, super().ask(verb, *args)))
        return self.exchanges[-1][2]

    def questions(self, verb: str) -> list[tuple[Any, ...]]:
        """The arguments of all questions of one verb, exchange by exchange."""
        return [args for asked, args, _ in self.exchanges if asked == verb]

    def answers(self, verb: str) -> list[list[Any]]:
        """The answers to them."""
        return [answers for asked, _, answers in self.exchanges if asked == verb]
