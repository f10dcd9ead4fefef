"""Purity and informativeness together: any purity score before, or beside, any standard strategy."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from openal_ray.errors import unknown_name
from openal_ray.record import PastQuery
from openal_ray.selection.grouped import GroupedHalf, pick_ranked
from openal_ray.selection.halves import Picks
from openal_ray.selection.purity.combine import rank_product, rank_sum
from openal_ray.selection.quantiles import Quantiles, QuantilesHalf, filter_level, fit_quantiles
from openal_ray.shard import Part
from openal_ray.strategies.diversity import badge, k_center
from openal_ray.strategies.learned_loss import learning_loss
from openal_ray.strategies.open_set.detection import Plan, check_plan
from openal_ray.strategies.open_set.purities import PURITIES, Purity, clipn
from openal_ray.strategies.strategy import Strategy
from openal_ray.strategies.uncertainty import entropy, least_confidence, margin, ratio
from openal_ray.strategies.view import Score, View

INSIDE: dict[str, Callable[[], Strategy]] = {
    each.__name__: each for each in (margin, badge, entropy, least_confidence, ratio, k_center, learning_loss)
}
COMBINATIONS = ("filter", "product", "rank_sum")
_STEADY = 0.5  # images added to both counts of a query, so that a pure one is not infinitely pure
_MOST = 2.0  # log-odds that the level may move by in a round


def purity_filter(
    purity: str = "detector", inside: str = "margin", combine: str = "filter", factor: float = 3.0,
    weight: float = 0.5, train: Plan | None = None,
) -> Strategy:  # fmt: skip
    """A purity score with any standard strategy (Cheng et al. 2024, arXiv 2408.04917, filter first; ranks are ours).

    purity   detector, lfosa, eoal, eaoa, clipn, max_softmax, max_logit, energy, knn, mqnet or vim
    inside   margin, badge, entropy, least_confidence, ratio, k_center or learning_loss
    combine  filter: the strategy picks among images that are likelier known than not, or among the purest where the
             score has no such point; product, rank_sum: of both ranks over the pool, for strategies that rank
    factor   candidates for each image asked that a filter lets through at least
    weight   of purity in rank_sum
    train    keys of `train` for the detector; otherwise it trains as the classifier does
    """
    chosen, strategy = _chosen(purity, inside, combine, factor, weight, train)

    def pick(view: View, budget: int, rng: np.random.Generator) -> Picks:
        score = chosen.fitted(view)
        if combine == "filter":
            level = math.inf if chosen.level is None else chosen.level
            return _filtered(view, score, level, factor, budget, strategy, rng)
        return _by_ranks(view, score, combine, weight, budget, strategy)

    return _composed(chosen, strategy, pick, train)


def clipnal(inside: str = "least_confidence", prototypes: bool = True) -> Strategy:
    """CLIPNAL (arXiv 2408.04917, 2024; VLPure-AL): a standard strategy among the images that CLIPN says are known.

    inside      margin, badge, entropy, least_confidence, ratio, k_center or learning_loss
    prototypes  labelled images have a say too, by the mean embedding of their class
    CLIPN's weights are the configuration's `clip.checkpoint`; its signals are read once a run. Differs: see
    `openal_ray.selection.purity.clipn`; a shortage is filled by the purest of the rest.
    """
    _, strategy = _chosen("clipn", inside, "filter", 1.0, 0.5, None)
    chosen = clipn(prototypes)

    def pick(view: View, budget: int, rng: np.random.Generator) -> Picks:
        return _filtered(view, chosen.fitted(view), chosen.level or 0.0, 1.0, budget, strategy, rng)

    return _composed(chosen, strategy, pick, None)


def openset_auto(inside: str = "margin", target: float = 0.7, train: Plan | None = None) -> Strategy:
    """For those who do not choose: a detector filters, margin picks (ours; the filter after arXiv 2408.04917, 2024).

    inside  margin, badge, entropy, least_confidence, ratio, k_center or learning_loss
    target  purity that the filter is steered to: its level moves by how far the queries so far were from it
    train   keys of `train` for the detector; otherwise it trains as the classifier does
    Before any image was rejected the detector knows nothing, so the first query is that of `inside` alone.
    """
    if not 0 < target < 1:
        raise ValueError(f"target must lie between 0 and 1, got {target}")
    chosen, strategy = _chosen("detector", inside, "filter", 3.0, 0.5, train)

    def pick(view: View, budget: int, rng: np.random.Generator) -> Picks:
        if not len(view.pool.rejected):
            return strategy.pick(replace(view, score=strategy.score), budget, rng)
        return _filtered(view, chosen.fitted(view), _level(view.history, target), 3.0, budget, strategy, rng)

    return _composed(chosen, strategy, pick, train)


def _chosen(
    purity: str, inside: str, combine: str, factor: float, weight: float, train: Plan | None
) -> tuple[Purity, Strategy]:
    if purity not in PURITIES:
        raise ValueError(unknown_name("purity", purity, PURITIES))
    if inside not in INSIDE:
        raise ValueError(unknown_name("strategy inside", inside, INSIDE))
    if combine not in COMBINATIONS:
        raise ValueError(unknown_name("combination", combine, COMBINATIONS))
    if factor < 1 or not 0 <= weight <= 1:
        raise ValueError(f"factor must be at least 1 and weight in 0 … 1, got {factor} and {weight}")
    strategy = INSIDE[inside]()
    if combine != "filter" and strategy.score is None:
        raise ValueError(f"combine={combine} needs a strategy that ranks images by a score, and {inside} does not")
    check_plan(train)
    return PURITIES[purity], strategy


def _composed(
    purity: Purity, strategy: Strategy, pick: Callable[[View, int, np.random.Generator], Picks], train: Plan | None
) -> Strategy:
    return replace(
        strategy,
        needs=tuple(dict.fromkeys(strategy.needs + purity.needs)),
        needs_labelled=tuple(dict.fromkeys(strategy.needs_labelled + purity.needs_labelled)),
        needs_pool=purity.needs_pool,
        prepare=purity.prepare(train),
        score=None,
        pick=pick,
        purity=purity.score,
    )


def _filtered(
    view: View, purity: Score, level: float, factor: float, budget: int, strategy: Strategy, rng: np.random.Generator
) -> Picks:
    """The strategy's picks among the rows that reach the level; lower it where they would be too few."""
    least = math.ceil(factor * budget)
    level = filter_level(view.open(_quantiles_half, purity), least, level)
    passing = replace(view.rows, where=_AtLeast(purity, level))
    return strategy.pick(replace(view, rows=passing, score=strategy.score), budget, rng)


@dataclass(frozen=True)
class _AtLeast:
    """The rows whose score reaches a level."""

    score: Score
    level: float

    def __call__(self, read: object) -> np.ndarray:
        reached: np.ndarray = self.score(read) >= self.level  # type: ignore[arg-type]
        return reached


def _by_ranks(view: View, purity: Score, combine: str, weight: float, budget: int, strategy: Strategy) -> Picks:
    assert strategy.score is not None
    ranks = tuple(fit_quantiles(view.open(_quantiles_half, score)) for score in (purity, strategy.score))
    return pick_ranked(view.open(_ranked_half, purity, strategy.score, ranks, combine, weight), budget)


def _level(history: tuple[PastQuery, ...], target: float) -> float:
    """Log-odds to be known that the filter asks for: 0 at first, higher after impure queries, never below 0."""
    level = 0.0
    for past in history[2:]:
        pure = float((past.answers >= 0).sum())
        odds = math.log((pure + _STEADY) / (len(past.answers) - pure + _STEADY))
        level = max(0.0, level + min(_MOST, max(-_MOST, math.log(target / (1 - target)) - odds)))
    return level


def _quantiles_half(part: Part, score: Score) -> QuantilesHalf:
    return QuantilesHalf(score(part.signals), part.indices)


def _ranked_half(
    part: Part, purity: Score, score: Score, ranks: tuple[Quantiles, Quantiles], combine: str, weight: float
) -> GroupedHalf:
    both = purity(part.signals), score(part.signals)
    keys = rank_sum(*both, ranks, weight) if combine == "rank_sum" else rank_product(*both, ranks)
    return GroupedHalf(keys, np.zeros(len(part.indices), dtype=np.int64), part.indices)
