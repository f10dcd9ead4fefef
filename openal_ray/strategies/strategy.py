"""A strategy as frozen data, and the view of a round that it picks from."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from openal_ray.errors import ResourceError
from openal_ray.models.monte_carlo import Sampling
from openal_ray.pool import Listed, Members, Pool
from openal_ray.selection.halves import Picks
from openal_ray.selection.k_center import KCenterHalf, pick_k_center
from openal_ray.selection.kmeans_parallel import KMeansParallelHalf, pick_kmeans_parallel
from openal_ray.selection.kmeans_pp import KMeansPPHalf, pick_kmeans_pp
from openal_ray.selection.top_k import TopKHalf, pick_top_k
from openal_ray.selection.two_level import TwoLevelHalf, pick_two_level
from openal_ray.signal_store import Reading, Signals
from openal_ray.workers import Progress, ShardLost, Shards

log = logging.getLogger(__name__)
Score = Callable[[Signals], np.ndarray]
"""Signals of n images to one number each [n], higher = more wanted; runs on the shard."""

UNLABELLED, LABELLED = "unlabelled", "labelled"  # the two readings of a query
LOST_SHARD_TRIES = 5  # a query that loses shards this often has another problem than spot instances


@dataclass(frozen=True)
class View:
    """What `pick` sees of a round: signals that stay in the shards, and the labelled set. No path to a hidden label.

    candidates  the unlabelled images it may pick
    score       the strategy's score, if it has one
    """

    shards: Shards
    pool: Pool
    n_classes: int
    candidates: Members
    score: Score | None = None

    def top_k(self, score: Score, k: int) -> Picks:
        """The k candidates of highest score; each shard sends its best k."""
        return pick_top_k(self.shards.open(UNLABELLED, _top_k_half, score), k)

    def k_center(self, signal: str, k: int) -> Picks:
        """Greedy k-center over a signal [n, D], with the labelled images as the first centres."""
        covered = self.labelled.signals.get(signal)
        return pick_k_center(self.shards.open(UNLABELLED, _k_center_half, signal), k, covered)

    def kmeans_pp(self, left: Score, right: Score, k: int, rng: np.random.Generator) -> Picks:
        """D² sampling among the outer products of two arrays [n, ·] made from the signals on the shard."""
        return pick_kmeans_pp(self.shards.open(UNLABELLED, _kmeans_pp_half, left, right), k, rng)

    def two_level(self, signal: str, k: int, parts: int) -> Picks:
        """The same over `parts` parts of the pool, within four times the least radius; the log says how near."""
        halves = self.shards.open(UNLABELLED, _two_level_half, signal, parts)
        cover = pick_two_level(halves, k, self.labelled.signals.get(signal))
        log.info("covering radius %.6g; no choice of %d has one below %.6g", cover.radius, k, cover.least)
        return cover.picks

    def kmeans_parallel(self, left: Score, right: Score, k: int, rounds: int, rng: np.random.Generator) -> Picks:
        """k-means|| among the same outer products as `kmeans_pp`."""
        return pick_kmeans_parallel(self.shards.open(UNLABELLED, _kmeans_parallel_half, left, right), k, rounds, rng)

    def draw(self, k: int, rng: np.random.Generator) -> Picks:
        """k candidates, uniform without replacement; no signal is needed."""
        return Picks(self.candidates.draw(k, rng), np.full(k, np.nan))

    @cached_property
    def labelled(self) -> Reading:
        """The `needs_labelled` signals of the labelled images, ascending by index."""
        return self.shards.gather(LABELLED)


def highest_scores(view: View, budget: int, rng: np.random.Generator) -> Picks:
    """The default `pick`: the candidates of highest score, ties to the lower index."""
    if view.score is None:
        raise TypeError("a strategy without a score needs a pick of its own")
    return view.top_k(view.score, budget)


@dataclass(frozen=True)
class Strategy:
    """A rule that turns signals into a query.

    needs           signals of the unlabelled images
    needs_labelled  signals of the labelled images
    score           signals to acquisition scores, on the shard; higher = more wanted
    pick            (view, budget, rng) to picks, on the driver, best first
    passes          stochastic forward passes behind the Monte Carlo signals among the needs
    needs_start     False if it can choose the very first labels
    guarantee       what its picks are: "exact" as its description says, or by how much an approximation may miss that
    """

    needs: tuple[str, ...] = ()
    needs_labelled: tuple[str, ...] = ()
    score: Score | None = None
    pick: Callable[[View, int, np.random.Generator], Picks] = highest_scores
    passes: int = 0
    needs_start: bool = True
    guarantee: str = "exact"


@dataclass(frozen=True, eq=False)
class Query:
    """The images asked this round, best first, and what the reads before it met."""

    indices: np.ndarray
    scores: np.ndarray
    bad: dict[int, str]
    read_seconds: float = 0.0


def query(
    strategy: Strategy,
    shards: Shards,
    pool: Pool,
    n_classes: int,
    budget: int,
    rng: Callable[[str], np.random.Generator],
    subset: int | float = 0,
    progress: Progress = lambda count: None,
) -> Query:
    """Reads what the strategy needs with the network that the shards hold, and picks.

    budget  images asked; min(budget, unlabelled) distinct unlabelled indices are returned
    rng     purpose to a generator: each purpose has its own, so that no draw depends on another
    subset  candidates drawn first: a count, a share of the unlabelled images if below 1, or 0 for all of them
    """
    candidates = _candidates(pool, subset, budget, rng("subset"))
    begin = time.perf_counter()
    bad = _read(strategy, shards, pool, candidates, int(rng("dropout").integers(2**62)), progress)
    read_seconds = time.perf_counter() - begin
    while True:
        left = candidates.without(np.array(list(bad), dtype=np.int64))
        view = View(shards, pool.hold_out(list(bad)), n_classes, left, strategy.score)
        picks = _pick(strategy, view, min(budget, left.count), rng)
        # A strategy that reads nothing may pick an image that nobody has decoded yet.
        unseen = {} if strategy.needs else shards.read(UNLABELLED, "train", Listed(picks.indices), ()).bad
        if not unseen:
            break
        bad |= unseen
    for reading in (UNLABELLED, LABELLED):
        shards.forget(reading)
    return Query(picks.indices, picks.scores, bad, read_seconds)


def _read(
    strategy: Strategy, shards: Shards, pool: Pool, candidates: Members, seed: int, progress: Progress
) -> dict[int, str]:
    """Reads what the strategy needs; returns the candidates that cannot be decoded, with the reasons."""
    if strategy.needs_labelled:
        shards.read(LABELLED, "train", Listed(pool.labelled), strategy.needs_labelled, progress)
    if not strategy.needs:
        return {}
    return shards.read(UNLABELLED, "train", candidates, strategy.needs, progress, Sampling(strategy.passes, seed)).bad


def _candidates(pool: Pool, subset: int | float, budget: int, rng: np.random.Generator) -> Members:
    unlabelled = pool.unlabelled
    count = int(subset * unlabelled.count) if 0 < subset < 1 else int(subset)
    if not count or count >= unlabelled.count:
        return unlabelled
    if count < budget:
        log.warning("budget.n_subset gives %d candidates, fewer than the %d asked: %d are drawn", count, budget, budget)
    return Listed(unlabelled.draw(min(max(count, budget), unlabelled.count), rng))


def _pick(strategy: Strategy, view: View, budget: int, rng: Callable[[str], np.random.Generator]) -> Picks:
    for attempt in range(LOST_SHARD_TRIES):
        try:
            return _checked(strategy.pick(view, budget, rng("pick")), view, budget)
        except ShardLost:
            log.warning("a shard was lost while picking; picking again from the start (%d)", attempt + 1)
    raise ResourceError(f"shards were lost {LOST_SHARD_TRIES} times during one query; see Ray's logs for why")


def _checked(picks: Picks, view: View, budget: int) -> Picks:
    """Refuses what no strategy may do; a strategy of the user's own may err here."""
    indices = np.asarray(picks.indices)
    if len(np.unique(indices)) != len(indices) or len(indices) != budget:
        raise ValueError(f"the strategy must pick {budget} distinct images, got {indices.tolist()[:20]} …")
    if np.isin(indices, view.pool.taken).any():
        raise ValueError("the strategy picked images that are not unlabelled")
    return picks


def _top_k_half(reading: Reading, score: Score) -> TopKHalf:
    return TopKHalf(score(reading.signals), reading.indices)


def _k_center_half(reading: Reading, signal: str) -> KCenterHalf:
    return KCenterHalf(reading.signals[signal], reading.indices, reading.device)


def _kmeans_pp_half(reading: Reading, left: Score, right: Score) -> KMeansPPHalf:
    return KMeansPPHalf(left(reading.signals), right(reading.signals), reading.indices, reading.device)


def _two_level_half(reading: Reading, signal: str, parts: int) -> TwoLevelHalf:
    return TwoLevelHalf(reading.signals[signal], reading.indices, parts, reading.device)


def _kmeans_parallel_half(reading: Reading, left: Score, right: Score) -> KMeansParallelHalf:
    return KMeansParallelHalf(left(reading.signals), right(reading.signals), reading.indices)
