"""Tests of k-means: Lloyd's steps of the naive form, for any shards, with copies, and picks that are distinct."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openal_ray.selection import k_means
from openal_ray.selection.exact_sums import Scale
from openal_ray.selection.halves import BLOCK
from openal_ray.selection.k_means import KMeansHalf, fit_k_means, pick_nearest
from openal_ray.selection.kmeans_pp import KMeansPPHalf, pick_kmeans_pp
from tests.selection import naive


def blobs(n: int, d: int = 5, seed: int = 0) -> np.ndarray:
    """float32 [n, d] around six middles."""
    rng = np.random.default_rng(seed)
    return (4 * rng.normal(size=(6, d))[rng.integers(0, 6, n)] + rng.normal(size=(n, d))).astype(np.float32)


def start(points: np.ndarray, k: int, seed: int) -> np.ndarray:
    """The rows that D² seeding picks."""
    halves = naive.split(KMeansPPHalf, 1, np.ones((len(points), 1), np.float32), points)
    return points[pick_kmeans_pp(halves, k, np.random.default_rng(seed)).indices]


@pytest.mark.parametrize(("n", "k"), [(300, 6), (3000, 40), (50, 50), (20, 1)])
def test_centres_of_naive_lloyd_from_the_same_start(n: int, k: int) -> None:
    points = blobs(n)
    halves = naive.split(KMeansHalf, 2, points)
    centres = fit_k_means(halves, k, np.random.default_rng(1), iterations=12)
    expected = naive.lloyd(points, start(points, k, 1), 12)
    np.testing.assert_allclose(centres, expected, rtol=0, atol=1e-12)


def test_by_hand_on_a_line() -> None:
    points = np.array([[0.0], [1.0], [2.0], [10.0], [12.0]])
    halves = naive.split(KMeansHalf, 1, points)
    centres = fit_k_means(halves, 2, np.random.default_rng(0))
    assert sorted(centres[:, 0].tolist()) == [1.0, 11.0]
    picks = pick_nearest(halves, centres)
    assert picks.indices.tolist() == [1, 3] and picks.scores.tolist() == [3.0, 2.0]  # 10 and 12 tie


@pytest.mark.parametrize("n_covered", [0, 700])
def test_the_same_centres_and_picks_for_any_shards(n_covered: int) -> None:
    points, covered = blobs(6000, 7), blobs(n_covered, 7, seed=2)
    indices = np.sort(np.random.default_rng(2).choice(20 * BLOCK, 6000, replace=False))

    def found(n_shards: int) -> tuple[bytes, list[int]]:
        halves = naive.split(KMeansHalf, n_shards, points, indices=indices)
        centres = fit_k_means(halves, 30, np.random.default_rng(4), covered)
        return centres.tobytes(), pick_nearest(halves, centres).indices.tolist()

    expected = found(1)
    assert len(set(expected[1])) == 30
    for n_shards in (2, 5, 30):  # of 20 blocks: some shards are empty
        assert found(n_shards) == expected


def test_covered_rows_count_like_the_others() -> None:
    points = blobs(400)
    joined = fit_k_means(naive.split(KMeansHalf, 1, points[:300]), 5, np.random.default_rng(0), points[300:], 100)
    sizes, inside = np.zeros(5), np.zeros(5)
    for row in points.astype(float):
        squared = np.square(joined - row).sum(axis=1)
        sizes[squared.argmin()] += 1
        inside[squared.argmin()] += squared.min()
    members = [np.argmin([np.square(centre - row).sum() for centre in joined]) for row in points.astype(float)]
    for cluster in range(5):  # at the end every centre is the mean of its rows, covered or not
        mean = points[np.array(members) == cluster].astype(float).mean(axis=0)
        np.testing.assert_allclose(joined[cluster], mean, atol=1e-12)


def test_an_empty_cluster_goes_to_the_farthest_row() -> None:
    points = np.array([[0.0], [1.0], [5.0], [9.0]])
    half = KMeansHalf(points, np.arange(4))
    scale = Scale.of(9.0 * BLOCK, 4)
    assert half.assign(np.array([[0.5], [100.0]]), scale)[1].tolist() == [4, 0]
    assert half.farthest(1)[0].tolist() == [3]
    three = np.repeat(np.array([[0.0, 1.0], [2.0, 2.0], [7.0, 0.0]]), 40, axis=0)
    centres = fit_k_means(naive.split(KMeansHalf, 1, three), 3, np.random.default_rng(0))
    assert sorted(centres.tolist()) == [[0.0, 1.0], [2.0, 2.0], [7.0, 0.0]]


@pytest.mark.parametrize("n_shards", [1, 3])
def test_fewer_distinct_rows_than_clusters(n_shards: int) -> None:
    points = np.tile(blobs(4), (900, 1))
    halves = naive.split(KMeansHalf, n_shards, points)
    picks = pick_nearest(halves, fit_k_means(halves, 9, np.random.default_rng(0)))
    assert sorted(picks.indices[:4] % 4) == [0, 1, 2, 3] and picks.scores[:4].tolist() == [900.0] * 4
    assert len(set(picks.indices.tolist())) == 9 and picks.scores[4:].tolist() == [0.0] * 5


@given(seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=40, derandomize=True)
def test_random_small_pools_and_grids(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(1, 40)), int(rng.integers(1, 4))
    points = rng.integers(0, 4, (n, d)).astype(np.float64) if rng.random() < 0.5 else rng.normal(size=(n, d))
    k = int(rng.integers(1, n + 1))
    halves = naive.split(KMeansHalf, 2, points, indices=np.sort(rng.choice(8 * BLOCK, n, replace=False)))
    centres = fit_k_means(halves, k, np.random.default_rng(1))
    picks = pick_nearest(halves, centres)
    assert len(np.unique(picks.indices)) == k == len(centres) and np.isfinite(centres).all()
    assert (np.diff(picks.scores) <= 0).all()


def test_numbers_of_any_size() -> None:
    points = blobs(500).astype(np.float64)
    centres = fit_k_means(naive.split(KMeansHalf, 1, points), 6, np.random.default_rng(1))
    for scale in (2.0**-300, 2.0**200):
        halves = naive.split(KMeansHalf, 1, points * scale)
        np.testing.assert_allclose(fit_k_means(halves, 6, np.random.default_rng(1)) / scale, centres, rtol=1e-12)


def test_positions_of_plain_arrays() -> None:
    points = blobs(200)
    picks = k_means(points, 200, np.random.default_rng(0))
    assert sorted(picks.tolist()) == list(range(200))
    assert k_means(points, 0, np.random.default_rng(0)).tolist() == []
    mean = points.astype(float).mean(axis=0)
    assert k_means(points, 1, np.random.default_rng(0)).tolist() == [
        int(np.square(points.astype(float) - mean).sum(axis=1).argmin())
    ]


def test_refusals() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="k must be between 0 and the 2 rows there are, got 3"):
        k_means(np.ones((2, 2)), 3, rng)
    with pytest.raises(ValueError, match="points must be finite and below 1e.70; row 1 is not"):
        k_means(np.array([[1.0], [np.nan]]), 1, rng)
