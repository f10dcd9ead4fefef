"""One shard: has some blocks of the images, reads signals from a network, hosts the shard halves of selection.

A plain object that knows nothing of Ray; the same code runs once in this process or in 64 actors.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from openal_ray import config, user_code
from openal_ray.data.cached import remember
from openal_ray.data.decoded import Batch, Decoded, batches, decode
from openal_ray.data.images import Images
from openal_ray.models import signals
from openal_ray.models.folding import fold_batchnorm
from openal_ray.models.learners import Learner
from openal_ray.models.monte_carlo import NO_PASSES, Sampling
from openal_ray.models.pixels import Normalise
from openal_ray.pool import Members
from openal_ray.selection.halves import BLOCK
from openal_ray.signal_cache import SignalCache, digest_of, key_of, processor
from openal_ray.signal_store import Reading, Signals, SignalStore, disk_array
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
class ReadOrder:
    """What to read, and under which name to keep it.

    reading   the name
    images    which set of images: train or test
    members   which of them
    needs     signals; helper.signal is read from the network loaded as `helper`
    sampling  the passes of Monte Carlo signals
    lasting   the networks stay the same, so their signals may be kept for other runs (read.cache)
    parts     blocks whose numbers agree modulo this lie on one shard together; 0: each by itself. The same for all
              readings of these images that lie there at a time
    """

    reading: str
    images: str
    members: Members
    needs: tuple[str, ...] = ()
    sampling: Sampling = NO_PASSES
    lasting: bool = False
    parts: int = 0

    @property
    def networks(self) -> set[str]:
        """The networks that it reads from."""
        return {signals.split(need)[0] for need in self.needs}

    def block(self, number: int) -> np.ndarray:
        """The members in one block."""
        return self.members.between(number * BLOCK, (number + 1) * BLOCK)

    def part(self, block: int) -> int:
        """The number that a block shares with those which lie on one shard with it."""
        return block % self.parts if self.parts else block


@dataclass(frozen=True)
class Part:
    """What a shard half is made from: the shard's rows of a reading, and the networks that gave them.

    indices   int64 [n] ascending dataset indices
    signals   row i of each belongs to indices[i]
    device    where the shard computes
    networks  by name; they never leave the shard
    """

    indices: np.ndarray
    signals: Signals
    device: str = "cpu"
    networks: Mapping[str, nn.Module] = field(default_factory=dict)


@dataclass(frozen=True)
class BlockRead:
    """What reading one block came to: images read, and the reason for each that could not be decoded."""

    count: int
    bad: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Rows:
    """Which rows of what has been read a shard half is made from.

    reading  the rows of this reading
    among    only those of these members; None: all of them
    beside   further readings, whose signals of the same images come along
    where    signals to bool [n]: only the rows that pass
    """

    reading: str
    among: Members | None = None
    beside: tuple[str, ...] = ()
    where: Callable[[Signals], np.ndarray] | None = None


class Shard:
    """Reads blocks of images on one device and keeps their signals."""

    def __init__(self, images: Mapping[str, Images], settings: Settings) -> None:
        self.settings = settings
        self.device = torch.device(settings.device)
        share = settings.cache_bytes // max(1, len(images))
        self.images = {name: remember(source, share) for name, source in images.items()}
        self.normalise = Normalise(settings.mean, settings.std).to(self.device)
        self.networks: dict[str, nn.Module] = {}
        self._blanks: dict[str, tuple[Learner, nn.Module]] = {}
        self._sources: dict[str, set[str]] = {}  # by reading: the networks that it came from
        self.store = SignalStore(disk_array if settings.read.keep == "disk" else np.empty)
        self.cache = SignalCache(settings.read.cache) if settings.read.cache else None
        self._digests: dict[str, str] = {}  # by network, of those whose signals are cached
        self.halves: dict[str, Any] = {}
        self._read = torch.compile(signals.read) if settings.read.compile else signals.read
        self.ahead = ThreadPoolExecutor(1)

    def load(self, learner: Learner, weights: Mapping[str, torch.Tensor], name: str = signals.CLASSIFIER) -> None:
        """Takes a network in the place of the last one of that name; signals read from that one are dropped."""
        shape = next(iter(self.images.values())).shape
        if name not in self._blanks or learner != self._blanks[name][0]:  # building may fetch published weights
            with torch.random.fork_rng(devices=[]):
                self._blanks[name] = learner, learner.build(shape).eval().requires_grad_(False)
        network = copy.deepcopy(self._blanks[name][1])
        network.load_state_dict(dict(weights))
        if self.settings.read.fold_batchnorm:
            network = fold_batchnorm(network, shape)
        self.networks[name] = network.to(  # type: ignore[call-overload]
            self.device, memory_format=torch.channels_last
        )
        self._digests.pop(name, None)
        for reading in [reading for reading, networks in self._sources.items() if name in networks]:
            self.forget(reading)

    def read(self, order: ReadOrder, block: int, decoded: Decoded | None = None) -> BlockRead:
        """Reads what was ordered of one block, and keeps it; decoded: its pictures, if someone else decoded them."""
        wanted = order.block(block)
        bad: dict[int, str] = {}
        given = self._batches(order.images, wanted, bad)
        if decoded is not None:  # copied, since torch must not see arrays that it could not write to
            given, bad = ((indices, pixels.copy()) for indices, pixels in decoded.batches), decoded.bad
        found = (batch for batch in given if len(batch[0]))
        parts = self._remembered(order, list(found)) if self._cached(order) else self._parts(order, found)
        read = np.concatenate([indices for indices, _ in parts]) if parts else wanted[:0]
        if parts:
            arrays = {need: np.concatenate([part[need] for _, part in parts]) for need in order.needs}
            self._sources[order.reading] = order.networks
            self.store.add(order.reading, block, Reading(read, arrays))
        return BlockRead(len(read), bad)

    def forget(self, reading: str) -> None:
        """Drops the signals kept under this name, and what was opened on them."""
        self.store.drop(reading)
        self._sources.pop(reading, None)
        self.halves = {handle: half for handle, half in self.halves.items() if not handle.startswith(f"{reading}/")}

    def close(self) -> None:
        """Drops all shard halves, and with them what they have made of the signals."""
        self.halves = {}

    def gather(self, reading: str, among: Members | None = None) -> Reading | None:
        """What this shard read under the name, of all images or of these; None if it has nothing of it."""
        found = self.store.get(reading)
        if found is None or among is None:
            return found
        return found.only(among.between(0, int(found.indices[-1]) + 1))

    def open(self, handle: str, rows: Rows, make_half: Callable[..., Any], arguments: Sequence[Any]) -> bool:
        """Makes a shard half: make_half(part, *arguments). False if there is no such row here."""
        part = self._part(rows)
        if part is not None:
            self.halves[handle] = make_half(part, *arguments)
        return part is not None

    def ask(self, handle: str, verb: str, arguments: Sequence[Any]) -> Any:
        """One question to a shard half."""
        return getattr(self.halves[handle], verb)(*arguments)

    def _part(self, rows: Rows) -> Part | None:
        found = self.gather(rows.reading, rows.among)
        if found is None:
            return None
        given = dict(found.signals)
        for name in rows.beside:
            other = self.gather(name)
            if other is not None:
                given |= other.only(found.indices).signals
        if rows.where is not None:
            whole = Reading(found.indices, given)
            found = whole.only(found.indices[rows.where(given)])
            given = dict(found.signals)
        return Part(found.indices, given, self.settings.device, self.networks) if len(found.indices) else None

    def _parts(self, order: ReadOrder, batches: Iterable[Batch]) -> list[tuple[np.ndarray, dict[str, np.ndarray]]]:
        return [(indices, self._compute(pixels, order)) for indices, pixels in batches]

    def _cached(self, order: ReadOrder) -> bool:
        """Whether the cache may have its signals: not those of code that nobody can tell from other code."""
        return order.lasting and self.cache is not None and all(self._digest(name) for name in order.networks)

    def _digest(self, name: str) -> str:
        """Tells a network, its weights and its code from any other; empty if its code is unknown."""
        if name not in self._digests:
            code = user_code.code_of(self._blanks[name][0])
            self._digests[name] = f"{digest_of(self.networks[name])} {code}" if code else ""
        return self._digests[name]

    def _remembered(self, order: ReadOrder, batches: list[Batch]) -> list[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """The signals of a block, of an earlier run if the cache has them."""
        assert self.cache is not None
        if not batches:
            return []
        key = key_of(self._how(order), [pixels for _, pixels in batches])
        read = np.concatenate([indices for indices, _ in batches])
        found = self.cache.get(key)
        if found is None:
            parts = self._parts(order, batches)
            found = {need: np.concatenate([part[need] for _, part in parts]) for need in order.needs}
            self.cache.put(key, found)
        return [(read, found)]

    def _how(self, order: ReadOrder) -> str:
        """All that signals depend on besides the pictures."""
        networks = [(name, self._blanks[name][0], self._digest(name)) for name in sorted(order.networks)]
        how = self.settings.read.model_dump_json(exclude={"keep", "cache", "threads"})
        pixels = self.settings.mean, self.settings.std
        return repr((networks, order.needs, order.sampling, how, pixels, self.device.type, processor(self.device)))

    def _batches(self, images: str, wanted: np.ndarray, bad: dict[int, str]) -> Iterator[Batch]:
        """Batches of pictures, decoded one batch ahead of the network."""
        parts = batches(wanted, self.settings.read.batch_size)
        if not parts:
            return
        waiting = self.ahead.submit(self._decode, images, parts[0], bad)
        for following in [*parts[1:], None]:
            ready = waiting.result()
            if following is not None:
                waiting = self.ahead.submit(self._decode, images, following, bad)
            yield ready

    def _decode(self, images: str, indices: np.ndarray, bad: dict[int, str]) -> Batch:
        return decode(self.images[images], indices, self.settings.skip_bad_images, bad)

    def _compute(self, pixels: np.ndarray, order: ReadOrder) -> dict[str, np.ndarray]:
        if not order.needs:
            return {}
        batch = self.normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2).to(self.device, non_blocking=True))
        found: dict[str, np.ndarray] = {}
        for network in sorted(order.networks):
            if network not in self.networks:
                raise RuntimeError(f"load() the network {network!r} before reading its signals")
            mine = {signals.split(need)[1]: need for need in order.needs if signals.split(need)[0] == network}
            with torch.inference_mode(), autocast(self.device, self.settings.read.precision):
                read = self._read(self.networks[network], batch, tuple(mine), order.sampling)
            found |= {mine[name]: self._stored(name, signal).cpu().numpy() for name, signal in read.items()}
        return found

    def _stored(self, name: str, signal: torch.Tensor) -> torch.Tensor:
        """float16 for wide signals, if asked for; scores keep the float32 that their ties are decided by."""
        narrow = self.settings.read.half and name in signals.WIDE
        return signal.half() if narrow else signal
