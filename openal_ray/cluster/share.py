"""How shards and trainers divide a cluster; what it cannot hold is refused with the sums before anything starts."""

import logging
import time
from dataclasses import dataclass
from math import ceil

from ray.autoscaler.sdk import request_resources

from openal_ray.cluster.connect import cluster_address, memory, resources
from openal_ray.cluster.room import Amounts, nodes, request, room
from openal_ray.config import Config
from openal_ray.errors import ResourceError

log = logging.getLogger(__name__)
DECODER: Amounts = {"CPU": 1.0, "GPU": 0.0}
SHARD_BYTES = 400 * 2**20  # of a shard that has loaded PyTorch and a small network


@dataclass(frozen=True)
class Share:
    """What a shard reserves, how many there may be, and whether shards and trainers take turns on the same hardware.

    Reservations are Ray's bookkeeping. Shards and trainers never compute at the same time, so shards for which the
    user reserved nothing get an equal part of what training leaves, at most a CPU each, which may be nothing.

    beside    what each trainer and each decoder holds while shards read
    decoders  how many tasks decode at the same time; 0: the shards decode
    grows     whether the cluster has an autoscaler to ask
    """

    cpus_per_shard: float
    take_turns: bool = False
    gpus_per_shard: float = 0
    fewest: int = 1
    most: int = 1
    beside: tuple[Amounts, ...] = ()
    decoders: int = 0
    grows: bool = False

    def limit(self) -> int:
        """How many shards there may be now: as many as the nodes have room for, within what was asked for."""
        if not self.elastic:
            return self.most
        there = room(nodes(), self._shard | {"memory": SHARD_BYTES}, self.beside)
        return max(self.fewest, min(self.most, there))

    def ask(self, useful: int, again: bool = False) -> None:
        """Asks the autoscaler for as many shards as would have something to do; holds until `withdraw`.

        again  quietly; for once a training has run, Ray Train's coordinator takes back all requests but its own
        """
        wanted = min(self.most, useful)
        if self.grows and self.elastic and wanted > self.limit():
            log.log(logging.DEBUG if again else logging.INFO, "asking the autoscaler for room for %d shards", wanted)
            beside = [each for other in self.beside for each in request(1, other)]
            request_resources(bundles=request(wanted, self._shard) + beside)

    def withdraw(self) -> None:
        """Nothing is asked of the autoscaler any more, but for what runs.

        Ray keeps one request for a whole cluster, so this takes back that of any other driver too.
        """
        if self.grows:
            request_resources(bundles=[])

    @property
    def described(self) -> str:
        """The number of shards, in words."""
        return f"{self.fewest} to {self.most} shards" if self.elastic else f"{self.most} shard{'s' * (self.most > 1)}"

    @property
    def elastic(self) -> bool:
        """Whether the number of shards follows the cluster."""
        return self.fewest < self.most

    @property
    def _shard(self) -> Amounts:
        return {"CPU": self.cpus_per_shard, "GPU": self.gpus_per_shard}


def share(configuration: Config) -> Share:
    """Divides the connected cluster; an autoscaler gets cluster.wait_seconds to grow first.

    Ray keeps one request to the autoscaler for a whole cluster, and keeps it when the driver that made it is killed. So
    the last one, whoever made it, is withdrawn first where a cluster is joined.

    Where the number of shards or trainers follows the cluster, there must be room for the least. Trainers whose number
    does, and such shards with train.mode=per_round, take turns with the others: each has the whole cluster for itself.

    raises  ResourceError  with the sums if it is too small
    """
    if joined := cluster_address(configuration.cluster) is not None:
        request_resources(bundles=[])
    _check_memory(configuration.fewest_shards)
    trainers, shards = _wanted(configuration)
    together = {name: trainers[name] + shards[name] for name in trainers}
    in_turns = {name: max(trainers[name], shards[name]) for name in trainers}
    mode, cluster = configuration.train.mode, configuration.cluster
    there = grown_to(together if mode == "session" else in_turns, configuration)
    side_by_side = _fits(together, there)
    if not side_by_side and (mode == "session" or not _fits(in_turns, there)):
        raise ResourceError(_too_small(configuration, trainers, shards, there))
    shards_elastic = mode == "per_round" and configuration.fewest_shards < configuration.most_shards
    take_turns = not side_by_side or shards_elastic or (configuration.train.elastic and mode != "local")
    free = there["CPU"] - (0 if take_turns else trainers["CPU"])
    part = int(min(1.0, (free - cluster.decoders) / configuration.fewest_shards) * 100) / 100
    if there["GPU"] and not (trainers["GPU"] or shards["GPU"]):
        log.warning("the cluster's GPUs stay idle: set train.gpus_per_worker and cluster.gpus_per_shard to use them")
    return Share(
        part if cluster.cpus_per_shard is None else cluster.cpus_per_shard, take_turns, cluster.gpus_per_shard,
        configuration.fewest_shards, configuration.most_shards,
        (() if take_turns else _trainers(configuration)) + (DECODER,) * cluster.decoders, cluster.decoders,
        grows=joined,
    )  # fmt: skip


def _check_memory(shards: int) -> None:
    """Raises ResourceError for so many shards that their processes alone fill the memory."""
    there = memory()
    if there and shards * SHARD_BYTES > there:
        raise ResourceError(
            f"shards={shards}: each is a process of about {SHARD_BYTES / 2**20:g} MB without images, and the "
            f"cluster has {there / 2**30:.1f} GiB for all of them: at most {int(there // SHARD_BYTES)} fit"
        )


def _wanted(configuration: Config) -> tuple[Amounts, Amounts]:
    """What the trainers need and what the shards and decoders reserve, the least number of both."""
    cluster, shards = configuration.cluster, configuration.fewest_shards
    trainers = _trainers(configuration)
    return (
        {name: sum(trainer[name] for trainer in trainers) for name in ("CPU", "GPU")},
        {"CPU": shards * (cluster.cpus_per_shard or 0) + cluster.decoders, "GPU": shards * cluster.gpus_per_shard},
    )


def _trainers(configuration: Config) -> tuple[Amounts, ...]:
    """What each trainer outside this process needs, the least number of them."""
    train = configuration.train
    count = 0 if train.mode == "local" else train.fewest_workers * train.at_once
    return ({"CPU": train.cpus_per_worker, "GPU": train.gpus_per_worker},) * count


def _fits(needed: Amounts, there: Amounts) -> bool:
    return all(needed[name] <= there[name] + 1e-9 for name in needed)


def grown_to(needed: Amounts, configuration: Config) -> Amounts:
    """The cluster's resources, once they suffice or its autoscaler had its time. A Ray started here cannot grow.

    The request is withdrawn at the end: from then on, what runs and what waits for a place says what is needed.
    """
    seconds = configuration.cluster.wait_seconds if cluster_address(configuration.cluster) else 0
    end = time.monotonic() + seconds
    there = resources()
    if _fits(needed, there) or not seconds:
        return there
    log.info("the cluster has %s; asking its autoscaler for %s, for up to %g s", there, needed, seconds)
    request_resources(bundles=[{name: 1} for name, amount in needed.items() for _ in range(ceil(amount))])
    try:
        while not _fits(needed, there) and time.monotonic() < end:
            time.sleep(1)
            there = resources()
    finally:
        request_resources(bundles=[])
    return there


def _told(configuration: Config) -> str:
    at_once = configuration.train.at_once
    return f"train.workers={configuration.train.fewest_workers}" + (f", train.at_once={at_once}" if at_once > 1 else "")


def _readers(configuration: Config) -> str:
    decoders = configuration.cluster.decoders
    return f"shards={configuration.fewest_shards}" + (f", cluster.decoders={decoders}" if decoders else "")


def _too_small(configuration: Config, trainers: Amounts, shards: Amounts, there: Amounts) -> str:
    lines = [
        f"{name}s: training needs {trainers[name]:g} ({_told(configuration)}), the shards reserve "
        f"{shards[name]:g} ({_readers(configuration)}), the cluster has {there[name]:g}"
        for name in trainers
        if trainers[name] + shards[name] > there[name] + 1e-9
    ]
    return (
        f"the cluster is too small. {'. '.join(lines)}. Lower train.workers, train.cpus_per_worker, "
        "train.gpus_per_worker, shards, cluster.cpus_per_shard or cluster.gpus_per_shard; let shards and trainers take "
        "turns with train.mode=per_round; or use a larger cluster (cluster.address; cluster.cpus for one started here)."
    )
