"""Tests of two-level k-center: the picks of its naive form for any shards, its radius, and its guarantee."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openal_ray.selection import k_center
from openal_ray.selection.halves import BLOCK
from openal_ray.selection.two_level import TwoLevelHalf, pick_two_level
from tests.selection import naive
from tests.selection.test_k_center import KINDS


def split(n_shards: int, parts: int, points: np.ndarray, indices: np.ndarray) -> naive.Counting:
    """The points on shards, block b on shard b % n_shards."""
    return naive.split(lambda rows, mine: TwoLevelHalf(rows, mine, parts), n_shards, points, indices=indices)


def nearest(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """float64 [n] distances to the nearest centre."""
    squared = [np.square(points.astype(float) - centre.astype(float)).sum(axis=1) for centre in centres]
    return np.sqrt(np.min(squared, axis=0))


def test_by_hand_on_a_line() -> None:
    points = np.array([[0.0], [1.0], [4.0], [9.0], [10.0], [5.0]], dtype=np.float32)
    indices = np.array([0, 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 1])  # parts 0, 0, 1, 1, 0, 0
    cover = pick_two_level(split(1, 2, points, indices), 1, np.zeros((1, 1), np.float32))
    assert cover.picks.indices.tolist() == [2 * BLOCK]  # part 0 offers 10, part 1 offers 9
    assert cover.picks.scores.tolist() == [10.0]
    assert cover.radius == 5.0  # of the point 5
    assert cover.least == 0.5  # among 10 and 9, the next pick is 1 away from the first


@pytest.mark.parametrize("seed", range(60))
def test_picks_and_radius_of_the_naive_form_for_any_shards(seed: int) -> None:
    rng = np.random.default_rng(seed)
    kind, n, d = str(rng.choice(list(KINDS))), int(rng.integers(30, 500)), int(rng.choice([1, 3, 17]))
    points = KINDS[kind](n, d, rng).astype(np.float32)
    indices = np.sort(rng.choice(20 * BLOCK, n, replace=False))
    covered = points[rng.integers(0, n, rng.choice([0, 1, 20]))]
    k = int(rng.integers(1, min(n, 40)))
    expected = naive.two_level(points, indices, covered, k, 6)
    centres = np.concatenate([covered, points[expected]])
    for n_shards in (1, 2, 3, 6):
        halves = split(n_shards, 6, points, indices)
        cover = pick_two_level(halves, k, covered)
        assert cover.picks.indices.tolist() == indices[expected].tolist(), kind
        assert cover.radius == pytest.approx(nearest(points, centres).max(), rel=1e-12)
        assert len(halves.exchanges) <= 3 or cover.picks.scores[-1] == 0


@given(seed=st.integers(0, 2**31), k=st.integers(1, 3), parts=st.integers(1, 4), n_covered=st.integers(0, 2))
@settings(deadline=None, max_examples=60, derandomize=True)
def test_the_guarantee(seed: int, k: int, parts: int, n_covered: int) -> None:
    rng = np.random.default_rng(seed)
    points, covered = rng.normal(size=(10, 2)), rng.normal(size=(n_covered, 2))
    cover = pick_two_level(split(1, parts, points, np.arange(10) * BLOCK), k, covered)
    among_points = min(
        nearest(points, np.concatenate([covered, points[list(picks)]])).max()
        for picks in itertools.combinations(range(10), k)
    )
    assert cover.radius <= 4 * among_points + 1e-12
    assert cover.least <= among_points + 1e-12
    assert among_points <= cover.radius + 1e-12


def test_one_part_is_exact_greedy() -> None:
    points = np.random.default_rng(0).normal(size=(3000, 8)).astype(np.float32)
    assert k_center(points, points[:9], 80, parts=1).tolist() == k_center(points, points[:9], 80).tolist()


def test_a_part_in_two_shards_is_refused_in_words() -> None:
    points = np.random.default_rng(0).normal(size=(8 * BLOCK, 2)).astype(np.float32)
    halves = split(4, 6, points, np.arange(len(points)))
    with pytest.raises(ValueError, match=r"each part must lie in one shard, and part \d lies in 2 of 4"):
        pick_two_level(halves, 5)
    assert [verb for verb, *_ in halves.exchanges] == ["sizes"]  # before any work


def test_the_whole_pool_and_copies() -> None:
    points = np.ones((50, 3))
    cover = pick_two_level(split(2, 4, points, np.arange(50) * BLOCK), 50)
    assert sorted(cover.picks.indices.tolist()) == (np.arange(50) * BLOCK).tolist()
    assert cover.radius == 0.0 and cover.least == 0.0
    assert k_center(points, None, 3, parts=2).tolist() == [0, 1, 2]


def test_refusals() -> None:
    with pytest.raises(ValueError, match="k must be between 0 and the 2 rows there are, got 3"):
        k_center(np.zeros((2, 2)), None, 3, parts=2)
    with pytest.raises(ValueError, match="must be finite and below 1e.70; row 1 is not"):
        k_center(np.array([[1.0], [np.nan]]), None, 1, parts=1)
    with pytest.raises(ValueError, match="parts must be at least 1, got -1"):
        k_center(np.zeros((2, 2)), None, 1, parts=-1)
    with pytest.raises(ValueError, match=r"points must have shape \[2, D\] with D > 0, got \(2,\)"):
        k_center(np.zeros(2), None, 1, parts=1)
