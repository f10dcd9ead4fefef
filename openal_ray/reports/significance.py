"""Which differences between strategies are more than chance, over all data sets, settings and seeds of a report."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np

from openal_ray.metrics import labels_needed
from openal_ray.reports.comparison import REFERENCE, Comparison
from openal_ray.reports.settings import Setting, settings
from openal_ray.reports.statistics import TESTABLE, Paired, Ranking, beats, bootstrap, holm, paired, rank, ratios

SETTINGS_TO_RANK = 5
"""From so many settings on each is one block of the ranking; with fewer, each of their seeds is."""


@dataclass(frozen=True)
class Pair:
    """Two strategies in one setting over the seeds that both have; the difference is first minus second.

    area                 of the area under the budget curve (AUBC)
    p_holm               its p-value adjusted for all pairs of the setting
    wins, ties, losses   label budgets at which the first is better, neither, the second, by paired t-tests
    """

    setting: str
    first: str
    second: str
    area: Paired
    p_holm: float
    wins: int
    ties: int
    losses: int


@dataclass(frozen=True)
class Saved:
    """Labels fewer than random needs for its last accuracy, between mean curves over the n seeds that both have.

    labels     nan where the mean curve never gets there
    low, high  a bootstrap interval over pairs of seeds; -inf: not reached in some draws
    """

    setting: str
    strategy: str
    n: int
    labels: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Significance:
    """All statistics of a report.

    strategies  [k] names, the least beaten first; the order of every array here
    penalty     [k, k] of row and column: in how many settings the row beats the column, each setting counting the
                share of its label budgets at which it does (Ash et al. 2020, section 4)
    ratios      [P, k] labels needed for random's last accuracy ÷ the fewest that any strategy needs; P = 0 if none
    ranking     None with fewer than three strategies, or three blocks that all of them have
    fewest      seeds in the smallest pair
    """

    strategies: tuple[str, ...]
    settings: tuple[str, ...]
    pairs: tuple[Pair, ...]
    saved: tuple[Saved, ...]
    penalty: np.ndarray
    ratios: np.ndarray
    ranking: Ranking | None
    blocks_are_seeds: bool
    fewest: int

    @property
    def tested(self) -> bool:
        """Whether any pair has enough seeds for a test."""
        return any(pair.area.n >= TESTABLE for pair in self.pairs)


def significance(comparisons: Sequence[Comparison]) -> Significance | None:
    """The statistics of these comparisons; None unless two strategies share two seeds in some setting."""
    compared = settings(comparisons)
    pairs = [pair for setting in compared for pair in _pairs(setting)]
    if not pairs:
        return None
    names = list(dict.fromkeys(name for pair in pairs for name in (pair.first, pair.second)))
    penalty = np.sum([_penalty(setting, names) for setting in compared], axis=0)
    # Least beaten first; strategies that are beaten equally often stay in the order of their areas.
    order = np.argsort(penalty.sum(axis=0), kind="stable")
    names = [names[place] for place in order]
    return Significance(
        strategies=tuple(names),
        settings=tuple(setting.name for setting in compared),
        pairs=tuple(pairs),
        saved=tuple(saved for setting in compared for saved in _saved(setting)),
        penalty=penalty[np.ix_(order, order)],
        ratios=_ratios(compared, names),
        ranking=_ranking(compared, names),
        blocks_are_seeds=len(compared) < SETTINGS_TO_RANK,
        fewest=min(pair.area.n for pair in pairs),
    )


def _pairs(setting: Setting) -> list[Pair]:
    """Of all strategies that share two seeds, the first of each pair being the better one."""
    found = []
    for first, second in combinations(setting.groups, 2):
        seeds = setting.shared_seeds(first, second)
        if len(seeds) > 1:
            area = paired(setting.areas(first, seeds) - setting.areas(second, seeds))
            outcome = _outcomes(setting, first, second)
            counts = [int((outcome == sign).sum()) for sign in (1, 0, -1)]
            found.append((first, second, area, counts))
    adjusted = holm(np.array([area.p for _, _, area, _ in found]))
    return [
        Pair(setting.name, first, second, area, float(p), *counts)
        for (first, second, area, counts), p in zip(found, adjusted, strict=True)
    ]


def _outcomes(setting: Setting, first: str, second: str) -> np.ndarray:
    """int [b] at each label budget: 1 where the first is better, -1 where worse, 0 where it cannot be told."""
    seeds, budgets = setting.shared_seeds(first, second), setting.budgets
    return beats(setting.accuracy(first, seeds, budgets) - setting.accuracy(second, seeds, budgets))


def _penalty(setting: Setting, names: Sequence[str]) -> np.ndarray:
    """[k, k] share of the setting's label budgets at which the row beats the column."""
    matrix = np.zeros((len(names), len(names)))
    for (i, first), (j, second) in permutations(enumerate(names), 2):
        if setting.shared_seeds(first, second):
            matrix[i, j] = (_outcomes(setting, first, second) == 1).mean()
    return matrix


def _saved(setting: Setting) -> list[Saved]:
    return [
        _saved_by(setting, name, seeds)
        for name in setting.groups
        if name != REFERENCE and len(seeds := setting.shared_seeds(name, REFERENCE)) > 1
    ]


def _saved_by(setting: Setting, strategy: str, seeds: Sequence[int]) -> Saved:
    """Over the counts that both cover, so that neither's curve decides what the other is measured on."""
    counts = setting.counts
    ours, reference = (setting.accuracy(name, seeds, counts) for name in (strategy, REFERENCE))

    def saved(positions: np.ndarray) -> float:
        needed = labels_needed(counts, ours[positions].mean(axis=0), float(reference[positions, -1].mean()))
        return -np.inf if np.isnan(needed) else float(counts[-1]) - needed

    labels = saved(np.arange(len(seeds)))
    return Saved(
        setting.name, strategy, len(seeds), labels if np.isfinite(labels) else np.nan, *bootstrap(saved, len(seeds))
    )


def _ratios(compared: Sequence[Setting], names: Sequence[str]) -> np.ndarray:
    """[P, k] of every seed, in every setting, that all strategies have."""
    blocks = [np.empty((0, len(names)))]
    for setting in compared:
        if seeds := setting.shared_seeds(*names):
            blocks.append(np.stack([setting.costs(name, seeds) for name in names], axis=1))
    return ratios(np.concatenate(blocks))


def _ranking(compared: Sequence[Setting], names: Sequence[str]) -> Ranking | None:
    """By area. Seeds of one data set are no independent data sets: a few settings only tell about themselves."""
    blocks = []
    for setting in compared:
        if seeds := setting.shared_seeds(*names):
            areas = np.stack([setting.areas(name, seeds) for name in names], axis=1)
            blocks.append(areas if len(compared) < SETTINGS_TO_RANK else areas.mean(axis=0, keepdims=True))
    n = sum(map(len, blocks))
    return rank(np.concatenate(blocks)) if n >= TESTABLE and len(names) > 2 else None
