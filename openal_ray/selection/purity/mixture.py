"""Two normal distributions mixed, fitted to one number an image, group by group, by EM over shards.

Shards answer with sums; these are integers (`exact_sums`), so the fit does not depend on how images are sharded. Within
a group, numbers are seen from the middle of its range in units of half of it: every sum is then of known size.

Source: Dempster, Laird & Rubin 1977, with the settings of LfOSA (Ning et al. 2022) as scikit-learn understands them.
Differs: the start is 2-means from the two ends of the range, not from random rows, so a fit has no seed.
"""

from dataclasses import dataclass

import numpy as np

from openal_ray.selection.exact_sums import Scale
from openal_ray.selection.halves import BLOCK, Halves

_LLOYD = 50  # steps of the start; it settles in a few
_TINIEST = 1e-100  # a smaller range is none: its square would be 0
_FLATTEST = 1e-20  # least variance, in units of a range: equal numbers have none
_TINY = 10 * np.finfo(np.float64).eps  # scikit-learn adds it to every weight sum


@dataclass(frozen=True)
class Mixtures:
    """One fit a group, G of them; part 1 is the one of larger mean.

    weights, means, variances   float64 [2, G]; means and variances in units of the numbers
    fitted                      bool [G]: False for groups of fewer than two images, or of equal numbers alone
    """

    weights: np.ndarray
    means: np.ndarray
    variances: np.ndarray
    fitted: np.ndarray

    def log_odds(self, values: np.ndarray, groups: np.ndarray, monotone: bool = False) -> np.ndarray:
        """ln(p1 / p0) float64 [n], p1 the posterior of the part of larger mean; 0 in groups that are not fitted.

        Unlike p1 itself it does not saturate, so it ranks all images.
        groups    int64 [n] in 0 … G-1
        monotone  with unequal variances, numbers far below both means can belong to the wider upper part, and numbers
                  far above to a wider lower one. True: below the lower mean -inf, above the upper mean as at it.
        """
        x = np.asarray(values, dtype=np.float64)
        (low, high), (w0, w1), (v0, v1) = (part[:, groups] for part in (self.means, self.weights, self.variances))
        if monotone:
            below, x = x < low, np.minimum(x, high)
        odds = np.log(w1) - np.log(w0) + (np.log(v0) - np.log(v1)) / 2
        odds += np.square(x - low) / (2 * v0) - np.square(x - high) / (2 * v1)
        if monotone:
            odds = np.where(below, -np.inf, odds)
        return np.where(self.fitted[groups], odds, 0.0)


@dataclass(frozen=True)
class _Parts:
    """Mixtures in the units of their groups: numbers seen from `middle` [G] in units of `reach` [G]."""

    middle: np.ndarray
    reach: np.ndarray
    weights: np.ndarray
    means: np.ndarray
    variances: np.ndarray


class MixtureHalf:
    """One shard's numbers.

    values    [n] any float type
    groups    int64 [n] in 0 … n_groups-1; -1: in none
    indices   int64 [n] ascending dataset indices; a block of BLOCK consecutive ones has all its rows here
    raises    ValueError if a number in a group is not finite, or the lengths differ
    """

    def __init__(self, values: np.ndarray, groups: np.ndarray, indices: np.ndarray, n_groups: int = 1) -> None:
        values, groups = np.asarray(values, dtype=np.float64), np.asarray(groups, dtype=np.int64)
        if values.shape != groups.shape or values.shape != np.shape(indices):
            raise ValueError(f"values and groups must be [{len(indices)}], got {values.shape} and {groups.shape}")
        member = groups >= 0
        self._values, self._groups, self._n_groups = values[member], groups[member], n_groups
        if not np.isfinite(self._values).all():
            wrong = np.asarray(indices)[member][~np.isfinite(self._values)]
            raise ValueError(
                f"values must be finite; at {wrong.size} place(s) they are not, first {wrong[:5].tolist()}"
            )
        numbers = np.unique(np.asarray(indices)[member] // BLOCK, return_inverse=True)[1]
        self._n_blocks = int(numbers.max(initial=-1)) + 1
        self._cells = numbers * n_groups + self._groups

    def size(self) -> int:
        """The number of rows in a group."""
        return len(self._values)

    def extent(self) -> np.ndarray:
        """float64 [3, G]: rows, lowest number and highest number of each group."""
        low, high = np.full(self._n_groups, np.inf), np.full(self._n_groups, -np.inf)
        np.minimum.at(low, self._groups, self._values)
        np.maximum.at(high, self._groups, self._values)
        return np.stack([np.bincount(self._groups, minlength=self._n_groups), low, high])

    def split(self, middle: np.ndarray, reach: np.ndarray, threshold: np.ndarray, scale: Scale) -> np.ndarray:
        """Sums (see `_sums`) with every row in one part: the upper one above its group's threshold."""
        y = (self._values - middle[self._groups]) / reach[self._groups]
        upper = (y > threshold[self._groups]).astype(np.float64)
        return self._sums(y, upper, 1 - upper, np.zeros_like(y), scale)

    def expect(self, parts: _Parts, scale: Scale) -> np.ndarray:
        """Sums with every row in both parts by its posterior, and the log-likelihoods."""
        g = self._groups
        y = (self._values - parts.middle[g]) / parts.reach[g]
        logs = [
            np.log(parts.weights[k, g])
            - (np.log(2 * np.pi * parts.variances[k, g]) + np.square(y - parts.means[k, g]) / parts.variances[k, g]) / 2
            for k in (0, 1)
        ]
        total = np.logaddexp(*logs)
        return self._sums(y, np.exp(logs[1] - total), np.exp(logs[0] - total), total, scale)

    def _sums(self, y: np.ndarray, upper: np.ndarray, lower: np.ndarray, logs: np.ndarray, scale: Scale) -> np.ndarray:
        """int64 [2, 7, G]: r0, r1, r0·y, r1·y, r0·y², r1·y² and the log-likelihood, of this shard."""
        shares = (lower, upper)
        terms = [*shares, *(r * y for r in shares), *(r * y * y for r in shares), logs]
        size = self._n_blocks * self._n_groups
        cells = [np.bincount(self._cells, weights=term, minlength=size).reshape(-1, self._n_groups) for term in terms]
        return scale.integers(np.stack(cells)).sum(axis=2)


def fit_mixtures(
    halves: Halves, iterations: int = 10, tolerance: float = 1e-2, regulariser: float = 5e-4, relative: bool = False
) -> Mixtures:
    """Fits every group that has at least two images and two different numbers.

    iterations   EM steps at most
    tolerance    change of the mean log-likelihood below which a group is done
    regulariser  added to every variance, in squared units of the numbers
    relative     it is in squared units of the group's range: the fit is then that of numbers scaled to 0 … 1
    """
    extents = halves.ask("extent")
    count = sum(one[0] for one in extents)
    low, high = np.min([one[1] for one in extents], axis=0), np.max([one[2] for one in extents], axis=0)
    fitted = count >= 2
    fitted[fitted] = high[fitted] - low[fitted] > _TINIEST
    middle, reach = np.zeros(len(count)), np.ones(len(count))
    middle[count > 0] = (high[count > 0] + low[count > 0]) / 2  # of all groups, so that no number is far from it
    reach[fitted] = (high[fitted] - low[fitted]) / 2
    added = np.maximum(regulariser * (np.full(len(count), 4.0) if relative else reach**-2.0), _FLATTEST)
    scale = Scale.of(4.0 * BLOCK, int(count.sum()))  # numbers are within ±1, up to rounding
    sums = _start(halves, middle, reach, scale)
    parts = _maximised(_Parts(middle, reach, *np.ones((3, 2, len(count)))), sums, count, added, fitted)
    last, active = np.full(len(count), -np.inf), fitted
    for _ in range(iterations):
        if not active.any():
            break
        scale = _log_scale(parts, int(count.sum()))
        sums = _total(halves.ask("expect", parts, scale), scale)
        parts = _maximised(parts, sums, count, added, active)
        mean = sums[6] / np.maximum(count, 1)
        active, last = active & ~(np.abs(mean - last) < tolerance), mean
    return _mixtures(parts, fitted)


def _start(halves: Halves, middle: np.ndarray, reach: np.ndarray, scale: Scale) -> np.ndarray:
    """The sums of 2-means from the two ends of every group's range."""
    threshold = np.zeros(len(middle))
    for _ in range(_LLOYD):
        sums = _total(halves.ask("split", middle, reach, threshold, scale), scale)
        centres = sums[2:4] / np.maximum(sums[:2], 1)
        moved = np.where((sums[:2] > 0).all(axis=0), centres.sum(axis=0) / 2, threshold)
        if (moved == threshold).all():
            break
        threshold = moved
    return sums


def _total(answers: list[np.ndarray], scale: Scale) -> np.ndarray:
    return scale.numbers(sum(answers[1:], start=answers[0]))


def _log_scale(parts: _Parts, count: int) -> Scale:
    """Log-likelihoods are the largest terms: of numbers and means within ±1, up to 2 / variance."""
    return Scale.of(BLOCK * (2.0 / float(parts.variances.min()) + 1000.0), count)


def _maximised(parts: _Parts, sums: np.ndarray, count: np.ndarray, added: np.ndarray, active: np.ndarray) -> _Parts:
    """The M-step of the active groups."""
    shares = sums[:2] + _TINY
    means = sums[2:4] / shares
    variances = np.maximum(sums[4:6] / shares - np.square(means), 0.0) + added
    new = (shares / np.maximum(count, 1), means, variances)
    old = (parts.weights, parts.means, parts.variances)
    return _Parts(
        parts.middle, parts.reach, *(np.where(active, one, other) for one, other in zip(new, old, strict=True))
    )


def _mixtures(parts: _Parts, fitted: np.ndarray) -> Mixtures:
    order = np.argsort(parts.means, axis=0, kind="stable")
    weights, means, variances = (
        np.take_along_axis(one, order, axis=0)
        for one in (parts.weights, parts.middle + parts.reach * parts.means, parts.variances * parts.reach**2)
    )
    return Mixtures(weights, means, variances, fitted)
