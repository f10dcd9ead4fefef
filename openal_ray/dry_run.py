"""The price of a run before it starts: what each round will do, from its configuration and data set; see price.py.

Nothing is trained or recorded. Every image asked is assumed to be answered, and to be of a known class.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from openal_ray import price, seeds, start_set
from openal_ray.checks import check
from openal_ray.config import Config, Train, Tune
from openal_ray.data.dataset import Dataset
from openal_ray.data.images import in_memory
from openal_ray.models import signals
from openal_ray.pool import UNLABELLED, DatasetOracle, Pool
from openal_ray.price import SCORED_ROW, Rates, Read, Row, Shape, Training
from openal_ray.probe import Networks, measure, passes
from openal_ray.runs import load_dataset
from openal_ray.selection.halves import BLOCK
from openal_ray.strategies import strategy as strategies
from openal_ray.strategies.query import subset_of
from openal_ray.strategies.strategy import Helpers, Strategy
from openal_ray.training.job import Job
from openal_ray.tuning.space import dearest, due, space_of

GIB = 2**30


@dataclass(frozen=True)
class Quote:
    """A run's price: every round's row, their total, where the rates come from.

    devices  CPU or GPU, of reading and of training
    """

    rows: list[Row]
    total: Row
    rates: Rates
    devices: tuple[str, str]

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def quote(config: Config, dataset: Dataset, stated: tuple[float, float] | None = None) -> Quote:
    """What the run will cost.

    stated  images a second of one device, for one forward pass and for training; measured here if not given
    raises  ConfigError, DataError  as the run would
    """
    strategy = check(config, dataset)
    networks = Networks(config, dataset, strategy)
    rounds = list(_rounds(config, dataset, strategy, networks))
    devices = ("GPU" if config.cluster.gpus_per_shard else "CPU", "GPU" if config.train.gpus_per_worker else "CPU")
    rates = _stated(*stated, strategy) if stated else measure(config, dataset, networks, *devices)
    height, width, channels = dataset.train.shape
    shape = Shape(
        shards=config.fewest_shards, trainers=config.train.most_workers,
        pool=len(dataset.train), test=len(dataset.test),
        picture=height * width * channels, block=BLOCK,
        cache=0 if in_memory(dataset.train) else int(config.data.cache_gb * GIB),
        batch=config.read.batch_size * height * width * channels * 4,
        networks=networks.bytes, on_disk=config.read.keep == "disk",
    )  # fmt: skip
    rows, total = price.price(shape, rounds, rates)
    return Quote(rows, total, rates, devices)


def quotes(configurations: Sequence[Config], stated: tuple[float, float] | None = None) -> list[tuple[str, Quote]]:
    """The same for several runs, by label; each data set is loaded once."""
    datasets: dict[str, Dataset] = {}
    found = []
    for config in configurations:
        key = config.data.model_dump_json()
        if key not in datasets:
            datasets[key] = load_dataset(config)
        found.append((config.label, quote(config, datasets[key], stated)))
    return found


def _stated(read: float, train: float, strategy: Strategy | None) -> Rates:
    times = passes(strategy.all_needs, strategy.passes) if strategy else 1
    return Rates(query=read / max(1, times), evaluate=read, train={signals.CLASSIFIER: train})


def _rounds(config: Config, dataset: Dataset, strategy: Strategy | None, networks: Networks) -> Iterator[price.Round]:
    """What each round will do."""
    pool = _begun(config, dataset, strategy)
    held: dict[str, str] = {}  # digests of the helpers that the shards hold
    reads: list[Read] = []
    number, queried, gathered = 0, 0, 0
    tune = None if config.tune and config.tune.reuse_from else config.tune
    plan = dearest(config.train, space_of(config)) if tune else config.train
    searched: int | None = None  # labels of the last search for hyper-parameters
    evaluate = Read(len(dataset.test), 1, networks.row(("probs",)), len(dataset.test), "evaluate")
    while True:
        following = _following(config, strategy, pool)
        helpers = _helpers(config, dataset, networks, pool, number) if following else {}
        networks.meet(helpers)
        fresh = {name: helper for name, helper in helpers.items() if held.get(name) != helper.digest}
        held |= {name: helper.digest for name, helper in fresh.items()}
        held_out = len(pool.held_out)
        trainings = [_training(signals.CLASSIFIER, len(pool.labelled), held_out, plan, networks)]
        if tune and due(len(pool.labelled), searched, tune.growth):
            trainings, searched = [_search(trainings[0], config, tune)], len(pool.labelled)
        for name, job in fresh.items():
            if isinstance(job, Job):
                trainings.append(_training(name, len(job.indices), len(job.validation[0]), job.plan, networks))
        yield price.Round(
            number, len(pool.labelled), queried, (*reads, evaluate), tuple(trainings),
            gathered + len(dataset.test) * evaluate.row, _pick_row(strategy, networks, queried),
            sum(networks.weight(name) for name in (signals.CLASSIFIER, *fresh)),
        )  # fmt: skip
        if not following or strategy is None:
            return
        reads, gathered = _query(config, strategy, networks, pool, set(fresh))
        number, queried = number + 1, following
        asked = pool.unlabelled.between(0, pool.size)[:following]
        pool = pool.annotate(asked, np.zeros(following, np.int64))


def _begun(config: Config, dataset: Dataset, strategy: Strategy | None) -> Pool:
    """The pool once the start set is labelled."""
    validation = dataset.validation
    known = np.flatnonzero(dataset.labels >= 0)
    if not len(validation) and config.data.validation:
        validation = known[: max(1, round(config.data.validation * len(known)))]
    pool, oracle = Pool(len(dataset.train), held_out=validation), DatasetOracle(dataset.labels)
    if strategy is None:
        start = oracle.answerable(pool.unlabelled)
    else:
        rng = seeds.rng(config.seed, 0, "start set")
        noise_ratio = config.open_set.noise_ratio if config.open_set else None
        start = start_set.choose(config.budget, pool, oracle, len(dataset.classes), rng, noise_ratio)
    answers = dataset.labels[start]
    return pool.annotate(start, np.where(answers == UNLABELLED, 0, answers))


def _following(config: Config, strategy: Strategy | None, pool: Pool) -> int:
    """Images that the next query asks; 0 if there is none."""
    bought = len(pool.labelled) + len(pool.rejected)
    left = min(config.budget.n_end - bought, pool.unlabelled.count)
    return max(0, min(config.budget.n_query, left)) if strategy else 0


def _helpers(config: Config, dataset: Dataset, networks: Networks, pool: Pool, number: int) -> Helpers:
    if networks.strategy is None:
        return {}
    return networks.strategy.prepare(
        strategies.Round(
            number, pool, len(dataset.classes), networks.plain, config.train, dataset.mean,
            dataset.std, config.seed, (pool.held_out, dataset.labels[pool.held_out]), dataset.classes, config.clip,
        )
    )  # fmt: skip


def _training(name: str, images: int, validation: int, plan: Train, networks: Networks) -> Training:
    return Training(
        images, plan.epochs, plan.batch_size, plan.steps_per_epoch, plan.accumulate, validation,
        networks.weight(name), name,
    )  # fmt: skip


def _search(classifier: Training, config: Config, tune: Tune) -> Training:
    """The search that trains a classifier so many times."""
    here = "local" in (config.cluster.use, config.train.mode)  # one after the other
    return replace(classifier, trials=tune.trials, at_once=1 if here else min(tune.at_once, tune.trials))


def _query(
    config: Config, strategy: Strategy, networks: Networks, pool: Pool, fresh: set[str]
) -> tuple[list[Read], int]:
    """The reads of a query of this pool, and the bytes of signals that the driver gathers."""
    reads, gathered = [], 0
    if strategy.needs:
        candidates = _candidates(config, pool)
        reads.append(_read(strategy, networks, strategy.needs, candidates, candidates))
    if strategy.needs_labelled:
        answered = len(pool.answered)
        reads.append(_read(strategy, networks, strategy.needs_labelled, answered, answered))
        gathered += answered * networks.row(strategy.needs_labelled)
    if strategy.needs_pool:
        everything = pool.size - len(pool.held_out)
        # Trainers whose number follows the cluster have it for themselves: the shards forget what they have read.
        again = config.train.elastic or fresh & {signals.split(need)[0] for need in strategy.needs_pool}
        reads.append(_read(strategy, networks, strategy.needs_pool, everything if again else 0, everything))
        gathered += len(pool.answered) * networks.row(strategy.needs_pool)
    return reads, gathered


def _candidates(config: Config, pool: Pool) -> int:
    subset, there = config.budget.n_subset, pool.unlabelled.count
    count = subset_of(subset, there)
    return min(there, max(count, config.budget.n_query)) if count else there


def _read(strategy: Strategy, networks: Networks, needs: tuple[str, ...], images: int, held: int) -> Read:
    return Read(images, passes(needs, strategy.passes), networks.row(needs), held)


def _pick_row(strategy: Strategy | None, networks: Networks, queried: int) -> int:
    """Bytes of one candidate between shard and driver: its score, or its signals where the pick compares images."""
    if strategy is None or not queried or strategy.pick is strategies.highest_scores or not strategy.all_needs:
        return SCORED_ROW
    return SCORED_ROW + networks.row(strategy.all_needs)
