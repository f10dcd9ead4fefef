"""Tests of quantiles.py: order statistics against a sort, levels, shares, shards."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openal_ray.selection.halves import BLOCK, LocalHalves
from openal_ray.selection.quantiles import QuantilesHalf, filter_level, fit_quantiles, highest


def halves(scores: np.ndarray, n_shards: int = 1) -> LocalHalves:
    indices = np.arange(len(scores))
    owners = indices // BLOCK % n_shards
    return LocalHalves([QuantilesHalf(scores[owners == s], indices[owners == s]) for s in range(n_shards)])


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=30))
def test_every_rank_is_exact(scores: list[float]) -> None:
    found = highest(halves(np.array(scores)), np.arange(1, len(scores) + 1))
    assert found.tolist() == sorted(scores, reverse=True)


@pytest.mark.parametrize("n_shards", [1, 2, 5])
def test_shards_change_nothing(n_shards: int) -> None:
    scores = np.random.default_rng(0).normal(size=9000) * 1e-3
    assert (
        highest(halves(scores, n_shards), np.array([1, 4500, 9000])).tolist()
        == np.sort(scores)[[-1, -4500, 0]].tolist()
    )


def test_infinities_and_zeros() -> None:
    scores = np.array([-np.inf, np.inf, 0.0, -0.0, 5e-324, -5e-324])
    assert highest(halves(scores), np.arange(1, 7)).tolist() == [np.inf, 5e-324, 0, 0, -5e-324, -np.inf]


def test_filter_level() -> None:
    five = halves(np.array([0.9, 0.8, 0.5, 0.4, 0.1]))
    assert filter_level(five, 2, 0.5) == 0.5  # three reach it
    assert filter_level(five, 4, 0.5) == 0.4
    assert filter_level(five, 99, 0.5) == 0.1
    assert filter_level(five, 0, 0.5) == 0.5
    assert filter_level(halves(np.empty(0)), 3, 0.5) == 0.5


def test_shares_are_ranks() -> None:
    scores = np.random.default_rng(1).normal(size=5000) ** 3
    quantiles = fit_quantiles(halves(scores, 3), 500)
    ranks = scores.argsort().argsort() / 5000
    assert np.abs(quantiles.shares(scores) - ranks).max() < 2 / 500
    assert quantiles.shares(np.array([-1e9, 1e9])).tolist() == [0.0, 1.0]
    assert fit_quantiles(halves(np.array([3.0, 1.0])), 500).scores.tolist() == [1.0, 3.0]
    assert fit_quantiles(halves(np.full(7, 2.0))).shares(np.array([2.0])).tolist() == [0.5]


def test_refusals() -> None:
    for ranks in ([0], [4], [1, 9]):
        with pytest.raises(ValueError, match=r"ranks must be 1 … 3, got"):
            highest(halves(np.zeros(3)), np.array(ranks))
    with pytest.raises(ValueError, match=r"got NaN at 1 place\(s\)"):
        halves(np.array([np.nan, 0.0]))
    with pytest.raises(ValueError, match="at least one row"):
        fit_quantiles(halves(np.empty(0)))
    with pytest.raises(ValueError, match=r"scores must have shape \[2\], got \[2, 1\]"):
        QuantilesHalf(np.zeros((2, 1)), np.arange(2))
