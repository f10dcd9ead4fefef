"""Joining or starting a Ray cluster, and refusing what it cannot hold before anything starts."""

import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import ray

from openal_ray import config
from openal_ray.errors import ResourceError

log = logging.getLogger(__name__)
LEAST_CPU = 0.01  # what a shard reserves where training takes all CPUs; the two never work at the same time


@contextmanager
def connected(cluster: config.Cluster, verbose: bool = False) -> Iterator[None]:
    """A Ray to work on: the one that is running already, the cluster's address, RAY_ADDRESS, or one started here.

    Only what was started here is stopped at the end. Signal handlers stay as they are, so that Ctrl-C works.
    """
    if ray.is_initialized():
        yield
        return
    try:
        with signals_kept():
            _start(cluster, verbose)
        yield
    finally:
        ray.shutdown()


def resources() -> dict[str, float]:
    """CPUs and GPUs of the connected cluster."""
    return {name: ray.cluster_resources().get(name, 0.0) for name in ("CPU", "GPU")}


def _start(cluster: config.Cluster, verbose: bool) -> None:
    quiet = {"log_to_driver": verbose, "logging_level": "INFO" if verbose else "ERROR"}
    address = cluster.address or os.environ.get("RAY_ADDRESS")
    if not address:
        ray.init(address="local", num_cpus=cluster.cpus, include_dashboard=False, **quiet)
        return
    try:
        ray.init(address=address, **quiet)
    except ConnectionError as error:
        raise ResourceError(f"cluster.address: no Ray cluster answers at {address!r}: {error}") from None


@contextmanager
def signals_kept() -> Iterator[None]:
    """Puts the handlers of SIGINT and SIGTERM back afterwards: Ray replaces them and would swallow a Ctrl-C."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


@dataclass(frozen=True)
class Share:
    """What shards and trainers reserve, and whether the shards must step aside while training runs."""

    cpus_per_shard: float
    threads_per_shard: int
    alternate: bool


def share(configuration: config.Config) -> Share:
    """How shards and trainers divide the cluster.

    raises  ResourceError  with both sums, if it is too small; an autoscaler gets cluster.wait_seconds to grow first
    """
    cluster, train = configuration.cluster, configuration.train
    trainers = {"CPU": train.workers * train.cpus_per_worker, "GPU": train.workers * train.gpus_per_worker}
    if train.mode == "local":
        trainers = {"CPU": 0, "GPU": 0}
    shards = {
        "CPU": configuration.shards * (cluster.cpus_per_shard or LEAST_CPU),
        "GPU": configuration.shards * cluster.gpus_per_shard,
    }
    there = _wait_for({name: max(trainers[name], shards[name]) for name in trainers}, cluster.wait_seconds)
    both_fit = all(trainers[name] + shards[name] <= there[name] + 1e-9 for name in trainers)
    alternate = train.mode == "per_round" or (train.mode == "auto" and not both_fit)
    if not (both_fit or alternate) or any(max(trainers[n], shards[n]) > there[n] + 1e-9 for n in trainers):
        raise ResourceError(_too_small(configuration, trainers, shards, there))
    free = there["CPU"] - (0 if alternate else trainers["CPU"])
    part = min(1.0, max(LEAST_CPU, int(free / configuration.shards * 100) / 100))
    return Share(
        cpus_per_shard=cluster.cpus_per_shard or part,
        threads_per_shard=max(1, int(cluster.cpus_per_shard or min(there["CPU"] / configuration.shards, 1))),
        alternate=alternate and not both_fit,
    )


def _too_small(
    configuration: config.Config, trainers: dict[str, float], shards: dict[str, float], there: dict[str, float]
) -> str:
    together = configuration.train.mode == "session"
    lines = [
        f"{name}: training needs {trainers[name]:g} (train.workers={configuration.train.workers}), the shards "
        f"{shards[name]:g} (shards={configuration.shards}), "
        + (f"together {trainers[name] + shards[name]:g}; " if together else "")
        + f"the cluster has {there[name]:g}"
        for name in trainers
        if (trainers[name] + shards[name] if together else max(trainers[name], shards[name])) > there[name] + 1e-9
    ]
    return (
        "the cluster is too small. " + ". ".join(lines) + ". Lower train.workers, train.cpus_per_worker, "
        "train.gpus_per_worker, shards, cluster.cpus_per_shard or cluster.gpus_per_shard"
        + (", set train.mode=per_round so that shards and trainers take turns," if together else "")
        + " or use a larger cluster (cluster.address; cluster.cpus for one started here)."
    )


def _wait_for(needed: dict[str, float], seconds: float) -> dict[str, float]:
    """The cluster's resources, once they suffice or an autoscaler, if there is one, had its time."""
    end = time.monotonic() + seconds
    asked = False
    while True:
        resources = ray.cluster_resources()
        there = {name: resources.get(name, 0.0) for name in needed}
        if all(needed[name] <= there[name] + 1e-9 for name in needed) or not _autoscaled() or time.monotonic() > end:
            return there
        if not asked:
            from ray.autoscaler.sdk import request_resources

            log.info("asking the autoscaler for %s", needed)
            request_resources(bundles=[{name: 1} for name, count in needed.items() for _ in range(round(count))])
            asked = True
        time.sleep(1)


def _autoscaled() -> bool:
    """True if an autoscaler watches this cluster: it publishes its status in Ray's key-value store."""
    from ray._private import ray_constants
    from ray.experimental.internal_kv import _internal_kv_get

    return bool(_internal_kv_get(ray_constants.DEBUG_AUTOSCALING_STATUS))
