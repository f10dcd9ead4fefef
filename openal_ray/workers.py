"""Whoever does what needs hardware: `fit` a learner, `read` signals into shards. This file has the local form."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch

from openal_ray.data.cached import remember
from openal_ray.data.images import Images
from openal_ray.errors import TrainingError
from openal_ray.models.learners import Learner
from openal_ray.models.signals import CLASSIFIER
from openal_ray.pool import Members
from openal_ray.selection.halves import BLOCK, Halves, LocalHalves
from openal_ray.shard import BlockRead, ReadOrder, Rows, Settings, Shard
from openal_ray.signal_store import Reading
from openal_ray.storage.url import Place
from openal_ray.training.file_keeper import STORED, FileKeeper
from openal_ray.training.job import Epoch, Job, Trained
from openal_ray.training.loop import NoKeeper, train
from openal_ray.training.team import Team

Progress = Callable[[int], None]
"""Called with the number of images just read; negative where a lost shard takes them back."""


Listener = Callable[[str, Epoch], None]
"""Called with the name of a network in training and its last epoch."""


class ShardLost(Exception):
    """A shard died and has been replaced; what it had read is read again, but the selection must start anew."""


@dataclass
class ReadReport:
    """What a read over all shards came to: images read, and the reason for each that could not be decoded."""

    count: int = 0
    bad: dict[int, str] = field(default_factory=dict)

    def add(self, block: BlockRead) -> None:
        self.count += block.count
        self.bad.update(block.bad)


class Ledger:
    """The reads that are done, whose signals the shards still hold."""

    def __init__(self) -> None:
        self._done: dict[str, tuple[ReadOrder, ReadReport]] = {}

    def report(self, order: ReadOrder) -> ReadReport | None:
        """What came of this very order, if it is done; raises ValueError if it cuts the images into other parts."""
        for other, _ in self._done.values():
            beside = other.reading != order.reading and other.images == order.images
            if beside and other.networks and order.networks and other.parts != order.parts:
                raise ValueError(
                    f"{order.reading} signals lie in {order.parts} parts, and those of {other.reading}, of the same "
                    f"images, in {other.parts}: forget() these first"
                )
        known = self._done.get(order.reading)
        return known[1] if known and known[0] == order else None

    def add(self, order: ReadOrder, report: ReadReport) -> None:
        self._done[order.reading] = (order, report)

    def network_changed(self, name: str) -> None:
        """What was read from the network of that name is gone."""
        self._done = {key: done for key, done in self._done.items() if name not in done[0].networks}

    def forget(self, reading: str) -> None:
        self._done.pop(reading, None)


class Shards(Protocol):
    """All shards together. A block of images lies on one of them, whichever; nothing may depend on where."""

    @property
    def count(self) -> int:
        """How many there are at present."""
        ...

    def load(self, learner: Learner, weights: Mapping[str, torch.Tensor], name: str = CLASSIFIER) -> None:
        """Gives every shard a network; all signals read from the last one of that name are dropped."""
        ...

    def read(self, order: ReadOrder, progress: Progress = lambda count: None) -> ReadReport:
        """Reads what is ordered; the signals stay in the shards. What is there already is not read again."""
        ...

    def gather(self, reading: str, among: Members | None = None) -> Reading:
        """A reading, or its rows of some members, ascending by index: for what is small, such as the labelled set."""
        ...

    def open(self, rows: Rows, make_half: Callable[..., Any], *arguments: Any) -> Halves:
        """One shard half on each shard that has such rows: make_half(its Part of them, *arguments).

        The halves' questions raise ShardLost when a shard died; a second try finds it replaced.
        """
        ...

    def forget(self, reading: str) -> None:
        """Drops a reading and the halves opened on it."""
        ...

    def close(self) -> None:
        """Drops all halves; readings stay."""
        ...


class Trials(Protocol):
    """A search for hyper-parameters, as whoever trains its trials sees it."""

    def propose(self) -> dict[int, Job]:
        """Trials to train now, by number, in any order; none: the search is over.

        As long as one of them is not told, it is among those proposed, and no later one is.
        """
        ...

    def tell(self, number: int, outcome: Trained | TrainingError) -> None:
        """What came of a trial; a training that diverged is one that failed, and no reason to end the search."""
        ...


class Workers(Protocol):
    """What an experiment runs on."""

    @property
    def shards(self) -> Shards:
        """The shards that read signals."""
        ...

    def fit(self, jobs: Mapping[str, Job], listener: Listener) -> dict[str, Trained]:
        """Trains networks by name, several at the same time where there is room, telling of every epoch."""
        ...

    def search(self, trials: Trials) -> None:
        """Trains trial after trial until there is none left, several at the same time where there is room."""
        ...

    def close(self) -> None:
        """Gives back all hardware; safe to call twice."""
        ...


class LocalShards:
    """Shards in this process, one after the other; block b belongs to shard b mod their number."""

    def __init__(self, images: Mapping[str, Images], settings: Settings, count: int = 1) -> None:
        self.count = count
        self.shards = [Shard(images, settings) for _ in range(count)]
        self._done = Ledger()
        self._handles = 0

    def load(self, learner: Learner, weights: Mapping[str, torch.Tensor], name: str = CLASSIFIER) -> None:
        self._done.network_changed(name)
        for shard in self.shards:
            shard.load(learner, weights, name)

    def read(self, order: ReadOrder, progress: Progress = lambda count: None) -> ReadReport:
        known = self._done.report(order)
        if known:
            progress(known.count)
            return known
        self.forget(order.reading)
        report = ReadReport()
        for block in order.members.blocks(BLOCK):
            done = self.shards[order.part(int(block)) % self.count].read(order, int(block))
            report.add(done)
            progress(done.count)
        self._done.add(order, report)
        return report

    def gather(self, reading: str, among: Members | None = None) -> Reading:
        return join_readings([shard.gather(reading, among) for shard in self.shards])

    def open(self, rows: Rows, make_half: Callable[..., Any], *arguments: Any) -> Halves:
        self._handles += 1
        handle = f"{rows.reading}/{self._handles}"
        having = [shard for shard in self.shards if shard.open(handle, rows, make_half, arguments)]
        return LocalHalves([shard.halves[handle] for shard in having])

    def forget(self, reading: str) -> None:
        self._done.forget(reading)
        for shard in self.shards:
            shard.forget(reading)

    def close(self) -> None:
        for shard in self.shards:
            shard.close()


class LocalWorkers:
    """Everything in this process, on one device: for notebooks, tests and small experiments.

    storage  the folder whose subfolder STORED holds the checkpoints inside a training; None: they are not kept
    """

    def __init__(
        self, images: Mapping[str, Images], settings: Settings, shards: int = 1, storage: Place | None = None
    ) -> None:
        # Remembered once, for training and for all shards.
        share = settings.cache_bytes // len(images)
        self.images = {name: remember(source, share) for name, source in images.items()}
        self.device, self.storage = torch.device(settings.device), storage
        self.shards = LocalShards(self.images, replace(settings, cache_bytes=0), shards)

    def fit(self, jobs: Mapping[str, Job], listener: Listener = lambda name, epoch: None) -> dict[str, Trained]:
        return {
            name: train_here(job, self.images["train"], self.device, partial(listener, name), self.storage)
            for name, job in jobs.items()
        }

    def search(self, trials: Trials) -> None:
        search_here(trials, self.images["train"], self.device, self.storage)

    def close(self) -> None:
        """Nothing is held."""


def train_here(
    job: Job, images: Images, device: torch.device, listener: Callable[[Epoch], None], storage: Place | None
) -> Trained:
    """Trains in this process, from the last checkpoint of this very job on if `storage` has one."""
    if storage is None:
        return train(job, images, Team(device), NoKeeper(listener))
    keeper = FileKeeper(storage / STORED, job, listener)
    trained = train(job, images, Team(device), keeper)
    keeper.forget()
    return trained


def attempt(job: Job, images: Images, device: torch.device, storage: Place | None) -> Trained | TrainingError:
    """A trial, trained in this process; one that diverged is returned as its error."""
    try:
        return train_here(job, images, device, lambda epoch: None, storage)
    except TrainingError as error:
        return error


def search_here(trials: Trials, images: Images, device: torch.device, storage: Place | None) -> None:
    """A whole search in this process, one trial after the other."""
    while jobs := trials.propose():
        for number, job in jobs.items():
            trials.tell(number, attempt(job, images, device, storage))


def join_readings(parts: Sequence[Reading | None]) -> Reading:
    """One reading out of the shards' parts, ascending by index; None stands for a shard without any."""
    found = [part for part in parts if part is not None]
    if not found:
        return Reading(np.empty(0, dtype=np.int64), {})
    indices = np.concatenate([part.indices for part in found])
    order = np.argsort(indices)
    names = found[0].signals
    return Reading(
        indices[order], {name: np.concatenate([part.signals[name] for part in found])[order] for name in names}
    )
