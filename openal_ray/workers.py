"""Whoever does what needs hardware: `fit` a learner, `read` signals into shards. This file has the local form."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch

from openal_ray.data.cached import remember
from openal_ray.data.images import Images
from openal_ray.models.learners import Learner
from openal_ray.models.monte_carlo import NO_PASSES, Sampling
from openal_ray.pool import Members
from openal_ray.selection.halves import BLOCK, Halves, LocalHalves
from openal_ray.shard import BlockRead, Settings, Shard
from openal_ray.signal_store import Reading
from openal_ray.training.loop import Epoch, Job, NoKeeper, Team, Trained, train

Progress = Callable[[int], None]
"""Called with the number of images just read; negative where a lost shard takes them back."""


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


class Shards(Protocol):
    """All shards together. Block b of every set of images belongs to shard b mod their number."""

    count: int

    def load(self, learner: Learner, weights: Mapping[str, torch.Tensor]) -> None:
        """Gives every shard this round's network; all signals read before are dropped."""
        ...

    def read(
        self,
        reading: str,
        images: str,
        members: Members,
        needs: Sequence[str],
        progress: Progress = lambda count: None,
        sampling: Sampling = NO_PASSES,
    ) -> ReadReport:
        """Reads the signals `needs` of the members of a set of images; they stay in the shards, called `reading`.

        sampling  the passes of Monte Carlo signals
        """
        ...

    def gather(self, reading: str) -> Reading:
        """A whole reading, ascending by index: for what is small, such as test images or the labelled set."""
        ...

    def open(self, reading: str, make_half: Callable[..., Any], *arguments: Any) -> Halves:
        """One shard half on each shard that has part of the reading: make_half(its part, *arguments).

        The halves' questions raise ShardLost when a shard died; a second try finds it replaced.
        """
        ...

    def forget(self, reading: str) -> None:
        """Drops a reading and the halves opened on it."""
        ...


class Workers(Protocol):
    """What an experiment runs on."""

    @property
    def shards(self) -> Shards:
        """The shards that read signals."""
        ...

    def fit(self, job: Job, listener: Callable[[Epoch], None]) -> Trained:
        """Trains, telling the listener of every epoch."""
        ...

    def close(self) -> None:
        """Gives back all hardware; safe to call twice."""
        ...


class LocalShards:
    """Shards in this process, one after the other."""

    def __init__(self, images: Mapping[str, Images], settings: Settings, count: int = 1) -> None:
        self.count = count
        self.shards = [Shard(images, settings) for _ in range(count)]
        self._opened = 0

    def load(self, learner: Learner, weights: Mapping[str, torch.Tensor]) -> None:
        for shard in self.shards:
            shard.load(learner, weights)

    def read(
        self,
        reading: str,
        images: str,
        members: Members,
        needs: Sequence[str],
        progress: Progress = lambda count: None,
        sampling: Sampling = NO_PASSES,
    ) -> ReadReport:
        self.forget(reading)
        report = ReadReport()
        for block in members.blocks(BLOCK):
            done = self.shards[block % self.count].read(reading, images, members, int(block), needs, sampling)
            report.add(done)
            progress(done.count)
        return report

    def gather(self, reading: str) -> Reading:
        return join_readings([shard.gather(reading) for shard in self.shards])

    def open(self, reading: str, make_half: Callable[..., Any], *arguments: Any) -> Halves:
        parts = [part for shard in self.shards if (part := shard.gather(reading)) is not None]
        return LocalHalves([make_half(part, *arguments) for part in parts])

    def forget(self, reading: str) -> None:
        for shard in self.shards:
            shard.forget(reading)


class LocalWorkers:
    """Everything in this process, on one device: for notebooks, tests and small experiments."""

    def __init__(self, images: Mapping[str, Images], settings: Settings, shards: int = 1) -> None:
        # Remembered once, for training and for all shards.
        share = settings.cache_bytes // len(images)
        self.images = {name: remember(source, share) for name, source in images.items()}
        self.device = torch.device(settings.device)
        self.shards = LocalShards(self.images, replace(settings, cache_bytes=0), shards)

    def fit(self, job: Job, listener: Callable[[Epoch], None] = lambda epoch: None) -> Trained:
        return train(job, self.images["train"], Team(self.device), NoKeeper(listener))

    def close(self) -> None:
        """Nothing is held."""


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
