"""Shards that come in the middle of a read and go again: the same signals and picks as in one process."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray
from ray.autoscaler._private.constants import AUTOSCALER_RESOURCE_REQUEST_CHANNEL
from ray.exceptions import RayActorError
from ray.experimental.internal_kv import _internal_kv_get

from openal_ray import config, runs
from openal_ray.cluster import shards as module
from openal_ray.cluster import share
from openal_ray.cluster.connect import free_resources
from openal_ray.cluster.shards import RayShards
from openal_ray.cluster.share import Share
from openal_ray.errors import ResourceError
from openal_ray.pool import UNLABELLED, AllBut, AnswersPending
from openal_ray.shard import ReadOrder, Rows, Settings
from openal_ray.testing.pools import LEARNER, Case, digits
from tests.cluster.awaiting import WAIT_SECONDS, Awaiting, meet
from tests.cluster.nodes import another_node, reclaim
from tests.experiments import SMALL

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]
SETTINGS = Settings(config.Read(), (0.5,), (0.5,))
EVERYTHING = AllBut(5391, np.empty(0, np.int64))
ORDER = ReadOrder("all", "train", EVERYTHING, ("probs",))


@pytest.fixture(scope="module")
def case() -> Case:
    return digits(copies=3)  # 6 blocks


@pytest.fixture
def images(case: Case, tmp_path: Path) -> Awaiting:
    awaiting = Awaiting(case.images.load(np.arange(case.pool.size)), tmp_path)
    meet(awaiting, 1)
    return awaiting


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, float]]:
    """The cluster's nodes, as shards are told; looked at all the time."""
    monkeypatch.setattr(module, "FOLLOW_SECONDS", 0.2)
    found = [{"CPU": 1.0, "GPU": 0.0}]
    monkeypatch.setattr(share, "nodes", lambda: found)
    return found


@pytest.fixture
def made(images: Awaiting) -> Iterator[Callable[[Share], RayShards]]:
    everyone: list[RayShards] = []

    def make(mine: Share) -> RayShards:
        everyone.append(RayShards({"train": images}, SETTINGS, mine))
        return everyone[-1]

    yield make
    for shards in everyone:
        shards.release()


def expected(case: Case) -> np.ndarray:
    local = case.shards()
    local.load(LEARNER, case.weights())
    local.read(ORDER)
    return local.gather("all").signals["probs"]


def homes(shards: RayShards) -> set[int]:
    return set(shards._table.values())


def kill(shards: RayShards, number: int) -> None:
    actor = shards._crew.actors[number]
    os.kill(ray.get(actor.__ray_call__.remote(lambda self: os.getpid())), signal.SIGKILL)


def test_one_shard_becomes_three_in_mid_read_and_one_again(
    case: Case, images: Awaiting, made: Callable[[Share], RayShards], room: list[dict[str, float]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    shards = made(Share(1, fewest=1, most=3))
    assert shards.count == 1
    shards.load(LEARNER, case.weights())
    meet(images, 3)
    counts: list[int] = []

    def grow(count: int) -> None:
        counts.append(shards.count)
        room[:] = [{"CPU": 1.0, "GPU": 0.0}] * 5  # two more than are wanted

    assert shards.read(ORDER, grow).count == case.pool.size
    assert counts[0] == 1 and shards.count == 3 and len(homes(shards)) == 3
    np.testing.assert_array_equal(shards.gather("all").signals["probs"], expected(case))
    np.testing.assert_array_equal(case.ask("badge", 40, shards).indices, case.ask("badge", 40).indices)
    # Two nodes go. What they held is read again by the one that is left, and nobody waits for new ones.
    shards.read(ORDER)
    room[:] = [{"CPU": 1.0, "GPU": 0.0}]
    meet(images, 1)
    for number in shards._crew.ready[1:]:
        kill(shards, number)
    np.testing.assert_array_equal(shards.gather("all").signals["probs"], expected(case))
    assert shards.count == 1 and len(homes(shards)) == 1
    np.testing.assert_array_equal(case.ask("k_center", 40, shards).indices, case.ask("k_center", 40).indices)
    # A node that was reclaimed is no bad luck.
    monkeypatch.setattr(module, "LOSSES_ALLOWED", 0)
    (last,) = shards._crew.actors
    with pytest.raises(ResourceError, match="lost 1 times"):
        shards._lose(last, RayActorError(), module._Work())
    shards._lose(last, RayActorError(preempted=True), module._Work())
    assert shards.count == 0


def test_lasting_signals_stay_where_they_are_and_what_is_read_later_lies_beside_them(
    case: Case, images: Awaiting, made: Callable[[Share], RayShards], room: list[dict[str, float]]
) -> None:
    shards = made(Share(1, fewest=1, most=2))
    shards.load(LEARNER, case.weights())
    shards.load(LEARNER, case.weights(), "other")
    shards.read(ReadOrder("lasting", "train", EVERYTHING, ("other.probs",)))
    (home,) = homes(shards)
    room[:] = [{"CPU": 1.0, "GPU": 0.0}] * 2
    shards.read(ORDER)
    assert homes(shards) == {home}
    rows = Rows("all", beside=("lasting",))
    halves = shards.open(rows, _Beside)
    assert sum(halves.ask("alike")) == case.pool.size


class _Beside:
    """Counts the rows whose two signals, of equal networks, are equal."""

    def __init__(self, part: object) -> None:
        self.signals = part.signals  # type: ignore[attr-defined]

    def alike(self) -> int:
        return int((self.signals["probs"] == self.signals["other.probs"]).all(1).sum())


@pytest.mark.acceptance
def test_a_node_that_joins_helps_and_one_that_is_reclaimed_or_lost_is_done_without(
    case: Case, images: Awaiting, made: Callable[[Share], RayShards], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FOLLOW_SECONDS", 0.2)
    monkeypatch.setattr(module, "LOSSES_ALLOWED", 0)
    shards = made(Share(3, fewest=1, most=5))  # of this machine's four CPUs, one shard takes three
    shards.load(LEARNER, case.weights())
    with another_node():
        meet(images, 2)
        shards.read(ORDER)
        assert shards.count == 2 and len(homes(shards)) == 2
        reclaim(shards._crew._nodes[shards._crew.ready[1]])
        shards.forget("all")
        shards.read(ORDER)  # no loss is allowed, and this is none
        assert shards.count == 1 and len(homes(shards)) == 1
    monkeypatch.setattr(module, "LOSSES_ALLOWED", 1)
    with another_node() as second:
        shards.forget("all")
        meet(images, 2)
        lost: list[int] = []

        def lose_it(count: int) -> None:
            if len(homes(shards)) == 2 and not lost:
                lost.append(count)
                second.signal(signal.SIGKILL)

        shards.read(ORDER, lose_it)
        assert lost and len(homes(shards)) == 1
    np.testing.assert_array_equal(shards.gather("all").signals["probs"], expected(case))


def test_nothing_is_held_while_people_label(
    room: list[dict[str, float]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", ray.get_runtime_context().gcs_address)  # so there is an autoscaler to ask
    data = runs.load_dataset(runs.as_config(SMALL))
    labels = np.where(np.arange(len(data.labels)) % 40 == 0, data.labels, UNLABELLED)
    elastic = {
        "shards": [1, 2],
        "cluster": {"use": "ray", "cpus_per_shard": 1},
        "train": {"epochs": 1, "mode": "local"},
    }
    budget = {"start": "given", "n_query": 10, "n_end": 500}
    asked: list[list] = []
    request = share.request_resources
    monkeypatch.setattr(share, "request_resources", lambda bundles: (asked.append(bundles), request(bundles=bundles)))
    before = free_resources()
    with pytest.raises(AnswersPending):
        runs.run(
            SMALL | elastic | {"budget": budget, "out": str(tmp_path / "run")}, dataset=replace(data, labels=labels)
        )
    assert [{"CPU": 1}] * 2 in asked  # there were two blocks to read, and room for one shard
    assert json.loads(_internal_kv_get(AUTOSCALER_RESOURCE_REQUEST_CHANNEL)) == []
    end = time.monotonic() + WAIT_SECONDS
    while free_resources()["CPU"] < before["CPU"]:
        assert time.monotonic() < end, "a shard is still there"
        time.sleep(0.1)
