"""Tests of Cluster-Margin: its candidates, its clusters against naive average linkage, and its round robin by hand."""

import numpy as np
import pytest

from openal_ray.selection import cluster_margin
from openal_ray.selection.cluster_margin import ClusterMarginHalf, _clusters, _round_robin, pick_cluster_margin
from openal_ray.selection.halves import BLOCK
from tests.selection import naive


def test_clusters_of_naive_average_linkage() -> None:
    points = np.random.default_rng(0).normal(size=(40, 3))
    for n_clusters in (1, 4, 17, 40):
        expected = naive.average_linkage(points, n_clusters)
        found = _clusters(points, n_clusters, None)
        groups = [np.flatnonzero(found == cluster).tolist() for cluster in np.unique(found)]
        assert sorted(groups) == sorted(sorted(group) for group in expected)
    line = np.array([[0.0], [1.0], [5.0], [7.0]])  # 5.5 between the pairs
    assert len(np.unique(_clusters(line, 9, 1.5))) == 3
    assert len(np.unique(_clusters(line, 9, 5.4))) == 2
    assert len(np.unique(_clusters(line, 9, 5.5))) == 1


def test_round_robin_from_the_smallest_cluster() -> None:
    clusters = np.array([7, 7, 7, 3, 5, 5, 9, 9])  # sizes 3, 1, 2, 2
    order = _round_robin(clusters, 8, np.random.default_rng(0)).tolist()
    assert clusters[order].tolist() == [3, 5, 9, 7, 5, 9, 7, 7]
    assert sorted(order) == list(range(8))
    assert _round_robin(clusters, 3, np.random.default_rng(0)).tolist() == order[:3]


def test_a_cluster_gives_each_of_its_rows_as_often() -> None:
    rng = np.random.default_rng(0)
    firsts = [int(_round_robin(np.array([1, 1, 1, 1]), 1, rng)[0]) for _ in range(4000)]
    assert (np.abs(np.bincount(firsts) - 1000) < 150).all()  # 5 standard deviations


def test_only_the_most_uncertain_are_candidates() -> None:
    rng = np.random.default_rng(1)
    scores, points = rng.random(500), rng.normal(size=(500, 3))
    picks = cluster_margin(scores, points, 10, np.random.default_rng(0), factor=4)
    assert len(set(picks.tolist())) == 10 and set(picks.tolist()) <= set(np.argsort(-scores)[:40].tolist())
    best = cluster_margin(scores, points, 10, np.random.default_rng(0), factor=1)
    assert sorted(best.tolist()) == sorted(np.argsort(-scores)[:10].tolist())
    groups = naive.average_linkage(points[np.argsort(-scores)[:40]], 10)
    of = {int(np.argsort(-scores)[member]): number for number, group in enumerate(groups) for member in group}
    assert len({of[pick] for pick in picks.tolist()}) == 10  # one of each of the ten clusters
    sizes = [len(groups[of[pick]]) for pick in picks.tolist()]
    assert sizes == sorted(sizes)


def test_the_same_picks_for_any_shards() -> None:
    rng = np.random.default_rng(2)
    scores, points = rng.integers(0, 30, 3000) / 30, rng.normal(size=(3000, 4)).astype(np.float32)
    indices = np.sort(rng.choice(12 * BLOCK, 3000, replace=False))

    def picks(n_shards: int, **limits: float) -> list[int]:
        halves = naive.split(ClusterMarginHalf, n_shards, scores, points, indices=indices)
        return pick_cluster_margin(halves, 30, np.random.default_rng(0), **limits).indices.tolist()

    for limits in ({}, {"threshold": 1.0}, {"n_clusters": 7}):
        expected = picks(1, **limits)
        assert len(set(expected)) == 30
        assert all(picks(n_shards, **limits) == expected for n_shards in (2, 5, 20))
    assert picks(1) != picks(1, n_clusters=7)


def test_copies_one_row_and_all_rows() -> None:
    rng = np.random.default_rng(0)
    assert cluster_margin(np.ones(1), np.ones((1, 2)), 1, rng).tolist() == [0]
    assert sorted(cluster_margin(np.ones(50), np.ones((50, 2)), 50, rng).tolist()) == list(range(50))
    assert len(set(cluster_margin(np.ones(50), np.ones((50, 2)), 20, rng).tolist())) == 20
    assert cluster_margin(np.ones(5), np.ones((5, 2)), 0, rng).tolist() == []


def test_refusals() -> None:
    halves = naive.split(ClusterMarginHalf, 1, np.ones(3), np.ones((3, 1)))
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="k must be between 0 and the 3 rows there are, got 4"):
        pick_cluster_margin(halves, 4, rng)
    with pytest.raises(ValueError, match="factor must be >= 1, got 0.5"):
        pick_cluster_margin(halves, 1, rng, factor=0.5)
    with pytest.raises(ValueError, match="give n_clusters or threshold, not both"):
        pick_cluster_margin(halves, 1, rng, n_clusters=2, threshold=1.0)
    with pytest.raises(ValueError, match="n_clusters must be >= 1, got 0"):
        pick_cluster_margin(halves, 1, rng, n_clusters=0)
    with pytest.raises(ValueError, match="threshold must be >= 0, got nan"):
        pick_cluster_margin(halves, 1, rng, threshold=np.nan)
    with pytest.raises(ValueError, match="got NaN at 1 place"):
        cluster_margin(np.array([np.nan]), np.ones((1, 1)), 1, rng)
    with pytest.raises(ValueError, match="points must be finite"):
        cluster_margin(np.ones(1), np.full((1, 1), np.inf), 1, rng)
