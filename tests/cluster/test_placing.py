"""Where blocks are placed, without a Ray: whatever answers first and whoever dies, what belongs together lies together.

The shards here read nothing and answer in any order; each remembers which blocks it was given.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.exceptions import ObjectLostError, RayActorError

from openal_ray import config
from openal_ray.cluster import shards as module
from openal_ray.cluster.shards import RayShards
from openal_ray.cluster.share import Share
from openal_ray.pool import AllBut, Listed, Members
from openal_ray.selection.halves import BLOCK
from openal_ray.shard import BlockRead, ReadOrder, Settings
from openal_ray.workers import ShardLost

BLOCKS, SHARDS = 16, 3
EVERYTHING = AllBut(BLOCKS * BLOCK, np.empty(0, np.int64))
LOST = [RayActorError(), ObjectLostError("ff", "", "")]


class Chance:
    """Which call is answered next, and which shard is lost instead of answering: three at most, each at one of ten."""

    def __init__(self, seed: int) -> None:
        self.rng, self.losses = np.random.default_rng(seed), 3

    def put(self, value: Any) -> Any:
        return value

    def wait(self, calls: list[Any], **options: Any) -> tuple[list[Any], list[Any]]:
        return [calls[self.rng.integers(len(calls))]], []

    def answer_of(self, call: "Call") -> BlockRead:
        if self.losses and self.rng.random() < 0.1:
            self.losses -= 1
            raise LOST[self.losses % 2]
        if call.order is None:
            return BlockRead(0)
        call.blocks.add((call.order.reading, call.block))
        return BlockRead(len(call.order.block(call.block)))


@dataclass(frozen=True, eq=False)
class Call:
    """A question to a shard with these blocks."""

    blocks: set[tuple[str, int]]
    order: ReadOrder | None = None
    block: int = 0


class Crew:
    """Three shards, each a set of the readings and blocks that it has."""

    def __init__(self, *given: Any) -> None:
        self.actors: dict[int, set[tuple[str, int]]] = {}
        self.starting: dict[Any, int] = {}
        self._spawned = 0

    @property
    def ready(self) -> list[int]:
        return list(self.actors)

    def follow(self, useful: int) -> None:
        while len(self.actors) < SHARDS:
            self.actors[self._spawned] = set()
            self._spawned += 1

    def leaving(self) -> list[int]:
        return []

    def dismiss(self, number: int) -> None:
        del self.actors[number]

    def call(self, number: int, *given: Any) -> Call:
        return Call(self.actors[number])

    def read(self, number: int, order: ReadOrder, block: int) -> Call:
        return Call(self.actors[number], order, block)


@pytest.fixture(autouse=True, scope="module")
def crew() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "Crew", Crew)
        yield


def check(shards: RayShards, parts: int, readings: dict[str, Members]) -> None:
    """That each block's readings are where the table says, and all blocks of a part on one shard."""
    homes: dict[int, set[int]] = {}
    for reading, members in readings.items():
        for block in members.blocks(BLOCK):
            home = shards._table["train", int(block)]
            homes.setdefault(int(block) % parts if parts else int(block), set()).add(home)
            assert (reading, int(block)) in shards._crew.actors[home]  # type: ignore[comparison-overlap]
    assert all(len(mine) == 1 for mine in homes.values()), homes


@given(seed=st.integers(0, 2**31), parts=st.sampled_from([0, 1, 2, 4, 5, 20]))
@settings(deadline=None, max_examples=60, derandomize=True)
def test_parts_lie_together_with_all_their_readings(seed: int, parts: int) -> None:
    chance, rng = Chance(seed), np.random.default_rng(seed)
    some = [Listed(np.sort(rng.choice(BLOCKS, count, replace=False)) * BLOCK) for count in (10, 3)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ray", chance)
        patch.setattr(module, "answer_of", chance.answer_of)
        shards = RayShards({}, Settings(config.Read(), (0.5,), (0.5,)), Share(1, fewest=SHARDS, most=SHARDS))
        shards.read(ReadOrder("check", "train", EVERYTHING))  # it binds nothing to where it was decoded
        readings: dict[str, Members] = {}
        for reading, members in {"pool": some[0], "unlabelled": EVERYTHING, "answered": some[1]}.items():
            told: list[int] = []
            order = ReadOrder(reading, "train", members, ("probs",), parts=parts)
            assert shards.read(order, told.append).count == members.count == sum(told)
            readings[reading] = members
            check(shards, parts, readings)
            holders = shards._holders(reading)
            try:
                shards.call_each("ask", [()] * len(holders), holders)
            except ShardLost:
                check(shards, parts, readings)
