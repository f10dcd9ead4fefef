"""What is compared fairly: the strategies of one data set in one setting, seed by seed at equal label counts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from openal_ray.metrics import aubc, labels_needed
from openal_ray.reports.comparison import REFERENCE, Comparison, shared_counts
from openal_ray.reports.groups import Group

SATURATED = 0.99
"""Share of the reference's last accuracy from which on label budgets no longer tell strategies apart."""


@dataclass(frozen=True, eq=False)
class Setting:
    """Strategies that differ in nothing else, by name.

    counts  [L] the label counts that all of them cover, ascending; at least two
    """

    name: str
    groups: dict[str, Group]
    counts: np.ndarray

    def shared_seeds(self, *strategies: str) -> list[int]:
        """The seeds that all these strategies have, ascending; none where a strategy is missing."""
        if not set(strategies) <= self.groups.keys():
            return []
        return sorted(set.intersection(*(set(self.groups[each].seeds) for each in strategies)))

    def accuracy(self, strategy: str, seeds: Sequence[int], counts: np.ndarray) -> np.ndarray:
        """[n, L] accuracy of a strategy's seeds at label counts."""
        curves = {curve.seed: curve for curve in self.groups[strategy].curves}
        return np.stack([curves[seed].at("accuracy", counts) for seed in seeds])

    def areas(self, strategy: str, seeds: Sequence[int]) -> np.ndarray:
        """[n] area under the budget curve over the label counts that all strategies cover."""
        return np.array([aubc(self.counts, values) for values in self.accuracy(strategy, seeds, self.counts)])

    def costs(self, strategy: str, seeds: Sequence[int]) -> np.ndarray:
        """[n] labels with which each seed reaches `target`, inf where it does not; at least 1."""
        needed = [labels_needed(self.counts, row, self.target) for row in self.accuracy(strategy, seeds, self.counts)]
        return np.maximum(1, np.nan_to_num(needed, nan=np.inf))

    @property
    def target(self) -> float:
        """The mean last accuracy of random, or of the strategy with the lowest one where random was not run."""
        last = {name: float(group.at("accuracy", self.counts[-1:]).mean()) for name, group in self.groups.items()}
        return last.get(REFERENCE, min(last.values()))

    @property
    def budgets(self) -> np.ndarray:
        """[b] the label counts at which strategies are tested: first count + 2^(k-1) · first query, until saturation.

        source  Ash et al. 2020 (BADGE), section 4. Differs: the paper draws k up to ⌊log((n₀ - M) / B)⌋; here it is
                every k whose count random does not saturate before, and always k = 1.
        """
        first, step = self.counts[0], self.counts[1] - self.counts[0]
        group = self.groups.get(REFERENCE)
        end = self.counts[-1]
        if group is not None:
            mean = group.at("accuracy", self.counts).mean(axis=0)
            end = labels_needed(self.counts, mean, SATURATED * float(mean[-1]))
        doublings = max(0, int(np.floor(np.log2(max(1, (end - first) / step)))))
        return first + step * 2.0 ** np.arange(doublings + 1)


def settings(comparisons: Sequence[Comparison]) -> list[Setting]:
    """The settings with at least two strategies and two label counts that they share, in the order given."""
    found = []
    for comparison in comparisons:
        groups = [row.group for row in comparison.rows]
        for setting in dict.fromkeys(each.setting for each in groups):
            rivals = {each.strategy: each for each in groups if each.setting == setting}
            counts = shared_counts(list(rivals.values()))
            if len(rivals) > 1 and len(counts) > 1:
                name = f"{comparison.dataset} · {setting}" if setting else comparison.dataset
                found.append(Setting(name, rivals, counts))
    return found
