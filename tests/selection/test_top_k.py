"""Tests of top-k: order, ties, shards, refusals."""

import numpy as np
import pytest

from openal_ray.selection import top_k
from openal_ray.selection.top_k import TopKHalf, pick_top_k
from tests.selection.naive import split


def test_best_first_and_ties_to_the_lower_position() -> None:
    scores = np.array([1.0, 3.0, 2.0, 3.0, 2.0, 2.0])
    assert top_k(scores, 4).tolist() == [1, 3, 2, 4]
    assert top_k(scores, 0).tolist() == []
    assert top_k(np.array([-np.inf, 0.0, np.inf]), 3).tolist() == [2, 1, 0]


@pytest.mark.parametrize("n_shards", [1, 2, 5])
def test_shards_change_nothing(n_shards: int) -> None:
    rng = np.random.default_rng(0)
    indices = np.flatnonzero(rng.random(12000) < 0.4)
    scores = rng.integers(0, 50, indices.size).astype(float)
    order = np.lexsort((indices, -scores))[:300]
    picks = pick_top_k(split(TopKHalf, n_shards, scores, indices=indices), 300)
    assert picks.indices.tolist() == indices[order].tolist()
    assert picks.scores.tolist() == scores[order].tolist()


def test_refusals() -> None:
    with pytest.raises(ValueError, match="k must be between 0 and the 2 rows there are, got 3"):
        top_k(np.zeros(2), 3)
    with pytest.raises(ValueError, match=r"got NaN at 2 place\(s\), first \[1, 3\]"):
        top_k(np.array([0.0, np.nan, 1.0, np.nan]), 1)
    with pytest.raises(ValueError, match=r"scores must have shape \(2,\), got \(2, 1\)"):
        top_k(np.zeros((2, 1)), 1)
