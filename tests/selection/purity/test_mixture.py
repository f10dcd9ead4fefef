"""Tests of mixture.py: against scikit-learn from the same start, shards, groups, posteriors, degenerate groups."""

import numpy as np
import pytest

from openal_ray.selection.halves import BLOCK, LocalHalves
from openal_ray.selection.purity.mixture import MixtureHalf, Mixtures, fit_mixtures
from tests.selection.purity.naive import by_sklearn

ONE = np.zeros(1, dtype=np.int64)


def fit(
    values: np.ndarray,
    groups: np.ndarray | None = None,
    n_shards: int = 1,
    n_groups: int = 1,
    relative: bool = False,
) -> Mixtures:
    groups = np.zeros(len(values), dtype=np.int64) if groups is None else groups
    indices = np.arange(len(values))
    owner = indices // BLOCK % n_shards
    parts = (owner == shard for shard in range(n_shards))
    halves = [MixtureHalf(values[own], groups[own], indices[own], n_groups) for own in parts]
    return fit_mixtures(LocalHalves(halves), relative=relative)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("shift", "spread"), [(5.0, 1.0), (1.5, 0.3), (300.0, 20.0)])
def test_the_fit_is_that_of_scikit_learn(seed: int, shift: float, spread: float) -> None:
    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.normal(0, 1, 700), rng.normal(shift, spread, 400)])
    found, expected = fit(values), by_sklearn(values)
    order = np.argsort(expected.means_.ravel())
    assert np.allclose(found.weights[:, 0], expected.weights_[order], rtol=1e-8)
    assert np.allclose(found.means[:, 0], expected.means_.ravel()[order], rtol=1e-8, atol=1e-10)
    assert np.allclose(found.variances[:, 0], expected.covariances_.ravel()[order], rtol=1e-7)
    posterior = expected.predict_proba(values[:, None])[:, order[1]]
    odds = found.log_odds(values, np.zeros(len(values), int))
    assert np.allclose(1 / (1 + np.exp(-odds)), posterior, atol=1e-8)


def test_relative_is_a_fit_of_scaled_numbers() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(-40, 6, 300), rng.normal(9, 2, 200)])
    scaled = (values - values.min()) / np.ptp(values)
    expected = by_sklearn(scaled)
    means = np.sort(expected.means_.ravel()) * np.ptp(values) + values.min()
    assert np.allclose(fit(values, relative=True).means[:, 0], means)
    assert not np.allclose(fit(values).variances, fit(values, relative=True).variances, rtol=1e-3)


def test_shards_change_no_bit() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(0, 1, 12_000).astype(np.float32) * 1e3
    groups = rng.integers(-1, 7, 12_000)
    one, two, five = (fit(values, groups, n, n_groups=7) for n in (1, 2, 5))
    for other in (two, five):
        assert np.array_equal(one.means, other.means)
        assert np.array_equal(one.variances, other.variances)
        assert np.array_equal(one.weights, other.weights)


def test_groups_do_not_know_of_each_other() -> None:
    rng = np.random.default_rng(2)
    values = np.concatenate(
        [rng.normal(0, 1, 500), rng.normal(8, 1, 500), rng.normal(1e6, 9, 700), [7.0, 3.0, 3.0, 3.0]]
    )
    groups = np.array([0] * 1000 + [2] * 700 + [1] + [3] * 3)
    both = fit(values, groups, n_groups=5)
    assert both.fitted.tolist() == [True, False, True, False, False]
    for group in (0, 2):
        alone = fit(values[groups == group])
        assert np.allclose(both.means[:, group], alone.means[:, 0], rtol=1e-12)
        assert np.allclose(both.variances[:, group], alone.variances[:, 0], rtol=1e-9)
    # One image, or equal ones: nothing to tell apart.
    assert both.log_odds(np.array([7.0, 3.0, 0.0]), np.array([1, 3, 4])).tolist() == [0, 0, 0]


def test_log_odds_rank_where_posteriors_are_equal() -> None:
    values = np.concatenate([np.zeros(50), np.full(50, 100.0), [140.0, 150.0]])
    mixtures = fit(values + np.linspace(0, 1, 102))
    odds = mixtures.log_odds(np.array([100.0, 140.0, 150.0]), np.zeros(3, int))
    assert (1 / (1 + np.exp(-odds)) == 1.0).all()
    assert odds[0] < odds[1] < odds[2]


def test_monotone_log_odds() -> None:
    # The upper part is ten times as wide: far below, it wins again.
    mixtures = Mixtures(*(np.array([[a], [b]]) for a, b in ((0.5, 0.5), (0.0, 5.0), (1.0, 100.0))), fitted=ONE == 0)
    x = np.linspace(-60, 60, 500)
    free, clamped = (mixtures.log_odds(x, np.zeros(500, int), monotone) for monotone in (False, True))
    assert free[0] > free[250]
    assert (np.diff(np.maximum(clamped, -1e300)) >= 0).all()
    assert np.isneginf(clamped[x < 0]).all()
    inside = (x >= 0) & (x <= 5)
    assert np.array_equal(free[inside], clamped[inside])


@pytest.mark.parametrize("values", [[1.0, 2.0], [0.0, 0.0, 1.0], [5.0, 5.0 + 1e-9], [-1e9, 1e9], [0.0, 1e-150]])
def test_few_or_extreme_numbers_stay_finite(values: list[float]) -> None:
    mixtures = fit(np.array(values))
    assert np.isfinite(mixtures.log_odds(np.array(values), np.zeros(len(values), int))).all()


def test_numbers_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match=r"values must be finite; at 1 place\(s\) they are not, first \[3\]"):
        MixtureHalf(np.array([0.0, np.nan]), np.zeros(2), np.array([1, 3]))
    MixtureHalf(np.array([0.0, np.nan]), np.array([0, -1]), np.array([1, 3]))
    with pytest.raises(ValueError, match=r"values and groups must be \[2\]"):
        MixtureHalf(np.zeros(2), np.zeros(3), np.arange(2))


def test_a_group_of_one_image_far_away_disturbs_nobody() -> None:
    rng = np.random.default_rng(0)
    values, groups = np.append(rng.standard_normal(50), 1e6), np.append(np.zeros(50, int), 1)
    alone = fit_mixtures(LocalHalves([MixtureHalf(values[:50], groups[:50], np.arange(50), 2)]))
    both = fit_mixtures(LocalHalves([MixtureHalf(values, groups, np.arange(51), 2)]))
    assert both.fitted.tolist() == [True, False]
    np.testing.assert_allclose(
        both.log_odds(values[:50], groups[:50]), alone.log_odds(values[:50], groups[:50]), atol=1e-9
    )
