"""Tests of k-means++ on outer products: its law, shards, and degenerate pools."""

import numpy as np
import pytest
from scipy import stats

from openal_ray.selection import kmeans_pp
from openal_ray.selection.kmeans_pp import KMeansPPHalf, pick_kmeans_pp
from tests.selection import naive


def factors(n: int, c: int, d: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Residuals and features like those of a half-trained network."""
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.full(c, 0.5), size=n)
    left = probs - np.eye(c)[probs.argmax(axis=1)]
    right = np.maximum(rng.normal(size=(n, d)), 0) * (0.5 + rng.random((n, 1)))
    return left.astype(np.float32), right.astype(np.float32)


def test_the_joint_law_is_that_of_the_materialised_rows() -> None:
    left, right = factors(8, 3, 4, seed=3)
    law = naive.kmeans_pp_law(left.astype(float), right.astype(float), 3)
    rng, runs = np.random.default_rng(11), 4000
    seen = dict.fromkeys(law, 0)
    for _ in range(runs):
        seen[tuple(kmeans_pp(left, right, 3, rng).tolist())] += 1
    expected = np.array(list(law.values())) * runs
    observed = np.array(list(seen.values()))
    assert stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > 0.01


@pytest.mark.parametrize("n_shards", [2, 3, 5, 16])
def test_a_seed_gives_the_same_picks_for_any_shards(n_shards: int) -> None:
    left, right = factors(6000, 5, 8)
    indices = np.sort(np.random.default_rng(2).choice(20000, 6000, replace=False))

    def picks(shards: int) -> list[int]:
        halves = naive.split(KMeansPPHalf, shards, left, right, indices=indices)
        return pick_kmeans_pp(halves, 60, np.random.default_rng(4)).indices.tolist()

    assert picks(n_shards) == picks(1)
    assert len(set(picks(1))) == 60


def test_first_pick_is_the_largest_norm_and_the_lowest_on_ties() -> None:
    left = np.array([[1.0, 0.0], [0.0, 2.0], [2.0, 0.0]], dtype=np.float32)
    right = np.ones((3, 2), dtype=np.float32)
    picks = pick_kmeans_pp(naive.split(KMeansPPHalf, 1, left, right), 1, np.random.default_rng(0))
    assert picks.indices.tolist() == [1] and picks.scores.tolist() == [8.0]


def test_all_zero_gradients_give_the_lowest_positions() -> None:
    picks = kmeans_pp(np.zeros((5, 2)), np.ones((5, 3)), 4, np.random.default_rng(0))
    assert picks.tolist() == [0, 1, 2, 3]


def test_fewer_distinct_rows_than_picks() -> None:
    left, right = factors(4, 3, 5)
    copies = np.tile(np.arange(4), 10)
    picks = kmeans_pp(left[copies], right[copies], 12, np.random.default_rng(0)).tolist()
    assert sorted(copies[picks[:4]].tolist()) == [0, 1, 2, 3]
    rest = [position for position in range(40) if position not in picks[:4]]
    assert picks[4:] == rest[:8]


def test_refusals() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="k must be between 0 and the 2 rows there are, got 3"):
        kmeans_pp(np.ones((2, 2)), np.ones((2, 2)), 3, rng)
    with pytest.raises(ValueError, match="rows must be finite"):
        kmeans_pp(np.ones((1, 1)), np.array([[np.inf]]), 1, rng)
    with pytest.raises(ValueError, match=r"right must have shape \[2, \.\.\.\], got \(3, 2\)"):
        kmeans_pp(np.ones((2, 2)), np.ones((3, 2)), 1, rng)
