"""What every strategy must keep, whatever it does (each check is one function)."""

import pickle
from collections.abc import Callable
from dataclasses import replace

import cloudpickle
import numpy as np
import torch

from openal_ray import seeds
from openal_ray.models.signals import CLASSIFIER
from openal_ray.pool import Listed, Pool
from openal_ray.shard import ReadOrder
from openal_ray.strategies import catalogue
from openal_ray.strategies.strategy import Strategy
from openal_ray.testing.pools import HARD_CASES, ONE_KNOWN, ROUND, SEED, Case, case
from openal_ray.workers import LocalShards, ReadReport


def check_strategy(strategy: Strategy | str) -> None:
    """Tries the strategy on small pools of real images, as the tests of openal_ray do with each of its own.

    strategy  what your function returned, or a name, such as "my_file.py:my_function"
    raises    AssertionError  that names the check it failed, and says what came instead
    """
    chosen = catalogue.build(strategy) if isinstance(strategy, str) else strategy
    for name, check in CHECKS.items():
        try:
            check(chosen)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error


def counts(strategy: Strategy) -> None:
    """It asks for exactly min(budget, unlabelled) distinct unlabelled images."""
    pool = Pool(case().pool.size, case().pool.labelled, case().pool.classes, held_out=np.arange(300, 1700))
    for budget in (1, 25, 10_000):
        _assert_valid(case().ask(strategy, budget, pool=pool).indices, pool, budget)


def rejected_images(strategy: Strategy) -> None:
    """It never asks again for images that turned out to be of no known class."""
    pool = case().pool.annotate(np.arange(500, 600) * 2 + 1, np.full(100, -1))
    _assert_valid(case().ask(strategy, 40, pool=pool).indices, pool, 40)


def shards(strategy: Strategy) -> None:
    """It picks the same for 1, 2 and 5 shards."""
    many = case("many blocks")
    one, two, five = (many.ask(strategy, 40, many.shards(count)).indices for count in (1, 2, 5))
    _assert_same("2 shards instead of 1", two, one)
    _assert_same("5 shards instead of 1", five, one)


def batches(strategy: Strategy) -> None:
    """It picks the same for every number of images a forward pass."""
    one, *others = (case().ask(strategy, 40, case().shards(2, size)).indices for size in (64, 100, 1024))
    for other in others:
        _assert_same("another batch size", other, one)


def order_of_arrival(strategy: Strategy) -> None:
    """It picks the same in whatever order the blocks are read."""
    many, backwards = case("many blocks"), _Backwards(case("many blocks"))
    _assert_same("blocks read in reverse", many.ask(strategy, 30, backwards).indices, many.ask(strategy, 30).indices)


def pickling(strategy: Strategy) -> None:
    """It survives the way to a shard on another machine."""
    copied = pickle.loads(cloudpickle.dumps(strategy))
    _assert_same("a pickled copy", case().ask(copied, 20).indices, case().ask(strategy, 20).indices)


def disk(strategy: Strategy) -> None:
    """It picks the same with signals that are kept on disk."""
    on_disk = case().ask(strategy, 30, case().shards(2, keep="disk")).indices
    _assert_same("signals on disk", on_disk, case().ask(strategy, 30).indices)


def hard_pools(strategy: Strategy) -> None:
    """Saturated probabilities, duplicates and identical images give ordinary queries and no NaN."""
    for name in HARD_CASES:
        hard = case(name)
        found = hard.ask(strategy, 50)
        _assert_valid(found.indices, hard.pool, 50)
        assert not (strategy.reads and np.isnan(found.scores).any()), f"{name}: a score is NaN"


def labelled_sets(strategy: Strategy) -> None:
    """Any labelled set will do: one image, one a class, a class without any; none at all if it says so."""
    labels = case().labels
    some = [[3], list(range(10)), [i for i in range(200) if labels[i] != 4]]
    for labelled in [*some, *([] if strategy.needs_start else [[]])]:
        known = np.array(labelled, dtype=np.int64)
        pool = Pool(case().pool.size, known, labels[known])
        _assert_valid(case().ask(strategy, 20, pool=pool).indices, pool, 20)


def open_sets(strategy: Strategy) -> None:
    """It works with one known class, whatever was rejected: nothing, one image, or nearly all that was asked.

    A single rejected image among many labelled ones leaves most batches of a detector's training without one; so many
    beside one label that it takes every image for unknown leave no candidate. The last pool is below the budget.
    """
    one = case(ONE_KNOWN)
    zeros, others = (np.flatnonzero(which) for which in (one.labels == 0, one.labels != 0))
    for n_labelled, n_rejected, n_left in ((1, 0, 200), (40, 1, 200), (1, 150, 200), (1, 150, 20)):
        labelled, rejected = zeros[:n_labelled], others[:n_rejected]
        unlabelled = np.setdiff1d(np.arange(one.pool.size), np.append(labelled, rejected))
        held_out = unlabelled[n_left:]
        pool = Pool(one.pool.size, labelled, one.labels[labelled], rejected, held_out)
        found = one.ask(strategy, 30, pool=pool)
        _assert_valid(found.indices, pool, 30)
        assert not (strategy.reads and np.isnan(found.scores).any()), f"{n_rejected} rejected images: a score is NaN"


def candidate_subsets(strategy: Strategy) -> None:
    """It stays within a candidate subset, a count or a share."""
    pool = case().pool
    for subset, count in ((100, 100), (0.1, int(0.1 * pool.unlabelled.count))):
        found = case().ask(strategy, 60, subset=subset).indices
        _assert_valid(found, pool, 60)
        candidates = pool.unlabelled.draw(count, seeds.rng(SEED, ROUND, "subset"))
        outside = found[~np.isin(found, candidates)]
        assert not len(outside), f"images outside the candidate subset were picked: {outside[:5].tolist()}"


def reading(strategy: Strategy) -> None:
    """It changes no image, no weight and no statistic of a network, and not torch's global generator."""
    pictures, generator = case().images.load(np.arange(len(case().images))), torch.get_rng_state()
    held = case().shards(2)
    case().load(strategy, held, case().pool)
    before = {key: value.clone() for key, value in held.shards[0].networks[CLASSIFIER].state_dict().items()}
    case().ask(strategy, 20, held)
    network = held.shards[0].networks[CLASSIFIER]
    assert not network.training, "the network was left in training mode"
    moved = [key for key, value in network.state_dict().items() if not torch.equal(before[key], value)]
    assert not moved, f"reading moved {moved}"
    assert np.array_equal(case().images.load(np.arange(len(case().images))), pictures), "reading changed pictures"
    assert torch.equal(torch.get_rng_state(), generator), "torch's global generator was used"


def seeds_decide(strategy: Strategy) -> None:
    """It picks the same for the same seed."""
    one, two = (case().ask(strategy, 30).indices for _ in range(2))
    _assert_same("the same seed again", two, one)


CHECKS: dict[str, Callable[[Strategy], None]] = {
    check.__name__: check
    for check in (
        counts, rejected_images, shards, batches, order_of_arrival, pickling, disk, hard_pools, labelled_sets,
        open_sets,        candidate_subsets, reading, seeds_decide,
    )
}  # fmt: skip
"""By name; each raises AssertionError for a strategy that fails it."""


def _assert_valid(indices: np.ndarray, pool: Pool, budget: int) -> None:
    expected = min(budget, pool.unlabelled.count)
    assert indices.dtype == np.int64 and indices.ndim == 1, f"expected int64 [n], got {indices.dtype} {indices.shape}"
    assert len(indices) == expected, f"{expected} images were to be picked, got {len(indices)}"
    assert len(np.unique(indices)) == len(indices), "an image was picked twice"
    assert not np.isin(indices, pool.taken).any(), "an image was picked that is not unlabelled"
    assert ((indices >= 0) & (indices < pool.size)).all(), "there is no such dataset index"


def _assert_same(what: str, found: np.ndarray, expected: np.ndarray) -> None:
    if not np.array_equal(found, expected):
        place = int(np.flatnonzero(found != expected)[0])
        raise AssertionError(f"{what} changed the picks: from place {place} on {found[place:place + 3].tolist()} …, "
                             f"not {expected[place:place + 3].tolist()} …")  # fmt: skip


class _Backwards(LocalShards):
    """Two shards that read their blocks from the last to the first."""

    def __init__(self, many: Case) -> None:
        made = many.shards(2)
        super().__init__(made.shards[0].images, made.shards[0].settings, 2)
        self._size = many.pool.size

    def read(self, order: ReadOrder, progress: Callable[[int], None] = lambda count: None) -> ReadReport:
        members = _Reversed(order.members.between(0, self._size))
        return super().read(replace(order, members=members), progress)


class _Reversed(Listed):
    def blocks(self, block_size: int) -> np.ndarray:
        return super().blocks(block_size)[::-1]
