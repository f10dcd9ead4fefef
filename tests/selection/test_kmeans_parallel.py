"""Tests of k-means||: its sampling, its weights, the law of the draws among the candidates, shards, hard pools."""

import numpy as np
import pytest
from scipy import stats

from openal_ray.selection import kmeans_pp
from openal_ray.selection.halves import BLOCK, LocalHalves
from openal_ray.selection.kmeans_parallel import KMeansParallelHalf, pick_kmeans_parallel
from openal_ray.selection.kmeans_pp import KMeansPPHalf, pick_kmeans_pp
from openal_ray.selection.outer_rows import OuterRows
from tests.selection import naive
from tests.selection.test_kmeans_pp import crowded, factors, network


def squared_distances(left: np.ndarray, right: np.ndarray, picks: list[int]) -> np.ndarray:
    """float64 [n, picks] of the materialised rows."""
    rows = naive.outer(left, right)
    return np.square(rows[:, None] - rows[picks]).sum(axis=2)


def test_every_row_is_sampled_with_the_probability_of_the_paper() -> None:
    left, right = factors(60, 3, 4)
    half = KMeansParallelHalf(left, right, np.arange(60) * BLOCK // 5)
    half.compare(OuterRows(np.array([7, 20]), left[[7, 20]], right[[7, 20]]))
    squared = squared_distances(left, right, [7, 20]).min(axis=1)
    probability = np.minimum(1, 8 * squared / squared.sum())
    runs, seen = 4000, np.zeros(60)
    for seed in range(runs):
        seen[np.searchsorted(half._rows.indices, half.sample(seed, 8 / squared.sum()).indices)] += 1
    open_ = (probability > 0) & (probability < 1)
    assert np.flatnonzero(probability == 0).tolist() == [7, 20] and 0 < (probability == 1).sum() < 5
    assert (seen[~open_] == runs * probability[~open_]).all()
    variance = runs * probability * (1 - probability)
    chi_squared = (np.square(seen - runs * probability)[open_] / variance[open_]).sum()
    assert stats.chi2.sf(chi_squared, open_.sum()) > 0.01


@pytest.mark.parametrize("n_shards", [1, 3])
def test_weights_are_the_rows_nearest_to_each_candidate(n_shards: int) -> None:
    left, right = factors(4000, 5, 8)
    halves = naive.split(KMeansParallelHalf, n_shards, left, right)
    pick_kmeans_parallel(halves, 30, 3, np.random.default_rng(0))
    candidates = np.concatenate([picks.indices for (picks,) in halves.questions("compare")])
    squared = squared_distances(left, right, candidates.tolist())
    expected = np.bincount(squared.argmin(axis=1), minlength=len(candidates))
    assert np.sum(halves.answers("weights")[0], axis=0).tolist() == expected.tolist()
    assert expected.sum() == 4000 and expected.min() >= 1
    sizes = [len(picks) for (picks,) in halves.questions("compare")]
    for known, sampled, (_, rate) in zip(np.cumsum(sizes), sizes[1:], halves.questions("sample"), strict=False):
        assert rate == pytest.approx(2 * 30 / squared[:, :known].min(axis=1).sum(), rel=1e-9)
        assert 30 < sampled < 90  # 60 are expected


def test_draws_among_candidates_follow_weight_times_d2() -> None:
    left, right = factors(9, 3, 4, seed=3)
    counts, indices = np.array([1, 40, 3, 0, 7, 25, 1, 300, 2]), np.arange(9) * BLOCK // 4
    squared = squared_distances(left, right, list(range(9)))
    first = int(np.argmax(np.square(naive.outer(left, right)).sum(axis=1)))
    one = counts * squared[first]
    law = {}
    for i in np.flatnonzero(one):
        two = counts * np.minimum(squared[first], squared[i])
        law |= {(int(i), int(j)): float(one[i] / one.sum() * two[j] / two.sum()) for j in np.flatnonzero(two)}
    seen, rng, runs = dict.fromkeys(law, 0), np.random.default_rng(1), 1500
    for _ in range(runs):
        half = KMeansPPHalf(left, right, indices, counts=counts)
        picks = np.searchsorted(indices, pick_kmeans_pp(LocalHalves([half]), 3, rng).indices).tolist()
        assert picks[0] == first
        seen[picks[1], picks[2]] += 1
    expected, observed = np.array(list(law.values())) * runs, np.array(list(seen.values()))
    rare = expected < 5
    expected, observed = (np.append(cells[~rare], cells[rare].sum()) for cells in (expected, observed))
    assert len(expected) > 10 and stats.chisquare(observed, expected, sum_check=False).pvalue > 0.01


@pytest.mark.parametrize("make", [network, crowded])
def test_a_seed_gives_the_same_picks_for_any_shards(make) -> None:
    left, right = make(5000)
    indices = np.sort(np.random.default_rng(2).choice(20000, 5000, replace=False))

    def picks(n_shards: int) -> list[int]:
        halves = naive.split(KMeansParallelHalf, n_shards, left, right, indices=indices)
        found = pick_kmeans_parallel(halves, 40, 3, np.random.default_rng(4))
        assert len(halves.answers("compare")) == 4 and len(halves.answers("sample")) == 3
        return found.indices.tolist()

    expected = picks(1)
    assert len(set(expected)) == 40
    assert picks(2) == expected and picks(5) == expected and picks(25) == expected  # of 20 blocks: some are empty


def test_the_cost_is_about_that_of_d2_sampling() -> None:
    left, right = factors(3000, 5, 8)
    left, right = left[np.arange(3000) % 50], right * 1e-2 + right[np.arange(3000) % 50]  # 50 clusters

    def cost(seed: int, rounds: int) -> float:
        picks = kmeans_pp(left, right, 60, np.random.default_rng(seed), rounds=rounds)
        return float(squared_distances(left, right, picks.tolist()).min(axis=1).sum())

    exact, parallel = (np.mean([cost(seed, rounds) for seed in range(5)]) for rounds in (0, 4))
    at_random = [np.random.default_rng(seed).choice(3000, 60, replace=False).tolist() for seed in range(5)]
    worse = np.mean([squared_distances(left, right, picks).min(axis=1).sum() for picks in at_random])
    assert parallel < 1.1 * exact and 2 * exact < worse


def test_too_few_candidates_bring_more_rounds() -> None:
    left, right = factors(400, 4, 6)
    right[7] *= 1e8  # the one row that the first rounds see
    right[8] *= 1e4
    picks = kmeans_pp(left, right, 300, np.random.default_rng(0), rounds=1)
    assert picks[0] == 7 and len(set(picks.tolist())) == 300


@pytest.mark.parametrize("scale", [1.0, 1e-18, 1e18])
def test_fewer_distinct_rows_than_picks(scale: float) -> None:
    left, right = factors(4, 3, 5)
    copies = np.tile(np.arange(4), 500)
    right = (right * scale).astype(np.float32)
    picks = kmeans_pp(left[copies], right[copies], 12, np.random.default_rng(0), rounds=2).tolist()
    assert sorted(copies[picks[:4]].tolist()) == [0, 1, 2, 3]
    assert picks[4:] == [position for position in range(2000) if position not in picks[:4]][:8]


def test_zeros_the_whole_pool_and_nothing() -> None:
    zeros, rng = np.zeros((3000, 2), np.float32), np.random.default_rng(0)
    assert kmeans_pp(zeros, zeros, 4, rng, rounds=2).tolist() == [0, 1, 2, 3]
    left, right = factors(200, 4, 6)
    assert sorted(kmeans_pp(left, right, 200, rng, rounds=1).tolist()) == list(range(200))
    assert kmeans_pp(left, right, 0, rng, rounds=1).tolist() == []
    assert kmeans_pp(left, right, 1, rng, rounds=1).tolist() == kmeans_pp(left, right, 1, rng).tolist()


def test_refusals() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="k must be between 0 and the 2 rows there are, got 3"):
        kmeans_pp(np.ones((2, 2)), np.ones((2, 2)), 3, rng, rounds=1)
    with pytest.raises(ValueError, match="rows must be finite, with squared norms below 1e.280; row 1 is not"):
        kmeans_pp(np.array([[1.0], [0.0]]), np.array([[1.0], [np.inf]]), 1, rng, rounds=1)
    with pytest.raises(ValueError, match="rounds must be at least 1, got -1"):
        kmeans_pp(np.ones((2, 2)), np.ones((2, 2)), 1, rng, rounds=-1)
    with pytest.raises(ValueError, match=r"right must have shape \[2, D\] with D > 0, got \(3, 2\)"):
        kmeans_pp(np.ones((2, 2)), np.ones((3, 2)), 1, rng, rounds=1)
