"""Tests of greedy coverage: the picks of the dense naive form, for any shards, kernels, labelled sets and copies."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openal_ray.selection import coverage, max_herding, prob_cover
from openal_ray.selection.coverage import CoverageHalf, pick_coverage
from openal_ray.selection.distances import unit_rows
from openal_ray.selection.halves import BLOCK, LocalHalves
from openal_ray.selection.kernels import RBF, Kernel, TopHat
from tests.selection import naive


def blobs(n: int, d: int = 5, seed: int = 0) -> np.ndarray:
    """float32 [n, d] rows of norm 1 around six middles."""
    rng = np.random.default_rng(seed)
    return unit_rows((2 * rng.normal(size=(6, d))[rng.integers(0, 6, n)] + rng.normal(size=(n, d))).astype(np.float32))


def split(points: np.ndarray, kernel: Kernel, n_shards: int, indices: np.ndarray | None = None) -> naive.Counting:
    indices = np.arange(len(points)) if indices is None else indices
    owner = indices // BLOCK % n_shards
    return naive.Counting([CoverageHalf(points[owner == s], indices[owner == s], kernel) for s in range(n_shards)])


@pytest.mark.parametrize("kernel", [TopHat(0.3), TopHat(0.8), RBF(1.0), RBF(0.3)])
@pytest.mark.parametrize("n_covered", [0, 20])
def test_picks_and_scores_of_the_dense_form(kernel: Kernel, n_covered: int) -> None:
    points, covered = blobs(700), blobs(n_covered, seed=1)
    picks = pick_coverage(split(points, kernel, 1), 60, covered)
    expected, gains = naive.coverage(points, covered, 60, naive.kernel(kernel))
    assert picks.indices.tolist() == expected
    np.testing.assert_allclose(picks.scores, gains, rtol=1e-12, atol=1e-15)


def test_rounding_the_kernel_changes_what_is_below_a_billionth_only() -> None:
    points = blobs(700)
    picks = pick_coverage(split(points, RBF(0.5), 1), 60)
    _, gains = naive.coverage(points, points[:0], 60, lambda distances: np.exp(-np.square(distances / 0.5)))
    np.testing.assert_allclose(picks.scores, gains, rtol=0, atol=2.0**-30)


@pytest.mark.parametrize("kernel", [TopHat(0.3), RBF(0.5)])
def test_the_same_picks_for_any_shards_and_few_exchanges(kernel: Kernel) -> None:
    points, covered = blobs(1200, 8), blobs(10, 8, seed=1)
    indices = np.sort(np.random.default_rng(2).choice(12 * BLOCK, 1200, replace=False))
    expected = pick_coverage(split(points, kernel, 1, indices), 80, covered)
    assert (
        np.searchsorted(indices, expected.indices).tolist()
        == naive.coverage(points, covered, 80, naive.kernel(kernel))[0]
    )
    for n_shards in (2, 5, 20):
        halves = split(points, kernel, n_shards, indices)
        picks = pick_coverage(halves, 80, covered)
        assert (picks.indices == expected.indices).all() and (picks.scores == expected.scores).all()
        assert len(halves.exchanges) < 2 * 80


def test_by_hand_on_a_line() -> None:
    points = np.array([[0.0], [1.0], [2.0], [6.0], [7.0], [20.0]])
    assert prob_cover(points, None, 4, radius=1.5).tolist() == [1, 3, 5, 0]
    assert prob_cover(points, np.array([[1.2]]), 2, radius=1.5).tolist() == [3, 5]
    assert prob_cover(points, None, 1, radius=1.0).tolist() == [0]  # at the radius is outside
    picks = pick_coverage(split(points, TopHat(1.5), 1), 4)
    assert picks.scores.tolist() == [3 / 6, 2 / 6, 1 / 6, 0.0]
    assert max_herding(points, None, 2, bandwidth=2.0).tolist() == [1, 3]


@given(seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=60, derandomize=True)
def test_random_pools_grids_and_copies(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(1, 60)), int(rng.integers(1, 4))
    points = rng.integers(0, 4, (n, d)).astype(np.float32)  # ties everywhere, and distances at the radius
    kernel = rng.choice([TopHat(1.0), TopHat(2.0), TopHat(0.5), RBF(1.0), RBF(0.3)])
    covered = points[rng.integers(0, n, rng.choice([0, 2]))]
    indices = np.sort(rng.choice(6 * BLOCK, n, replace=False))
    k = int(rng.integers(1, n + 1))
    picks = pick_coverage(split(points, kernel, int(rng.choice([1, 3])), indices), k, covered)
    expected, gains = naive.coverage(points, covered, k, naive.kernel(kernel))
    assert np.searchsorted(indices, picks.indices).tolist() == expected
    np.testing.assert_allclose(picks.scores, gains, atol=1e-12)


@pytest.mark.parametrize("kernel", [TopHat(0.4), RBF(0.7)])
def test_small_pools_shown_in_many_pieces(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_POOL", 8), ("_ASKED", 3), ("_SHOWN", 16), ("_TILE", 7)):
        monkeypatch.setattr(coverage, name, value)
    points = blobs(300)
    picks = pick_coverage(split(points, kernel, 2), 40)
    assert picks.indices.tolist() == naive.coverage(points, points[:0], 40, naive.kernel(kernel))[0]


@pytest.mark.parametrize("kernel", [TopHat(0.4), RBF(0.7)])
def test_the_whole_pool_and_copies_can_be_picked(kernel: Kernel) -> None:
    points = np.repeat(blobs(40), 3, axis=0)
    picks = pick_coverage(split(points, kernel, 1), 120)
    assert sorted(picks.indices.tolist()) == list(range(120))
    assert len(set((picks.indices[picks.scores > 0] // 3).tolist())) == np.count_nonzero(picks.scores)
    rest = picks.indices[picks.scores == 0].tolist()
    assert rest == sorted(rest)


@pytest.mark.parametrize("kernel", [TopHat(0.4), RBF(0.7)])
@pytest.mark.parametrize("scale", [1.0, 1e-14, 1e20])
def test_bounds_are_never_below_the_gains(kernel: Kernel, scale: float) -> None:
    points = (blobs(700, 16) * scale).astype(np.float64)
    scaled = TopHat(0.4 * scale) if isinstance(kernel, TopHat) else RBF(0.7 * scale)
    half = CoverageHalf(points, np.arange(700), scaled)
    half.cover(points[::100])
    half.hold(np.arange(50), points[:50])
    gains, shared = half.gains(np.empty(0, np.int64), np.arange(50))
    bounds = half.bounds(points[:50])
    assert (bounds >= gains).all() and (bounds <= gains * 1.001 + 1e-5 * 700 * scaled.top).all()
    assert (shared[:, :32] == shared[:, :32].T).all() and (shared <= gains).all() and len(shared) == 32


def test_read_only_arrays() -> None:
    points = blobs(100)
    expected = max_herding(points, None, 5).tolist()
    points.flags.writeable = False
    assert max_herding(points, points[:0], 5).tolist() == expected
    assert max_herding(points.astype(float), None, 0).tolist() == []


def test_refusals() -> None:
    with pytest.raises(ValueError, match="radius must be > 0, got 0"):
        prob_cover(np.ones((2, 2)), None, 1, radius=0)
    with pytest.raises(ValueError, match="bandwidth must be > 0 and finite, got nan"):
        max_herding(np.ones((2, 2)), None, 1, bandwidth=np.nan)
    with pytest.raises(ValueError, match="points must be finite and below 1e.70; row 0 is not"):
        max_herding(np.full((1, 2), np.nan), None, 1)
    with pytest.raises(ValueError, match=r"covered must have shape \[m, 2\], got \(1, 3\)"):
        pick_coverage(LocalHalves([CoverageHalf(np.ones((2, 2)), np.arange(2), RBF())]), 1, np.ones((1, 3)))
    with pytest.raises(ValueError, match="k must be between 0 and the 2 rows there are, got 3"):
        max_herding(np.ones((2, 2)), None, 3)
