"""Bounds on the critical eps of many rows at once, by matrix products (the formula: see `mixed_head`).

Where features are rectified, a column is often 0 in a row and in an anchor: it does not move, which changes the slope
(w_k - w_y)·G for that anchor. To correct it for every row, class and anchor would take one product of all features an
anchor. But few classes can be the first to overtake: a bound on all corrections names them, and only they are done.
"""

import math
from dataclasses import dataclass

import numpy as np

from openal_ray.selection.mixed_head import ULP, MixedHead, divided, gaps_and_residuals

_PAIRS = 256  # rows and classes corrected at a time
_TINY = float(np.finfo(np.float64).tiny)
_ROOM = 64 * ULP  # for the roundings of a few operations


class CriticalBounds:
    """Bounds for any rows in front of `head`.

    most  eps above which nothing matters
    kind  float type of the features
    """

    def __init__(self, head: MixedHead, most: float, kind: np.dtype) -> None:
        self._head, self._most = head, most
        self._gram = head.weights @ head.weights.T
        squares = np.diagonal(self._gram)
        apart = np.add.outer(squares, squares) - 2 * self._gram
        self._apart = np.sqrt(np.maximum(apart, 0.0) + head.slope_error)  # at least |w_k - w_y|, [C, C]
        self._anchor_squares = np.square(head.anchors).sum(axis=1)
        self._dead = np.flatnonzero((head.anchors == 0).any(axis=0))  # columns where some anchor is 0
        self._zeros = (head.anchors[:, self._dead] == 0).astype(np.float64).T  # [those, A]
        self._weights = np.ascontiguousarray(head.weights[:, self._dead])
        self._values = [*_values_of_features(head.anchors, kind)]

    def intervals(self, features: np.ndarray, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """float64 [n] twice: below and above the critical eps of every row of features [n, D] with logits [n, C]."""
        head = self._head
        gaps, residuals = gaps_and_residuals(logits)
        gradients = residuals @ head.weights  # [n, D]
        norms = np.sqrt(np.einsum("nd,nd->n", gradients, gradients))
        scale = math.sqrt(head.width) * (1 + _ROOM)
        lower, upper = (np.maximum(norms + error, _TINY) * scale for error in (-head.norm_error, head.norm_error))
        shortest, longest = self._lengths(features.astype(np.float64))
        race = _Race(gaps, residuals @ self._gram, logits.argmax(axis=1), shortest, longest, head.slope_error)
        self._run(race, gradients[:, self._dead] * (features[:, self._dead] == 0), self._most / lower * (1 + 8 * _ROOM))
        least, most = race.least * lower * (1 - 4 * _ROOM), race.most * upper
        vague = (norms <= 3 * head.norm_error) | self._stays_elsewhere(features)
        least[vague], most[vague] = 0.0, np.inf
        certain = ~residuals.any(axis=1)
        least[certain] = most[certain] = np.inf
        return least, most

    def _lengths(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """float64 [n, A] twice: below and above the distance of every row to every anchor."""
        squares = np.add.outer(np.einsum("nd,nd->n", rows, rows), self._anchor_squares)
        error = 8 * (self._head.width + 8) * ULP * squares
        squares -= 2 * rows @ self._head.anchors.T
        return np.sqrt(np.maximum(squares - error, 0.0)), np.sqrt(np.maximum(squares, 0.0) + error)

    def _stays_elsewhere(self, features: np.ndarray) -> np.ndarray:
        """bool [n]: rows that equal an anchor in some column by another value than 0."""
        found = np.zeros(len(features), dtype=bool)
        for columns, values in self._values:
            same = features[:, columns] == values
            if same.any():
                found |= same.any(axis=1)
        return found

    def _run(self, race: "_Race", dead: np.ndarray, limit: np.ndarray) -> None:
        """Let all classes race that could be first; `dead` [n, ...] is G in the columns that some anchors hold."""
        slack = np.sqrt(np.einsum("nd,nd->n", dead, dead)) * (1 + 1e-9)
        hopes = race.hopes(slack[:, None] * self._apart[race.own])
        rows, best = np.arange(len(hopes)), hopes.argmin(axis=1)
        promising = hopes[rows, best] <= limit
        self._meet(race, dead, rows[promising], best[promising])
        hopes[rows, best] = np.inf
        self._meet(race, dead, *np.nonzero(hopes <= np.minimum(race.most, limit)[:, None]))

    def _meet(self, race: "_Race", dead: np.ndarray, row: np.ndarray, k: np.ndarray) -> None:
        for low in range(0, len(row), _PAIRS):
            i, c = row[low : low + _PAIRS], k[low : low + _PAIRS]
            held = (dead[i] * (self._weights[c] - self._weights[race.own[i]])) @ self._zeros  # [pairs, A]
            race.meet(i, c, held)


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

    def hopes(self, slack: np.ndarray) -> np.ndarray:
        """float64 [n, C] below any eps at which a class overtakes, if no correction is above `slack` [n, C]."""
        reach = divided(self.gaps, self.slopes + (slack + self.error))
        return divided(reach, self.longest.max(axis=1, keepdims=True)) * (1 - _ROOM)

    def meet(self, row: np.ndarray, k: np.ndarray, held: np.ndarray) -> None:
        """Classes `k` [p] of rows `row` [p] towards all anchors, with corrections `held` [p, A]."""
        slopes, gaps = self.slopes[row, k][:, None] - held, self.gaps[row, k]
        least = divided(gaps, ((slopes + self.error) * self.longest[row]).max(axis=1)) * (1 - _ROOM)
        most = divided(gaps, ((slopes - self.error) * self.shortest[row]).max(axis=1)) * (1 + _ROOM)
        np.minimum.at(self.least, row, least)
        np.minimum.at(self.most, row, most)


def _values_of_features(anchors: np.ndarray, kind: np.dtype) -> list[tuple[np.ndarray | slice, np.ndarray]]:
    """Columns and values of each anchor that are not 0 and that a feature of type `kind` could equal."""
    with np.errstate(over="ignore"):
        rounded = anchors.astype(np.promote_types(kind, np.float32))
    possible = (rounded == anchors) & (anchors != 0)
    columns = [np.flatnonzero(row) for row in possible]
    values = [row[here] for row, here in zip(rounded, columns, strict=True)]
    whole = [slice(None) if len(here) == anchors.shape[1] else here for here in columns]
    return [(here, row) for here, row in zip(whole, values, strict=True) if len(row)]
