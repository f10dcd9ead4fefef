"""Shards as Ray actors: blocks are handed out, a lost shard is replaced, and only its blocks are read again."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import numpy as np
import ray
import torch

from openal_ray.cluster.agenda import Agenda
from openal_ray.cluster.connect import free_in_words
from openal_ray.cluster.crew import LOST, Crew, answer_of
from openal_ray.cluster.metrics import meters
from openal_ray.cluster.share import Share
from openal_ray.data.images import Images
from openal_ray.errors import ResourceError
from openal_ray.models.learners import Learner
from openal_ray.models.signals import CLASSIFIER
from openal_ray.pool import Members
from openal_ray.selection.halves import BLOCK, Halves
from openal_ray.shard import BlockRead, ReadOrder, Rows, Settings
from openal_ray.signal_store import Reading
from openal_ray.workers import Ledger, Progress, ReadReport, ShardLost, join_readings

log = logging.getLogger(__name__)
IN_FLIGHT = 2  # blocks a shard may have waiting, besides those that are decoded: one computed, one ready to follow
LOSSES_ALLOWED = 20  # in one call, nodes that were reclaimed not counted; more is not bad luck
FOLLOW_SECONDS = 5.0  # between two looks at what the cluster has room for
QUIET_SECONDS = 30  # after so long without an answer the user is told what is being waited for
LARGE = 100_000  # bytes of arguments from which one stored copy beats one copy a call
Block = tuple[str, int]
"""A set of images, and the number of a block of them."""


@dataclass(frozen=True, eq=False)
class _Order:
    """One read as it was asked, so that another shard can do a lost one's part again."""

    reading: str
    images: str
    networks: frozenset[str]
    stored: Any  # a reference to the ReadOrder in the object store
    blocks: frozenset[Block]
    parts: int


Item = tuple[Block, tuple[_Order, ...]]


@dataclass
class _Work:
    """Blocks on their way: those that wait for a shard, calls under way, and what has come of the others.

    reading   what was asked for, whose images alone `progress` hears of; what else a lost shard held comes beside it
    """

    reading: str = ""
    agenda: Agenda[Item] = field(default_factory=Agenda)
    progress: Progress = lambda count: None
    flying: dict[Any, tuple[int, _Order, Block]] = field(default_factory=dict)
    done: dict[tuple[str, Block], BlockRead] = field(default_factory=dict)
    losses: int = 0
    followed: float = 0.0
    heard: float = field(default_factory=time.monotonic)


class RayShards:
    """Shard actors whose number may follow the cluster; a table, made while reading, says where each block lies.

    All readings of a block lie on one shard, and so do all blocks of a part (`ReadOrder.parts`). A part that has none
    may go to any shard that is idle.
    """

    def __init__(self, images: Mapping[str, Images], settings: Settings, share: Share) -> None:
        self._share = share
        self._crew = Crew(images, settings, share)
        self._orders: dict[str, _Order] = {}
        self._table: dict[Block, int] = {}  # where a block lies; or lay last, and its pictures may be in memory
        self._done = Ledger()
        self._handles = 0
        self._crew.follow(0)

    @property
    def count(self) -> int:
        return len(self._crew.actors)

    def load(self, learner: Learner, weights: Mapping[str, torch.Tensor], name: str = CLASSIFIER) -> None:
        self._done.network_changed(name)
        self._orders = {key: order for key, order in self._orders.items() if name not in order.networks}
        self._crew.load(learner, weights, name)
        self._crew.follow(0)

    def read(self, order: ReadOrder, progress: Progress = lambda count: None) -> ReadReport:
        known = self._done.report(order)
        if known:
            progress(known.count)
            return known
        self.forget(order.reading)
        blocks = tuple((order.images, int(block)) for block in order.members.blocks(BLOCK))
        lying = {block for other in self._orders.values() if other.networks for block in other.blocks}
        stored, networks = ray.put(order), frozenset(order.networks)
        self._orders[order.reading] = _Order(
            order.reading, order.images, networks, stored, frozenset(blocks), order.parts
        )  # fmt: skip
        work = _Work(order.reading, progress=progress)
        self._plan(self._orders[order.reading], blocks, lying, work.agenda)
        self._share.ask(work.agenda.movable)
        try:
            self._work_off(work)
        except BaseException:
            self.forget(order.reading)
            raise
        finally:
            if self._share.elastic:
                self._share.withdraw()
        report = ReadReport()
        for block in blocks:
            report.add(work.done[order.reading, block])
        self._done.add(order, report)
        return report

    def gather(self, reading: str, among: Members | None = None) -> Reading:
        for _ in range(LOSSES_ALLOWED):
            try:
                holders = self._holders(reading)
                return join_readings(self.call_each("gather", [(reading, among)] * len(holders), holders))
            except ShardLost:
                continue
        raise ResourceError(f"shards were lost {LOSSES_ALLOWED} times while {reading} signals were gathered")

    def open(self, rows: Rows, make_half: Callable[..., Any], *arguments: Any) -> Halves:
        self._handles += 1
        handle = f"{rows.reading}/{self._handles}"
        holders = self._holders(rows.reading)
        opened = self.call_each("open", [(handle, rows, make_half, arguments)] * len(holders), holders)
        return RayHalves(self, handle, [number for number, has in zip(holders, opened, strict=True) if has])

    def forget(self, reading: str) -> None:
        self._done.forget(reading)
        if self._orders.pop(reading, None):
            for number in self._crew.actors:
                self._crew.call(number, "forget", reading)  # nobody waits: a shard that is lost has forgotten already

    def close(self) -> None:
        for number in self._crew.actors:
            self._crew.call(number, "close")

    def release(self) -> None:
        """Gives the shards' hardware back until the next load or read; their readings are gone."""
        for number in list(self._crew.actors):
            self._crew.dismiss(number)
        self._orders, self._table, self._done = {}, {}, Ledger()
        meters().show("openal_shards", 0)

    def call_each(self, method: str, arguments: Sequence[tuple[Any, ...]], numbers: Sequence[int]) -> list[Any]:
        """`method` on shards, each with its own arguments; raises ShardLost once what a dead one held is read again."""
        if not set(numbers) <= set(self._crew.actors):
            raise ShardLost("a shard died")
        calls = [self._crew.call(n, method, *given) for n, given in zip(numbers, arguments, strict=True)]
        answers, work = [], _Work()
        for number, call in zip(numbers, calls, strict=True):
            try:
                answers.append(answer_of(call))
            except LOST as error:
                self._lose(number, error, work)
        if work.agenda.waiting or len(answers) < len(calls):
            self._work_off(work)
            raise ShardLost("a shard died")
        return answers

    def _plan(self, order: _Order, blocks: Sequence[Block], lying: set[Block], agenda: Agenda[Item]) -> None:
        """Puts what is ordered on the agenda, bound to where other blocks of its part are `lying`."""
        homes = {self._part(block): self._table[block] for block in lying}
        for block in blocks:
            # One that lies nowhere may have been decoded on a shard, but that one's loss must not bring it up again.
            last = self._table[block] if block in lying else self._table.pop(block, None)
            part = self._part(block)
            agenda.add((block, (order,)), part, homes.get(part, last), part in homes)

    def _holders(self, reading: str) -> list[int]:
        """The shards on which a reading lies."""
        order = self._orders.get(reading)
        return sorted({self._table[block] for block in order.blocks}) if order else []

    def _work_off(self, work: _Work) -> None:
        """Hands blocks to shards until all are read."""
        while True:
            self._follow_cluster(work)
            self._feed(work)
            meters().show("openal_shards", len(self._crew.ready))
            meters().show("openal_blocks_waiting", work.agenda.waiting)
            if not work.agenda.waiting and not work.flying:
                return
            ready, _ = ray.wait([*work.flying, *self._crew.starting], num_returns=1, timeout=FOLLOW_SECONDS)
            if ready:
                work.heard = time.monotonic()
                self._take(ready[0], work)
            elif time.monotonic() - work.heard > QUIET_SECONDS:
                work.heard = time.monotonic()
                log.warning("no shard has answered for %d s; free in the cluster: %s", QUIET_SECONDS, free_in_words())

    def _take(self, call: Any, work: _Work) -> None:
        """The answer of a shard, or its loss."""
        if call in work.flying:
            number, order, block = work.flying.pop(call)
        else:
            number, order = self._crew.starting[call], None
        try:
            if order is None:
                self._crew.settle(call)
            else:
                work.done[order.reading, block] = answer_of(call)
                if order.reading == work.reading:
                    work.progress(work.done[order.reading, block].count)
        except LOST as error:
            self._lose(number, error, work)

    def _follow_cluster(self, work: _Work) -> None:
        """Now and then: more shards where there is room for them, and none on nodes that are taken away."""
        if time.monotonic() - work.followed < FOLLOW_SECONDS:
            return
        work.followed = time.monotonic()
        for number in self._crew.leaving():
            self._lose(number, None, work)
        useful = len(self._crew.ready) + work.agenda.movable
        self._share.ask(useful, again=True)
        self._crew.follow(useful)

    def _feed(self, work: _Work) -> None:
        """Some blocks for each shard, one each before anyone gets the next."""
        ready, flying = self._crew.ready, Counter(number for number, _, _ in work.flying.values())
        most = IN_FLIGHT + ceil(self._share.decoders / max(1, len(ready)))
        for _ in range(most):
            for number in ready:
                if flying[number] >= most or (item := work.agenda.take(number)) is None:
                    continue
                block, orders = item
                self._table[block] = number
                for order in orders:
                    work.flying[self._crew.read(number, order.stored, block[1])] = (number, order, block)
                    flying[number] += 1

    def _lose(self, number: int, error: Exception | None, work: _Work) -> None:
        """What a lost shard held, and what waited for it, goes to the others; no error: its node is taken away."""
        preempted = error is None or getattr(error, "preempted", False)
        work.losses += not preempted
        if work.losses > LOSSES_ALLOWED:
            raise ResourceError(f"shards were lost {work.losses} times while reading, the last time: {error}")
        reason = "reclaimed" if preempted else "lost"
        log.warning("shard %d was %s; others read its blocks again", number, reason)
        meters().count("openal_shards_lost", 1, reason=reason)
        self._crew.dismiss(number)
        work.followed = 0.0  # a new one may start at once
        work.flying = {call: flight for call, flight in work.flying.items() if flight[0] != number}
        mine = {block for block, home in self._table.items() if home == number}
        for block in sorted(mine.union(block for block, _ in work.agenda.drop(number))):
            self._table.pop(block, None)
            if orders := self._wanting(block):
                work.agenda.add((block, orders), self._part(block))
                if again := work.done.pop((work.reading, block), None):
                    work.progress(-again.count)

    def _part(self, block: Block) -> Block:
        """What a block shares with those that lie on one shard with it."""
        parts = max((order.parts for order in self._orders.values() if order.images == block[0]), default=0)
        return (block[0], block[1] % parts) if parts else block

    def _wanting(self, block: Block) -> tuple[_Order, ...]:
        return tuple(order for order in self._orders.values() if block in order.blocks)


class RayHalves:
    """The halves of one selection, hosted by the shards' actors."""

    def __init__(self, shards: RayShards, handle: str, numbers: Sequence[int]) -> None:
        self._shards, self._handle, self._numbers = shards, handle, numbers

    def ask(self, verb: str, *args: Any) -> list[Any]:
        given: Any = args
        if sum(value.nbytes for value in args if isinstance(value, np.ndarray)) > LARGE:
            given = ray.put(args)
        return self._shards.call_each("ask", [(self._handle, verb, given)] * len(self._numbers), self._numbers)

    def ask_each(self, verb: str, args: Sequence[tuple[Any, ...]]) -> list[Any]:
        return self._shards.call_each("ask", [(self._handle, verb, mine) for mine in args], self._numbers)
