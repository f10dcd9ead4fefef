"""Tests of finch.py: which partition is taken, the note on the licence, absence; the package itself where it is."""

import logging
import sys
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from openal_ray.errors import ConfigError
from openal_ray.selection.purity import finch
from openal_ray.selection.purity.finch import cluster_means, finest_partition, partition_into

FINE, COARSE = [0, 1, 2, 3, 3, 2], [0, 0, 1, 1, 1, 1]


class Package(ModuleType):
    """Stands in for the package: two partitions, of four and of two clusters."""

    def __init__(self) -> None:
        super().__init__("finch")
        self.calls: list[dict[str, Any]] = []

    def FINCH(self, data: np.ndarray, **options: Any) -> tuple[np.ndarray, list[int], Any]:
        self.calls.append(options)
        count = options["req_clust"]
        required = None if count is None else np.minimum(FINE, count - 1)
        return np.array([FINE, COARSE]).T, [4, 2], required


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    finch._finch.cache_clear()
    yield
    finch._finch.cache_clear()


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Package:
    package = Package()
    monkeypatch.setitem(sys.modules, "finch", package)
    return package


ROWS = np.random.default_rng(0).normal(size=(6, 3))


def test_the_finest_partition_within_the_budget(package: Package) -> None:
    assert finest_partition(ROWS, 100).tolist() == FINE
    assert finest_partition(ROWS, 4).tolist() == FINE
    assert finest_partition(ROWS, 3).tolist() == COARSE
    assert finest_partition(ROWS, 1).tolist() == [0] * 6
    assert package.calls[0] == {"req_clust": None, "distance": "cosine", "verbose": False}


def test_a_required_number_of_clusters(package: Package) -> None:
    assert partition_into(ROWS, 3).tolist() == [0, 1, 2, 2, 2, 2]
    assert partition_into(ROWS, 4).tolist() == FINE
    assert partition_into(ROWS, 50).tolist() == FINE
    assert partition_into(ROWS, 1).tolist() == [0] * 6
    with pytest.raises(ValueError, match="at least one cluster, got count=0"):
        partition_into(ROWS, 0)


def test_few_rows_need_no_package() -> None:
    assert finest_partition(ROWS[:2], 5).tolist() == [0, 1]
    assert finest_partition(ROWS[:2], 1).tolist() == [0, 0]
    assert partition_into(ROWS[:1], 3).tolist() == [0]
    assert partition_into(ROWS[:0], 3).tolist() == []


def test_many_rows_bring_their_first_neighbours(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finch, "_ALL_PAIRS", 5)
    rows = np.array([[1.0, 0], [0, 1], [1, 0], [1, 0.1], [0, 1], [1, 0]])
    finest_partition(rows, 9)
    assert package.calls[0]["initial_rank"].tolist() == [2, 4, 0, 0, 1, 0]


def test_the_licence_is_said_once(package: Package, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        finest_partition(ROWS, 3)
        partition_into(ROWS, 3)
    assert [record.message.count("not meant for commercial use") for record in caplog.records] == [1]


def test_absence_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "finch", None)
    with pytest.raises(ConfigError, match="needs the package finch-clust.*set strategy.clusterer=kmeans"):
        finest_partition(ROWS, 3)


def test_cluster_means() -> None:
    assert cluster_means(np.array([[1.0, 2], [3, 4], [9, 9]]), np.array([0, 0, 1])).tolist() == [[2, 3], [9, 9]]


def test_the_package_itself_finds_planted_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("finch")
    rng = np.random.default_rng(0)
    truth = np.arange(300) % 5
    rows = np.eye(5)[truth] * 10 + rng.normal(0, 0.1, (300, 5))
    clusters = partition_into(rows, 5)
    assert len(np.unique(np.stack([clusters, truth]), axis=1).T) == len(np.unique(clusters)) == 5
    everything = finest_partition(rows, 300)
    monkeypatch.setattr(finch, "_ALL_PAIRS", 10)
    assert np.array_equal(finest_partition(rows, 300), everything)
