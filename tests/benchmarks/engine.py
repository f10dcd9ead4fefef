"""The engine against the plain loops it replaces: reading a pool, one round's overhead, Ray's cost, memory.

    python -m tests.benchmarks.engine            (--quick: fewer images and repeats; --only PART for one)

Seconds are CPU-seconds of all processes that take part (psutil), with one thread each; "wall" says otherwise. Forms
that are compared run interleaved, and the median of the repeats is shown.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader, Dataset

from openal_ray import config, config_file, runs
from openal_ray.data.images import ArrayImages
from openal_ray.errors import DataError
from openal_ray.models import backbones
from openal_ray.models.learners import Classifier
from openal_ray.pool import AllBut
from openal_ray.shard import ReadOrder, Settings
from openal_ray.strategies import catalogue
from openal_ray.workers import LocalShards

console = Console(width=110)
MEAN, STD = (0.2860,), (0.3530,)


class Pictures(Dataset):
    """Images as OpenAL serves them: PIL, then ToTensor and Normalize, one by one."""

    def __init__(self, pictures: np.ndarray) -> None:
        from torchvision import transforms

        self.pictures = pictures
        channels = pictures.shape[3]
        self.transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize(MEAN * channels, STD * channels)]
        )

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.transform(Image.fromarray(self.pictures[index].squeeze()))


def fashion_mnist(count: int) -> tuple[np.ndarray, str]:
    """Its training images where they are installed, else random pictures of the same shape."""
    try:
        dataset = runs.load_dataset(runs.as_config({"data": {"name": "fashion_mnist", "download": False}}))
        return dataset.train.load(np.arange(count)), "Fashion-MNIST"
    except DataError:
        rng = np.random.default_rng(0)
        return rng.integers(0, 256, (count, 28, 28, 1), dtype=np.uint8), "random pictures (Fashion-MNIST is absent)"


def cpu_seconds() -> float:
    """Of this process and all that it started and that still live."""
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    total = 0.0
    for process in processes:
        try:
            total += sum(process.cpu_times()[:2])
        except psutil.NoSuchProcess:
            continue
    return total


def interleaved(forms: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median CPU-seconds of each form, all of them run once in each of `repeats` passes."""
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(repeats):
        for name, form in forms.items():
            begin = cpu_seconds()
            form()
            seconds[name].append(cpu_seconds() - begin)
    return {name: statistics.median(each) for name, each in seconds.items()}


def plain_pass(network: torch.nn.Module, pictures: np.ndarray) -> Callable[[], torch.Tensor]:
    """The pool pass of OpenAL: DataLoader in batches of 64, softmax, everything in NCHW float32."""
    loader = DataLoader(Pictures(pictures), batch_size=64)

    def run() -> torch.Tensor:
        network.eval()
        with torch.no_grad():
            return torch.cat([network(batch).softmax(1) for batch in loader])

    return run


def our_pass(
    name: str, network: torch.nn.Module, pictures: np.ndarray, precision: config.Precision, batch_size: int
) -> Callable[[], np.ndarray]:
    """The same by one shard in this process."""
    channels = pictures.shape[3]
    read = config.Read(precision=precision, batch_size=batch_size)
    shards = LocalShards({"train": ArrayImages(pictures)}, Settings(read, MEAN * channels, STD * channels))
    shards.load(Classifier(10, name), network.state_dict())
    everything = AllBut(len(pictures), np.empty(0, np.int64))

    def run() -> np.ndarray:
        shards.forget("all")  # or the same order would find it read
        shards.read(ReadOrder("all", "train", everything, ("probs",)))
        return shards.gather("all").signals["probs"]

    return run


def reading(quick: bool) -> None:
    """Images per second of the pool pass, and whether the predictions are the same."""
    table = Table("network", "form", "images/s", "× plain", "same class", title="Reading a pool, one thread")
    for name, count, size, channels in (
        ("resnet18", 512 if quick else 2048, 32, 3),
        ("small_cnn", 10_000 if quick else 60_000, 28, 1),
    ):
        pictures = np.repeat(np.repeat(fashion_mnist(count)[0], channels, axis=3), 1, axis=1)
        if size != 28:
            pictures = np.pad(pictures, ((0, 0), (2, 2), (2, 2), (0, 0)))
        torch.manual_seed(0)
        network = backbones.create(name, 10, pictures.shape[1:])
        forms = {
            "DataLoader and PIL (OpenAL's way)": plain_pass(network, pictures),
            "shard, float32": our_pass(name, network, pictures, "float32", 64 if name == "resnet18" else 256),
            "shard, bfloat16": our_pass(name, network, pictures, "bfloat16", 64 if name == "resnet18" else 256),
        }
        classes = {form: np.asarray(run()).argmax(1) for form, run in forms.items()}
        seconds = interleaved(forms, 3 if quick else 5)
        first = next(iter(forms))
        for form in forms:
            same = (classes[form] == classes[first]).mean()
            table.add_row(
                name, form, f"{count / seconds[form]:,.0f}", f"{seconds[first] / seconds[form]:.2f}", f"{same:.4f}"
            )
    console.print(table)


def one_round(quick: bool) -> None:
    """Seconds outside training of a round that asks 1000 of 60,000 images, on Ray with two shards."""
    pictures, source = fashion_mnist(10_000 if quick else 60_000)
    table = Table(
        "strategy",
        "read s",
        "select s",
        "images/s",
        title=f"One round on Ray, {len(pictures):,} images of {source}, wall",
    )
    configuration = runs.as_config({"strategy": "margin", "shards": 2, "train": {"mode": "local"}})
    dataset = _dataset(ArrayImages(pictures))
    from openal_ray.pool import Pool
    from openal_ray.strategies.query import query

    with tempfile.TemporaryDirectory() as folder, runs.workers_for(configuration, dataset, Path(folder)) as workers:
        torch.manual_seed(0)
        learner = Classifier(10, params={"drop_rate": 0.3})  # dropout, for the Monte Carlo strategies
        workers.shards.load(learner, learner.build((28, 28, 1)).state_dict())
        workers.shards.read(ReadOrder("warm", "train", AllBut(len(pictures), np.empty(0, np.int64)), ("probs",)))
        pool = Pool(len(pictures), np.arange(1000) * 7, np.arange(1000) % 10)
        for entry in catalogue.ENTRIES:
            begin = time.perf_counter()
            found = query(entry.build(), workers.shards, pool, 10, 1000, lambda purpose: np.random.default_rng(0))
            select = time.perf_counter() - begin - found.read_seconds
            speed = f"{len(pictures) / found.read_seconds:,.0f}" if entry.build().needs else "–"
            table.add_row(entry.name, f"{found.read_seconds:.2f}", f"{select:.2f}", speed)
    console.print(table)


def rays_cost(quick: bool) -> None:
    """The digits experiment with and without Ray, once Ray is up."""
    shared = config_file.read_file(Path("configs/digits.yaml")) | {"seed": 0}
    rounds = ["budget.n_end=100"] if quick else []
    walls: dict[str, list[float]] = {"ray": [], "local": []}
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            use: runs.as_config(shared, [f"cluster.use={use}", *rounds, f"out={folder}/{use}"]) for use in walls
        }
        dataset = runs.load_dataset(settings["ray"])
        with (
            runs.workers_for(settings["ray"], dataset, Path(folder) / "ray") as on_ray,
            runs.workers_for(settings["local"], dataset, Path(folder) / "local") as here,
        ):
            for repeat in range(2 if quick else 5):
                for use, workers in (("ray", on_ray), ("local", here)):
                    out = Path(folder) / f"{use}-{repeat}"
                    walls[use].append(_experiment(settings[use].model_copy(update={"out": out}), dataset, workers))
    ray, local = statistics.median(walls["ray"][1:]), statistics.median(walls["local"][1:])  # the first warms up
    console.print(
        f"The digits experiment: {local:.2f} s in one process, {ray:.2f} s on Ray once it is up: "
        f"Ray costs {ray / local - 1:+.0%} (wall)"
    )


def _experiment(configuration: config.Config, dataset: Any, workers: Any) -> float:
    from openal_ray.experiment import Experiment
    from openal_ray.run_folder import RunFolder

    folder = RunFolder.create(configuration)
    begin = time.perf_counter()
    Experiment(configuration, dataset, workers, folder).run()
    folder.close()
    return time.perf_counter() - begin


class Generated:
    """Pictures made from their index: a pool of any size that takes no memory."""

    shape = (8, 8, 1)

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def load(self, indices: np.ndarray) -> np.ndarray:
        pixels = (indices[:, None] * np.arange(1, 65)[None] * 2654435761) >> 7
        return (pixels % 256).astype(np.uint8).reshape(-1, 8, 8, 1)

    def ids(self, indices: np.ndarray) -> list[str]:
        return [str(index) for index in indices]


def memory(quick: bool) -> None:
    """Peak resident memory of the driver alone, for pools of different sizes; each in a process of its own."""
    table = Table("images in the pool", "driver's peak MB", title="Memory of the driver, margin and k_center on Ray")
    for count in (20_000, 200_000) if quick else (20_000, 200_000, 2_000_000):
        command = [sys.executable, "-m", "tests.benchmarks.engine", "--driver", str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        table.add_row(f"{count:,}", done.stdout.split()[-1])
    console.print(table)


def driver_peak(count: int) -> None:
    """Runs two queries over `count` images and prints this process's peak memory in MB."""
    import resource

    from openal_ray.pool import Pool
    from openal_ray.strategies.query import query

    configuration = runs.as_config(
        {"strategy": "margin", "shards": 2, "train": {"mode": "local"}, "data": {"cache_gb": 0}}
    )
    dataset = _dataset(Generated(count))
    with tempfile.TemporaryDirectory() as folder, runs.workers_for(configuration, dataset, Path(folder)) as workers:
        torch.manual_seed(0)
        workers.shards.load(Classifier(10), backbones.create("small_cnn", 10, (8, 8, 1)).state_dict())
        for name in ("margin", "k_center"):
            pool = Pool(count, np.arange(100), np.arange(100) % 10)
            query(catalogue.build(name), workers.shards, pool, 10, 100, lambda purpose: np.random.default_rng(0))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def _dataset(images: Any) -> Any:
    from openal_ray.data.dataset import Dataset as Images

    few = ArrayImages(np.zeros((10, *images.shape), np.uint8))
    labels = np.arange(len(images)) % 10
    return Images("benchmark", tuple("abcdefghij"), images, labels, few, np.arange(10), MEAN, STD)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer images and repeats")
    parser.add_argument("--driver", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--only", choices=("reading", "one_round", "rays_cost", "memory"))
    options = parser.parse_args()
    with _one_thread():
        if options.driver:
            driver_peak(options.driver)
            return
        for part in (reading, one_round, rays_cost, memory):
            if options.only in (None, part.__name__):
                part(options.quick)


if __name__ == "__main__":
    main()
