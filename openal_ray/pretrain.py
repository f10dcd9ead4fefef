"""Pre-training without labels: an encoder from all images of a pool, by the workers that train everything else.

The folder holds pretrain.yaml, the configuration; training/, checkpoints while it lasts; encoder.pt and encoder.yaml.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from openal_ray import __version__, config, config_file, run_folder, runs, seeds
from openal_ray.config import Config
from openal_ray.data.dataset import Dataset
from openal_ray.errors import ConfigError, DataError, RunError
from openal_ray.models import backbones, encoder_file
from openal_ray.models.contrastive import Contrastive
from openal_ray.models.learners import Classifier
from openal_ray.pool import AllBut
from openal_ray.shard import ReadOrder
from openal_ray.training.job import Epoch, Job, Trained
from openal_ray.training.loop import check_plan
from openal_ray.workers import Workers

CONFIGURATION = "pretrain.yaml"
OF_MACHINE = ("root", "download", "cache_gb")  # keys of data on which no weight depends


@dataclass(frozen=True)
class Encoded:
    """What pre-training came to: its folder, and what encoder.yaml says."""

    folder: Path
    facts: dict[str, Any]


def pretrain(
    configuration: Config | Mapping[str, Any] | str | Path,
    *overrides: str,
    dataset: Dataset | None = None,
    listener: Callable[[Epoch], None] = lambda epoch: None,
) -> Encoded:
    """Trains the encoder that the section `pretrain` describes, on all images of data.name but marked validation ones.

    No label is looked at, and no test image. The images that data.validation holds out are drawn by each run for
    itself, from labels, so they are among those trained on. A second call goes on where the first was stopped.
    configuration  a Config, its nested mappings, or the path of a YAML file; strategy and budget do not matter
    overrides      further keys, each "key.path=value"
    dataset        a data set of your own instead of data.name
    raises         UserError
    """
    wanted = configuration if isinstance(configuration, Config) else parse(configuration, *overrides)
    data = dataset or runs.load_dataset(wanted)
    learner = _checked(wanted, data)
    with _held(_folder(wanted)) as folder:
        _claim(folder, wanted)
        facts = encoder_file.facts(folder)
        if facts is None:
            with runs.workers_for(_for_workers(wanted), data, folder) as workers:
                job = _job(wanted, data, learner, _images(wanted, data, workers))
                trained = workers.fit({job.name: job}, lambda name, epoch: listener(epoch))[job.name]
            facts = encoder_file.write(folder, learner, data.train.shape, trained.weights, _came_to(job, data, trained))
        return Encoded(folder, facts)


def parse(configuration: Mapping[str, Any] | str | Path, *overrides: str) -> Config:
    """A checked configuration, of which strategies, that a file may list several of, are left out."""
    values = configuration if isinstance(configuration, Mapping) else config_file.read_file(Path(configuration))
    values = config_file.override(values, overrides)
    return config.parse({key: value for key, value in values.items() if key != "strategy"})


def learner_of(wanted: Config, data: Dataset) -> Contrastive:
    """What the configuration asks to train."""
    asked, model = wanted.pretrain, wanted.model
    backbone = Classifier(0, model.name, model.pretrained, model.checkpoint, model.params)
    return Contrastive(
        backbone, data.mean, data.std, asked.projection, asked.temperature, asked.views,
        asked.shift if asked.method == "csi" else None, asked.shift_weight,
    )  # fmt: skip


def _checked(wanted: Config, data: Dataset) -> Contrastive:
    """The learner, once it is known that it can take a step; raises ConfigError or DataError."""
    backbones.check_name(wanted.model.name)
    try:
        check_plan(wanted.pretrain.train, data.train.shape)
    except ConfigError as error:
        raise ConfigError(f"pretrain.{error}") from None
    if len(data.train) - len(data.validation) < 2:
        raise DataError(f"data set {data.name}: pre-training tells images apart, and there are fewer than 2")
    learner = learner_of(wanted, data)
    height, width, channels = data.train.shape
    with torch.random.fork_rng(devices=[]):
        try:
            network = learner.reader().build(data.train.shape).eval()
            with torch.no_grad():
                learner.loss(network, torch.zeros(2, channels, height, width), torch.zeros(2), 0.0)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise ConfigError(
                f"model.name: {wanted.model.name} cannot take images of {height}×{width}×{channels}: {error} "
                "Set data.image_size, or choose another network."
            ) from error
    return learner


def _folder(wanted: Config) -> Path:
    name = wanted.data.name.rpartition("/")[2].replace(":", "-")
    folder = wanted.out or Path("runs") / f"{name}-{wanted.pretrain.method}-{wanted.seed}"
    if not isinstance(folder, Path):
        raise ConfigError(f"out: {folder}: an encoder is a file that runs read from a disk; write a path, as out=DIR")
    return folder.expanduser()


@contextmanager
def _held(path: Path) -> Iterator[Path]:
    hold = run_folder.held(path, ".lock")
    try:
        yield path
    finally:
        hold.release()


def _claim(folder: Path, wanted: Config) -> None:
    """Writes pretrain.yaml, or finds that the one there asks for the same; raises RunError."""
    file = folder / CONFIGURATION
    if not file.exists():
        if any(entry.name != ".lock" for entry in folder.iterdir()):
            raise RunError(f"out: {folder} holds files already; choose another folder with out=DIR")
        temporary = folder / f".{CONFIGURATION}.tmp"
        temporary.write_text(config.dump(wanted), encoding="utf-8")
        temporary.replace(file)
        return
    there, here = (_decisive(one) for one in (config.parse(config_file.read_file(file)), wanted))
    differing = sorted(key for key in there.keys() | here.keys() if there.get(key) != here.get(key))
    if differing:
        shown = ", ".join(f"{key} ({there.get(key)!r} there)" for key in differing[:4])
        raise RunError(
            f"out: {folder} holds another pre-training, which differs in {shown}; choose another folder with out=DIR"
        )


def _decisive(wanted: Config) -> dict[str, Any]:
    """What decides the weights, by path."""
    values = wanted.model_dump(
        mode="json", by_alias=True, include={"seed", "data", "model", "pretrain"},
        exclude={"data": set(OF_MACHINE), "pretrain": {"train": set(config.WHERE_IT_TRAINS)}},
    )  # fmt: skip
    return dict(_flat("", values))


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{path}.{key}" if path else key, inner)
    else:
        yield path, value


def _for_workers(wanted: Config) -> Config:
    """The same with the pre-training's plan as the plan; shards read no network here, so they need no GPU."""
    cluster = wanted.cluster.model_copy(update={"gpus_per_shard": 0})
    return wanted.model_copy(update={"train": wanted.pretrain.train, "cluster": cluster})


def _images(wanted: Config, data: Dataset, workers: Workers) -> np.ndarray:
    """The indices to train on: without marked validation images, and without bad ones if these may be skipped."""
    members = AllBut(len(data.train), data.validation)
    indices = np.setdiff1d(np.arange(len(data.train)), data.validation)
    if wanted.data.bad_images == "refuse":
        return indices
    return np.setdiff1d(indices, list(workers.shards.read(ReadOrder("check", "train", members)).bad))


def _job(wanted: Config, data: Dataset, learner: Contrastive, indices: np.ndarray) -> Job:
    return Job(
        name=f"{wanted.pretrain.method} on {data.name}", learner=learner, indices=indices,
        targets=np.zeros(len(indices), np.int64), plan=wanted.pretrain.train,
        mean=data.mean, std=data.std, init_seed=seeds.derive(wanted.seed, 0, "encoder weights"),
        order_seed=seeds.derive(wanted.seed, 0, "encoder order"),
    )  # fmt: skip


def _came_to(job: Job, data: Dataset, trained: Trained) -> dict[str, Any]:
    """partner_found is the share of the last epoch's views whose nearest other view was their partner."""
    last = trained.history[-1]
    return {
        "data": data.name, "images": len(job.indices), "epochs": last.epochs, "batch_size": job.plan.batch_size,
        "loss": last.loss, "partner_found": last.accuracy,
        "seconds": round(sum(epoch.seconds for epoch in trained.history), 1), "openal_ray": __version__,
    }  # fmt: skip
