"""Dividing a cluster: sums that fit, sums that take turns, sums that are refused."""

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
        ([], Share(0.5, False)),  # 2 CPUs - 1 trainer, over 2 shards
        (["shards=3"], Share(0.33, False)),
        (["train.workers=2"], Share(0.0, False)),  # nothing is left, and nothing is needed while training runs
        (["train.mode=local"], Share(1.0, False)),
        (["train.mode=per_round"], Share(0.5, False)),
        (["cluster.cpus_per_shard=1"], Share(1.0, True)),  # 2 + 1 > 2, but one after the other fits
        (["train.gpus_per_worker=1", "cluster.gpus_per_shard=0.5"], Share(1.0, True)),
    ],
)
def test_what_fits(overrides: list[str], expected: Share) -> None:
    assert share(configured(*overrides)) == expected


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.workers=3"], r"CPUs: training needs 3 \(train.workers=3\), the shards reserve 0 .* the cluster has 2"),
        (["cluster.cpus_per_shard=1", "train.mode=session"], r"training needs 1 .*reserve 2 \(shards=2\).* has 2"),
        (["train.gpus_per_worker=2"], r"GPUs: training needs 2 .* the cluster has 1"),
        (["shards=64"], r"shards=64: each is a process of about 400 MB .* 16.0 GiB for all of them: at most 40 fit"),
        (["train.workers=2", "train.at_once=2"], r"training needs 4 \(train.workers=2, train.at_once=2\)"),
        (["cluster.gpus_per_shard=1"], r"GPUs: training needs 0 .*reserve 2 \(shards=2\), the cluster has 1"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_sums(overrides: list[str], message: str) -> None:
    with pytest.raises(ResourceError, match=message):
        share(configured(*overrides))
