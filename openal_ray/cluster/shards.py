"""Shards as Ray actors: blocks are handed out, a lost shard is replaced, and only its blocks are read again."""

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import torch
from ray.exceptions import RayActorError, RayTaskError
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from openal_ray.cluster.connect import free_resources
from openal_ray.cluster.share import Share
from openal_ray.data.images import Images
from openal_ray.errors import ResourceError, UserError
from openal_ray.models.learners import Learner
from openal_ray.models.signals import CLASSIFIER
from openal_ray.pool import Members
from openal_ray.selection.halves import BLOCK, Halves
from openal_ray.shard import BlockRead, ReadOrder, Rows, Settings, Shard
from openal_ray.signal_store import Reading
from openal_ray.workers import Ledger, Progress, ReadReport, ShardLost, join_readings

log = logging.getLogger(__name__)
IN_FLIGHT = 2  # blocks a shard may have waiting: one computed, one ready to follow
LOSSES_ALLOWED = 20  # replacements in one call; more is not bad luck
QUIET_SECONDS = 30  # after so long without an answer the user is told what is being waited for
LARGE = 100_000  # bytes of arguments from which one stored copy beats one copy a call


class ShardActor:
    """A Ray shell around one plain Shard."""

    def __init__(self, images: Mapping[str, Images], settings: Settings, threads: int) -> None:
        torch.set_num_threads(threads)
        self.shard = Shard(images, settings)

    def call(self, method: str, *arguments: Any) -> Any:
        return getattr(self.shard, method)(*arguments)


@dataclass(frozen=True)
class _Order:
    """One read as it was asked, so that a replaced shard can do its part again."""

    reading: str
    networks: frozenset[str]
    stored: Any  # a reference to the ReadOrder in the object store
    blocks: tuple[int, ...]


class RayShards:
    """`count` shard actors; block b lives on actor b mod count."""

    def __init__(
        self, images: Mapping[str, Images], settings: Settings, count: int, share: Share, gpus_per_shard: float = 0
    ) -> None:
        self.count = count
        self._images, self._settings, self._share = ray.put(dict(images)), settings, share
        self._gpus = gpus_per_shard
        self._networks: dict[str, tuple[Any, Any, str]] = {}
        self._orders: dict[str, _Order] = {}
        self._done = Ledger()
        self._loading: list[Any] = []
        self._handles = 0
        self._actors = [self._spawn() for _ in range(count)]

    def load(self, learner: Learner, weights: Mapping[str, torch.Tensor], name: str = CLASSIFIER) -> None:
        self._done.network_changed(name)
        self._orders = {key: order for key, order in self._orders.items() if name not in order.networks}
        self._networks[name] = (learner, ray.put(dict(weights)), name)
        if self._actors:
            self._loading += [actor.call.remote("load", *self._networks[name]) for actor in self._actors]
        else:
            self._actors = [self._spawn() for _ in range(self.count)]

    def read(self, order: ReadOrder, progress: Progress = lambda count: None) -> ReadReport:
        known = self._done.report(order)
        if known:
            progress(known.count)
            return known
        self.forget(order.reading)
        blocks = tuple(int(block) for block in order.members.blocks(BLOCK))
        kept = _Order(order.reading, frozenset(order.networks), ray.put(order), blocks)
        self._orders[order.reading] = kept
        done = self._work_off({number: self._part(kept, number) for number in range(self.count)}, progress)
        report = ReadReport()
        for block in blocks:
            report.add(done[order.reading, block])
        self._done.add(order, report)
        return report

    def gather(self, reading: str, among: Members | None = None) -> Reading:
        for _ in range(LOSSES_ALLOWED):
            try:
                return join_readings(self.call_each("gather", [(reading, among)] * self.count))
            except ShardLost:
                continue
        raise ResourceError(f"shards were lost {LOSSES_ALLOWED} times while {reading} signals were gathered")

    def open(self, rows: Rows, make_half: Callable[..., Any], *arguments: Any) -> Halves:
        self._handles += 1
        handle = f"{rows.reading}/{self._handles}"
        opened = self.call_each("open", [(handle, rows, make_half, arguments)] * self.count)
        return RayHalves(self, handle, [number for number, has_rows in enumerate(opened) if has_rows])

    def forget(self, reading: str) -> None:
        self._done.forget(reading)
        if self._orders.pop(reading, None):
            for actor in self._actors:
                actor.call.remote("forget", reading)  # nobody waits: a shard that is lost has forgotten already

    def release(self) -> None:
        """Gives the shards' hardware back until the next load; their readings are gone."""
        for actor in self._actors:
            ray.kill(actor)
        self._actors, self._orders, self._loading, self._done = [], {}, [], Ledger()

    def call_each(
        self, method: str, arguments: Sequence[tuple[Any, ...]], numbers: Sequence[int] | None = None
    ) -> list[Any]:
        """`method` on each shard with its own arguments; raises ShardLost after replacing shards that died."""
        numbers = range(self.count) if numbers is None else numbers
        calls = [self._actors[n].call.remote(method, *given) for n, given in zip(numbers, arguments, strict=True)]
        answers, lost = [], []
        for number, call in zip(numbers, calls, strict=True):
            try:
                answers.append(_answer(call))
            except RayActorError:
                lost.append(number)
        if lost:
            self._work_off({number: self._replace(number) for number in lost})
            raise ShardLost(f"shard {lost[0]} died")
        return answers

    def _raise_load_errors(self) -> None:
        for call in self._loading:
            try:
                _answer(call)
            except RayActorError:
                continue  # a lost shard is found, and replaced, when it is asked for a block
        self._loading = []

    def _spawn(self) -> Any:
        actor = ray.remote(ShardActor).options(
            num_cpus=self._share.cpus_per_shard, num_gpus=self._gpus, scheduling_strategy=_place()
        )
        spawned = actor.remote(self._images, self._settings, self._share.threads_per_shard)
        self._loading += [spawned.call.remote("load", *network) for network in self._networks.values()]
        return spawned

    def _replace(self, number: int) -> list[tuple[_Order, int]]:
        """A fresh actor in the place of a lost one; returns all that it must read again."""
        log.warning("shard %d was lost; a new one reads its blocks again", number)
        ray.kill(self._actors[number])  # an unreachable actor must not come back and answer twice
        self._actors[number] = self._spawn()
        return [item for order in self._orders.values() for item in self._part(order, number)]

    def _part(self, order: _Order, number: int) -> list[tuple[_Order, int]]:
        return [(order, block) for block in order.blocks if block % self.count == number]

    def _work_off(
        self, todo: Mapping[int, list[tuple[_Order, int]]], progress: Progress = lambda count: None
    ) -> dict[tuple[str, int], BlockRead]:
        """Hands blocks to their shards until all are read, and what came of each."""
        queues = {number: deque(items) for number, items in todo.items()}
        flying: dict[Any, tuple[int, _Order, int]] = {}
        done: dict[tuple[str, int], BlockRead] = {}
        losses = 0
        while True:
            self._feed(queues, flying)
            self._raise_load_errors()  # after the first blocks were sent, so that nobody waits twice
            if not flying:
                return done
            call = _first_ready(list(flying))
            number, order, block = flying.pop(call)
            try:
                done[order.reading, block] = _answer(call)
                progress(done[order.reading, block].count)
            except RayActorError as error:
                losses += 1
                if error.actor_init_failed:
                    raise ResourceError(f"a shard cannot start: {error}") from None
                if losses > LOSSES_ALLOWED:
                    raise ResourceError(
                        f"shards were lost {losses} times while reading, the last time: {error}"
                    ) from None
                flying = {other: work for other, work in flying.items() if work[0] != number}
                queues[number] = deque(self._replace(number))
                progress(-sum(done.pop((again.reading, b), BlockRead(0)).count for again, b in queues[number]))

    def _feed(self, queues: dict[int, deque[tuple[_Order, int]]], flying: dict[Any, tuple[int, _Order, int]]) -> None:
        for number, queue in queues.items():
            waiting = sum(1 for work in flying.values() if work[0] == number)
            while queue and waiting < IN_FLIGHT:
                order, block = queue.popleft()
                call = self._actors[number].call.remote("read", order.stored, block)
                flying[call] = (number, order, block)
                waiting += 1


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


def _place() -> Any:
    """All nodes; or, in a trial of a sweep, the bundles of its placement group, which are there for its shards."""
    group = ray.util.get_current_placement_group()
    return PlacementGroupSchedulingStrategy(group) if group and group.bundle_count > 1 else "SPREAD"


def _answer(call: Any) -> Any:
    """What a call returned; an error of the code that ran there is raised as itself, not wrapped by Ray."""
    try:
        return ray.get(call)
    except RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        raise error.cause from error  # a bug: the remote traceback says where


def _first_ready(calls: list[Any]) -> Any:
    since = time.monotonic()
    while True:
        ready, _ = ray.wait(calls, num_returns=1, timeout=QUIET_SECONDS)
        if ready:
            return ready[0]
        waited = time.monotonic() - since
        log.warning("no shard has answered for %.0f s; free in the cluster: %s", waited, free_resources())
