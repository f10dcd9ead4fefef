"""Tests of TypiClust: the picks of the dense form, one at a time, for any shards, labels and copies."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openal_ray.selection import typical, typiclust
from openal_ray.selection.halves import BLOCK, LocalHalves
from openal_ray.selection.k_means import KMeansHalf, fit_k_means
from openal_ray.selection.typical import TypicalHalf, clusters_wanted, pick_typical
from tests.selection import naive


def blobs(n: int, d: int = 4, seed: int = 0) -> np.ndarray:
    """float32 [n, d] around six middles."""
    rng = np.random.default_rng(seed)
    return (3 * rng.normal(size=(6, d))[rng.integers(0, 6, n)] + rng.normal(size=(n, d))).astype(np.float32)


def fitted(points: np.ndarray, n_clusters: int) -> np.ndarray:
    return fit_k_means(naive.split(KMeansHalf, 1, points), n_clusters, np.random.default_rng(0))


@pytest.mark.parametrize("n_covered", [0, 15])
@pytest.mark.parametrize("k", [1, 12, 70])
def test_picks_and_scores_of_the_dense_form(n_covered: int, k: int) -> None:
    points, covered = blobs(400), blobs(n_covered, seed=1)
    centres = fitted(np.concatenate([points, covered]), min(30, n_covered + k))
    picks = pick_typical(naive.split(TypicalHalf, 1, points), centres, k, covered)
    expected, typicalities = naive.typiclust(points, covered, centres, k)
    assert picks.indices.tolist() == expected
    np.testing.assert_allclose(picks.scores, typicalities, rtol=1e-12)


@pytest.mark.parametrize("n_covered", [0, 40])
def test_the_same_picks_for_any_shards_shown_in_any_pieces(n_covered: int, monkeypatch: pytest.MonkeyPatch) -> None:
    points, covered = blobs(3000, 6), blobs(n_covered, 6, seed=1)
    indices = np.sort(np.random.default_rng(2).choice(12 * BLOCK, 3000, replace=False))
    centres = fitted(np.concatenate([points, covered]), 25)

    def picks(n_shards: int) -> tuple[list[int], list[float]]:
        halves = naive.split(TypicalHalf, n_shards, points, indices=indices)
        found = pick_typical(halves, centres, 60, covered)
        return found.indices.tolist(), found.scores.tolist()

    expected = picks(1)
    monkeypatch.setattr(typical, "_SHOWN", 300)
    monkeypatch.setattr(typical, "_TILE", 70)
    for n_shards in (1, 2, 5, 20):
        assert picks(n_shards) == expected


def test_by_hand_on_a_line() -> None:
    points = np.array([[0.0], [1.0], [2.0], [3.0], [4.0], [50.0], [51.0], [52.0], [53.0], [54.0], [55.0], [90.0]])
    centres = np.array([[2.0], [52.5], [90.0]])
    picks = pick_typical(naive.split(TypicalHalf, 1, points), centres, 4)
    # 52 and 53 tie in the larger cluster, 2 is in the middle of the other; the lone point comes last.
    assert picks.indices.tolist() == [7, 2, 8, 1]
    assert picks.scores[1] == pytest.approx(1 / (6 / 4 + 1e-5))
    everything = pick_typical(naive.split(TypicalHalf, 1, points), centres, 12)
    assert everything.indices[-1] == 11 and everything.scores[-1] == 0.0
    labelled = pick_typical(naive.split(TypicalHalf, 1, points), centres, 1, np.array([[52.5]]))
    assert labelled.indices.tolist() == [2]


@given(seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=60, derandomize=True)
def test_random_pools_grids_and_copies(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(1, 90)), int(rng.integers(1, 3))
    points = rng.integers(0, 5, (n, d)).astype(np.float64)
    covered = points[rng.integers(0, n, rng.choice([0, 3]))]
    centres = rng.normal(size=(int(rng.integers(1, 6)), d)) + 2
    k = int(rng.integers(1, n + 1))
    indices = np.sort(rng.choice(8 * BLOCK, n, replace=False))
    picks = pick_typical(naive.split(TypicalHalf, 3, points, indices=indices), centres, k, covered)
    expected, typicalities = naive.typiclust(points, covered, centres, k)
    np.testing.assert_allclose(picks.scores, typicalities, rtol=1e-9)
    # Sums in another order may tell apart what ties here, so equal scores may stand in another order.
    assert len(set(picks.indices.tolist())) == k
    if k == n:
        assert sorted(np.searchsorted(indices, picks.indices).tolist()) == sorted(expected)


def test_copies_have_a_finite_typicality_and_the_lowest_comes_first() -> None:
    points = np.repeat(blobs(3), 30, axis=0)
    picks = typiclust(points, None, 3, np.random.default_rng(0))
    assert sorted((picks % 30).tolist()) == [0, 0, 0] and len(set((picks // 30).tolist())) == 3
    found = pick_typical(naive.split(TypicalHalf, 1, points), fitted(points, 3), 90)
    assert found.scores == pytest.approx(1e5) and sorted(found.indices.tolist()) == list(range(90))


def test_number_of_clusters() -> None:
    assert clusters_wanted(10, 1000, 20) == 30
    assert clusters_wanted(490, 1000, 20) == 500
    assert clusters_wanted(0, 5, 5) == 5


def test_positions_of_plain_arrays() -> None:
    points = blobs(200)
    assert sorted(typiclust(points, None, 200, np.random.default_rng(0), 20).tolist()) == list(range(200))
    assert len(set(typiclust(points, points[:7], 30, np.random.default_rng(0)).tolist())) == 30
    assert typiclust(points, None, 0, np.random.default_rng(0)).tolist() == []
    with pytest.raises(ValueError, match="k must be between 0 and the 2 rows there are, got 3"):
        pick_typical(LocalHalves([TypicalHalf(np.ones((2, 1)), np.arange(2))]), np.ones((1, 1)), 3)
    with pytest.raises(ValueError, match="points must be finite and below 1e.70; row 1 is not"):
        typiclust(np.array([[1.0], [np.inf]]), None, 1, np.random.default_rng(0))
