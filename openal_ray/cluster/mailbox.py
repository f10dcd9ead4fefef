"""The actor through which the driver hands jobs to a running Ray Train group, and hears of their progress."""

import asyncio
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from openal_ray.training.job import Epoch


@dataclass(frozen=True)
class Failed:
    """A job that cannot be done, with the error that the driver raises."""

    error: Exception


class Mailbox:
    """Jobs by number, their epochs and results. Everything waits by `await`, so nobody polls in vain."""

    def __init__(self) -> None:
        self.jobs: list[Any] = []
        self.results: dict[int, Any] = {}
        self.epochs: dict[int, list[Epoch]] = {}
        self.pids: dict[int, int] = {}
        self.closed = False
        self.changed = asyncio.Condition()

    async def put(self, job: Any) -> int:
        """The driver's side: a new job; returns its number."""
        async with self.changed:
            self.jobs.append(job)
            self.changed.notify_all()
        return len(self.jobs) - 1

    async def close(self) -> None:
        async with self.changed:
            self.closed = True
            self.changed.notify_all()

    async def follow(self, number: int, seen: int, seconds: float) -> tuple[list[Epoch], Any]:
        """Epochs of a job from number `seen` on, and its result or None; waits for news for up to `seconds`.

        A job that goes on from a checkpoint of an earlier process tells of no epoch before that.
        """

        def news() -> list[Epoch]:
            return [epoch for epoch in self.epochs.get(number, []) if epoch.epoch >= seen]

        await self._wait(lambda: number in self.results or bool(news()), seconds)
        return news(), self.results.get(number)

    async def take(self, number: int, seconds: float) -> tuple[str, Any]:
        """The trainers' side: ("job", it), or ("wait", None) after so many seconds, or ("stop", None)."""
        await self._wait(lambda: len(self.jobs) > number or self.closed, seconds)
        if len(self.jobs) > number:
            return "job", self.jobs[number]
        return ("stop" if self.closed else "wait"), None

    async def first_unfinished(self) -> int:
        return next((number for number in range(len(self.jobs)) if number not in self.results), len(self.jobs))

    async def epochs_done(self, number: int, news: list[Epoch]) -> None:
        async with self.changed:
            before = [epoch for epoch in self.epochs.get(number, []) if epoch.epoch < news[0].epoch]
            self.epochs[number] = before + news  # a restarted group tells of some epochs again
            self.changed.notify_all()

    async def finish(self, number: int, result: Any) -> None:
        async with self.changed:
            self.results.setdefault(number, result)
            self.changed.notify_all()

    async def forget(self, number: int) -> None:
        """Drops what a finished job holds in memory."""
        self.jobs[number] = None
        self.results[number] = True
        self.epochs.pop(number, None)

    async def report_pid(self, rank: int, size: int, pid: int) -> None:
        """A process of a group of `size`; those of a larger group before it are no more."""
        self.pids = {other: known for other, known in self.pids.items() if other < size} | {rank: pid}

    async def pid(self, rank: int) -> int | None:
        """The process of a rank, for tests that kill it."""
        return self.pids.get(rank)

    async def _wait(self, condition: Any, seconds: float) -> None:
        async with self.changed:
            try:
                await asyncio.wait_for(self.changed.wait_for(condition), seconds)
            except TimeoutError:
                return


def open_mailbox() -> Any:
    """A mailbox as an actor on the driver's node: a spot node that is reclaimed must not take it along."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(Mailbox).options(num_cpus=0, max_concurrency=1000, scheduling_strategy=here).remote()
