"""Shards as actors: the same queries as in one process, also when actors die."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray
import torch
from ray.exceptions import ObjectReconstructionFailedError

from openal_ray import config, runs
from openal_ray.cluster.crew import ShardActor, answer_of
from openal_ray.cluster.shards import RayHalves, RayShards
from openal_ray.cluster.share import Share
from openal_ray.errors import BadImages, ConfigError, ResourceError
from openal_ray.pool import AllBut, Listed
from openal_ray.selection.top_k import TopKHalf
from openal_ray.shard import ReadOrder, Rows, Settings
from openal_ray.strategies import catalogue
from openal_ray.testing.pools import LEARNER, Case, digits
from openal_ray.workers import LocalShards, ShardLost
from tests.test_experiment import Holes

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]
SETTINGS = Settings(config.Read(), (0.5,), (0.5,))
SHARE = Share(cpus_per_shard=0.1, fewest=2, most=2)


@pytest.fixture(scope="module")
def case() -> Case:
    return digits(copies=3)  # 6 blocks


@pytest.fixture(scope="module")
def actors(case: Case, ray_cluster: None) -> Iterator[RayShards]:
    """Shared by the tests, since an actor takes two CPU-seconds to start; those that die are replaced."""
    made = RayShards({"train": case.images}, SETTINGS, SHARE)
    yield made
    made.release()


@pytest.fixture
def shards(case: Case, actors: RayShards) -> RayShards:
    actors.load(LEARNER, case.weights())
    return actors


def test_its_threads_are_those_that_the_results_are_made_with(case: Case) -> None:
    """Whatever a shard reserves, which a resume may change and a sweep sets otherwise."""
    before = torch.get_num_threads()
    try:
        ShardActor({"train": case.images}, Settings(config.Read(threads=before + 2), (0.5,), (0.5,)))
        assert torch.get_num_threads() == before + 2
    finally:
        torch.set_num_threads(before)
    with pytest.raises(ConfigError, match="read.threads=2: a resumed run keeps what decides its results"):
        runs.resume_all([Path("any")], ["read.threads=2"])


def kill(shards: RayShards) -> set[int]:
    """SIGKILL to the process of the shard that holds most blocks; returns their numbers."""
    homes = list(shards._table.values())
    number = max(homes, key=homes.count)
    actor = shards._crew.actors[number]
    os.kill(ray.get(actor.__ray_call__.remote(lambda self: os.getpid())), signal.SIGKILL)
    return {block for (_, block), home in shards._table.items() if home == number}


LIGHT = {"batch_bald": {"passes": 4, "configurations": 64}}  # by default made for batches of ten


@pytest.mark.parametrize("name", [entry.name for entry in catalogue.ENTRIES if not entry.needs_files])
def test_same_query_as_in_one_process(name: str, case: Case, shards: RayShards) -> None:
    strategy = catalogue.build(name, LIGHT.get(name))
    np.testing.assert_array_equal(case.ask(strategy, 40, shards).indices, case.ask(strategy, 40).indices)


def test_a_strategy_in_a_file_may_have_helpers_of_its_own(case: Case, shards: RayShards, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from openal_ray.strategies.strategy import Strategy\n"
        "POWER = 2\n"
        "def score(read):\n    return squared(1 - read['probs'].max(1))\n"
        "def squared(values):\n    return values**POWER\n"
        "def mine():\n    return Strategy(needs=('probs',), score=score)\n"
    )
    found = case.ask(catalogue.build(f"{tmp_path / 'mine.py'}:mine"), 30, shards)
    np.testing.assert_array_equal(found.indices, case.ask("least_confidence", 30).indices)


def test_a_killed_shard_reads_only_its_blocks_again(case: Case, shards: RayShards) -> None:
    read: list[int] = []
    lost: list[set[int]] = []

    def progress(count: int) -> None:
        read.append(count)
        if len(read) == 2:
            lost.append(kill(shards))

    everything = AllBut(case.pool.size, np.empty(0, np.int64))
    report = shards.read(ReadOrder("all", "train", everything, ("probs",)), progress)
    assert report.count == case.pool.size == sum(read)
    again = sum(count for count in read if count > 0) - case.pool.size
    assert 0 <= again <= sum(len(everything.between(b * 1024, (b + 1) * 1024)) for b in lost[0])
    expected = case.shards()
    expected.load(LEARNER, case.weights())
    expected.read(ReadOrder("all", "train", everything, ("probs",)))
    np.testing.assert_array_equal(shards.gather("all").signals["probs"], expected.gather("all").signals["probs"])


@pytest.mark.parametrize("name", ["margin", "k_center", "badge"])
def test_same_query_when_a_shard_dies_between_reading_and_picking(
    name: str, case: Case, shards: RayShards, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_open, killed = shards.open, []

    def open_and_kill(reading, make_half, *arguments):
        halves = real_open(reading, make_half, *arguments)
        if not killed:
            kill(shards)
            killed.append(1)
        return halves

    monkeypatch.setattr(shards, "open", open_and_kill)
    np.testing.assert_array_equal(case.ask(name, 40, shards).indices, case.ask(name, 40).indices)
    assert killed


@pytest.mark.parametrize(("name", "verb"), [("k_center", "candidates"), ("badge", "propose")])
def test_same_query_when_a_shard_dies_between_two_exchanges_of_a_selection(
    name: str, verb: str, case: Case, shards: RayShards, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_ask, asked = RayHalves.ask, []

    def ask_and_kill(halves: RayHalves, question: str, *arguments):
        if question == verb:
            asked.append(halves)
            if len(asked) == 2:
                kill(shards)  # it has answered once, and what it remembers of the picks is lost
        return real_ask(halves, question, *arguments)

    monkeypatch.setattr(RayHalves, "ask", ask_and_kill)
    found = case.ask(name, 300, shards).indices
    assert asked[0] is asked[1] and asked[-1] is not asked[0]  # begun twice
    np.testing.assert_array_equal(found, case.ask(name, 300).indices)


def test_a_part_stays_whole_when_a_shard_dies_while_it_is_read(case: Case, shards: RayShards) -> None:
    shards.forget("pool")  # of strategies that have no parts
    strategy = catalogue.build("k_center", {"parts": 3})  # of two blocks each, over two shards
    expected = case.ask(strategy, 40).indices
    read: list[int] = []
    np.testing.assert_array_equal(case.ask(strategy, 40, shards).indices, expected)

    def progress(count: int) -> None:
        read.append(count)
        if len(read) == 2:
            kill(shards)

    np.testing.assert_array_equal(case.ask(strategy, 40, shards, progress=progress).indices, expected)
    assert len(read) > 2


def test_a_lost_answer_is_a_lost_shard(case: Case, shards: RayShards, monkeypatch: pytest.MonkeyPatch) -> None:
    shards.read(ReadOrder("all", "train", Listed(range(3000)), ("probs",)))
    real_get, asked = ray.get, []

    def get(call, **options):
        asked.append(call)
        if len(asked) == 1:
            raise ObjectReconstructionFailedError(call.hex(), "", "")  # the node went once it had answered
        return real_get(call, **options)

    before = set(shards._crew.actors)
    monkeypatch.setattr(ray, "get", get)
    assert len(shards.gather("all").indices) == 3000
    assert len(before - set(shards._crew.actors)) == 1


def test_decoders_that_die_are_told_of() -> None:
    died = ray.remote(lambda: os._exit(1)).options(max_retries=0).remote()
    with pytest.raises(ResourceError, match=r"cluster.decoders.* the last time with WorkerCrashedError"):
        answer_of(ray.remote(lambda pictures: pictures).remote(died))


def test_a_question_to_a_lost_shard_says_so_and_the_next_finds_it_replaced(case: Case, shards: RayShards) -> None:
    shards.read(ReadOrder("all", "train", Listed(range(3000)), ("probs",)))
    halves = shards.open(Rows("all"), lambda reading: TopKHalf(reading.signals["probs"][:, 0], reading.indices))
    kill(shards)
    with pytest.raises(ShardLost):
        for _ in range(100):  # the death is noticed when it is noticed
            halves.ask("size")
    halves = shards.open(Rows("all"), lambda reading: TopKHalf(reading.signals["probs"][:, 0], reading.indices))
    assert sum(halves.ask("size")) == 3000


def test_errors_of_the_code_in_a_shard_arrive_as_themselves(case: Case) -> None:
    images = Holes(case.images.load(np.arange(2000)), {5, 1500})
    shards = RayShards({"train": images}, SETTINGS, replace(SHARE, fewest=1, most=1))
    with pytest.raises(BadImages, match=r"image-(5|1500).png: truncated"):
        shards.read(ReadOrder("check", "train", Listed(range(2000)), ()))
    shards.release()


class Leaving(Holes):
    """Images that leave a file named after each process that decodes them."""

    def __init__(self, pixels: np.ndarray, bad: set[int], folder: Path) -> None:
        super().__init__(pixels, bad)
        self.folder = folder

    def load(self, indices: np.ndarray) -> np.ndarray:
        (self.folder / str(os.getpid())).touch()
        return super().load(indices)


def test_pictures_that_are_decoded_elsewhere_give_the_same_signals_and_errors(case: Case, tmp_path: Path) -> None:
    images = Leaving(case.images.load(np.arange(2000)), {1500}, tmp_path)
    order = ReadOrder("all", "train", Listed(range(1400)), ("probs",))
    local = LocalShards({"train": images}, SETTINGS)
    apart = RayShards({"train": images}, SETTINGS, replace(SHARE, fewest=1, most=1, decoders=1))
    try:
        for shards in (local, apart):
            shards.load(LEARNER, case.weights())
            shards.read(order)
        expected, found = local.gather("all"), apart.gather("all")
        np.testing.assert_array_equal(found.indices, expected.indices)
        np.testing.assert_array_equal(found.signals["probs"], expected.signals["probs"])
        (actor,) = apart._crew.actors.values()
        pid = ray.get(actor.__ray_call__.remote(lambda self: os.getpid()))
        decoding = {int(file.name) for file in tmp_path.iterdir()} - {os.getpid()}
        assert decoding and pid not in decoding
        with pytest.raises(BadImages, match=r"image-1500.png: truncated"):
            apart.read(ReadOrder("check", "train", Listed(range(2000)), ()))
    finally:
        apart.release()


def test_a_shard_that_cannot_start_is_reported_not_waited_for(case: Case) -> None:
    broken = Settings(config.Read(), (0.5,), (0.5,), device="no such device")
    shards = RayShards({"train": case.images}, broken, SHARE)
    with pytest.raises(ResourceError, match="no such device"):
        shards.read(ReadOrder("check", "train", Listed(range(10)), ()))
    shards.release()
