"""Small whole experiments for tests: a config, its data set, workers and folder."""

from pathlib import Path
from typing import Any

from openal_ray import runs
from openal_ray.config import Config
from openal_ray.data.dataset import Dataset
from openal_ray.experiment import Experiment
from openal_ray.listener import Silent
from openal_ray.run_folder import RunFolder
from openal_ray.shard import Settings
from openal_ray.workers import LocalWorkers

SMALL = {
    "strategy": "margin",
    "budget": {"n_start": 20, "n_query": 15, "n_end": 50},
    "train": {"epochs": 3, "steps_per_epoch": 10, "optimizer": {"lr": 5.0e-3}},
    "cluster": {"use": "local"},
}


def small(folder: Path, *overrides: str) -> Config:
    """Three rounds on digits in this process: 20, 35 and 50 labels; some CPU-seconds in all."""
    return runs.as_config(SMALL | {"out": str(folder)}, overrides)


def local_workers(configuration: Config, dataset: Dataset) -> LocalWorkers:
    settings = Settings(configuration.read, dataset.mean, dataset.std)
    return LocalWorkers({"train": dataset.train, "test": dataset.test}, settings, configuration.fewest_shards)


def experiment(configuration: Config, dataset: Dataset | None = None, **parts: Any) -> Experiment:
    """An experiment in a new folder, or in the one that is there already."""
    data = dataset or runs.load_dataset(configuration)
    exists = (configuration.folder / "config.yaml").exists()
    folder = RunFolder.open(configuration.folder)[0] if exists else RunFolder.create(configuration)
    workers = parts.pop("workers", None) or local_workers(configuration, data)
    return Experiment(configuration, data, workers, folder, parts.pop("listener", Silent()))
