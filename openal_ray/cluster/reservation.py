"""What one trial of a sweep reserves, and how many trials a cluster holds at once.

A trial is a light process that drives one run. Its shards lie in bundles of the placement group that Tune reserves for
it as a whole, so a trial that runs has all it needs. Ray Train makes a group of its own outside the trial's; trials
that train with it are therefore counted before they start, and no more are let in than the cluster holds with all
their trainers. So no trial waits for hardware that another waiting trial holds.
"""

from collections.abc import Iterable, Mapping
from math import floor

from openal_ray.cluster.room import Amounts
from openal_ray.cluster.share import SHARD_BYTES
from openal_ray.config import Config

DRIVER_CPUS = 0.01  # Ray refuses a group whose first bundle is empty


def adapted(configuration: Config) -> Config:
    """The configuration as a trial works it off: where its training runs and what its shards reserve, if left open.

    train.mode=auto  becomes local, in the trial's own process, or session where it has several training workers;
                     any other mode too where hyper-parameters are searched, since a trial of Tune starts no Tune
    shards, workers  the least number of them: what is reserved does not grow
    decoders         none: they would lie outside the group
    cpus_per_shard   an equal part of train.cpus_per_worker: a trial's shards and its trainer take turns
    """
    train, cluster = configuration.train, configuration.cluster
    workers = train.fewest_workers
    train = train.model_copy(update={"workers": workers, "micro_batches": train.micro_batches})
    if train.mode == "auto" or configuration.tune:
        train = train.model_copy(update={"mode": "local" if workers == 1 else "session"})
    if cluster.cpus_per_shard is None:
        part = floor((train.cpus_per_worker - DRIVER_CPUS) / configuration.fewest_shards * 100 + 1e-6) / 100
        cluster = cluster.model_copy(update={"cpus_per_shard": max(part, 0.01)})
    cluster = cluster.model_copy(update={"decoders": 0})
    return configuration.model_copy(update={"train": train, "cluster": cluster, "shards": configuration.fewest_shards})


def bundles(trial: Config) -> list[Amounts]:
    """The placement group of an adapted trial: its own process, then its shards."""
    train, cluster = trial.train, trial.cluster
    in_process = cluster.use == "local" or train.mode == "local"
    own = {
        "CPU": train.cpus_per_worker if cluster.use == "local" else DRIVER_CPUS,
        "GPU": train.gpus_per_worker if in_process else 0,
    }
    shard = {"CPU": cluster.cpus_per_shard or 0, "GPU": cluster.gpus_per_shard}
    shards = [] if cluster.use == "local" else [shard] * trial.fewest_shards
    return [{name: amount for name, amount in bundle.items() if amount} for bundle in [own, *shards]]


def trainers(trial: Config) -> Amounts:
    """What Ray Train reserves outside the trial's placement group."""
    train = trial.train
    workers = 0 if trial.cluster.use == "local" or train.mode == "local" else train.fewest_workers * train.at_once
    return {"CPU": workers * train.cpus_per_worker, "GPU": workers * train.gpus_per_worker}


def needed(trial: Config) -> Amounts:
    """CPUs, GPUs and bytes of memory of a whole trial."""
    group, outside = bundles(trial), trainers(trial)
    sums = {name: sum(bundle.get(name, 0) for bundle in group) + outside[name] for name in outside}
    return sums | {"memory": SHARD_BYTES * (len(group) + bool(outside["CPU"]) * trial.train.fewest_workers)}


def most_at_once(trials: Iterable[Config], there: Mapping[str, float]) -> int:
    """How many trials the cluster holds, if each were the largest; 0 if that one alone does not fit."""
    demands = [needed(trial) for trial in trials]
    largest = {name: max(demand[name] for demand in demands) for name in demands[0]}
    if not there.get("memory"):
        del largest["memory"]  # a Ray that does not say how much it has
    return min(floor(there.get(name, 0) / amount + 1e-6) for name, amount in largest.items() if amount)
