"""A query: reads what the strategy needs, and lets it pick."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import numpy as np

from openal_ray.errors import ResourceError
from openal_ray.models.monte_carlo import Sampling
from openal_ray.pool import AllBut, Listed, Members, Pool
from openal_ray.record import PastQuery
from openal_ray.selection.halves import Picks
from openal_ray.shard import ReadOrder, Rows
from openal_ray.strategies.strategy import Strategy
from openal_ray.strategies.view import ANSWERED, POOL, UNLABELLED, View
from openal_ray.workers import Progress, ShardLost, Shards

log = logging.getLogger(__name__)
LOST_SHARD_TRIES = 5  # a query that loses shards this often has another problem than spot instances
Chosen = TypeVar("Chosen")
Purity = tuple[np.ndarray, np.ndarray]
"""Dataset indices [m], and a score of each."""


@dataclass(frozen=True, eq=False)
class Query:
    """The images asked this round, best first, and what the reads before it met.

    purity  dataset indices of some candidates, drawn at random, and the strategy's purity of each
    """

    indices: np.ndarray
    scores: np.ndarray
    bad: dict[int, str]
    read_seconds: float = 0.0
    notes: Mapping[str, np.ndarray] = field(default_factory=dict)
    purity: Purity | None = None


def query(
    strategy: Strategy,
    shards: Shards,
    pool: Pool,
    n_classes: int,
    budget: int,
    rng: Callable[[str], np.random.Generator],
    subset: int | float = 0,
    progress: Progress = lambda count: None,
    history: tuple[PastQuery, ...] = (),
) -> Query:
    """Reads what the strategy needs with the networks that the shards hold, and picks.

    budget   images asked; min(budget, unlabelled) distinct unlabelled indices are returned
    rng      purpose to a generator: each purpose has its own, so that no draw depends on another
    subset   candidates drawn first: a count, a share of the unlabelled images if below 1, or 0 for all of them
    history  the rounds before
    """
    candidates = _candidates(pool, subset, budget, rng("subset"))
    begin = time.perf_counter()
    bad = _read(strategy, shards, pool, candidates, int(rng("dropout").integers(2**62)), progress)
    read_seconds = time.perf_counter() - begin
    while True:
        left = candidates.without(np.array(list(bad), dtype=np.int64))
        if not left.count:
            picks, purity = Picks(np.empty(0, dtype=np.int64), np.empty(0)), None
            break
        view = View(shards, pool.hold_out(list(bad)), n_classes, left, _rows(strategy, left), strategy.score, history)
        picks, purity = _undisturbed(shards, partial(_chosen, strategy, view, min(budget, left.count), rng))
        # A strategy that reads nothing may pick an image that nobody has decoded yet.
        unseen = {} if strategy.reads else shards.read(ReadOrder(UNLABELLED, "train", Listed(picks.indices))).bad
        if not unseen:
            break
        bad |= unseen
    for reading in (UNLABELLED, ANSWERED):
        shards.forget(reading)
    return Query(picks.indices, picks.scores, bad, read_seconds, picks.notes, purity)


def images_to_read(strategy: Strategy, pool: Pool) -> int:
    """How many images a query of this pool reads, as far as they do not lie in the shards already."""
    everything = pool.size - len(pool.held_out)
    return (pool.unlabelled.count if strategy.needs else 0) + (everything if strategy.needs_pool else 0)


def _read(
    strategy: Strategy, shards: Shards, pool: Pool, candidates: Members, seed: int, progress: Progress
) -> dict[int, str]:
    """Reads what the strategy needs; returns the candidates that cannot be decoded, with the reasons."""
    bad: dict[int, str] = {}
    if strategy.needs_pool:
        everything = AllBut(pool.size, np.sort(pool.held_out))
        order = ReadOrder(POOL, "train", everything, strategy.needs_pool, lasting=True, parts=strategy.parts)
        bad |= shards.read(order, progress).bad
    if strategy.needs:
        order = ReadOrder(UNLABELLED, "train", candidates, strategy.needs, Sampling(strategy.passes, seed))
        bad |= shards.read(replace(order, parts=strategy.parts), progress).bad
    if strategy.needs_labelled:  # last: blocks lie where they were first read, and few images must not decide on that
        order = ReadOrder(ANSWERED, "train", Listed(pool.answered), strategy.needs_labelled, parts=strategy.parts)
        shards.read(order, progress)
    return bad


def subset_of(subset: int | float, unlabelled: int) -> int:
    """How many candidates `budget.n_subset` means of so many images; 0 means all, also where a share comes to none."""
    return int(subset * unlabelled) if 0 < subset < 1 else int(subset)


def _rows(strategy: Strategy, candidates: Members) -> Rows:
    if strategy.needs or not strategy.needs_pool:
        return Rows(UNLABELLED, beside=(POOL,) if strategy.needs_pool else ())
    return Rows(POOL, among=candidates)


def _candidates(pool: Pool, subset: int | float, budget: int, rng: np.random.Generator) -> Members:
    unlabelled = pool.unlabelled
    count = subset_of(subset, unlabelled.count)
    if not count or count >= unlabelled.count:
        return unlabelled
    if count < budget:
        log.warning("budget.n_subset gives %d candidates, fewer than the %d asked: %d are drawn", count, budget, budget)
    return Listed(unlabelled.draw(min(max(count, budget), unlabelled.count), rng))


def _chosen(
    strategy: Strategy, view: View, budget: int, rng: Callable[[str], np.random.Generator]
) -> tuple[Picks, Purity | None]:
    picks = _checked(strategy.pick(view, budget, rng("pick")), view, budget)
    return picks, view.sample(strategy.purity, rng("purity sample")) if strategy.purity else None


def _undisturbed(shards: Shards, choose: Callable[[], Chosen]) -> Chosen:
    """What `choose` comes to; it starts anew when a shard was lost, and what it opened is closed."""
    for attempt in range(LOST_SHARD_TRIES):
        try:
            return choose()
        except ShardLost:
            log.warning("a shard was lost while picking; picking again from the start (%d)", attempt + 1)
        finally:
            shards.close()
    raise ResourceError(f"shards were lost {LOST_SHARD_TRIES} times during one query; see Ray's logs for why")


def _checked(picks: Picks, view: View, budget: int) -> Picks:
    """Refuses what no strategy may do; a strategy of the user's own may err here."""
    indices = np.asarray(picks.indices)
    if len(np.unique(indices)) != len(indices) or len(indices) != budget:
        raise ValueError(f"the strategy must pick {budget} distinct images, got {indices.tolist()[:20]} …")
    if np.isin(indices, view.pool.taken).any():
        raise ValueError("the strategy picked images that are not unlabelled")
    return picks
