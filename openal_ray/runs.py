"""From a configuration to a finished run: data set, workers, folder, experiment, report."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from openal_ray import config, config_file
from openal_ray.checks import check
from openal_ray.config import Config
from openal_ray.data import catalogue, open_set
from openal_ray.data.dataset import Dataset
from openal_ray.data.known_classes import Draw
from openal_ray.data.open_set import Opened, OpenSet
from openal_ray.errors import ConfigError, RunError, TrainingError, UserError
from openal_ray.experiment import Experiment
from openal_ray.grid import canonical, combine, listed
from openal_ray.listener import Listener, Silent
from openal_ray.pool import AnswersPending
from openal_ray.reports.html import write_report
from openal_ray.reports.trackers import NoTracker, Tracker, WandbTracker
from openal_ray.run_folder import RunFolder
from openal_ray.shard import Settings
from openal_ray.storage.url import Place, place
from openal_ray.workers import LocalWorkers, Workers

log = logging.getLogger(__name__)
GIB = 2**30
WHERE = (
    "cluster.", "shards=", "read.keep=", "read.cache=", "tracking.",
    *(f"train.{key}=" for key in config.WHERE_IT_TRAINS),
)  # fmt: skip
"""Keys that say where a run works, not what comes out."""


@dataclass(frozen=True)
class Run:
    """What a run came to: its folder, and metrics.csv's rows."""

    folder: Place
    rows: list[dict[str, Any]]


def run(
    configuration: Config | Mapping[str, Any] | str | Path,
    *overrides: str,
    dataset: Dataset | None = None,
    listener: Listener | None = None,
) -> Run:
    """Runs one experiment to its end.

    configuration  a Config, its nested mappings, or the path of a YAML file
    overrides      further keys, each "key.path=value"
    dataset        a data set of your own instead of data.name, such as openal_ray.data.from_torch makes
    raises         UserError, before any work where it can be known by then
    """
    return run_all([as_config(configuration, overrides)], dataset, listener)[0]


def resume(
    folder: Place | str, *overrides: str, dataset: Dataset | None = None, listener: Listener | None = None
) -> Run:
    """Goes on with a run as if it had never stopped; a finished run is left as it is.

    overrides  keys that say where the work runs, such as "cluster.address=auto"; no other may change now
    """
    try:
        found = place(folder)
    except ValueError as error:
        raise RunError(str(error)) from None
    return resume_all([found], overrides, dataset, listener)[0]


def resume_all(
    folders: Sequence[Place],
    overrides: Sequence[str] = (),
    dataset: Dataset | None = None,
    listener: Listener | None = None,
) -> list[Run]:
    """Goes on with several runs, one after the other."""
    for override in overrides:
        if not override.startswith(WHERE):
            raise ConfigError(
                f"{override}: a resumed run keeps what decides its results; only these keys may change: "
                f"{', '.join(key.rstrip('.=') for key in WHERE)}. Begin a new run for anything else."
            )
    with ExitStack() as held:
        opened = []
        for path in folders:
            folder, configuration = RunFolder.open(path)
            held.callback(folder.close)
            opened.append((folder, as_config(configuration, overrides)))
        return _finish(opened, Datasets(dataset), listener or Silent())


def run_all(
    configurations: Sequence[Config], dataset: Dataset | None = None, listener: Listener | None = None
) -> list[Run]:
    """Runs experiments one after the other; those that differ in strategy, seed or budget alone share their workers."""
    datasets = Datasets(dataset)
    for configuration in configurations:
        check(configuration, datasets.of(configuration))
    with ExitStack() as held:
        opened = []
        for configuration in configurations:
            opened.append((RunFolder.create(configuration), configuration))
            held.callback(opened[-1][0].close)
            held.callback(opened[-1][0].discard)
        return _finish(opened, datasets, listener or Silent())


def expand(values: Mapping[str, Any]) -> list[Config]:
    """One configuration for each strategy and seed, where these keys hold a list, or names separated by commas.

    Several runs go to folders of their own inside `out`, named after strategy, parameters and seed.
    """
    names, seeds = listed(values.get("strategy")), listed(values.get("seed", 0))
    if len(names) == len(seeds) == 1:
        return [canonical(config.parse({**values, "strategy": names[0], "seed": seeds[0]}))]
    whole = values.get("out") or Path("runs") / "compared"
    return combine({**values, "out": whole}, {"strategy": names, "seed": seeds})


def common_folder(configurations: Sequence[Config]) -> Place:
    """Where the report on all of them goes: the one run's folder, or the folder around them."""
    folders = [configuration.folder.expanduser() for configuration in configurations]
    return folders[0] if len(folders) == 1 else folders[0].parent


def _written(configuration: Config) -> dict[str, Any]:
    """As nested mappings, without micro-batches that nobody asked for: their number follows from that of workers."""
    values = configuration.model_dump(by_alias=True)
    for plan, asked in (
        (values["train"], configuration.train),
        (values["pretrain"]["train"], configuration.pretrain.train),
    ):
        if "micro_batches" not in asked.model_fields_set:
            del plan["micro_batches"]
    return values


def as_config(configuration: Config | Mapping[str, Any] | str | Path, overrides: Iterable[str] = ()) -> Config:
    """A checked Config out of what `run` accepts."""
    if isinstance(configuration, Config):
        configuration = _written(configuration)
    if not isinstance(configuration, Mapping):
        configuration = config_file.read_file(Path(configuration))
    return canonical(config.parse(config_file.override(configuration, overrides)))


def load_dataset(configuration: Config) -> Dataset:
    """The data set that the configuration names; raises DataError or ConfigError."""
    closed = closed_dataset(configuration, configuration.data.name)
    if configuration.open_set is None:
        return closed
    return opened(closed, configuration).dataset


def opened(closed: Dataset, configuration: Config) -> Opened:
    """The data set with images of no known class, as the configuration's open_set says."""
    chosen = configuration.open_set
    assert chosen is not None
    draw = Draw(chosen.draw.rule, chosen.draw.seed, chosen.draw.trial)
    protocol = OpenSet(
        chosen.known, draw, chosen.unknown, chosen.noise_ratio, chosen.clean_start, chosen.seed, chosen.share_of
    )
    return open_set.opened(closed, protocol, closed_dataset(configuration, chosen.other) if chosen.other else None)


def closed_dataset(configuration: Config, name: str) -> Dataset:
    """A data set as it is, without images of no known class; read as the configuration's `data` says."""
    data, own = configuration.data, name == configuration.data.name
    return catalogue.load(
        name, root=data.root.expanduser(), image_size=data.image_size, channels=data.channels,
        convert=data.convert, mean=data.mean, std=data.std, download=data.download, params=data.params if own else {},
    )  # fmt: skip


class Datasets:
    """Data sets by configuration, each loaded once; or the one that the caller gave."""

    def __init__(self, given: Dataset | None) -> None:
        self._given = given
        self._loaded: dict[str, Dataset] = {}

    def of(self, configuration: Config) -> Dataset:
        key = configuration.model_dump_json(include={"data", "open_set"})
        if key not in self._loaded:
            self._loaded[key] = self._load(configuration)
        return self._loaded[key]

    def _load(self, configuration: Config) -> Dataset:
        if self._given is None:
            return load_dataset(configuration)
        return opened(self._given, configuration).dataset if configuration.open_set else self._given


def _finish(runs: Sequence[tuple[RunFolder, Config]], datasets: Datasets, listener: Listener) -> list[Run]:
    """Finishes the runs that are not; one that waits for people or fails does not keep the others from their end."""
    problems: list[UserError] = []
    for group in _groups([run for run in runs if not run[0].record.state.ending]):
        data = datasets.of(group[0][1])
        with workers_for(group[0][1], data, group[0][0].path) as workers:
            for folder, configuration in group:
                try:
                    _one(folder, configuration, data, workers, _metered(configuration, listener))
                except (AnswersPending, TrainingError) as problem:
                    problems.append(problem)
    if problems:
        raise problems[0]
    return [_result(folder) for folder, _ in runs]


def _one(folder: RunFolder, configuration: Config, dataset: Dataset, workers: Workers, listener: Listener) -> None:
    tracking = configuration.tracking
    tracker: Tracker = WandbTracker(tracking.project, tracking.entity) if tracking.wandb else NoTracker()
    tracker.start(configuration.model_dump(mode="json", by_alias=True), folder.path.name, folder.path)
    try:
        Experiment(configuration, dataset, workers, folder, _Tracked(listener, tracker)).run()
    except AnswersPending:
        if folder.record.state.evaluated:
            write_report([folder.path], folder.path / "report.html")
        raise
    finally:
        tracker.finish()
    write_report([folder.path], folder.path / "report.html")


def _metered(configuration: Config, listener: Listener) -> Listener:
    """The listener, and on Ray its metrics too."""
    if configuration.cluster.use == "local":
        return listener
    from openal_ray.cluster.metrics import Metered

    return Metered(listener)


def _result(folder: RunFolder) -> Run:
    return Run(folder.path, [line["row"] for _, line in sorted(folder.record.state.evaluated.items())])


class _Tracked:
    """A listener that also tells a tracker of every round."""

    def __init__(self, listener: Listener, tracker: Tracker) -> None:
        self.begin, self.phase = listener.begin, listener.phase
        self.advance, self.epoch = listener.advance, listener.epoch
        self._listener, self._tracker = listener, tracker

    def round_done(self, row: dict[str, Any]) -> None:
        self._tracker.log(row["round"], row)
        self._listener.round_done(row)


@contextmanager
def workers_for(configuration: Config, dataset: Dataset, folder: Place) -> Iterator[Workers]:
    """The workers that the configuration asks for, local or on Ray; given back at the end, whatever happens."""
    images = {"train": dataset.train, "test": dataset.test}
    settings = Settings(
        configuration.read, dataset.mean, dataset.std,
        cache_bytes=int(configuration.data.cache_gb * GIB), skip_bad_images=configuration.data.bad_images == "skip",
    )  # fmt: skip
    if configuration.cluster.use == "local":
        settings = replace(settings, device="cuda" if torch.cuda.is_available() else "cpu")
        yield LocalWorkers(images, settings, configuration.fewest_shards, folder)
        return
    from openal_ray.cluster.connect import connected
    from openal_ray.cluster.workers import RayWorkers

    with connected(configuration.cluster, verbose=log.isEnabledFor(logging.DEBUG)):
        workers = RayWorkers(images, settings, configuration, folder)
        try:
            yield workers
        finally:
            workers.close()


def _groups(runs: Sequence[tuple[RunFolder, Config]]) -> list[list[tuple[RunFolder, Config]]]:
    groups: dict[str, list[tuple[RunFolder, Config]]] = {}
    for folder, configuration in runs:
        own = {"strategy", "seed", "out", "budget", "tracking", "checkpoints"}
        groups.setdefault(configuration.model_dump_json(exclude=own), []).append((folder, configuration))
    return list(groups.values())
