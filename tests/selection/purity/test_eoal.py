"""Tests of eoal.py: entropies against their definition, edge numbers of centres, the query."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import entropy

from openal_ray.selection.grouped import GroupedHalf
from openal_ray.selection.halves import LocalHalves
from openal_ray.selection.purity.eoal import closed_entropy, distance_entropy, eoal_score, query_groups
from openal_ray.selection.quotas import pick_by_cluster

RNG = np.random.default_rng(0)


def test_closed_entropy_is_the_mean_of_binary_entropies() -> None:
    logits = RNG.normal(0, 3, (50, 2, 6))
    expected = entropy(softmax(logits, axis=1), base=2, axis=1).mean(axis=1)
    assert np.allclose(closed_entropy(logits), expected)
    assert np.allclose(closed_entropy(logits, "openal"), expected * np.log(2))


def test_closed_entropy_at_the_ends() -> None:
    logits = np.array([[[0.0], [0.0]], [[-1e4], [1e4]], [[1e4], [-1e4]], [[0.0], [700.0]]])
    found = closed_entropy(logits)
    assert found[0] == pytest.approx(1.0)
    assert found[1] == found[2] == 0.0
    assert 0 <= found[3] < 1e-290


def test_distance_entropy_is_that_of_a_softmax() -> None:
    features, centres = RNG.normal(size=(40, 5)), RNG.normal(size=(7, 5))
    away = np.linalg.norm(features[:, None] - centres, axis=2)
    assert np.allclose(distance_entropy(features, centres), entropy(softmax(-away, axis=1), base=7, axis=1))


@given(st.integers(0, 4), st.floats(1e-3, 1e6))
def test_entropies_are_between_0_and_1(n_centres: int, size: float) -> None:
    features, centres = RNG.normal(size=(9, 3)) * size, RNG.normal(size=(n_centres, 3)) * size
    found = distance_entropy(features, centres)
    assert ((found >= 0) & (found <= 1)).all()
    if n_centres < 2:
        assert not found.any()


def test_equally_near_to_all_centres_is_1() -> None:
    assert distance_entropy(np.zeros((1, 2)), np.array([[1.0, 0], [0, 1], [-1, 0]]))[0] == pytest.approx(1.0)


def test_without_rejected_images_the_surest_come_first() -> None:
    logits, features = RNG.normal(0, 3, (30, 2, 4)), RNG.normal(size=(30, 5))
    score = eoal_score(logits, features, np.empty((0, 5)))
    assert np.array_equal(np.argsort(-score), np.argsort(closed_entropy(logits)))


def test_a_query_spreads_over_clusters_and_then_takes_the_predicted_unknown() -> None:
    detector = np.array([[5.0, 0, 1], [4, 0, 1], [0, 9, 1], [0, 0, 3], [0, 1, 8], [3, 0, 0]])
    groups = query_groups(detector, np.array([0, 0, 1, 0, 1, 0]), 2)
    assert groups.tolist() == [0, 0, 1, 2, 2, 0]
    score = np.array([0.9, 0.8, 0.1, 0.95, 0.99, 0.7])
    halves = LocalHalves([GroupedHalf(score, groups, np.arange(6), 3)])
    assert pick_by_cluster(halves, 2, spare=True).indices.tolist() == [0, 2]
    assert pick_by_cluster(halves, 6, spare=True).indices.tolist() == [0, 1, 2, 5, 4, 3]
    nobody = LocalHalves([GroupedHalf(score, np.full(6, 2), np.arange(6), 3)])
    assert pick_by_cluster(nobody, 3, spare=True).indices.tolist() == [4, 3, 0]
