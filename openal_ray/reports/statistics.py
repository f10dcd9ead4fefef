"""Paired tests, intervals, ranks and performance profiles of plain arrays; `significance` applies them to runs."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

ALPHA = 0.05
"""Every test and interval is two-sided at this level."""

TESTABLE = 3
"""Fewer pairs than these are not tested at all: the t quantile of two pairs is 12.7."""

DECIMALS = 12
"""Scores are rounded so that the last bits of two equal areas are no difference."""

RESAMPLES = 1000


@dataclass(frozen=True)
class Paired:
    """A mean of n paired differences, its t interval and the two-sided paired t-test; nan where n is too small."""

    n: int
    mean: float
    low: float
    high: float
    t: float
    p: float


def paired(differences: np.ndarray) -> Paired:
    """The paired t-test of differences [n], first minus second, of at least one pair.

    All differences 0 give t = 0; all equal to another number give an infinite t, as the formula does.
    """
    n, mean = len(differences), float(np.mean(differences))
    if n < TESTABLE:
        return Paired(n, mean, *[float("nan")] * 4)
    t = float(t_scores(differences))
    half = float(critical_t(n) * np.std(differences, ddof=1) / np.sqrt(n))
    return Paired(n, mean, mean - half, mean + half, t, float(2 * stats.t.sf(abs(t), n - 1)))


def t_scores(differences: np.ndarray) -> np.ndarray:
    """[…] Student's t of paired differences [n, …] against 0."""
    rounded = np.round(differences, DECIMALS)
    mean, error = rounded.mean(axis=0), rounded.std(axis=0, ddof=1) / np.sqrt(len(rounded))
    constant = (rounded == rounded[0]).all(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(constant, np.where(rounded[0] == 0, 0.0, np.copysign(np.inf, rounded[0])), mean / error)


def critical_t(n: int) -> float:
    """What |t| of n pairs must exceed: 4.303 for 3, 2.776 for 5."""
    return float(stats.t.ppf(1 - ALPHA / 2, n - 1))


def beats(differences: np.ndarray) -> np.ndarray:
    """int [L] of differences [n, L]: 1 where the first is better by a paired t-test, -1 where worse, else 0."""
    if len(differences) < TESTABLE:
        return np.zeros(differences.shape[1], np.int64)
    t = t_scores(differences)
    return np.where(np.abs(t) > critical_t(len(differences)), np.sign(t), 0).astype(np.int64)


def holm(p: np.ndarray) -> np.ndarray:
    """[m] p-values adjusted for m tests by Holm's step-down rule (1979); nan, a test not made, stays and counts not."""
    made = np.flatnonzero(~np.isnan(p))
    order = made[np.argsort(p[made], kind="stable")]
    adjusted = np.full(len(p), np.nan)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return adjusted


def bootstrap(statistic: Callable[[np.ndarray], float], n: int) -> tuple[float, float]:
    """The percentile interval of a statistic of n pairs, over RESAMPLES seeded draws of n pairs with replacement.

    statistic  of positions [n] in 0 … n-1, whose order must not matter; may be infinite, but not nan
    returns    values that occurred, so that an infinite one stays what it is; nan below TESTABLE pairs
    """
    if n < TESTABLE:
        return float("nan"), float("nan")
    draws = np.sort(np.random.default_rng(0).integers(n, size=(RESAMPLES, n)), axis=1)
    distinct, place = np.unique(draws, axis=0, return_inverse=True)
    values = np.array([statistic(positions) for positions in distinct])[place.ravel()]
    low, high = np.quantile(values, [ALPHA / 2, 1 - ALPHA / 2], method="inverted_cdf")
    return float(low), float(high)


@dataclass(frozen=True, eq=False)
class Ranking:
    """Strategies ranked in several blocks, 1 = best, ties sharing their mean rank.

    mean_ranks           [k]
    blocks               how many
    statistic, p         Friedman's test that all k are alike (chi-square with k - 1 degrees of freedom)
    critical_difference  of two mean ranks by Nemenyi's test
    """

    mean_ranks: np.ndarray
    blocks: int
    statistic: float
    p: float
    critical_difference: float


def rank(scores: np.ndarray) -> Ranking:
    """Ranks scores [N, k], higher = better, of k strategies in N blocks; k of at least 3 and N of at least 2.

    source  Demšar, JMLR 7 (2006), section 3.2; the quantile is that of the studentised range over √2
    """
    scores = np.round(scores, DECIMALS)
    n, k = scores.shape
    ranks = stats.rankdata(-scores, axis=1)
    alike = bool((scores == scores[:, :1]).all())
    statistic, p = (0.0, 1.0) if alike else stats.friedmanchisquare(*scores.T)
    quantile = stats.studentized_range.ppf(1 - ALPHA, k, np.inf) / np.sqrt(2)
    return Ranking(ranks.mean(axis=0), n, float(statistic), float(p), float(quantile * np.sqrt(k * (k + 1) / (6 * n))))


def cliques(mean_ranks: np.ndarray, critical_difference: float) -> list[tuple[float, float]]:
    """The largest stretches (first, last) of mean ranks that Nemenyi's test cannot tell apart, two ranks at least."""
    ranks = np.sort(mean_ranks)
    ends = np.searchsorted(ranks, ranks + critical_difference, side="right") - 1
    first = np.append(True, ends[1:] > ends[:-1])  # one that ends where its forerunner ends lies within it
    return [(float(ranks[i]), float(ranks[ends[i]])) for i in np.flatnonzero(first & (ends > np.arange(len(ranks))))]


def ratios(costs: np.ndarray) -> np.ndarray:
    """[P, k] costs of k strategies on P problems by the cheapest's cost; inf where a strategy failed (cost inf or nan).

    The performance profile of a strategy is the share of its ratios that are at most τ, for τ from 1.
    source   Dolan and Moré, Mathematical Programming 91 (2002), section 2
    raises   ValueError for a cost that is not positive
    """
    costs = np.where(np.isnan(costs), np.inf, costs)
    if (costs <= 0).any():
        raise ValueError(f"costs must be positive, got {costs.min()}")
    best = costs.min(axis=1, keepdims=True)
    return np.where(np.isinf(costs), np.inf, costs / np.where(np.isinf(best), 1, best))
