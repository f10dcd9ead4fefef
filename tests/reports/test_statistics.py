"""Statistics against numbers worked by hand, printed tables, and formulas written out."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from openal_ray.reports.statistics import (
    RESAMPLES,
    beats,
    bootstrap,
    cliques,
    critical_t,
    holm,
    paired,
    rank,
    ratios,
    t_scores,
)


def test_a_paired_test_by_hand() -> None:
    # Mean 2, squares of the deviations 4 + 0 + 4, variance 4, standard error 2/√3: t = √3. The quantile is 4.303.
    found = paired(np.array([0.0, 2.0, 4.0]))
    assert (found.n, found.mean, found.t) == (3, 2, pytest.approx(math.sqrt(3)))
    half = 4.302653 * 2 / math.sqrt(3)
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half))
    # With two degrees of freedom Student's distribution is 1/2 + t / (2 √(2 + t²)).
    assert found.p == pytest.approx(1 - math.sqrt(3) / math.sqrt(5))


@given(st.lists(st.integers(-50, 50), min_size=3, max_size=9).filter(lambda values: len(set(values)) > 1))
def test_the_paired_test_is_scipys(differences: list[int]) -> None:
    reference = scipy_stats.ttest_1samp(differences, 0)
    found = paired(np.array(differences, float))
    assert (found.t, found.p) == pytest.approx((reference.statistic, reference.pvalue))
    assert (found.low, found.high) == pytest.approx(tuple(reference.confidence_interval(0.95)))


def test_two_pairs_have_a_mean_and_no_test() -> None:
    found = paired(np.array([1.0, 2.0]))
    assert (found.n, found.mean) == (2, 1.5)
    assert all(math.isnan(value) for value in (found.low, found.high, found.t, found.p))
    np.testing.assert_array_equal(beats(np.array([[1.0], [1.001]])), [0])


def test_equal_differences_are_certain_and_no_difference_is_none() -> None:
    certain, none = paired(np.full(3, 0.1)), paired(np.zeros(3))
    assert (certain.t, certain.p, certain.low) == (math.inf, 0, pytest.approx(0.1))
    assert (none.t, none.p, none.low, none.high) == (0, 1, 0, 0)
    # 0.1 + 0.2 - 0.3 is 5.6e-17: the last bits of equal areas.
    assert paired(np.array([0.1 + 0.2 - 0.3] * 2 + [0.0])).p == 1
    np.testing.assert_array_equal(t_scores(np.full((3, 1), -0.5)), [-math.inf])


@pytest.mark.parametrize(("n", "printed"), [(3, 4.303), (4, 3.182), (5, 2.776), (10, 2.262)])
def test_the_threshold_is_that_of_printed_tables(n: int, printed: float) -> None:
    assert critical_t(n) == pytest.approx(printed, abs=5e-4)


def test_beating_needs_more_than_badges_threshold_of_five_seeds() -> None:
    # ±1 and 0 have the variance (1+1+1+1+0)/4 = 1, so a shift of m gives t = m √5: 2.776 is reached at m = 1.2415.
    noise = np.array([1.0, -1.0, 1.0, -1.0, 0.0])
    differences = np.stack([noise + 1.25, noise + 1.23, noise - 1.25, noise], axis=1)
    np.testing.assert_array_equal(beats(differences), [1, 0, -1, 0])


def test_holm_by_hand() -> None:
    # Sorted .01 .02 .03 .04, times 4 3 2 1: .04 .06 .06 .04, and never falling: .04 .06 .06 .06.
    np.testing.assert_allclose(holm(np.array([0.03, 0.01, 0.04, 0.02])), [0.06, 0.04, 0.06, 0.06])
    np.testing.assert_allclose(holm(np.array([0.6, np.nan, 0.7])), [1, np.nan, 1])
    assert len(holm(np.array([]))) == 0


def test_the_bootstrap_of_three_values_is_the_exact_one() -> None:
    """Of the 27 draws the lowest and the highest come with 1/27 each, more than the 2.5 % that are cut off."""
    values = np.array([1.0, 5.0, 9.0])
    assert bootstrap(lambda positions: float(values[positions].mean()), 3) == (1, 9)


def test_the_bootstrap_of_many_values_is_near_the_normal_interval() -> None:
    values = np.random.default_rng(1).normal(size=100)
    low, high = bootstrap(lambda positions: float(values[positions].mean()), 100)
    error = values.std() / 10
    assert (low, high) == pytest.approx((values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.25 * error)


def test_the_bootstrap_keeps_infinities_repeats_itself_and_needs_three_pairs() -> None:
    values = np.array([1.0, 5.0, -np.inf])
    low, high = bootstrap(lambda positions: float(values[positions].mean()), 3)
    assert (low, high) == (-np.inf, 5)
    assert math.isnan(bootstrap(lambda positions: 0.0, 2)[0])
    calls: list[tuple[int, ...]] = []
    bootstrap(lambda positions: calls.append(tuple(positions)) or 0.0, 3)  # type: ignore[func-returns-value]
    assert len(calls) == len(set(calls)) == 10 < RESAMPLES  # each of the ten distinct draws once


def test_friedmans_test_by_hand() -> None:
    # Ranks 1 2 3, 1 2 3, 1 3 2: means 1, 7/3, 8/3; chi-square 12·3/(3·4) · (1 + 49/9 + 64/9 - 3·16/4) = 14/3.
    found = rank(np.array([[0.9, 0.8, 0.7], [0.9, 0.8, 0.7], [0.9, 0.7, 0.8]]))
    np.testing.assert_allclose(found.mean_ranks, [1, 7 / 3, 8 / 3])
    assert (found.blocks, found.statistic) == (3, pytest.approx(14 / 3))
    assert found.p == pytest.approx(math.exp(-7 / 3))  # chi-square with two degrees of freedom


def test_ties_share_ranks_and_equal_strategies_are_alike() -> None:
    np.testing.assert_allclose(rank(np.array([[0.3, 0.1 + 0.2, 0.1], [1, 0, 2.0]])).mean_ranks, [1.75, 2.25, 2])
    alike = rank(np.ones((4, 3)))
    assert (alike.statistic, alike.p, list(alike.mean_ranks)) == (0, 1, [2, 2, 2])


@pytest.mark.parametrize(("k", "quantile"), [(3, 2.343), (4, 2.569), (5, 2.728), (10, 3.164)])
def test_the_critical_difference_has_demsars_quantiles(k: int, quantile: float) -> None:
    found = rank(np.random.default_rng(0).normal(size=(14, k)))
    assert found.critical_difference == pytest.approx(quantile * math.sqrt(k * (k + 1) / (6 * 14)), rel=1e-3)


def test_cliques_are_the_largest_stretches_within_the_critical_difference() -> None:
    # Demšar's example: ranks 3.143, 2.000, 2.893, 1.964 at a critical difference of 1.12.
    ranks = np.array([3.143, 2.0, 2.893, 1.964])
    assert cliques(ranks, 1.12) == [(1.964, 2.893), (2.893, 3.143)]  # 2.000 to 3.143 is 1.143
    assert cliques(ranks, 1.25) == [(1.964, 3.143)]
    assert cliques(ranks, 0.1) == [(1.964, 2.0)]
    assert cliques(np.array([1.0, 2.0]), 0.5) == []


def test_profile_ratios_by_hand() -> None:
    costs = np.array([[100, 150, np.inf], [90, 60, np.nan], [np.inf, np.inf, np.inf]])
    np.testing.assert_allclose(ratios(costs), [[1, 1.5, np.inf], [1.5, 1, np.inf], [np.inf] * 3])
    with pytest.raises(ValueError, match="costs must be positive, got 0"):
        ratios(np.array([[0.0, 1.0]]))
