"""k-means++ seeding on outer products over shards, as BADGE uses it: exact D² draws, hundreds an exchange.

First the row of largest norm, then each next one with probability proportional to D², its squared distance to the
nearest pick. D² only shrinks, so a weight computed for fewer picks, or rounded upwards, lies above it. Every row has a
Poisson process whose rate is such a weight; the driver walks through all events in the order of time and accepts one
with probability D² / weight. Accepted events then come at rate D², so the next of them is a D² draw whatever happened
before: old weights and low precision cost proposals, never the law. Processes are independent, so the shards need not
know of each other; a block of dataset indices has its own random stream, so the number of shards changes nothing.

Source: Ash et al. 2020 (arXiv 1906.03671), Alg. 1; Arthur & Vassilvitskii 2007 for D² seeding; Lewis & Shedler 1979
for thinning.
"""

import numpy as np

from openal_ray.selection.bounds import upper_bounds
from openal_ray.selection.digits import ROUNDING
from openal_ray.selection.halves import (
    BLOCK,
    Halves,
    Picks,
    blocks_of,
    checked_rows,
    checked_sizes,
    filled_up,
    lowest_left,
    positions_of,
    sum_of_blocks,
)
from openal_ray.selection.outer_rows import OuterRows, squared_distances, squared_norms
from openal_ray.selection.thinning import Proposals, thinned

_FIRST = 64  # proposals of the first window: the first picks shrink most weights
_MOST = 8192  # proposals of one window
_CROWDED = 1 / 32  # share of proposals accepted below which coarse weights say nothing
_INT8_GAIN = 16  # a shard's int8 product is about so much faster than the driver's float64 one


class KMeansPPHalf:
    """One shard's factors and weights.

    left, right  [n, C] and [n, D]; row i stands for the outer product left[i] ⊗ right[i]
    indices      int64 [n] ascending dataset indices; a block of BLOCK consecutive ones has all its rows here
    device       where this shard's products are made; they are the same integers anywhere
    counts       [n] how many rows each of them stands for: draws are then proportional to count · D²; None: one each
    raises       ValueError if the shapes do not fit or a number is not finite
    """

    def __init__(
        self,
        left: np.ndarray,
        right: np.ndarray,
        indices: np.ndarray,
        device: str = "cpu",
        counts: np.ndarray | None = None,
    ) -> None:
        indices = np.asarray(indices, dtype=np.int64)
        factors = (checked_rows(name, rows, len(indices)) for name, rows in (("left", left), ("right", right)))
        self._rows = OuterRows(indices, *factors)
        self._device = device
        self._digits = self._rows.digits(device)
        self._weights = np.full(len(self._rows), np.inf)
        self._counts = np.ones(len(self._rows)) if counts is None else np.asarray(counts, dtype=np.float64)
        self._blocks = blocks_of(self._rows.indices)

    def size(self) -> int:
        """The number of rows."""
        return len(self._rows)

    def largest(self) -> tuple[OuterRows, list[float]]:
        """The row of largest norm, lowest index on ties (none on an empty shard); sums of squared norms by block."""
        norms = self._digits[0].norms * self._digits[1].norms
        rounding = 4 * (self._rows.left.shape[1] + self._rows.right.shape[1] + 32) * ROUNDING
        close = np.flatnonzero(norms >= norms.max(initial=0) * (1 - rounding))
        best = close[np.argsort(-squared_norms(self._rows[close]), kind="stable")[:1]]
        return self._rows[best], [
            float((self._counts[block] * np.square(norms[block])).sum()) for _, block in self._blocks
        ]

    def propose(
        self, seed: int, window: float, exact: bool, indices: np.ndarray, left: np.ndarray, right: np.ndarray
    ) -> tuple[Proposals, list[float]]:
        """The events of a window of time, and the sums of the weights by block.

        seed     of this window
        window   its length: a row of weight w has w · window events on average
        indices, left, right   new picks, by which the weights are lowered before
        exact    in float64, for pools so crowded that bounds of a few percent say nothing
        """
        if len(indices):
            picks = OuterRows(indices, left, right)
            lowered = self._exact_weights(picks) if exact else upper_bounds(self._digits, picks.digits(self._device))
            np.minimum(self._weights, lowered, out=self._weights)
            self._weights[positions_of(indices, self._rows.indices)] = 0.0
        events = [Proposals(self._rows[:0], *np.empty((2, 0)))]
        sums = []
        for number, block in self._blocks:
            running = np.cumsum(self._counts[block] * self._weights[block])
            sums.append(float(running[-1]))
            stream = np.random.default_rng([seed, number])
            times, uniforms, masses = stream.random((3, stream.poisson(running[-1] * window)))
            where = block.start + np.searchsorted(running, masses * running[-1], side="right")
            events.append(Proposals(self._rows[where], times, uniforms * self._weights[where]))
        return Proposals.joined(events), sums

    def _exact_weights(self, picks: OuterRows) -> np.ndarray:
        weights = np.full(len(self._rows), np.inf)
        for _, block in self._blocks:
            for low in range(0, len(picks), BLOCK):
                distances, rounding = squared_distances(self._rows[block], picks[low : low + BLOCK])
                nearest = np.where(distances > 0, distances + rounding, 0.0).min(axis=1)
                weights[block] = np.minimum(weights[block], nearest)
        return weights

    def lowest(self, k: int, picked: np.ndarray) -> np.ndarray:
        """The lowest `k` dataset indices that are not `picked`."""
        return lowest_left(self._rows.indices, k, picked)


def pick_kmeans_pp(halves: Halves, k: int, rng: np.random.Generator) -> Picks:
    """Pick `k` rows; scores are their D² at the pick (the first: its squared norm).

    Where every D² left is zero (copies of picks), the lowest dataset indices follow, with score 0.
    raises   ValueError if there are fewer than k rows
    """
    n_rows = sum(checked_sizes(halves, k))
    rows, sums = zip(*halves.ask("largest"), strict=True)
    seeding = _Seeding(OuterRows.joined(rows), sum_of_blocks(sums), n_rows, k)
    while seeding.goes_on:
        question = (int(rng.integers(2**63)), *seeding.question())
        proposals, sums = zip(*halves.ask("propose", *question), strict=True)
        seeding.answer(Proposals.joined(proposals), sum_of_blocks(sums))
    return filled_up(Picks(seeding.picks.indices, seeding.scores), halves, k)


class _Seeding:
    """The driver's side: the picks so far, and what to ask for next, which depends on them alone.

    largest  the largest row of every half
    squares  sum of all squared norms
    """

    def __init__(self, largest: OuterRows, squares: float, n_rows: int, k: int) -> None:
        norms = squared_norms(largest)
        first = np.lexsort((largest.indices, -norms))[: min(k, 1)]
        self.picks, self.scores = largest[first], norms[first]
        self._n_rows, self._k = n_rows, k
        self._total = squares + n_rows * float(norms[first].sum())  # of all weights, or about that
        self._expected = float(_FIRST)  # events of the next window
        self._news, self._n_sent, self._exact = self.picks, 0, False

    @property
    def goes_on(self) -> bool:
        """Whether there is anything left to draw, and a reason to."""
        return len(self.picks) < self._k and self._total > 0

    def question(self) -> tuple[float, bool, np.ndarray, np.ndarray, np.ndarray]:
        """What to ask of the halves next (see `KMeansPPHalf.propose`)."""
        self._n_sent += 0 if self._exact else len(self._news)
        return self._expected / self._total, self._exact, self._news.indices, self._news.left, self._news.right

    def answer(self, events: Proposals, total: float) -> None:
        """Draw from the events of the window, and plan the next; `total` is the sum of the weights they came from."""
        drawn, squared = thinned(events, self.picks, self._k - len(self.picks))
        self.picks = OuterRows.joined([self.picks, drawn])
        self.scores = np.append(self.scores, squared)
        self._total = total
        self._plan(max(1, len(drawn)) / max(1, len(events)))

    def _plan(self, rate: float) -> None:
        """Send the picks if that costs less than the proposals it would save; `rate` of the last were accepted."""
        missing = self._k - len(self.picks)
        unsent = len(self.picks) - self._n_sent
        crowded = rate < _CROWDED
        saved = missing * (1 / rate - 1) * len(self.picks)
        send = crowded or self._n_rows * unsent < _INT8_GAIN * saved
        self._exact = crowded and not unsent
        self._news = self.picks if self._exact else self.picks[self._n_sent if send else len(self.picks) :]
        if len(self._news):
            self._total *= max(rate, 0.25)  # with old weights, D² made up this share of them
            rate = 2 / 3
        self._expected = min(_MOST, 2 * missing / rate + 32)
