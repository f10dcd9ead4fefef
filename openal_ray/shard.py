"""One shard: owns a fixed part of the images, reads signals from a network, hosts the shard halves of selection.

A plain object that knows nothing of Ray; the same code runs once in this process or in 64 actors.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from openal_ray import config
from openal_ray.data.cached import remember
from openal_ray.data.images import Images
from openal_ray.errors import BadImages
from openal_ray.models import signals
from openal_ray.models.folding import fold_batchnorm
from openal_ray.models.learners import Learner
from openal_ray.models.monte_carlo import NO_PASSES, Sampling
from openal_ray.models.pixels import Normalise
from openal_ray.pool import Members
from openal_ray.selection.halves import BLOCK
from openal_ray.signal_store import Reading, SignalStore, disk_array
from openal_ray.training.loop import autocast


@dataclass(frozen=True)
class Settings:
    """What a shard must know besides its images; mean and std are per channel, of pixels in 0 … 1."""

    read: config.Read
    mean: tuple[float, ...]
    std: tuple[float, ...]
    device: str = "cpu"
    cache_bytes: int = 0
    skip_bad_images: bool = False


@dataclass(frozen=True)
class BlockRead:
    """What reading one block came to: images read, and the reason for each that could not be decoded."""

    count: int
    bad: dict[int, str] = field(default_factory=dict)


class Shard:
    """Reads blocks of images on one device and keeps their signals."""

    def __init__(self, images: Mapping[str, Images], settings: Settings) -> None:
        self.settings = settings
        self.device = torch.device(settings.device)
        share = settings.cache_bytes // max(1, len(images))
        self.images = {name: remember(source, share) for name, source in images.items()}
        self.normalise = Normalise(settings.mean, settings.std).to(self.device)
        self.network: nn.Module | None = None
        self._learner: Learner | None = None
        self._blank: nn.Module = nn.Identity()
        self.store = SignalStore(disk_array if settings.read.keep == "disk" else np.empty)
        self.halves: dict[str, Any] = {}
        self.ahead = ThreadPoolExecutor(1)

    def load(self, learner: Learner, weights: Mapping[str, torch.Tensor]) -> None:
        """Takes this round's network; signals read from the last one are dropped."""
        shape = next(iter(self.images.values())).shape
        if learner != self._learner:  # building may fetch published weights, so it is done once
            with torch.random.fork_rng(devices=[]):
                self._learner, self._blank = learner, learner.build(shape).eval().requires_grad_(False)
        network = copy.deepcopy(self._blank)
        network.load_state_dict(dict(weights))
        if self.settings.read.fold_batchnorm:
            network = fold_batchnorm(network, shape)
        self.network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.compute = torch.compile(signals.read) if self.settings.read.compile else signals.read
        self.store.clear()
        self.halves.clear()

    def read(
        self,
        reading: str,
        images: str,
        members: Members,
        block: int,
        needs: Sequence[str],
        sampling: Sampling = NO_PASSES,
    ) -> BlockRead:
        """Reads the signals `needs` of the members in one block, and keeps them under the name `reading`."""
        wanted = members.between(block * BLOCK, (block + 1) * BLOCK)
        bad: dict[int, str] = {}
        parts = [
            (indices, self._compute(pixels, needs, sampling))
            for indices, pixels in self._batches(images, wanted, bad)
            if len(indices)
        ]
        read = np.concatenate([indices for indices, _ in parts]) if parts else wanted[:0]
        arrays = {name: np.concatenate([part[name] for _, part in parts]) for name in needs} if parts else {}
        if parts:
            self.store.add(reading, block, Reading(read, arrays, self.settings.device))
        return BlockRead(len(read), bad)

    def forget(self, reading: str) -> None:
        """Drops the signals kept under this name, and what was opened on them."""
        self.store.drop(reading)
        self.halves = {handle: half for handle, half in self.halves.items() if not handle.startswith(f"{reading}/")}

    def gather(self, reading: str) -> Reading | None:
        """All that this shard read under the name, or None if it has no image of it."""
        return self.store.get(reading)

    def open(self, handle: str, reading: str, make_half: Callable[..., Any], arguments: Sequence[Any]) -> bool:
        """Makes a shard half from a reading: make_half(reading, *arguments). False if there is nothing to read here."""
        found = self.gather(reading)
        if found is not None:
            self.halves[handle] = make_half(found, *arguments)
        return found is not None

    def ask(self, handle: str, verb: str, arguments: Sequence[Any]) -> Any:
        """One question to a shard half."""
        return getattr(self.halves[handle], verb)(*arguments)

    def _batches(self, images: str, wanted: np.ndarray, bad: dict[int, str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Batches of pictures, decoded one batch ahead of the network."""
        size = self.settings.read.batch_size
        parts = [wanted[start : start + size] for start in range(0, len(wanted), size)]
        if not parts:
            return
        waiting = self.ahead.submit(self._decode, images, parts[0], bad)
        for following in [*parts[1:], None]:
            ready = waiting.result()
            if following is not None:
                waiting = self.ahead.submit(self._decode, images, following, bad)
            yield ready

    def _decode(self, images: str, indices: np.ndarray, bad: dict[int, str]) -> tuple[np.ndarray, np.ndarray]:
        try:
            return indices, self.images[images].load(indices)
        except BadImages as error:
            if not self.settings.skip_bad_images:
                raise
            bad.update(zip(error.indices, error.reasons, strict=True))
            return self._decode(images, indices[~np.isin(indices, error.indices)], bad)

    def _compute(self, pixels: np.ndarray, needs: Sequence[str], sampling: Sampling) -> dict[str, np.ndarray]:
        if not needs:
            return {}
        if self.network is None:
            raise RuntimeError("load() a network before reading signals")
        batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(self.device, non_blocking=True)
        with torch.inference_mode(), autocast(self.device, self.settings.read.precision):
            found = self.compute(self.network, self.normalise(batch), tuple(needs), sampling)
        return {name: self._stored(name, signal).cpu().numpy() for name, signal in found.items()}

    def _stored(self, name: str, signal: torch.Tensor) -> torch.Tensor:
        """float16 for wide signals, if asked for; scores keep the float32 that their ties are decided by."""
        narrow = self.settings.read.half and name in signals.WIDE
        return signal.half() if narrow else signal
