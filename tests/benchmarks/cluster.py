"""What a cluster gains and where its driver would be the limit: shards, sweeps, bytes, and a simulation to 1000 shards.

    python -m tests.benchmarks.cluster           (--quick: at most 100 simulated shards; --only PART for one)

Seconds are wall seconds, since parallel work is what is measured; run it on an idle machine. The simulation has the
real driver halves and real messages, and shards of which each holds only the rows that could be picked.
"""

import argparse
import pickle
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from rich.console import Console
from rich.table import Table

from openal_ray import config, config_file, runs, sweep_file, sweeps
from openal_ray.cluster.connect import connected
from openal_ray.data.images import ArrayImages
from openal_ray.listener import Silent
from openal_ray.models.learners import Classifier
from openal_ray.pool import AllBut, Pool
from openal_ray.selection.halves import BLOCK, Halves, Picks
from openal_ray.selection.k_center import KCenterHalf, pick_k_center
from openal_ray.selection.kmeans_pp import KMeansPPHalf, pick_kmeans_pp
from openal_ray.selection.top_k import TopKHalf, pick_top_k
from openal_ray.shard import ReadOrder
from openal_ray.strategies import catalogue
from openal_ray.strategies.query import query

console = Console(width=120)
K = 1000
ROWS = 100_000  # that each simulated shard stands for
WIDTH, CLASSES = 512, 100


def reading(quick: bool) -> None:
    """Two shards on two cores against one on one."""
    pictures = np.random.default_rng(0).integers(0, 256, (20_000 if quick else 60_000, 28, 28, 1), np.uint8)
    speed = {count: _images_per_second(pictures, count, 3) for count in (1, 2)}
    console.print(
        f"Reading {len(pictures):,} images 28×28 by the small CNN: {speed[1]:,.0f} images/s with one shard, "
        f"{speed[2]:,.0f} with two: efficiency {speed[2] / speed[1] / 2:.0%}"
    )


def _images_per_second(pictures: np.ndarray, shards: int, repeats: int) -> float:
    configuration = runs.as_config(
        {"shards": shards, "train": {"mode": "local"}, "cluster": {"cpus": shards, "cpus_per_shard": 1}}
    )
    dataset = _dataset(pictures)
    with tempfile.TemporaryDirectory() as folder, runs.workers_for(configuration, dataset, Path(folder)) as workers:
        workers.shards.load(*_network())
        everything = AllBut(len(pictures), np.empty(0, np.int64))
        seconds = []
        for repeat in range(repeats + 1):
            begin = time.perf_counter()
            workers.shards.read(ReadOrder(f"read {repeat}", "train", everything, ("probs", "features")))
            workers.shards.forget(f"read {repeat}")
            seconds.append(time.perf_counter() - begin)
    return len(pictures) / statistics.median(seconds[1:])  # the first one decodes


def sweeping(quick: bool) -> None:
    """A sweep on two CPUs against the same runs one after the other on them, both from a Ray that is up."""
    seeds = [0, 1] if quick else [0, 1, 2]
    base = config_file.read_file(Path("configs/digits.yaml")) | {"cluster": {"cpus": 2}, "shards": 1}
    with tempfile.TemporaryDirectory() as folder, connected(config.Cluster(cpus=2)):
        file = Path(folder) / "sweep.yaml"
        grid = {"strategy": ["random", "margin"], "seed": seeds}
        file.write_text(config_file.dump_values({"base": base, "grid": grid, "out": f"{folder}/swept"}))
        begin = time.perf_counter()
        done = sweeps.sweep(sweep_file.read(file, []), _Quiet())
        swept = time.perf_counter() - begin
        begin = time.perf_counter()
        runs.run_all(runs.expand({**base, **grid, "out": f"{folder}/one-by-one"}))
        one_by_one = time.perf_counter() - begin
    console.print(
        f"{len(done.folders)} digits runs: {swept:.1f} s as a sweep on two CPUs, {one_by_one:.1f} s one after the "
        f"other with workers that they share: {one_by_one / swept:.2f}×"
    )


class _Quiet(Silent):
    """A sweep's listener that says nothing."""

    def begin(self, *args: Any) -> None: ...
    def round_done(self, *args: Any) -> None: ...
    def failed(self, *args: Any) -> None: ...
    def ended(self, *args: Any) -> None: ...


def moved(quick: bool) -> None:
    """Bytes between driver and shards in one query of K images, against what the design allows."""
    n = 10_000 if quick else 60_000
    pictures = np.random.default_rng(0).integers(0, 256, (n, 28, 28, 1), np.uint8)
    configuration = runs.as_config({"strategy": "margin", "shards": 2, "train": {"mode": "local"}})
    table = Table(
        "strategy", "questions", "MB", "bytes an image of the pool", "allowed MB",
        title=f"One query of {K} of {n:,} images, two shards",
    )  # fmt: skip
    dataset = _dataset(pictures)
    with tempfile.TemporaryDirectory() as folder, runs.workers_for(configuration, dataset, Path(folder)) as workers:
        workers.shards.load(*_network())
        width = _features(workers.shards)
        # top-k: K indices and scores a shard. k-center: up to 2 K rows (128 a shard at least) an exchange, and the K
        # picks back to each shard. BADGE: 8192 proposals of both factors a window, and the picks back.
        row = 4 * width + 16
        allowed = {
            "margin": 2 * K * 16,
            "k_center": 5 * (2 * K * row) + 2 * K * row,
            "badge": 5 * 8192 * (row + 4 * 10) + 2 * K * (row + 4 * 10),
        }
        for name, most in allowed.items():
            counted = _Counted(workers.shards)
            pool = Pool(n, np.arange(100), np.arange(100) % 10)
            query(catalogue.build(name), counted, pool, 10, K, lambda purpose: np.random.default_rng(0))
            table.add_row(name, str(counted.questions), _mb(counted.bytes), f"{counted.bytes / n:.1f}", _mb(most))
    console.print(table)


class _Counted:
    """Shards whose halves' questions and answers are counted."""

    def __init__(self, shards: Any) -> None:
        self._shards, self.count, self.bytes, self.questions = shards, shards.count, 0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._shards, name)

    def open(self, *arguments: Any) -> Halves:
        return _CountedHalves(self._shards.open(*arguments), self)


class _CountedHalves:
    def __init__(self, halves: Halves, counted: _Counted) -> None:
        self._halves, self._counted = halves, counted

    def ask(self, verb: str, *arguments: Any) -> list[Any]:
        return self._count(self._halves.ask(verb, *arguments), len(pickle.dumps(arguments)))

    def ask_each(self, verb: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        return self._count(self._halves.ask_each(verb, arguments), len(pickle.dumps(arguments)) / len(arguments))

    def _count(self, answers: list[Any], question: float) -> list[Any]:
        self._counted.bytes += int(question * len(answers)) + len(pickle.dumps(answers))
        self._counted.questions += 1
        return answers


def driver(quick: bool) -> None:
    """The driver's seconds for K picks, messages included, as shards and pool grow together."""
    table = Table(
        "selection", "shards", "images", "exchanges", "received MB", "sent MB", "driver s", "driver's peak MB",
        title=f"{K} picks, {WIDTH} features, {CLASSES} classes, {ROWS:,} images a shard, shards simulated",
    )  # fmt: skip
    selections: dict[str, tuple[Callable[[int], Any], Callable[[Halves], Picks]]] = {
        "top-k": (_top_k_half, lambda halves: pick_top_k(halves, K)),
        "k-center": (_k_center_half, lambda halves: pick_k_center(halves, K)),
        "BADGE": (_badge_half, lambda halves: pick_kmeans_pp(halves, K, np.random.default_rng(0))),
    }
    for name, (make, pick) in selections.items():
        for count in (10, 100) if quick else (10, 100, 1000):
            halves = _Simulated([make(number) for number in range(count)])
            tracemalloc.start()
            begin = time.perf_counter()
            picks = pick(halves)
            seconds = time.perf_counter() - begin - halves.seconds
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert len(np.unique(picks.indices)) == K
            table.add_row(
                name, f"{count:,}", f"{count * ROWS:,}", str(halves.exchanges), _mb(halves.received),
                _mb(halves.sent), f"{seconds:.2f}", _mb(peak),
            )  # fmt: skip
    console.print(table)
    console.print(_latency())


class _Simulated:
    """Halves whose own seconds are told apart, and whose messages are pickled as they would be for a real shard."""

    def __init__(self, halves: Sequence[Any]) -> None:
        self._halves, self.seconds, self.exchanges, self.received, self.sent = halves, 0.0, 0, 0, 0

    def ask(self, verb: str, *arguments: Any) -> list[Any]:
        self.exchanges += verb not in ("size", "largest", "lowest")
        self.sent += len(pickle.dumps(arguments, pickle.HIGHEST_PROTOCOL)) * len(self._halves)
        answers = []
        for half in self._halves:
            begin = time.perf_counter()
            message = pickle.dumps(getattr(half, verb)(*arguments), pickle.HIGHEST_PROTOCOL)
            self.seconds += time.perf_counter() - begin
            self.received += len(message)
            answers.append(pickle.loads(message))
        return answers

    def ask_each(self, verb: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        raise NotImplementedError("no selection measured here asks each half its own question")


class _StandingFor:
    """A half of a few rows that says how many it stands for."""

    def __init__(self, half: Any) -> None:
        self._half = half

    def size(self) -> int:
        return ROWS

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._half, verb)


def _indices(number: int, rows: int) -> np.ndarray:
    """Of the few rows, spread over all blocks of the shard, so that sums by block are as many as they would be."""
    start = -(-number * ROWS // BLOCK) * BLOCK
    return start + np.linspace(0, ROWS - 2 * BLOCK, rows).astype(np.int64)


def _rows(number: int, rows: int) -> np.ndarray:
    """Features like those of a network: not negative, in clusters of unequal width."""
    rng = np.random.default_rng(number)
    means = np.random.default_rng(0).standard_normal((CLASSES, WIDTH))
    spread = rng.gamma(2.0, 0.5, (rows, 1))
    noise = rng.standard_normal((rows, WIDTH))
    return np.maximum(means[rng.integers(0, CLASSES, rows)] + spread * noise, 0).astype(np.float32)


def _top_k_half(number: int) -> Any:
    return _StandingFor(TopKHalf(np.random.default_rng(number).random(2 * K), _indices(number, 2 * K)))


def _k_center_half(number: int) -> Any:
    return _StandingFor(KCenterHalf(_rows(number, 512), _indices(number, 512)))


def _badge_half(number: int) -> Any:
    left = np.random.default_rng([number, 1]).dirichlet(np.full(CLASSES, 0.05), 256)
    left[np.arange(256), left.argmax(1)] -= 1
    half = KMeansPPHalf(
        left.astype(np.float32), _rows(number, 256), _indices(number, 256), counts=np.full(256, ROWS / 256)
    )
    return _StandingFor(half)


def _latency() -> str:
    """What Ray adds: an exchange with actors that do nothing, a shard."""
    with connected(config.Cluster(cpus=2)):
        nobody = ray.remote(num_cpus=0)(_Nobody)
        cost = {}
        for count in (2, 8):
            actors = [nobody.remote() for _ in range(count)]
            ask = partial(_ask_all, actors)
            ask()
            seconds = []
            for _ in range(30):
                begin = time.perf_counter()
                ask()
                seconds.append(time.perf_counter() - begin)
            cost[count] = statistics.median(seconds)
    each = (cost[8] - cost[2]) / 6
    return (
        f"Ray: an exchange with 8 idle actors takes {cost[8] * 1e3:.1f} ms, {each * 1e3:.2f} ms more for each; "
        f"with 1000 that would be {each * 1000:.1f} s an exchange (extrapolated)"
    )


class _Nobody:
    def answer(self) -> int:
        return 0


def _ask_all(actors: list[Any]) -> None:
    ray.get([actor.answer.remote() for actor in actors])


def _features(shards: Any) -> int:
    """The width of the network's features."""
    from openal_ray.pool import Listed

    shards.read(ReadOrder("one", "train", Listed(np.array([0])), ("features",)))
    width = shards.gather("one").signals["features"].shape[1]
    shards.forget("one")
    return int(width)


def _network() -> tuple[Classifier, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    learner = Classifier(10)
    return learner, learner.build((28, 28, 1)).state_dict()


def _dataset(pictures: np.ndarray) -> Any:
    from openal_ray.data.dataset import Dataset

    few = ArrayImages(np.zeros((10, *pictures.shape[1:]), np.uint8))
    labels = np.arange(len(pictures)) % 10
    return Dataset("benchmark", tuple("abcdefghij"), ArrayImages(pictures), labels, few, np.arange(10), (0.5,), (0.5,))


def _mb(count: float) -> str:
    return f"{count / 1e6:,.2f}"


PARTS = {part.__name__: part for part in (reading, sweeping, moved, driver)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer images, runs and shards")
    parser.add_argument("--only", choices=tuple(PARTS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name, part in PARTS.items():
        if options.only in (None, name):
            part(options.quick)


if __name__ == "__main__":
    main()
