"""What a strategy sees of a round when it picks: signals that stay in the shards, and the labelled set."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from openal_ray.pool import Listed, Members, Pool
from openal_ray.record import PastQuery
from openal_ray.selection.halves import Halves, Picks
from openal_ray.selection.k_center import KCenterHalf, pick_k_center
from openal_ray.selection.kmeans_parallel import KMeansParallelHalf, pick_kmeans_parallel
from openal_ray.selection.kmeans_pp import KMeansPPHalf, pick_kmeans_pp
from openal_ray.selection.stochastic import StochasticHalf, pick_stochastic
from openal_ray.selection.top_k import TopKHalf, pick_top_k
from openal_ray.selection.two_level import TwoLevelHalf, pick_two_level
from openal_ray.shard import Part, Rows
from openal_ray.signal_store import Reading, Signals
from openal_ray.workers import Shards

log = logging.getLogger(__name__)
Score = Callable[[Signals], np.ndarray]
"""Signals of n images to one number each [n], higher = more wanted; runs on the shard."""

UNLABELLED, ANSWERED, POOL = "unlabelled", "answered", "pool"  # the readings of a query
SAMPLE = 10_000  # images on which a purity is measured


@dataclass(frozen=True)
class View:
    """What `pick` sees of a round: signals that stay in the shards, and the labelled set. No path to a hidden label.

    candidates  the unlabelled images it may pick
    rows        where their signals are
    score       the strategy's score, if it has one
    history     the rounds before, the start set first
    """

    shards: Shards
    pool: Pool
    n_classes: int
    candidates: Members
    rows: Rows
    score: Score | None = None
    history: tuple[PastQuery, ...] = ()

    def open(self, make_half: Callable[..., Any], *arguments: Any) -> Halves:
        """One shard half on each shard that has candidates: make_half(its `Part` of them, *arguments)."""
        return self.shards.open(self.rows, make_half, *arguments)

    def top_k(self, score: Score, k: int) -> Picks:
        """The k candidates of highest score; each shard sends its best k."""
        return pick_top_k(self.open(_top_k_half, score), k)

    def stochastic(self, score: Score, k: int, rng: np.random.Generator, form: str, beta: float) -> Picks:
        """k candidates drawn without replacement, those of higher score likelier; see `selection.stochastic`."""
        return pick_stochastic(self.open(_stochastic_half, score, int(rng.integers(2**63)), form, beta), k, form, beta)

    def k_center(self, signal: str, k: int) -> Picks:
        """Greedy k-center over a signal [n, D], with the labelled images as the first centres."""
        covered = self.labelled.signals.get(signal)
        return pick_k_center(self.open(_k_center_half, signal), k, covered)

    def kmeans_pp(self, left: Score, right: Score, k: int, rng: np.random.Generator) -> Picks:
        """D² sampling among the outer products of two arrays [n, ·] made from the signals on the shard."""
        return pick_kmeans_pp(self.open(_kmeans_pp_half, left, right), k, rng)

    def two_level(self, signal: str, k: int, parts: int) -> Picks:
        """The same over `parts` parts of the pool, within four times the least radius; the log says how near.

        raises ValueError unless the strategy's `parts` are as many, so that each part lies on one shard
        """
        halves = self.open(_two_level_half, signal, parts)
        cover = pick_two_level(halves, k, self.labelled.signals.get(signal))
        log.info("covering radius %.6g; no choice of %d has one below %.6g", cover.radius, k, cover.least)
        return cover.picks

    def kmeans_parallel(self, left: Score, right: Score, k: int, rounds: int, rng: np.random.Generator) -> Picks:
        """k-means|| among the same outer products as `kmeans_pp`."""
        return pick_kmeans_parallel(self.open(_kmeans_parallel_half, left, right), k, rounds, rng)

    def sample(self, score: Score, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Dataset indices of up to SAMPLE candidates drawn at random, ascending, and a score of each."""
        count = min(SAMPLE, self.candidates.count)
        drawn = Listed(self.candidates.draw(count, rng))
        halves = self.shards.open(replace(self.rows, among=drawn), _SampleHalf, score)
        parts = halves.ask("scores")
        indices, scores = (np.concatenate([np.empty(0), *part]) for part in zip(*parts, strict=True))
        order = np.argsort(indices)
        return indices[order].astype(np.int64), scores[order]

    def draw(self, k: int, rng: np.random.Generator) -> Picks:
        """k candidates, uniform without replacement; no signal is needed."""
        return Picks(self.candidates.draw(k, rng), np.full(k, np.nan))

    @cached_property
    def answered(self) -> Reading:
        """The `needs_labelled` and `needs_pool` signals of labelled and rejected images, ascending by index."""
        asked = Listed(self.pool.answered)
        read, lasting = self.shards.gather(ANSWERED), self.shards.gather(POOL, asked)
        return Reading(read.indices if read.signals else lasting.indices, {**read.signals, **lasting.signals})

    @cached_property
    def answered_classes(self) -> np.ndarray:
        """The class of each image of `answered`, int64 [L + R]; n_classes for rejected ones."""
        classes = np.append(self.pool.classes, np.full(len(self.pool.rejected), self.n_classes))
        order = np.argsort(self.pool.answered)
        return classes[order][np.searchsorted(self.pool.answered[order], self.answered.indices)]

    @cached_property
    def labelled(self) -> Reading:
        """The same signals of the labelled images alone."""
        return self.answered.only(np.sort(self.pool.labelled))

    @cached_property
    def labelled_classes(self) -> np.ndarray:
        """The class of each image of `labelled`, int64 [L]."""
        return self.answered_classes[self.answered_classes < self.n_classes]


class _SampleHalf:
    """Scores of some rows."""

    def __init__(self, part: Part, score: Score) -> None:
        self._part, self._score = part, score

    def scores(self) -> tuple[np.ndarray, np.ndarray]:
        return self._part.indices, self._score(self._part.signals)


def _top_k_half(part: Part, score: Score) -> TopKHalf:
    return TopKHalf(score(part.signals), part.indices)


def _stochastic_half(part: Part, score: Score, seed: int, form: str, beta: float) -> StochasticHalf:
    return StochasticHalf(score(part.signals), part.indices, seed, form, beta)


def _k_center_half(part: Part, signal: str) -> KCenterHalf:
    return KCenterHalf(part.signals[signal], part.indices, part.device)


def _kmeans_pp_half(part: Part, left: Score, right: Score) -> KMeansPPHalf:
    return KMeansPPHalf(left(part.signals), right(part.signals), part.indices, part.device)


def _two_level_half(part: Part, signal: str, parts: int) -> TwoLevelHalf:
    return TwoLevelHalf(part.signals[signal], part.indices, parts, part.device)


def _kmeans_parallel_half(part: Part, left: Score, right: Score) -> KMeansParallelHalf:
    return KMeansParallelHalf(left(part.signals), right(part.signals), part.indices)
