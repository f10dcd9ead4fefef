"""ALFA-Mix over shards: images whose prediction changes when their features move towards labelled ones, spread out.

Every image has a first step at which that happens (`alpha_steps` for a linear head, `alpha_scan` for others). The
candidates are the images of the first steps, of as few of them as give k; they stay in the shards, where k-means on
their features, scaled to length 1, finds k clusters; of each cluster the candidate nearest to its centre is picked.

Source: Parvaneh et al. 2022 (arXiv 2203.07034), Alg. 1. Differs: candidates that lie in fewer than k clusters, or are
fewer, are followed by candidates and then others at random, all distinct.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from openal_ray.selection.alpha_steps import NEVER
from openal_ray.selection.distances import unit_rows
from openal_ray.selection.halves import BLOCK, Halves, Picks, checked_rows, checked_sizes
from openal_ray.selection.k_means import KMeansHalf, fit_k_means, pick_nearest


class AlphaMixHalf:
    """One shard's features and first steps.

    features  [n, D] where the candidates are spread out; only their directions count
    steps     int64 [n] the first step of each, from 1 on, or NEVER
    indices   int64 [n] ascending dataset indices; a block of BLOCK consecutive ones has all its rows here
    device    where this shard's products are made; the picks are the same
    raises    ValueError if the shapes do not fit
    """

    def __init__(self, features: np.ndarray, steps: np.ndarray, indices: np.ndarray, device: str = "cpu") -> None:
        self._indices, self._steps = np.asarray(indices, dtype=np.int64), np.asarray(steps)
        self._features = checked_rows("features", features, len(self._indices))
        if self._steps.shape != self._indices.shape or self._steps.min(initial=1) < 1:
            raise ValueError(f"steps must be numbers from 1 on of shape {self._indices.shape}, got {self._steps.shape}")
        self._device = device
        self._candidates: KMeansHalf | None = None

    def size(self) -> int:
        """The number of rows."""
        return len(self._indices)

    def counts(self) -> np.ndarray:
        """int64 [steps]: how many rows have each first step, from 1 to the last that any row here has."""
        return np.bincount(self._steps[self._steps < NEVER], minlength=1)[1:]

    def narrow(self, last: int) -> None:
        """From now on the rows whose first step is at most `last` are the candidates."""
        chosen = self._steps <= last
        rows = self._features[chosen]
        rows = unit_rows(rows.astype(np.promote_types(rows.dtype, np.float32)))
        self._candidates = KMeansHalf(rows, self._indices[chosen], self._device)

    def of_candidates(self, verb: str, *args: Any) -> Any:
        """A question to the `KMeansHalf` of the candidates; asked after `narrow`."""
        return getattr(self._candidates, verb)(*args)

    def random(self, seed: int, k: int, picked: np.ndarray, last: int) -> tuple[np.ndarray, np.ndarray]:
        """The first `k` rows that are not `picked`, in a random order of `seed` that knows no shards.

        last     rows whose first step is at most this come first
        returns  places float64 [m] in that order, and dataset indices int64 [m]
        """
        left = ~np.isin(self._indices, picked)
        indices, candidate = self._indices[left], self._steps[left] <= last
        places = np.empty(len(indices))
        for block in np.unique(indices // BLOCK):
            mine = indices // BLOCK == block
            places[mine] = np.random.default_rng([seed, int(block)]).random(BLOCK)[indices[mine] % BLOCK]
        places[~candidate] += 1.0
        first = np.lexsort((indices, places))[:k]
        return places[first], indices[first]


def pick_alpha_mix(halves: Halves, k: int, rng: np.random.Generator) -> Picks:
    """Pick `k` rows; the score of a row is the size of its cluster of candidates, 0 for those filled up at random.

    raises   ValueError if there are fewer than k rows
    """
    checked_sizes(halves, k)
    last, n_candidates = _stop(halves.ask("counts"), k)
    seed = int(rng.integers(2**63))
    halves.ask("narrow", last)
    candidates = _Candidates(halves)
    picks = Picks(np.empty(0, dtype=np.int64), np.empty(0))
    if n_candidates > k > 0:
        nearest = pick_nearest(candidates, fit_k_means(candidates, k, rng))
        full = nearest.scores > 0
        picks = Picks(nearest.indices[full], nearest.scores[full])
    return _filled(picks, halves, k, seed, last)


def _stop(counts: Sequence[np.ndarray], k: int) -> tuple[int, int]:
    """The smallest step with at least `k` candidates, else the last that has any; and their number."""
    totals = np.zeros(max(len(of_half) for of_half in counts), dtype=np.int64)
    for of_half in counts:
        totals[: len(of_half)] += of_half
    running = np.cumsum(totals)
    step = min(int(np.searchsorted(running, k)) + 1, len(running))
    return step, int(running[step - 1]) if step else 0


def _filled(picks: Picks, halves: Halves, k: int, seed: int, last: int) -> Picks:
    """`picks` and then others at random, candidates first, until there are `k`."""
    missing = k - len(picks.indices)
    if not missing:
        return picks
    offers = zip(*halves.ask("random", seed, missing, picks.indices, last), strict=True)
    places, indices = (np.concatenate(parts) for parts in offers)
    chosen = indices[np.lexsort((indices, places))[:missing]]
    return Picks(np.append(picks.indices, chosen), np.append(picks.scores, np.zeros(missing)))


class _Candidates:
    """The halves of the candidates, inside the halves of all rows."""

    def __init__(self, halves: Halves) -> None:
        self._halves = halves

    def ask(self, verb: str, *args: Any) -> list[Any]:
        """The same question to the candidates of every half."""
        return self._halves.ask("of_candidates", verb, *args)

    def ask_each(self, verb: str, args: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Its own question to the candidates of each half."""
        return self._halves.ask_each("of_candidates", [(verb, *mine) for mine in args])


def class_anchors(features: np.ndarray, classes: np.ndarray, n_classes: int) -> np.ndarray:
    """float64 [C, D]: the mean labelled feature vector of each class; of all labelled images where a class has none.

    features  [L, D] of the labelled images, classes int64 [L]; ValueError if there are none
    """
    classes = np.asarray(classes)
    features = checked_rows("features", features, len(classes))
    if not len(features):
        raise ValueError("anchors need at least one labelled image, got none; label a start set first")
    rows = features.astype(np.float64)
    everything = rows.mean(axis=0)
    known = [rows[classes == label] for label in range(n_classes)]
    return np.stack([own.mean(axis=0) if len(own) else everything for own in known])
