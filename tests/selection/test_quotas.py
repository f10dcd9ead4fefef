"""Tests of quotas.py: against the plain passes and quotas, shortages, shards."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openal_ray.selection.grouped import GroupedHalf
from openal_ray.selection.halves import BLOCK, LocalHalves
from openal_ray.selection.quotas import even_quotas, pick_by_cluster, pick_by_quota


def halves(keys: np.ndarray, groups: np.ndarray, n_groups: int, n_shards: int = 1) -> LocalHalves:
    indices = np.arange(len(keys))
    shards = (indices[indices // BLOCK % n_shards == shard] for shard in range(n_shards))
    return LocalHalves([GroupedHalf(keys[own], groups[own], own, n_groups) for own in shards])


def by_passes(keys: list[float], groups: list[int], n_clusters: int, k: int) -> list[int]:
    """EOAL's passes, one image at a time; the last pass takes the best of a whole one, then the spare rows."""
    order = sorted(range(len(keys)), key=lambda i: (-keys[i], i))
    left = [[i for i in order if groups[i] == cluster] for cluster in range(n_clusters)]
    wanted = min(k, sum(map(len, left)))
    picked: list[int] = []
    each = max(1, wanted // max(1, sum(map(bool, left))))
    while len(picked) < wanted:
        one_pass = [i for cluster in left for i in cluster[:each]]
        left = [cluster[each:] for cluster in left]
        picked += sorted(one_pass, key=lambda i: (-keys[i], i))[: wanted - len(picked)]
    return picked + [i for i in order if groups[i] == n_clusters][: k - wanted]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_clusters_take_turns(data: st.DataObject) -> None:
    n_clusters = data.draw(st.integers(1, 5))
    groups = data.draw(st.lists(st.integers(0, n_clusters), min_size=1, max_size=40))
    keys = data.draw(st.lists(st.integers(0, 4).map(float), min_size=len(groups), max_size=len(groups)))
    k = data.draw(st.integers(0, len(groups)))
    found = pick_by_cluster(halves(np.array(keys), np.array(groups), n_clusters + 1), k, spare=True)
    assert found.indices.tolist() == by_passes(keys, groups, n_clusters, k)
    assert found.scores.tolist() == [keys[i] for i in found.indices]


def test_without_spare_rows_every_group_is_a_cluster() -> None:
    keys = np.array([9.0, 8.0, 7.0, 1.0, 6.0, 0.5])
    found = pick_by_cluster(halves(keys, np.array([0, 0, 0, 1, 0, 1]), 2), 4)
    assert found.indices.tolist() == [0, 1, 3, 5]


def test_quotas_and_their_shortage() -> None:
    # Group 1 has one row of the two it should give, group 2 none: the best two left fill in.
    keys, groups = np.array([1.0, 2.0, 9.0, 4.0, 5.0, 3.0]), np.array([0, 0, 1, 0, 0, 0])
    found = pick_by_quota(halves(keys, groups, 3), np.array([1, 2, 1]))
    assert found.indices.tolist() == [2, 4, 3, 5]
    assert found.scores.tolist() == [9, 5, 4, 3]
    assert pick_by_quota(halves(keys, groups, 3), np.array([0, 0, 0])).indices.tolist() == []
    with pytest.raises(ValueError, match="between 0 and the 6 rows there are, got 7"):
        pick_by_quota(halves(keys, groups, 3), np.array([7, 0, 0]))


@pytest.mark.parametrize("n_shards", [2, 5])
def test_shards_change_nothing(n_shards: int) -> None:
    rng = np.random.default_rng(0)
    keys, groups = rng.integers(0, 99, (9000, 2)).astype(float), rng.integers(0, 8, 9000)
    for pick in (
        lambda h: pick_by_cluster(h, 777, spare=True),
        lambda h: pick_by_quota(h, np.array([5, 0, 3000, 40, 1, 1, 1, 1])),
    ):
        one, other = pick(halves(keys, groups, 8)), pick(halves(keys, groups, 8, n_shards))
        assert one.indices.tolist() == other.indices.tolist()
        assert one.scores.tolist() == other.scores.tolist()


def test_even_quotas() -> None:
    quotas = [even_quotas(11, 4, np.random.default_rng(seed)) for seed in range(20)]
    assert all(sorted(one) == [2, 3, 3, 3] for one in quotas)
    assert len({tuple(one) for one in quotas}) > 1
    assert even_quotas(2, 3, np.random.default_rng(0)).sum() == 2
