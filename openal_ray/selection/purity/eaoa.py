"""EAOA: of each class first the images most surely known, by two energies, then among these the most ambiguous.

Zong et al. 2025 (CVPR), section 3. Differs: posteriors are ranked by log-odds, which do not saturate; a class with too
few images leaves its share to the purest of the others; the start of the mixtures has no seed.
"""

from typing import Any

import numpy as np

from openal_ray.selection.grouped import GroupedHalf, Ranked, best_of_groups
from openal_ray.selection.halves import Halves, Picks, checked_sizes
from openal_ray.selection.inner import Inner
from openal_ray.selection.purity.energies import aleatoric, open_energy, softplus
from openal_ray.selection.purity.mixture import MixtureHalf, Mixtures, fit_mixtures
from openal_ray.selection.purity.reverse_neighbours import (
    ReverseNeighboursHalf,
    count_reverse_neighbours,
    neighbour_energy,
)
from openal_ray.selection.quotas import best_left

_MODEL, _DATA, _AMBIGUITY = "model", "data", "ambiguity"  # the numbers that mixtures are fitted to
_NEIGHBOURS, _RANKED = "neighbours", "ranked"


class EaoaHalf:
    """One shard's numbers.

    logits           [n, C] of the classifier
    detector_logits  [n, C+1] of the detector, the last = unknown
    features         [n, D] of the detector
    indices          int64 [n] ascending dataset indices; a block of BLOCK consecutive ones has all its rows here
    """

    def __init__(
        self, logits: np.ndarray, detector_logits: np.ndarray, features: np.ndarray, indices: np.ndarray
    ) -> None:
        self._indices = np.asarray(indices, dtype=np.int64)
        self._predicted = np.asarray(logits).argmax(axis=1)
        self._n_classes = logits.shape[1]
        # The energies of known images are low, so their negatives are what the larger mean is good for.
        self._values = {_MODEL: -open_energy(detector_logits), _AMBIGUITY: aleatoric(logits)}
        self._neighbours = ReverseNeighboursHalf(features, indices, logits.shape[1] + 1)
        self._halves: dict[str, Any] = {_NEIGHBOURS: self._neighbours}

    def size(self) -> int:
        """The number of rows."""
        return len(self._indices)

    def inner(self, name: str, verb: str, *args: Any) -> Any:
        """A question to the `ReverseNeighboursHalf`, to a `MixtureHalf`, or, after `rank`, to the `GroupedHalf`."""
        return getattr(self._halves[name], verb)(*args)

    def energies(self, labelled_sizes: np.ndarray) -> None:
        """All neighbours are counted; labelled_sizes as in `neighbour_energy`."""
        self._values[_DATA] = -neighbour_energy(self._neighbours.counts, labelled_sizes)
        none = np.zeros(len(self._indices), dtype=np.int64)
        self._halves |= {name: MixtureHalf(one, none, self._indices) for name, one in self._values.items()}

    def rank(self, fits: dict[str, Mixtures], monotone: bool) -> None:
        """Takes the mixtures: the rows by predicted class get the keys purity and ambiguity."""
        none = np.zeros(len(self._indices), dtype=np.int64)
        odds = {name: fits[name].log_odds(one, none, monotone) for name, one in self._values.items()}
        purity = -softplus(-odds[_MODEL]) - softplus(-odds[_DATA])  # ln of the product of both posteriors
        keys = np.stack([purity, odds[_AMBIGUITY]], axis=1)
        self._halves[_RANKED] = GroupedHalf(keys, self._predicted, self._indices, self._n_classes)


def pick_eaoa(
    halves: Halves,
    k: int,
    labelled: np.ndarray,
    classes: np.ndarray,
    n_classes: int,
    factor: float,
    rng: np.random.Generator,
    neighbours: int = 250,
    monotone: bool = False,
) -> Picks:
    """Pick `k` rows; scores are log-odds to be ambiguous.

    labelled    [L, D] detector features of labelled and rejected images
    classes     int64 [L] their classes, n_classes = rejected
    factor      k_t: so many candidates for each image to be picked; see `next_factor`
    neighbours  how many reverse neighbours count
    monotone    see `Mixtures.log_odds`
    raises      ValueError if there are fewer than k rows
    """
    checked_sizes(halves, k)
    count_reverse_neighbours(Inner(halves, _NEIGHBOURS), labelled, classes, neighbours)
    halves.ask("energies", np.bincount(classes, minlength=n_classes + 1))
    fits = {name: fit_mixtures(Inner(halves, name), relative=True) for name in (_MODEL, _DATA, _AMBIGUITY)}
    halves.ask("rank", fits, monotone)
    each = -(-k // n_classes)
    ranked = Inner(halves, _RANKED)
    candidates = best_of_groups(ranked, np.full(n_classes, each * max(1, int(factor))))
    ambiguous = Ranked(candidates.indices, candidates.groups, candidates.keys[:, ::-1])
    chosen = ambiguous.best(np.full(n_classes, each))
    chosen = chosen[rng.permutation(len(chosen))[:k]]
    rest = best_left(ranked, n_classes, k - len(chosen), chosen.indices)
    return Picks(np.append(chosen.indices, rest.indices), np.append(chosen.keys[:, 0], rest.keys[:, -1]))


def next_factor(factor: float, purity: float, target: float = 0.6, slack: float = 0.05, step: float = 1.0) -> float:
    """k_t of the next round: larger while queries are purer than the target, smaller but not below 1 otherwise.

    purity   of the query that was just answered; nan: there was none, and nothing changes
    """
    if not abs(purity - target) > slack:
        return factor
    return factor + step if purity > target else max(1.0, factor - step)
