"""The algorithms as their papers write them, in float64, one pick at a time: what every fast form must reproduce."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from openal_ray.selection.halves import BLOCK, LocalHalves
from openal_ray.selection.kernels import RBF, TopHat


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


def lloyd(points: np.ndarray, centres: np.ndarray, iterations: int) -> np.ndarray:
    """Centres after Lloyd's steps; for data on which no cluster becomes empty."""
    points, centres = points.astype(float), centres.astype(float)
    for _ in range(iterations):
        members = np.stack([np.square(points - centre).sum(axis=1) for centre in centres]).argmin(axis=0)
        centres = np.stack([points[members == cluster].mean(axis=0) for cluster in range(len(centres))])
    return centres


def kernel(of: TopHat | RBF) -> Callable[[np.ndarray], np.ndarray]:
    """The same kernel as a plain function of distances; rounded, as `selection.kernels` says it is."""
    if isinstance(of, TopHat):
        return lambda distances: (distances < of.radius).astype(float)
    return lambda distances: np.rint(2.0**30 * np.exp(-np.square(distances / of.bandwidth))) / 2.0**30


def coverage(
    points: np.ndarray, covered: np.ndarray, k: int, kernel: Callable[[np.ndarray], np.ndarray]
) -> tuple[list[int], list[float]]:
    """Positions and gains of greedy coverage from the dense matrix; where nothing is gained, the lowest positions."""
    everything = np.concatenate([points, covered]).astype(float)
    matrix = kernel(np.sqrt(np.square(everything[:, None] - everything[None]).sum(axis=2)))
    reached = matrix[:, len(points) :].max(axis=1, initial=0.0)
    picks: list[int] = []
    gains: list[float] = []
    for _ in range(k):
        added = np.maximum(matrix[:, : len(points)] - reached[:, None], 0).mean(axis=0)
        added[picks] = -1.0
        picks.append(int(added.argmax()))
        gains.append(float(added.max()))
        reached = np.maximum(reached, matrix[:, picks[-1]])
    return picks, gains


def typiclust(points: np.ndarray, covered: np.ndarray, centres: np.ndarray, k: int) -> tuple[list[int], list[float]]:
    """Positions and typicalities, one pick at a time, from the dense distances."""
    everything = np.concatenate([points, covered]).astype(float)
    clusters = np.stack([np.square(everything - centre).sum(axis=1) for centre in centres]).argmin(axis=0)
    labelled = [*range(len(points), len(everything))]
    picks: list[int] = []
    typicalities: list[float] = []
    for _ in range(k):
        open_clusters = []
        for cluster in range(len(centres)):
            members = np.flatnonzero(clusters == cluster)
            known = np.isin(members, labelled).sum()
            if known < len(members):
                open_clusters.append((len(members) < 5, known, -len(members), cluster))
        members = np.flatnonzero(clusters == min(open_clusters)[3])
        distances = {}
        for member in sorted(set(members.tolist()) - set(labelled)):
            others = members[members != member]
            nearest = np.sort(np.sqrt(np.square(everything[others] - everything[member]).sum(axis=1)))[:20]
            distances[member] = nearest.mean() if len(nearest) else np.inf
        picks.append(min(distances, key=lambda member: (distances[member], member)))
        typicalities.append(1 / (distances[picks[-1]] + 1e-5))
        labelled.append(picks[-1])
    return picks, typicalities


def average_linkage(points: np.ndarray, n_clusters: int) -> list[list[int]]:
    """Clusters left when the two of least mean distance have been joined again and again."""
    clusters = [[position] for position in range(len(points))]
    while len(clusters) > n_clusters:
        pairs = itertools.combinations(range(len(clusters)), 2)
        one, other = min(
            pairs,
            key=lambda pair: np.linalg.norm(
                points[clusters[pair[0]]][:, None] - points[clusters[pair[1]]], axis=2
            ).mean(),
        )
        clusters[one] += clusters.pop(other)
    return clusters


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
