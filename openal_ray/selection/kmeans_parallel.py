"""k-means|| seeding on outer products over shards: a few rounds of oversampling, then weighted k-means++ among them.

It is *not* the D² law of `kmeans_pp`, which needs fewer exchanges; it is there for those who want the published form.
From the row of largest norm on, every round samples each row on its own with probability min(1, 2 k D² / φ): D² is its
squared distance to the nearest candidate so far, φ the sum of all D². In the end each candidate weighs as much as the
number of rows nearest to it, and k-means++ draws k of them with probability proportional to weight · D².

A block of dataset indices is compared as a whole and has its own random stream, so the number of shards changes
nothing.

Source: Bahmani et al. 2012 (arXiv 1203.6402), Alg. 2, with oversampling factor 2 k. Differs: it begins with the largest
row, as BADGE does, not with a random one; more rounds follow while there are fewer candidates than picks; candidates at
distance 0 from another one are dropped.
"""

import numpy as np

from openal_ray.selection.halves import (
    BLOCK,
    Halves,
    LocalHalves,
    Picks,
    blocks_of,
    checked_rows,
    checked_sizes,
    filled_up,
    lowest_left,
    sum_of_blocks,
)
from openal_ray.selection.kmeans_pp import KMeansPPHalf, pick_kmeans_pp
from openal_ray.selection.outer_rows import OuterRows, squared_distances, squared_norms

_LARGEST = 1e280  # sums of so many squared norms as there can be rows are still far from overflow
_OVERSAMPLING = 2  # candidates expected of a round, for every pick


class KMeansParallelHalf:
    """One shard's factors, their D², and the candidate that each row is nearest to.

    left, right  [n, C] and [n, D]; row i stands for the outer product left[i] ⊗ right[i]
    indices      int64 [n] ascending dataset indices; a block of BLOCK consecutive ones has all its rows here
    raises       ValueError if the shapes do not fit or a number is not finite
    """

    def __init__(self, left: np.ndarray, right: np.ndarray, indices: np.ndarray) -> None:
        indices = np.asarray(indices, dtype=np.int64)
        factors = (checked_rows(name, rows, len(indices)) for name, rows in (("left", left), ("right", right)))
        self._rows = OuterRows(indices, *factors)
        with np.errstate(over="ignore", invalid="ignore"):  # refused below, in words
            self._norms = squared_norms(self._rows)
        wrong = np.flatnonzero(~(self._norms < _LARGEST))
        if wrong.size:
            raise ValueError(f"rows must be finite, with squared norms below {_LARGEST:g}; row {wrong[0]} is not")
        self._blocks = blocks_of(indices)
        self._squared = np.full(len(indices), np.inf)
        self._nearest = np.zeros(len(indices), dtype=np.int64)
        self._n_candidates = 0

    def size(self) -> int:
        """The number of rows."""
        return len(self._rows)

    def largest(self) -> OuterRows:
        """The row of largest norm, lowest index on ties; none on an empty shard."""
        return self._rows[np.argsort(-self._norms, kind="stable")[:1]]

    def compare(self, candidates: OuterRows) -> list[float]:
        """Lower D² by further candidates; returns its sums by block."""
        for _, block in self._blocks:
            squared, nearest = self._squared[block], self._nearest[block]
            for low in range(0, len(candidates), BLOCK):
                distances = squared_distances(self._rows[block], candidates[low : low + BLOCK])[0]
                best = distances.argmin(axis=1)
                closest = distances[np.arange(len(best)), best]
                closer = closest < squared
                squared[closer] = closest[closer]
                nearest[closer] = self._n_candidates + low + best[closer]
        self._n_candidates += len(candidates)
        return [float(self._squared[block].sum()) for _, block in self._blocks]

    def sample(self, seed: int, rate: float) -> OuterRows:
        """Each row with probability min(1, rate · D²); `seed` is that of the round."""
        hits = np.zeros(len(self._rows), dtype=bool)
        for number, block in self._blocks:
            uniforms = np.random.default_rng([seed, number]).random(block.stop - block.start)
            hits[block] = uniforms < rate * self._squared[block]
        return self._rows[np.flatnonzero(hits)]

    def weights(self) -> np.ndarray:
        """int64 [candidates]: the number of rows here that are nearest to each candidate, the earlier one on ties."""
        return np.bincount(self._nearest, minlength=self._n_candidates)

    def lowest(self, k: int, picked: np.ndarray) -> np.ndarray:
        """The lowest `k` dataset indices that are not `picked`."""
        return lowest_left(self._rows.indices, k, picked)


def pick_kmeans_parallel(halves: Halves, k: int, rounds: int, rng: np.random.Generator) -> Picks:
    """Pick `k` rows in 2 · rounds + 4 exchanges, or more where candidates are missing; scores are their D² at the pick.

    Where every D² left is zero (copies of picks), the lowest dataset indices follow, with score 0.
    raises   ValueError if there are fewer than k rows, or no round
    """
    checked_sizes(halves, k)
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")
    candidates = _candidates(halves, k, rounds, rng)
    weights = np.sum(halves.ask("weights"), axis=0)
    order = np.argsort(candidates.indices)
    chosen = candidates[order]
    half = KMeansPPHalf(chosen.left, chosen.right, chosen.indices, counts=weights[order])
    picks = pick_kmeans_pp(LocalHalves([half]), min(k, len(chosen)), rng)
    return filled_up(picks, halves, k)


def _candidates(halves: Halves, k: int, rounds: int, rng: np.random.Generator) -> OuterRows:
    """The largest row and what the rounds sampled, no two of them at distance 0, in the order of their rounds."""
    largest = OuterRows.joined(halves.ask("largest"))
    new = largest[np.lexsort((largest.indices, -squared_norms(largest)))[:1]]
    candidates = new[:0]
    done = 0
    while True:
        candidates = OuterRows.joined([candidates, new])
        total = sum_of_blocks(halves.ask("compare", new))
        if total == 0 or (done >= rounds and len(candidates) >= k):
            return candidates
        sampled = OuterRows.joined(halves.ask("sample", int(rng.integers(2**63)), _OVERSAMPLING * max(k, 1) / total))
        sampled = sampled[np.argsort(sampled.indices)]
        copies = np.tril(squared_distances(sampled, sampled)[0] == 0, -1).any(axis=1)
        new = sampled[np.flatnonzero(~copies)]
        done += 1
