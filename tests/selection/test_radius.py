"""Tests of ProbCover's radius: a search over all radii by the definition of purity."""

import numpy as np
import pytest

from openal_ray.selection.halves import BLOCK
from openal_ray.selection.k_means import KMeansHalf, fit_k_means
from openal_ray.selection.radius import RadiusHalf, choose_radius
from tests.selection import naive


def purity(points: np.ndarray, clusters: np.ndarray, radius: float) -> float:
    """Share of open balls that hold one cluster."""
    distances = np.sqrt(np.square(points[:, None].astype(float) - points).sum(axis=2))
    pure = [len(set(clusters[row < radius])) <= 1 for row in distances]
    return float(np.mean(pure))


def blobs(n: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (2 * rng.normal(size=(4, 3))[rng.integers(0, 4, n)] + rng.normal(size=(n, 3))).astype(np.float32)


@pytest.mark.parametrize("wanted", [0.5, 0.95, 1.0])
@pytest.mark.parametrize("n_covered", [0, 50])
def test_the_largest_radius_by_the_definition(wanted: float, n_covered: int) -> None:
    points = blobs(300)
    centres = fit_k_means(naive.split(KMeansHalf, 1, points), 4, np.random.default_rng(0))
    clusters = np.array([np.square(centres - row).sum(axis=1).argmin() for row in points.astype(float)])
    halves = naive.split(RadiusHalf, 1, points[n_covered:])
    radius = choose_radius(halves, centres, np.random.default_rng(0), points[:n_covered], wanted)
    assert purity(points, clusters, radius) >= wanted > purity(points, clusters, radius * (1 + 1e-9))


def test_by_hand() -> None:
    points = np.array([[0.0], [1.0], [4.0], [6.0]])
    halves = naive.split(RadiusHalf, 1, points)
    centres = np.array([[0.5], [5.0]])
    assert choose_radius(halves, centres, np.random.default_rng(0)) == 3.0  # 1 is so far from 4
    assert choose_radius(halves, centres, np.random.default_rng(0), purity=0.5) == 4.0  # 0 from 4; 6 is 5 away
    assert choose_radius(halves, centres[:1], np.random.default_rng(0)) == np.inf


def test_a_sample_does_not_depend_on_shards() -> None:
    points = blobs(3000)
    indices = np.sort(np.random.default_rng(2).choice(12 * BLOCK, 3000, replace=False))
    centres = fit_k_means(naive.split(KMeansHalf, 1, points), 4, np.random.default_rng(0))

    def radius(n_shards: int, sample: int) -> float:
        halves = naive.split(RadiusHalf, n_shards, points, indices=indices)
        return choose_radius(halves, centres, np.random.default_rng(3), sample=sample)

    assert radius(1, 400) == radius(2, 400) == radius(5, 400) == radius(20, 400)
    assert 0.5 < radius(1, 400) / radius(1, 3000) < 2


def test_refusals() -> None:
    halves = naive.split(RadiusHalf, 1, np.ones((2, 1)))
    with pytest.raises(ValueError, match="purity must be above 0 and at most 1, got 0"):
        choose_radius(halves, np.ones((1, 1)), np.random.default_rng(0), purity=0)
    empty = naive.split(RadiusHalf, 1, np.ones((0, 1)))
    with pytest.raises(ValueError, match="a radius needs at least one point"):
        choose_radius(empty, np.ones((1, 1)), np.random.default_rng(0))
