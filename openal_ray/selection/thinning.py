"""Draws from proposals: a bound on D² rejects most of them, float64 decides on the others."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from openal_ray.selection.bounds import upper_bounds
from openal_ray.selection.digits import concatenated
from openal_ray.selection.outer_rows import OuterRows, squared_distances

_CHUNK = 256  # proposals compared with each other at a time


@dataclass(frozen=True)
class Proposals:
    """Events of a window of time.

    rows        the m rows proposed
    times       float64 [m] in units of the window
    thresholds  float64 [m] uniform between 0 and the weight: an event is accepted if D² is above
    """

    rows: OuterRows
    times: np.ndarray
    thresholds: np.ndarray

    def __len__(self) -> int:
        return len(self.times)

    def __getitem__(self, positions: np.ndarray | slice) -> "Proposals":
        return Proposals(self.rows[positions], self.times[positions], self.thresholds[positions])

    @staticmethod
    def joined(parts: Sequence["Proposals"]) -> "Proposals":
        """The events of all parts, in the order of time."""
        rows = OuterRows.joined([part.rows for part in parts])
        times = np.concatenate([part.times for part in parts])
        thresholds = np.concatenate([part.thresholds for part in parts])
        return Proposals(rows, times, thresholds)[np.lexsort((rows.indices, times))]


def thinned(events: Proposals, picks: OuterRows, k: int) -> tuple[OuterRows, list[float]]:
    """Up to `k` draws from events in the order of time: the rows, and the D² of each when it was drawn."""
    n_before = len(picks)
    scores: list[float] = []
    event_digits, pick_digits = events.rows.digits(), picks.digits()
    for low in range(0, len(events), _CHUNK):
        if len(scores) == k:
            break
        chunk = slice(low, low + _CHUNK)
        bound = upper_bounds([digits[chunk] for digits in event_digits], pick_digits)
        hopeful = events[chunk][bound > events.thresholds[chunk]]
        accepted, squared = _accepted(hopeful, picks, k - len(scores))
        new = hopeful.rows[accepted]
        picks = OuterRows.joined([picks, new])
        pick_digits = [concatenated(old, more) for old, more in zip(pick_digits, new.digits(), strict=True)]
        scores += squared
    return picks[n_before:], scores


def _accepted(events: Proposals, picks: OuterRows, k: int) -> tuple[list[int], list[float]]:
    """The same for a chunk of events: positions and D²."""
    squared = squared_distances(events.rows, picks)[0].min(axis=1)
    between = squared_distances(events.rows, events.rows)[0]
    positions: list[int] = []
    scores: list[float] = []
    now = 0
    while len(positions) < k:
        hits = np.flatnonzero(events.thresholds[now:] < squared[now:])
        if not hits.size:
            break
        hit = now + int(hits[0])
        positions.append(hit)
        scores.append(float(squared[hit]))
        np.minimum(squared, between[hit], out=squared)
        now = hit + 1
    return positions, scores
