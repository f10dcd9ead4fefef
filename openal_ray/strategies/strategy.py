"""A strategy as frozen data, and the view of a round that it picks from."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from openal_ray import config, seeds
from openal_ray.errors import ResourceError
from openal_ray.models.learners import Classifier, Fitted, Learner
from openal_ray.models.monte_carlo import Sampling
from openal_ray.pool import AllBut, Listed, Members, Pool
from openal_ray.record import PastQuery
from openal_ray.selection.halves import Halves, Picks
from openal_ray.selection.k_center import KCenterHalf, pick_k_center
from openal_ray.selection.kmeans_parallel import KMeansParallelHalf, pick_kmeans_parallel
from openal_ray.selection.kmeans_pp import KMeansPPHalf, pick_kmeans_pp
from openal_ray.selection.stochastic import StochasticHalf, check_form, pick_stochastic
from openal_ray.selection.top_k import TopKHalf, pick_top_k
from openal_ray.selection.two_level import TwoLevelHalf, pick_two_level
from openal_ray.shard import Part, ReadOrder, Rows
from openal_ray.signal_store import Reading, Signals
from openal_ray.training.job import Job
from openal_ray.workers import Progress, ShardLost, Shards

log = logging.getLogger(__name__)
Score = Callable[[Signals], np.ndarray]
"""Signals of n images to one number each [n], higher = more wanted; runs on the shard."""

UNLABELLED, ANSWERED, POOL = "unlabelled", "answered", "pool"  # the readings of a query
SAMPLE = 10_000  # images on which a purity is measured
LOST_SHARD_TRIES = 5  # a query that loses shards this often has another problem than spot instances


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

    def open_pool(self, make_half: Callable[..., Any], *arguments: Any) -> Halves:
        """The same over all images, labelled or not, with the `needs_pool` signals."""
        return self.shards.open(Rows(POOL), make_half, *arguments)

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
        """The same over `parts` parts of the pool, within four times the least radius; the log says how near."""
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


def highest_scores(view: View, budget: int, rng: np.random.Generator) -> Picks:
    """The default `pick`: the candidates of highest score, ties to the lower index."""
    if view.score is None:
        raise TypeError("a strategy without a score needs a pick of its own")
    return view.top_k(view.score, budget)


def drawn_scores(form: str, beta: float) -> Callable[[View, int, np.random.Generator], Picks]:
    """A `pick` that draws by the score instead of taking the highest (Kirsch et al. 2023); raises ValueError."""
    check_form(form, beta)

    def pick(view: View, budget: int, rng: np.random.Generator) -> Picks:
        assert view.score is not None
        return view.stochastic(view.score, budget, rng, form, beta)

    return pick


@dataclass(frozen=True)
class Round:
    """What `prepare` sees of a round: its labelled set, and how its classifier is trained.

    classifier  how the classifier is built, before any strategy changed it
    validation  indices and classes of the validation split; may be empty
    classes     class names; empty where nobody knows them
    clip        how CLIP is to be had, for strategies that need it
    """

    number: int
    pool: Pool
    n_classes: int
    classifier: Classifier
    plan: config.Train
    mean: tuple[float, ...]
    std: tuple[float, ...]
    seed: int
    validation: tuple[np.ndarray, np.ndarray]
    classes: tuple[str, ...] = ()
    clip: config.Clip = field(default_factory=config.Clip)

    def job(self, name: str, learner: Learner, indices: np.ndarray, targets: np.ndarray, **plan: Any) -> Job:
        """The training of a helper, with the classifier's plan but for the keys given.

        indices, targets  [n] the images it learns from and what it is to say of them
        """
        return Job(
            name=f"{name} of round {self.number}", learner=learner, indices=indices, targets=targets,
            plan=self.plan.model_copy(update={"continue_": False, **plan}), mean=self.mean, std=self.std,
            init_seed=seeds.derive(self.seed, 0, f"{name} weights"),
            order_seed=seeds.derive(self.seed, self.number, f"{name} order"), validation=self.validation,
        )  # fmt: skip

    def answered(self) -> tuple[np.ndarray, np.ndarray]:
        """Labelled and rejected images [L + R], and their classes; n_classes for rejected ones."""
        return self.pool.answered, np.append(self.pool.classes, np.full(len(self.pool.rejected), self.n_classes))


Helpers = Mapping[str, Job | Fitted]
"""Helper networks by name: trainings, or networks that are ready. A job that was done before is not done again."""


def no_helpers(round: Round) -> Helpers:
    """The default `prepare`."""
    return {}


def same_classifier(classifier: Classifier) -> Learner:
    """The default `classifier`."""
    return classifier


@dataclass(frozen=True)
class Strategy:
    """A rule that turns signals into a query.

    needs           signals of the unlabelled images; helper.signal is read from that helper
    needs_labelled  signals of the labelled images, and of rejected ones
    needs_pool      signals of all images, of networks that stay the same; read once, and kept from round to round
    score           signals to acquisition scores, on the shard; higher = more wanted
    pick            (view, budget, rng) to picks, on the driver, best first
    passes          stochastic forward passes behind the Monte Carlo signals among the needs
    needs_start     False if it can choose the very first labels
    prepare         the helpers that it needs beside the classifier; they are trained at the same time as that
    classifier      replaced by a strategy that changes how the classifier trains
    purity          signals to how surely each image is in-distribution [n], on the shard; measured, not asked for
    guarantee       what its picks are: "exact", as its description says, or by how much an approximation may miss
    """

    needs: tuple[str, ...] = ()
    needs_labelled: tuple[str, ...] = ()
    needs_pool: tuple[str, ...] = ()
    score: Score | None = None
    pick: Callable[[View, int, np.random.Generator], Picks] = highest_scores
    passes: int = 0
    needs_start: bool = True
    prepare: Callable[[Round], Helpers] = no_helpers
    classifier: Callable[[Classifier], Learner] = same_classifier
    purity: Score | None = None
    guarantee: str = "exact"

    @property
    def all_needs(self) -> tuple[str, ...]:
        """Every need once."""
        return tuple(dict.fromkeys(self.needs + self.needs_labelled + self.needs_pool))

    @property
    def reads(self) -> bool:
        """Whether it looks at the images at all."""
        return bool(self.needs or self.needs_pool)


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
    purity: tuple[np.ndarray, np.ndarray] | None = None


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
        view = View(shards, pool.hold_out(list(bad)), n_classes, left, _rows(strategy, left), strategy.score, history)
        picks = _pick(strategy, view, min(budget, left.count), rng)
        # A strategy that reads nothing may pick an image that nobody has decoded yet.
        unseen = {} if strategy.reads else shards.read(ReadOrder(UNLABELLED, "train", Listed(picks.indices))).bad
        if not unseen:
            break
        bad |= unseen
    purity = view.sample(strategy.purity, rng("purity sample")) if strategy.purity else None
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
    if strategy.needs_labelled:
        shards.read(ReadOrder(ANSWERED, "train", Listed(pool.answered), strategy.needs_labelled), progress)
    if strategy.needs_pool:
        everything = AllBut(pool.size, np.sort(pool.held_out))
        bad |= shards.read(ReadOrder(POOL, "train", everything, strategy.needs_pool), progress).bad
    if strategy.needs:
        order = ReadOrder(UNLABELLED, "train", candidates, strategy.needs, Sampling(strategy.passes, seed))
        bad |= shards.read(order, progress).bad
    return bad


def _rows(strategy: Strategy, candidates: Members) -> Rows:
    if strategy.needs or not strategy.needs_pool:
        return Rows(UNLABELLED, beside=(POOL,) if strategy.needs_pool else ())
    return Rows(POOL, among=candidates)


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
