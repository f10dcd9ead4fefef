"""Bounds on the critical eps of many rows at once, by matrix products (the formula: see `mixed_head`).

Where features are rectified, a column is often 0 in a row and in an anchor: it does not move, which changes the slope
(w_k - w_y)·G for that anchor. To correct it for every row, class and anchor would take one product of all features an
anchor. But few classes can be the first to overtake: a bound on all corrections names them, and only they are done.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from openal_ray.selection.mixed_head import ULP, MixedHead, divided, gaps_and_residuals

_PAIRS = 256  # rows and classes corrected at a time
_ROOM = 64 * ULP  # for the roundings of a few operations
_LARGEST = 1e15  # products of two such numbers, and sums of them, are far from float32's overflow
_LEAST = 1e-290  # instead of 0 where there is no slope at all
_UNDERFLOW = 1e-30  # more than float32 can lose below its smallest number


class CriticalBounds:
    """Bounds for rows of features in front of `head`.

    most     eps above which nothing matters
    largest  the largest absolute feature
    """

    def __init__(self, head: MixedHead, most: float, largest: float) -> None:
        self._head, self._most = head, most
        small = max(largest, np.abs(head.anchors).max(), head.largest) < _LARGEST
        self._kind: Any = np.float32 if small else np.float64  # of the products of features
        self._rounding = float(np.finfo(self._kind).eps)
        self._gram = head.weights @ head.weights.T
        squares = np.diagonal(self._gram)
        apart = np.add.outer(squares, squares) - 2 * self._gram
        self._apart = np.sqrt(np.maximum(apart, 0.0) + head.slope_error)  # at least |w_k - w_y|, [C, C]
        self._anchors, self._squares = head.anchors.T.astype(self._kind), np.square(head.anchors).sum(axis=1)
        columns = np.flatnonzero((head.anchors == 0).any(axis=0))  # where some anchor is 0
        self._any_zero = len(columns) > 0
        self._columns = slice(None) if 2 * len(columns) > head.width else columns  # a copy of few of them pays
        self._zeros = (head.anchors[:, self._columns] == 0).T.astype(self._kind)  # [those, A]
        self._weights = np.ascontiguousarray(head.weights[:, self._columns], dtype=self._kind)

    def intervals(self, features: np.ndarray, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of rows of features [n, D] with logits [n, C]: the critical eps is between, and which classes could set it.

        returns  float64 [n] bounds below and above, and bool [n, C] with the first class to overtake, and few others
        """
        head, (gaps, residuals) = self._head, gaps_and_residuals(logits)
        products = residuals @ self._gram  # w_k·G
        squares = np.einsum("nc,nc->n", products, residuals)  # |G|²
        lower, upper = (
            np.sqrt(head.width * np.maximum(squares + error, head.slope_error + _LEAST)) * room
            for error, room in ((-head.slope_error, 1 - _ROOM), (head.slope_error, 1 + _ROOM))
        )
        race = _Race(gaps, products, logits.argmax(axis=1), *self._lengths(features), head.slope_error)
        steepest = (upper / np.sqrt(head.width))[:, None] * self._apart[race.own]  # |G| |w_k - w_y|
        rivals = self._run(race, residuals, features, steepest, self._most / lower * (1 + _ROOM))
        least, most = race.least * lower * (1 - _ROOM), race.most * upper * (1 + _ROOM)
        vague = squares <= 3 * head.slope_error
        least[vague], most[vague], rivals[vague] = 0.0, np.inf, True
        certain = ~residuals.any(axis=1)
        least[certain] = most[certain] = np.inf
        return least, most, rivals

    def _lengths(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """float64 [n, A] twice: below and above the distance of every row to every anchor."""
        rows = features.astype(self._kind, copy=False)
        squares = np.add.outer(np.einsum("nd,nd->n", rows, rows).astype(np.float64), self._squares)
        error = (2 * self._head.width + 32) * self._rounding * squares + _UNDERFLOW
        squares -= 2.0 * (rows @ self._anchors)
        return np.sqrt(np.maximum(squares - error, 0.0)), np.sqrt(np.maximum(squares + error, 0.0))

    def _run(
        self, race: "_Race", residuals: np.ndarray, features: np.ndarray, steepest: np.ndarray, limit: np.ndarray
    ) -> np.ndarray:
        """Let all classes race that could be first and below `limit` [n]; returns which those were.

        steepest  [n, C] no slope is above
        """
        still, slack = self._still(residuals, features)
        hopes = race.hopes(slack[:, None] * self._apart[race.own], steepest)
        rows, best = np.arange(len(hopes)), hopes.argmin(axis=1)
        promising = hopes[rows, best] <= limit
        self._meet(race, still, rows[promising], best[promising])
        rivals = hopes <= np.minimum(race.most, limit)[:, None]
        others = rivals.copy()
        others[rows, best] = False
        self._meet(race, still, *np.nonzero(others))
        return rivals

    def _still(self, residuals: np.ndarray, features: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
        """G where the features and some anchor are 0, and above its norm [n]; what of it an anchor holds is a part."""
        if not self._any_zero:
            return None, np.zeros(len(features))
        still = residuals.astype(self._kind) @ self._weights
        still *= features[:, self._columns] == 0
        norms = np.sqrt(np.einsum("nd,nd->n", still, still)).astype(np.float64)
        return still, norms * (1 + self._head.width * self._rounding) + self._error()

    def _error(self) -> float:
        """Bounds the rounding of a correction, relative to |w_k - w_y|, and that of G."""
        head = self._head
        return (2 * head.n_classes + 2 * head.width + 32) * self._rounding * head.largest + _UNDERFLOW

    def _meet(self, race: "_Race", still: np.ndarray | None, row: np.ndarray, k: np.ndarray) -> None:
        for low in range(0, len(row), _PAIRS):
            i, c = row[low : low + _PAIRS], k[low : low + _PAIRS]
            if still is None:
                race.meet(i, c)
            else:
                moves = self._weights[c]
                moves -= self._weights[race.own[i]]
                moves *= still[i]
                race.meet(i, c, moves @ self._zeros, self._error() * self._apart[race.own[i], c])


@dataclass
class _Race:
    """Who overtakes first in each of n rows, in units of sqrt(D) |G|.

    gaps               [n, C] l_y - l_k
    products           [n, C] w_k·G
    own                [n] the predicted classes y
    shortest, longest  [n, A] bounds on the distances to the anchors
    error              of every slope
    least, most        [n] bounds on the eps at which the first of those that have met overtakes
    """

    gaps: np.ndarray
    products: np.ndarray
    own: np.ndarray
    shortest: np.ndarray
    longest: np.ndarray
    error: float

    def __post_init__(self) -> None:
        self.slopes = self.products - np.take_along_axis(self.products, self.own[:, None], axis=1)
        self.least, self.most = np.full((2, len(self.gaps)), np.inf)

    def hopes(self, slack: np.ndarray, steepest: np.ndarray) -> np.ndarray:
        """float64 [n, C] below any eps at which a class overtakes.

        slack, steepest  [n, C] no correction of a slope and no slope is above
        """
        slopes = np.minimum(self.slopes + slack, steepest) + self.error
        slopes *= self.longest.max(axis=1, keepdims=True)
        return divided(self.gaps, slopes) * (1 - _ROOM)

    def meet(
        self, row: np.ndarray, k: np.ndarray, held: np.ndarray | float = 0.0, error: np.ndarray | float = 0.0
    ) -> None:
        """Classes `k` [p] of rows `row` [p] towards all anchors, with corrections `held` [p, A] up to `error` [p]."""
        slopes, gaps = self.slopes[row, k][:, None] - held, self.gaps[row, k]
        error = np.reshape(error, (-1, 1)) + self.error
        least = divided(gaps, ((slopes + error) * self.longest[row]).max(axis=1)) * (1 - _ROOM)
        most = divided(gaps, ((slopes - error) * self.shortest[row]).max(axis=1)) * (1 + _ROOM)
        np.minimum.at(self.least, row, least)
        np.minimum.at(self.most, row, most)
