"""Dividing a cluster: sums that fit, sums that take turns, sums that are refused, shards that follow the cluster."""

from collections.abc import Iterator
from typing import Any

import pytest

from openal_ray.cluster import share as module
from openal_ray.cluster.share import Share, share
from openal_ray.config import Config
from openal_ray.errors import ResourceError
from openal_ray.runs import as_config


def configured(*overrides: str) -> Config:
    return as_config({"strategy": "margin"}, overrides)


@pytest.fixture(autouse=True)
def two_cpus_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(module, "resources", lambda: {"CPU": 2.0, "GPU": 1.0})
    monkeypatch.setattr(module, "memory", lambda: 16 * 2.0**30)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], (0.5, False)),  # 2 CPUs - 1 trainer, over 2 shards
        (["shards=3"], (0.33, False)),
        (["train.workers=2"], (0.0, False)),  # nothing is left, and nothing is needed while training runs
        (["train.mode=local"], (1.0, False)),
        (["train.mode=per_round"], (0.5, False)),
        (["cluster.cpus_per_shard=1"], (1.0, True)),  # 2 + 1 > 2, but one after the other fits
        (["train.gpus_per_worker=1", "cluster.gpus_per_shard=0.5"], (1.0, True)),
        (["cluster.decoders=1"], (0.0, False)),  # which has the CPU that training leaves
        (["shards=[1,9]"], (1.0, False)),  # the least number counts
        (["shards=[1,9]", "train.mode=per_round"], (1.0, True)),  # given back while training runs
        (["train.workers=[1,9]"], (1.0, True)),  # with all CPUs for each, in turn
        (["train.workers=[2,9]"], (1.0, True)),
        (["train.workers=[2,9]", "train.mode=local"], (1.0, False)),
    ],
)
def test_what_fits(overrides: list[str], expected: tuple[float, bool]) -> None:
    found = share(configured(*overrides))
    assert (found.cpus_per_shard, found.take_turns) == expected
    trainers = () if found.take_turns else module._trainers(configured(*overrides))
    assert found.beside == (*trainers, *[module.DECODER] * found.decoders)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.workers=3"], r"CPUs: training needs 3 \(train.workers=3\), the shards reserve 0 .* the cluster has 2"),
        (["cluster.cpus_per_shard=1", "train.mode=session"], r"training needs 1 .*reserve 2 \(shards=2\).* has 2"),
        (["train.workers=[3,4]"], r"CPUs: training needs 3 \(train.workers=3\)"),
        (["train.gpus_per_worker=2"], r"GPUs: training needs 2 .* the cluster has 1"),
        (["shards=64"], r"shards=64: each is a process of about 400 MB .* 16.0 GiB for all of them: at most 40 fit"),
        (["train.workers=2", "train.at_once=2"], r"training needs 4 \(train.workers=2, train.at_once=2\)"),
        (["cluster.decoders=3"], r"CPUs: .*reserve 3 \(shards=2, cluster.decoders=3\), the cluster has 2"),
        (["cluster.gpus_per_shard=1"], r"GPUs: training needs 0 .*reserve 2 \(shards=2\), the cluster has 1"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_sums(overrides: list[str], message: str) -> None:
    with pytest.raises(ResourceError, match=message):
        share(configured(*overrides))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What is asked of an autoscaler, request by request; the cluster is three nodes of two CPUs."""
    requests: list[Any] = []
    monkeypatch.setattr(module, "request_resources", lambda bundles: requests.append(bundles))
    monkeypatch.setattr(module, "nodes", lambda: [{"CPU": 2.0, "GPU": 0.0}] * 3)
    yield requests


TRAINER = {"CPU": 1.0, "GPU": 0.0}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (Share(2, fewest=1, most=9, beside=(TRAINER,)), 2),  # the third node is not empty beside the trainer
        (Share(2, fewest=1, most=9), 3),
        (Share(1, fewest=1, most=9, beside=(TRAINER,)), 5),
        (Share(0.5, fewest=1, most=9), 9),  # twelve would fit
        (Share(1, fewest=8, most=9), 8),  # waited for, like a fixed number
        (Share(1, fewest=9, most=9), 9),
        (Share(0, fewest=1, most=9), 9),  # what reserves nothing fits everywhere
        (Share(1, gpus_per_shard=0.5, fewest=1, most=9), 1),  # no GPU anywhere
    ],
)
def test_as_many_shards_as_the_nodes_have_room_for(given: Share, expected: int, asked: list[Any]) -> None:
    assert given.limit() == expected


def test_the_autoscaler_is_asked_for_what_is_useful_and_told_when_it_is_over(asked: list[Any]) -> None:
    mine = Share(2, fewest=1, most=9, beside=(TRAINER,), grows=True)
    mine.ask(2)  # there is room for two
    assert asked == []
    mine.ask(4)
    assert asked == [[{"CPU": 2}] * 4 + [{"CPU": 1}]]
    mine.ask(100)
    assert asked[1] == [{"CPU": 2}] * 9 + [{"CPU": 1}]
    mine.withdraw()
    assert asked[2] == []


def test_nothing_is_asked_where_nobody_can_grow_or_the_number_is_fixed(asked: list[Any]) -> None:
    Share(2, fewest=1, most=9).ask(9)
    Share(2, fewest=9, most=9, grows=True).ask(9)
    assert asked == []


def test_a_refused_run_leaves_no_request(asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ResourceError):
        share(configured("train.workers=3", "cluster.address=somewhere:1", "cluster.wait_seconds=0.1"))
    assert asked == [[], [{"CPU": 1}] * 3, []]  # the first withdraws that of a driver that was killed


def test_only_a_cluster_that_is_joined_may_hold_a_request_of_a_driver_that_was_killed(asked: list[Any]) -> None:
    share(configured())
    assert asked == []
    assert share(configured("cluster.address=somewhere:1")).grows
    assert asked == [[]]
