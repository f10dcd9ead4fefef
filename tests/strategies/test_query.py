"""A query as a whole: it starts anew when a shard is lost, closes what it opened, and bears images nobody decodes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from openal_ray.data.images import ArrayImages
from openal_ray.errors import BadImages, ResourceError
from openal_ray.selection import scores
from openal_ray.shard import Rows, Settings
from openal_ray.strategies import catalogue
from openal_ray.strategies.query import LOST_SHARD_TRIES, subset_of
from openal_ray.strategies.strategy import Strategy
from openal_ray.testing.pools import MEAN, STD, case
from openal_ray.workers import LocalShards, ShardLost

PURE = Strategy(
    needs=("probs",),
    score=lambda read: scores.margin(read["probs"]),
    purity=lambda read: read["probs"].max(axis=1),
)


class Losing(LocalShards):
    """Shards of which one is lost at given calls of `open`, counted from 1."""

    def __init__(self, *at: int) -> None:
        made = case().shards(2)
        super().__init__({"train": case().images}, made.shards[0].settings, 2)
        self.at, self.opened = at, 0

    def open(self, rows: Rows, make_half: Callable[..., Any], *arguments: Any) -> Any:
        self.opened += 1
        if self.opened in self.at:
            raise ShardLost("a shard died")
        return super().open(rows, make_half, *arguments)


@pytest.mark.parametrize("at", [(1,), (2,), (1, 3, 4)], ids=["picking", "measuring purity", "again and again"])
def test_a_query_starts_anew_when_a_shard_is_lost(at: tuple[int, ...]) -> None:
    expected = case().ask(PURE, 20)
    found = case().ask(PURE, 20, Losing(*at))
    np.testing.assert_array_equal(found.indices, expected.indices)
    assert found.purity is not None and expected.purity is not None
    for ours, theirs in zip(found.purity, expected.purity, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_shards_that_are_lost_every_time_end_it_in_a_sentence() -> None:
    with pytest.raises(ResourceError, match="shards were lost 5 times during one query"):
        case().ask(PURE, 20, Losing(*range(1, LOST_SHARD_TRIES + 1)))


def test_nothing_stays_open_and_what_lasts_is_kept() -> None:
    shards = case().shards(2)
    lasting = Strategy(needs_pool=("features",), pick=lambda view, k, rng: view.k_center("features", k))
    case().ask(lasting, 20, shards)
    assert all(not shard.halves for shard in shards.shards)
    assert sum(len(shard.gather("pool").indices) for shard in shards.shards) == case().pool.size


class Unreadable(ArrayImages):
    """Pictures none of which can be decoded."""

    def load(self, indices: np.ndarray) -> np.ndarray:
        if not len(indices):
            return super().load(indices)
        raise BadImages(indices.tolist(), ["it is torn"] * len(indices))


@pytest.mark.parametrize("strategy", [PURE, catalogue.build("random"), catalogue.build("badge")])
def test_a_pool_of_which_nothing_can_be_decoded_is_asked_for_nothing(strategy: Strategy) -> None:
    torn = replace(case(), images=Unreadable(np.zeros((case().pool.size, 8, 8, 1), np.uint8)))
    settings = Settings(case().shards().shards[0].settings.read, MEAN, STD, skip_bad_images=True)
    pool = replace(torn.pool, labelled=torn.pool.labelled[:0], classes=torn.pool.classes[:0])
    found = torn.ask(strategy, 10, LocalShards({"train": torn.images}, settings), pool)
    assert not len(found.indices) and len(found.bad) == pool.size


@pytest.mark.parametrize(
    ("subset", "images", "expected"), [(0, 900, 0), (0.001, 900, 0), (0.5, 900, 450), (20, 900, 20), (0.1, 15, 1)]
)
def test_candidates_are_a_count_or_a_share_rounded_down(subset: float, images: int, expected: int) -> None:
    assert subset_of(subset, images) == expected
