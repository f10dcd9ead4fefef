"""Stochastic batches of any acquisition score over shards: k images drawn without replacement, better ones likelier.

Every score gets Gumbel noise, and the k highest sums are picked; that draws one image after the other with the
probability of its weight among those left. The weight of a score s of rank r (1 = best) depends on the form:

power     s^β        value β ln s + noise; scores >= 0; a score of 0 comes last, and the lower index first among them
softmax   exp(β s)   value β s + noise
softrank  r^-β       value -β ln r + noise; the scores' order alone matters, ties rank by the lower index

An image's noise depends on the seed and its dataset index alone, whatever the shards and the other candidates.

Source: Kirsch et al. 2023 (arXiv 2106.12059), where noise of scale 1/β is added to s, ln s or -ln r.
"""

import math
from itertools import pairwise

import numpy as np

from openal_ray.selection.halves import BLOCK, Halves, Picks, checked_sizes

FORMS = ("power", "softmax", "softrank")
_ROUNDED = -1e-6  # a score this little below zero is a difference of float32 numbers, and counts as 0
_ROUNDING = 1e-12  # of a value, relative: more than float64 can err


def check_form(form: str, beta: float) -> None:
    """Raises ValueError for an unknown form, or a β that is no positive number."""
    if form not in FORMS:
        raise ValueError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
    if not 0 < beta < math.inf:
        raise ValueError(f"beta must be a number above 0, got {beta}; 0 would be a uniform draw: use random for that")


class StochasticHalf:
    """One shard's scores and noise.

    scores   [n] higher = more wanted; infinities are allowed: first if positive, last if negative
    indices  int64 [n] ascending dataset indices
    seed     of the noise, the same on every shard
    raises   ValueError if a score is NaN, the lengths differ, form or beta is wrong, or scores of `power` are negative

    softrank: a rank among this shard's rows is at most the rank among all, so a value from it is an upper bound.
    """

    def __init__(
        self, scores: np.ndarray, indices: np.ndarray, seed: int, form: str = "power", beta: float = 1.0
    ) -> None:
        check_form(form, beta)
        self._indices = np.asarray(indices, dtype=np.int64)
        self._scores = _checked(np.asarray(scores, dtype=np.float64), self._indices, form)
        self._noise = _gumbel(self._indices, seed)
        self._keys = np.empty(0)
        if form == "softrank":
            keys = _keys(self._scores, self._indices)
            order = np.argsort(keys)
            ranks = np.empty(keys.size, dtype=np.int64)
            ranks[order] = np.arange(1, keys.size + 1)
            self._keys = keys[order]
            values = _rank_values(ranks, self._noise, beta)
            self._bounds = values + _ROUNDING * (1 + np.abs(values))
        else:
            self._bounds = _values(self._scores, self._noise, form, beta)
        self._order = np.argsort(-self._bounds, kind="stable")

    def size(self) -> int:
        """The number of rows."""
        return self._scores.size

    def highest(self, start: int, k: int, least: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
        """The rows start … start + k of those with the highest bounds, unless below `least`; and the next bound.

        returns  dataset indices, scores, noise and bounds; then the highest bound that is left, -inf if there is none
        """
        found = self._order[start : start + k]
        found = found[self._bounds[found] >= least]
        left = self._bounds[self._order[start + k : start + k + 1]].max(initial=-np.inf)
        return self._indices[found], self._scores[found], self._noise[found], self._bounds[found], float(left)

    def above(self, scores: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """How many of this shard's rows rank above each of the given ones: int64 [m]. For softrank."""
        return np.searchsorted(self._keys, _keys(scores, indices))


def pick_stochastic(halves: Halves, k: int, form: str = "power", beta: float = 1.0) -> Picks:
    """Draw `k` rows, in the order of the draw; the scores of the picks are the acquisition scores, without noise.

    form, beta  as the halves were made with
    raises      ValueError if there are fewer than k rows

    One exchange for power and softmax. For softrank each shard proposes its k highest bounds, all shards count the rows
    that rank above the proposals, and so on while a bound left is above the k-th value. Bounds over a shard follow the
    law of a pool of its size, so about k of them, at most, are ever above it: one exchange or two, of S·k rows at most.
    """
    check_form(form, beta)
    checked_sizes(halves, k)
    indices, scores, values = np.empty(0, np.int64), np.empty(0), np.empty(0)
    start, lowest, left = 0, -math.inf, math.inf
    while k and left > lowest:
        *columns, bounds_left = zip(*halves.ask("highest", start, k, lowest), strict=True)
        new_indices, new_scores, noise, new_values = (np.concatenate(column) for column in columns)
        if form == "softrank":
            above = np.sum(halves.ask("above", new_scores, new_indices), axis=0)
            new_values = _rank_values(above + 1, noise, beta)
        indices, scores = np.append(indices, new_indices), np.append(scores, new_scores)
        values = np.append(values, new_values)
        best = np.lexsort((indices, -values))[:k]
        indices, scores, values = indices[best], scores[best], values[best]
        start, lowest = start + k, values[-1]
        left = max(bounds_left) if form == "softrank" else -math.inf
    return Picks(indices, scores)


def _checked(scores: np.ndarray, indices: np.ndarray, form: str) -> np.ndarray:
    if scores.shape != indices.shape:
        raise ValueError(f"scores must have shape {indices.shape}, got {scores.shape}")
    nan = indices[np.isnan(scores)]
    if nan.size:
        raise ValueError(f"scores must be numbers, got NaN at {nan.size} place(s), first {nan[:5].tolist()}")
    if form != "power":
        return scores
    negative = indices[scores < _ROUNDED]
    if negative.size:
        raise ValueError(
            f"the form power needs scores >= 0, got values down to {scores.min():g} at {negative.size} place(s), "
            f"first {negative[:5].tolist()}; choose softmax or softrank for scores that may be negative"
        )
    return np.maximum(scores, 0.0)


def _values(scores: np.ndarray, noise: np.ndarray, form: str, beta: float) -> np.ndarray:
    if form == "softmax":
        return beta * scores + noise
    return beta * np.log(scores, out=np.full(scores.shape, -np.inf), where=scores > 0) + noise


def _rank_values(ranks: np.ndarray, noise: np.ndarray, beta: float) -> np.ndarray:
    return noise - beta * np.log(ranks)


def _keys(scores: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Complex numbers that ascend from the best rank: numpy sorts them by real part, then by imaginary part."""
    keys = np.empty(scores.shape, dtype=np.complex128)
    keys.real, keys.imag = -scores, indices
    return keys


def _gumbel(indices: np.ndarray, seed: int) -> np.ndarray:
    """Standard Gumbel noise [n] of dataset indices: each block has its stream, and each index its place in it."""
    noise = np.empty(indices.shape)
    numbers = indices // BLOCK
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    for first, last in pairwise([*starts.tolist(), indices.size]):
        stream = np.random.default_rng([seed, int(numbers[first])])
        noise[first:last] = stream.gumbel(size=BLOCK)[indices[first:last] % BLOCK]
    return noise
