"""The algorithms as their papers write them, in float64, one pick at a time: what every fast form must reproduce."""

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


def kmeans_pp_law(left: np.ndarray, right: np.ndarray, k: int) -> dict[tuple[int, ...], float]:
    """Probability of every sequence of `k` picks, from the materialised outer products."""
    rows = np.einsum("nc,nd->ncd", left, right).reshape(len(left), -1)
    squared = np.square(rows[:, None] - rows[None]).sum(axis=2)
    law = {(int(np.argmax(np.square(rows).sum(axis=1))),): 1.0}
    for _ in range(k - 1):
        longer = {}
        for picks, probability in law.items():
            weights = squared[list(picks)].min(axis=0)
            for position in np.flatnonzero(weights):
                longer[(*picks, int(position))] = probability * weights[position] / weights.sum()
        law = longer
    return law


def split(half: type, n_shards: int, *arrays: np.ndarray, indices: np.ndarray | None = None) -> LocalHalves:
    """`half` over the rows of `arrays`, block b of the dataset indices on shard b % n_shards."""
    indices = np.arange(len(arrays[0])) if indices is None else indices
    owner = indices // BLOCK % n_shards
    return LocalHalves([half(*(array[owner == s] for array in arrays), indices[owner == s]) for s in range(n_shards)])
