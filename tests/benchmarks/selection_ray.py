"""What Ray adds to a selection: wall time of its questions minus the longest time that a half took to answer."""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ray import cloudpickle

from openal_ray import config
from openal_ray.cluster.connect import connected
from openal_ray.cluster.shards import RayShards
from openal_ray.cluster.share import Share
from openal_ray.data.images import ArrayImages
from openal_ray.pool import AllBut
from openal_ray.selection.halves import Halves
from openal_ray.selection.k_center import KCenterHalf, pick_k_center
from openal_ray.selection.kmeans_pp import KMeansPPHalf, pick_kmeans_pp
from openal_ray.shard import Part, ReadOrder, Rows, Settings


class Timed:
    """A half that says how long each answer took it."""

    def __init__(self, half: Any) -> None:
        self.half = half

    def timed(self, verb: str, *arguments: Any) -> tuple[Any, float]:
        begin = time.perf_counter()
        answer = getattr(self.half, verb)(*arguments)
        return answer, time.perf_counter() - begin


class TimedHalves:
    """Halves in actors, and the seconds that their questions took beyond the answering."""

    def __init__(self, halves: Halves) -> None:
        self._halves, self.overhead = halves, 0.0

    def ask(self, verb: str, *arguments: Any) -> list[Any]:
        begin = time.perf_counter()
        answers, seconds = zip(*self._halves.ask("timed", verb, *arguments), strict=True)
        self.overhead += time.perf_counter() - begin - max(seconds)
        return list(answers)

    def ask_each(self, verb: str, args: Sequence[tuple[Any, ...]]) -> list[Any]:
        raise NotImplementedError("no selection measured here asks each half its own question")


def _half(part: Part, kind: Any, files: Sequence[str]) -> Timed:
    return Timed(kind(*(np.load(file)[part.indices] for file in files), part.indices))


def shares(points: np.ndarray, covered: np.ndarray, left: np.ndarray, k: int, repeats: int) -> dict[str, list[float]]:
    """Kind of selection to medians: wall seconds of a selection on 2 shards, of which Ray, and Ray's share.

    Opening the halves, which encodes their rows, belongs to the selection; its own call to Ray does not count as Ray's.
    """
    cloudpickle.register_pickle_by_value(__import__(__name__, fromlist=["_half"]))  # actors need not find this file
    n = len(points)
    with tempfile.TemporaryDirectory() as folder, connected(config.Cluster(cpus=2)):
        files = {name: f"{folder}/{name}.npy" for name in ("points", "left")}
        np.save(files["points"], points)
        np.save(files["left"], left)
        images = ArrayImages(np.zeros((n, 1, 1, 1), np.uint8))
        share = Share(cpus_per_shard=1, fewest=2, most=2)
        ray_shards = RayShards({"train": images}, Settings(config.Read(), (0.5,), (0.5,)), share)
        ray_shards.read(ReadOrder("all", "train", AllBut(n, np.empty(0, np.int64)), ()))
        cases: dict[str, tuple[Any, list[str], Callable[[Halves], Any]]] = {
            "k-center": (KCenterHalf, [files["points"]], lambda halves: pick_k_center(halves, k, covered)),
            "BADGE": (
                KMeansPPHalf, [files["left"], files["points"]],
                lambda halves: pick_kmeans_pp(halves, k, np.random.default_rng(3)),
            ),
        }  # fmt: skip
        found = {}
        for name, (kind, inputs, pick) in cases.items():
            runs = [_one(ray_shards, kind, inputs, pick) for _ in range(repeats + 1)][1:]  # the first one warms up
            whole, ray = (statistics.median(values) for values in zip(*runs, strict=True))
            found[name] = [whole, ray, statistics.median(ray / whole for whole, ray in runs)]
        ray_shards.release()
    return found


def _one(ray_shards: RayShards, kind: Any, files: list[str], pick: Callable[[Halves], Any]) -> tuple[float, float]:
    begin = time.perf_counter()
    halves = TimedHalves(ray_shards.open(Rows("all"), _half, kind, files))
    pick(halves)
    return time.perf_counter() - begin, halves.overhead
