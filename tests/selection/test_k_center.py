"""Tests of k-center: the picks of naive float64 greedy, for any shards, ties and duplicates."""

import numpy as np
import pytest

from openal_ray.selection import k_center
from openal_ray.selection.k_center import KCenterHalf, pick_k_center
from tests.selection import naive


def test_by_hand_on_a_line() -> None:
    points = np.array([[0.0], [1.0], [4.0], [9.0], [10.0]], dtype=np.float32)
    assert k_center(points, np.array([[0.0]], dtype=np.float32), 3).tolist() == [4, 2, 1]
    assert k_center(points, None, 2).tolist() == [0, 4]


@pytest.mark.parametrize("n_shards", [1, 2, 3, 5])
@pytest.mark.parametrize("kind", ["gauss", "grid", "duplicates"])
@pytest.mark.parametrize("n_covered", [0, 40])
def test_picks_of_naive_greedy(kind: str, n_covered: int, n_shards: int) -> None:
    rng = np.random.default_rng(1)
    rows = {
        "gauss": rng.normal(size=(3000, 8)),
        "grid": rng.integers(0, 3, size=(3000, 4)),
        "duplicates": rng.normal(size=(50, 8))[rng.integers(0, 50, 3000)],
    }[kind].astype(np.float32)
    covered, points = rows[:n_covered], rows[n_covered:]
    indices = np.sort(rng.choice(9000, len(points), replace=False))
    picks = pick_k_center(naive.split(KCenterHalf, n_shards, points, indices=indices), 100, covered)
    assert picks.indices.tolist() == indices[naive.k_center(points, covered, 100)].tolist()


def test_scores_are_distances_to_the_nearest_centre_so_far() -> None:
    points = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]], dtype=np.float32)
    picks = pick_k_center(naive.split(KCenterHalf, 1, points), 3)
    assert picks.scores.tolist() == [np.inf, 5.0, 1.0]


def test_identical_points_are_picked_once_each() -> None:
    assert k_center(np.ones((5, 2), dtype=np.float32), None, 5).tolist() == [0, 1, 2, 3, 4]


def test_refusals() -> None:
    with pytest.raises(ValueError, match="k must be between 0 and the 2 rows there are, got 3"):
        k_center(np.zeros((2, 2)), None, 3)
    with pytest.raises(ValueError, match="rows must be finite"):
        k_center(np.array([[np.nan]]), None, 1)
    with pytest.raises(ValueError, match=r"points must have shape \[2, D\], got \(2,\)"):
        k_center(np.zeros(2), None, 1)
