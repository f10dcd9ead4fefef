"""Picks that give every group its share: so many of each class, or evenly over clusters. Groups are `grouped` rows."""

import numpy as np

from openal_ray.selection.grouped import Ranked, best_of_groups
from openal_ray.selection.halves import Halves, Picks, checked_sizes


def pick_by_quota(halves: Halves, quotas: np.ndarray) -> Picks:
    """The best quotas[g] rows of each group g; what a group lacks goes to the best rows left of all groups.

    returns  best first by the keys, whatever the group; scores are the first key
    raises   ValueError if there are fewer rows than the quotas add up to
    """
    k = int(quotas.sum())
    checked_sizes(halves, k)
    rows = best_of_groups(halves, quotas)
    return _picks(_best(Ranked.joined([rows, best_left(halves, len(quotas), k - len(rows), rows.indices)]), k))


def best_left(halves: Halves, n_groups: int, k: int, picked: np.ndarray) -> Ranked:
    """The best `k` rows of all groups that are not among the dataset indices `picked`."""
    return _best(best_of_groups(halves, np.full(n_groups, k), picked), k)


def even_quotas(k: int, n_groups: int, rng: np.random.Generator) -> np.ndarray:
    """int64 [n_groups] that add up to `k`, equal but for the remainder, which goes to groups drawn by chance."""
    quotas = np.full(n_groups, k // n_groups, dtype=np.int64)
    quotas[rng.permutation(n_groups)[: k % n_groups]] += 1
    return quotas


def pick_by_cluster(halves: Halves, k: int, spare: bool = False) -> Picks:
    """`k` rows over clusters: pass after pass, the next best few of every cluster, until the budget is spent.

    A pass takes min(k, rows) ÷ clusters of each, rounded down but at least one, or what the cluster has left; the last
    pass takes the best of what a whole one would take.
    spare    the last group is no cluster: its rows, best first, only fill what the clusters lack
    returns  pass by pass, within a pass best first; scores are the first key
    raises   ValueError if there are fewer than k rows
    source   EOAL (Safaei et al. 2024), its query step. Differs: its last pass goes on cluster by cluster.
    """
    checked_sizes(halves, k)
    counts = np.sum(halves.ask("counts"), axis=0)
    sizes = counts[:-1] if spare else counts
    wanted = min(k, int(sizes.sum()))
    each = max(1, wanted // max(1, int((sizes > 0).sum())))
    passes = _whole_passes(sizes, each, wanted)
    depths = np.minimum(sizes, (passes + 1) * each)
    rows = best_of_groups(halves, np.append(depths, 0) if spare else depths)
    number = (np.arange(len(rows)) - np.searchsorted(rows.groups, rows.groups)) // each
    order = np.lexsort((rows.indices, *(-rows.keys.T[::-1]), number))[:wanted]
    clustered = rows[order]
    if wanted < k:
        only_spare = np.append(np.zeros_like(sizes), k - wanted)
        clustered = Ranked.joined([clustered, best_of_groups(halves, only_spare)])
    return _picks(clustered)


def _whole_passes(sizes: np.ndarray, each: int, wanted: int) -> int:
    """How many passes of `each` a cluster leave the budget `wanted` enough."""
    low, high = 0, wanted // each
    while low < high:
        middle = (low + high + 1) // 2
        if np.minimum(sizes, middle * each).sum() <= wanted:
            low = middle
        else:
            high = middle - 1
    return low


def _best(rows: Ranked, k: int) -> Ranked:
    """The best `k` rows, whatever their group."""
    order = np.lexsort((rows.indices, *(-rows.keys.T[::-1])))[:k]
    return rows[order]


def _picks(rows: Ranked) -> Picks:
    return Picks(rows.indices, rows.keys[:, 0])
