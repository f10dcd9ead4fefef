"""Tests of clusters.py: planted clusters, fewer rows than clusters, nothing rejected."""

import numpy as np
import pytest

from openal_ray.selection.purity import clusters as module
from openal_ray.selection.purity.clusters import centres_of, clusters_of


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_k_means_finds_planted_directions_whatever_their_length() -> None:
    truth = np.arange(120) % 4
    rows = (np.eye(4)[truth] + rng().normal(0, 0.05, (120, 4))) * rng().uniform(1, 100, (120, 1))
    found = clusters_of(rows, 4, "kmeans", rng())
    assert len(np.unique(np.stack([found, truth]), axis=1).T) == 4
    expected = [rows[found == cluster].mean(axis=0) for cluster in range(4)]
    assert np.allclose(centres_of(rows, found), expected)


def test_fewer_rows_than_clusters() -> None:
    rows = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
    found = clusters_of(rows, 9, "kmeans", rng())
    assert found[1] == found[2] != found[0]
    assert set(found) == {0, 1}
    assert clusters_of(rows[:1], 9, "kmeans", rng()).tolist() == [0]
    assert clusters_of(rows[:0], 9, "kmeans", rng()).shape == (0,)
    assert centres_of(rows[:0], np.empty(0, int)).shape == (0, 2)


def test_finch_is_asked_for_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(module, "partition_into", lambda rows, count: asked.append(count) or np.zeros(len(rows), int))
    assert clusters_of(np.ones((3, 2)), 2, "finch", rng()).tolist() == [0, 0, 0]
    assert asked == [2]
