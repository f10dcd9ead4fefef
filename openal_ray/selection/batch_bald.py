"""BatchBALD over shards: greedily, the batch whose labels together say most about the weights.

By the chain rule I(y_1 … y_b; w) grows with a pick by I(y_b; w | y_1 … y_b-1): the mean, over what the labels of the
earlier picks could be, of BALD with the passes weighted by what those labels would say of them. The driver keeps these
weights, the shards look for the largest gain; one exchange a pick.

While all configurations of labels are known, a gain only falls as picks are added (it is submodular), so an old gain
is an upper bound, and rows whose bound is too low are not looked at. Gains are made in float32 with a bound on their
error, and again in float64, one row after the other in a fixed order, for the rows that could win.

Source: Kirsch et al. 2019 (arXiv 1906.08158), Alg. 1.
"""

import math

import numpy as np

from openal_ray.selection.configurations import Configurations, of_nothing, sampled, with_all_classes
from openal_ray.selection.halves import Halves, Picks, checked_sizes, positions_of

CONFIGURATIONS = 10_000
_NUMBERS = 2**16  # probabilities in one piece of arithmetic: half a MB of float64
_TINY = np.finfo(np.float32).tiny  # its logarithm times 0 is 0
_UNIT = 2.0**-23  # twice the rounding of float32

Best = tuple[np.ndarray, np.ndarray, np.ndarray]
"""A shard's best row, or none: dataset index [1], gain [1], probabilities [1, T, C]."""


class BatchBaldHalf:
    """One shard's probabilities of several passes.

    mc_probs  [n, T, C] rows over the classes sum to one; any float type, never copied as a whole
    indices   int64 [n] ascending dataset indices
    raises    ValueError if the shape does not fit, or a row cannot be probabilities
    """

    def __init__(self, mc_probs: np.ndarray, indices: np.ndarray) -> None:
        self._probs, self._indices = np.asarray(mc_probs), np.asarray(indices, dtype=np.int64)
        if self._probs.ndim != 3 or len(self._probs) != len(self._indices) or 0 in self._probs.shape[1:]:
            raise ValueError(
                f"mc_probs must have shape [{len(self._indices)}, T, C] with T and C >= 1, got {self._probs.shape}"
            )
        _, passes, classes = self._probs.shape
        self._error = _UNIT * (passes + classes + 12) * (1 + math.log(classes))
        self._bounds = np.full(len(self._indices), np.inf)
        self._conditional = np.empty(len(self._indices))  # mean over the passes of the entropy of one
        for rows in self._pieces(np.arange(len(self._indices)), 1):
            _check(self._probs[rows], self._indices[rows])
            self._conditional[rows] = _entropies(self._rows(rows)).mean(axis=1)

    def size(self) -> int:
        """The number of rows."""
        return len(self._indices)

    def passes(self) -> int:
        """T, the number of passes."""
        return self._probs.shape[1]

    def best(self, known: Configurations, picked: np.ndarray) -> Best:
        """The row of largest gain once the labels of `picked` (dataset indices) are asked; lowest index on ties."""
        if not known.exact:
            self._bounds[:] = np.inf  # an estimate from a sample may grow with the picks
        self._bounds[positions_of(picked, self._indices)] = -np.inf
        close = self._close(known)
        if not close.size:
            return self._indices[:0], np.empty(0), np.empty((0, *self._probs.shape[1:]))
        gains = np.concatenate(
            [
                _gains(self._rows(rows), known) - self._conditional[rows]
                for rows in self._pieces(close, len(known.weights))
            ]
        )
        best = close[[np.argmax(gains)]]
        return self._indices[best], gains.max(keepdims=True), self._rows(best)

    def _close(self, known: Configurations) -> np.ndarray:
        """Ascending positions of the rows whose gain could be the largest; the bounds become up to date for them."""
        passes = known.posterior.astype(np.float32)
        least = -np.inf
        for rows in self._pieces(np.argsort(-self._bounds, kind="stable"), len(known.weights)):
            if not self._bounds[rows[0]] > least:
                break
            rows = rows[self._bounds[rows] > -np.inf]
            gains = _fast_gains(self._rows(rows), known.weights, passes) - self._conditional[rows]
            self._bounds[rows] = gains + self._error
            least = max(least, gains.max() - self._error)
        return np.flatnonzero((self._bounds >= least) & (self._bounds > -np.inf))

    def _pieces(self, rows: np.ndarray, configurations: int) -> list[np.ndarray]:
        """Parts of `rows` whose tables, [rows, M, C] or [rows, T, C], are of about _NUMBERS numbers."""
        _, passes, classes = self._probs.shape
        step = max(1, _NUMBERS // (classes * max(passes, min(configurations, _tile(classes)))))
        return [rows[first : first + step] for first in range(0, len(rows), step)]

    def _rows(self, rows: np.ndarray) -> np.ndarray:
        """float64 probabilities [rows, T, C] that sum to one."""
        probs = self._probs[rows].astype(np.float64)
        return probs / probs.sum(axis=2, keepdims=True)


def pick_batch_bald(halves: Halves, k: int, rng: np.random.Generator, configurations: int = CONFIGURATIONS) -> Picks:
    """Pick `k` rows; scores are the gains in nats, so that their sum is the joint mutual information of the batch.

    configurations  all C^b of b picks are counted while there are so few; then so many are drawn anew for every pick,
                    the same number (at least one) from each pass
    raises          ValueError if there are fewer than k rows, or configurations is below 1
    """
    checked_sizes(halves, k)
    if configurations < 1:
        raise ValueError(f"configurations must be at least 1, got {configurations}")
    indices, gains = np.empty(0, np.int64), np.empty(0)
    tables: list[np.ndarray] = []
    known = of_nothing(max(halves.ask("passes"), default=1))
    for pick in range(k):
        if pick:
            known = _following(known, tables, configurations, rng)
        found, values, probs = (np.concatenate(part) for part in zip(*halves.ask("best", known, indices), strict=True))
        best = np.lexsort((found, -values))[0]
        indices, gains = np.append(indices, found[best]), np.append(gains, values[best])
        tables.append(probs[best])
    return Picks(indices, gains)


def _following(
    known: Configurations, tables: list[np.ndarray], configurations: int, rng: np.random.Generator
) -> Configurations:
    """The configurations of all picks, whose probabilities are `tables`; `known` lacks the last of them."""
    if known.exact and len(known.weights) * tables[-1].shape[1] <= configurations:
        return with_all_classes(known, tables[-1])
    return sampled(np.stack(tables), configurations, rng)


def _tile(classes: int) -> int:
    """Configurations looked at together."""
    return max(1, _NUMBERS // classes)


def _gains(probs: np.ndarray, known: Configurations) -> np.ndarray:
    """Entropy [r] of the labels of rows [r, T, C] given those of the picks; no bit of it depends on the other rows."""
    entropy = np.zeros(len(probs))
    for first in range(0, len(known.weights), _tile(probs.shape[2])):
        tile = slice(first, first + _tile(probs.shape[2]))
        predicted = np.zeros(1)
        for number, posterior in enumerate(known.posterior[:, tile]):
            predicted = predicted + probs[:, number, :, None] * posterior  # [r, C, M]
        terms = predicted * np.log(np.maximum(predicted, _TINY))
        by_configuration = np.zeros(terms[:, 0].shape)
        for label in range(probs.shape[2]):
            by_configuration -= terms[:, label]
        entropy += (by_configuration * known.weights[tile]).sum(axis=1)
    return entropy


def _fast_gains(probs: np.ndarray, weights: np.ndarray, passes: np.ndarray) -> np.ndarray:
    """The same in float32 from `passes` [T, M], to within `_UNIT` (T + C + 12) (1 + ln C).

    A predicted probability q errs by (T + 3) roundings of itself, as all terms are positive; that moves -q ln q by as
    many times q (1 + |ln q|). The logarithm adds at most 8 roundings, the product 1, the sum over classes C; and
    the sum of q (1 + |ln q|) is at most 1 + ln C.
    """
    by_class = probs.astype(np.float32).transpose(0, 2, 1)
    entropy = np.zeros(len(probs))
    for first in range(0, len(weights), _tile(probs.shape[2])):
        tile = slice(first, first + _tile(probs.shape[2]))
        predicted = by_class @ passes[:, tile]  # [r, C, M]
        logs = np.maximum(predicted, _TINY)
        np.log(logs, out=logs)
        entropy -= np.einsum("rcm,rcm->rm", predicted, logs).astype(np.float64) @ weights[tile]
    return entropy


def _entropies(p: np.ndarray) -> np.ndarray:
    """Of the last axis, in nats."""
    return -(p * np.log(np.maximum(p, _TINY))).sum(axis=-1)


def _check(probs: np.ndarray, indices: np.ndarray) -> None:
    sums = probs.sum(axis=2, dtype=np.float64)
    wrong = ~(np.abs(sums - 1) < 0.01).all(axis=1) | (probs < 0).any(axis=(1, 2))
    if wrong.any():
        raise ValueError(
            f"mc_probs must be >= 0 and sum to one over the classes; of dataset index {indices[wrong][0]} "
            "they do not: are these logits?"
        )
