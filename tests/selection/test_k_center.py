"""Tests of k-center: the picks of naive float64 greedy, for any shards, numbers, ties and copies, in few exchanges."""

import importlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openal_ray.selection import digits, k_center, nearest
from openal_ray.selection.halves import LocalHalves
from openal_ray.selection.k_center import KCenterHalf, _rounded_distances, pick_k_center
from openal_ray.selection.nearest import squared_distances
from tests.selection import naive

k_center_module = importlib.import_module("openal_ray.selection.k_center")  # the package's function has its name
KINDS = {
    "gauss": lambda n, d, rng: rng.normal(size=(n, d)),
    "grid": lambda n, d, rng: rng.integers(0, 3, (n, d)),
    "copies": lambda n, d, rng: rng.normal(size=(n // 30 + 1, d))[rng.integers(0, n // 30 + 1, n)],
    "heavy": lambda n, d, rng: rng.standard_cauchy((n, d)),
    "tiny": lambda n, d, rng: 1e-38 * rng.normal(size=(n, d)),
    "huge": lambda n, d, rng: 1e37 * rng.normal(size=(n, d)),
    "scales": lambda n, d, rng: rng.normal(size=(n, d)) * 10.0 ** rng.integers(-20, 18, (n, 1)),
    "clusters": lambda n, d, rng: 300 * rng.normal(size=(4, d))[np.arange(n) % 4] + rng.normal(size=(n, d)),
    "one": lambda n, d, rng: np.ones((n, d)),
}


def test_by_hand_on_a_line() -> None:
    points = np.array([[0.0], [1.0], [4.0], [9.0], [10.0]], dtype=np.float32)
    assert k_center(points, np.array([[0.0]], dtype=np.float32), 3).tolist() == [4, 2, 1]
    assert k_center(points, None, 2).tolist() == [0, 4]
    assert k_center(points, None, 0).tolist() == []


def check_random_case(seed: int) -> None:
    """One random case against the naive form: any kind, type, size, centres, shards."""
    rng = np.random.default_rng(seed)
    kind, n, d = str(rng.choice(list(KINDS))), int(rng.integers(1, 700)), int(rng.choice([1, 2, 3, 8, 17, 64]))
    dtype = rng.choice([np.float32, np.float64] if kind != "grid" else [np.float16, np.float32, np.float64])
    points = KINDS[kind](n, d, rng).astype(dtype)
    covered = points[rng.integers(0, n, rng.choice([0, 1, 5, 100]))]
    k, n_shards = int(rng.integers(1, min(n, 120) + 1)), int(rng.choice([1, 2, 3, 5]))
    indices = np.sort(rng.choice(4 * n, n, replace=False))
    owner = rng.integers(0, n_shards, n)
    halves = LocalHalves([KCenterHalf(points[owner == s], indices[owner == s]) for s in range(n_shards)])
    picks = pick_k_center(halves, k, covered)
    assert picks.indices.tolist() == indices[naive.k_center(points, covered, k)].tolist(), (seed, kind, n, d, dtype)


@pytest.mark.parametrize("first", range(0, 1000, 100))
def test_picks_of_naive_greedy(first: int) -> None:
    for seed in range(first, first + 100):
        check_random_case(seed)


@pytest.mark.parametrize("n_shards", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_are_sifted_by_a_few_centres_first(kind: str, n_shards: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "_GLIMPSE", 2)
    monkeypatch.setattr(k_center_module, "_FEWEST", 1)
    rng = np.random.default_rng(7)
    points = KINDS[kind](1500, 12, rng).astype(np.float32)
    covered = np.sort(points[rng.integers(0, 1500, 60)], axis=0)
    owner = np.arange(1500) % n_shards
    halves = [KCenterHalf(points[owner == s], np.flatnonzero(owner == s)) for s in range(n_shards)]
    picks = pick_k_center(LocalHalves(halves), 25, covered)
    assert picks.indices.tolist() == naive.k_center(points, covered, 25)
    if kind in ("gauss", "heavy", "scales"):
        assert all(half._nearest._bounded.min() < 60 for half in halves)  # some fell behind


FAR = KINDS | {
    "subnormal": lambda n, d, rng: 1e-160 * rng.normal(size=(n, d)),
    "far": lambda n, d, rng: 1e6 + rng.normal(size=(n, d)),
    "constant": lambda n, d, rng: np.column_stack([np.full(n, 2.0**600), rng.normal(size=(n, d - 1))]),
}


@pytest.mark.parametrize("kind", ["far", "constant"])
def test_seen_from_far_away(kind: str) -> None:
    points = FAR[kind](300, 5, np.random.default_rng(2))
    assert k_center(points, points[:2], 40).tolist() == naive.k_center(points, points[:2], 40)


@pytest.mark.parametrize("kind", FAR)
@pytest.mark.parametrize("columns", [1, 130])
def test_products_are_off_by_no_more_than_they_say(kind: str, columns: int) -> None:
    rows = FAR[kind](60, columns, np.random.default_rng(1)).astype(np.float64)
    between, error = _rounded_distances(rows)
    exact = np.stack([squared_distances(rows, row) for row in rows])
    assert np.abs(between - exact).max() <= error <= 1e-11 * max(1e-280, exact.max())


@pytest.fixture(scope="module")
def network_like() -> np.ndarray:
    """float32 [6000, 48]: classes that overlap, few directions each, rectified."""
    rng = np.random.default_rng(5)
    middles, spreads = rng.normal(size=(10, 48)), rng.normal(size=(10, 6, 48))
    classes = rng.integers(0, 10, 6000)
    rows = middles[classes] + 0.4 * np.einsum("nk,nkd->nd", rng.normal(size=(6000, 6)), spreads[classes])
    return np.maximum(rows, 0).astype(np.float32)


@pytest.mark.parametrize("n_shards", [1, 2, 3, 5])
def test_many_picks_an_exchange_for_any_shards(network_like: np.ndarray, n_shards: int) -> None:
    covered, points = network_like[:500], network_like[500:]
    halves = naive.split(KCenterHalf, n_shards, points)
    picks = pick_k_center(halves, 500, covered)
    assert picks.indices.tolist() == naive.k_center(points, covered, 500)
    exchanges = halves.answers("candidates")
    assert len(exchanges) <= 5
    for answers in exchanges:
        assert sum(len(found) for found, _ in answers) <= max(3 * 500, 128 * n_shards) + n_shards


def test_kernels_and_threads_change_nothing(network_like: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = k_center(network_like, None, 60).tolist()
    assert expected == naive.k_center(network_like, network_like[:0], 60)
    threads = torch.get_num_threads()
    for int8, n_threads in ((True, 1), (False, 1), (True, 2), (False, 2)):
        monkeypatch.setattr(digits, "_int8_is_good", lambda int8=int8: int8)
        torch.set_num_threads(n_threads)
        picks = k_center(network_like, None, 60).tolist()
        torch.set_num_threads(threads)
        assert picks == expected


def test_scores_are_distances_to_the_nearest_centre_so_far() -> None:
    points = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0], [0.0, 0.0]], dtype=np.float32)
    picks = pick_k_center(naive.split(KCenterHalf, 1, points), 4)
    assert picks.indices.tolist() == [0, 1, 2, 3]
    assert picks.scores.tolist() == [np.inf, 5.0, 1.0, 0.0]


@pytest.mark.parametrize("n_shards", [1, 3])
def test_identical_points_are_picked_once_each_and_do_not_travel(n_shards: int) -> None:
    indices = np.arange(0, 8000, 2)
    halves = naive.split(KCenterHalf, n_shards, np.ones((4000, 2), np.float32), indices=indices)
    picks = pick_k_center(halves, 6)
    assert picks.indices.tolist() == [0, 2, 4, 6, 8, 10]
    assert sum(len(found) for answers in halves.answers("candidates") for found, _ in answers) <= 2 * n_shards


@given(seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=30, derandomize=True)
def test_permuting_the_pool_permutes_the_picks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points, covered = rng.normal(size=(80, 3)), rng.normal(size=(2, 3))
    order = rng.permutation(80)
    assert order[k_center(points[order], covered, 20)].tolist() == k_center(points, covered, 20).tolist()


@given(seed=st.integers(0, 2**31), k=st.integers(1, 4))
@settings(deadline=None, max_examples=30, derandomize=True)
def test_the_radius_is_at_most_twice_the_best(seed: int, k: int) -> None:
    points = np.random.default_rng(seed).normal(size=(9, 2))
    assert naive.radius(points, k_center(points, None, k).tolist()) <= 2 * naive.least_radius(points, k) + 1e-12


def test_halves_survive_pickling_and_read_only_arrays(network_like: np.ndarray) -> None:
    points = network_like[:2000].copy()
    points.flags.writeable = False  # as arrays are that come out of Ray's object store
    halves = naive.split(KCenterHalf, 2, points)
    again = LocalHalves(pickle.loads(pickle.dumps(halves._halves)))
    assert pick_k_center(again, 50, points[:3]).indices.tolist() == naive.k_center(points, points[:3], 50)
    assert points.tolist() == network_like[:2000].tolist()


def test_points_can_stay_in_a_file(network_like: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "features.npy", network_like.astype(np.float16))
    points = np.load(tmp_path / "features.npy", mmap_mode="r")
    assert k_center(points, points[:10], 40).tolist() == naive.k_center(points, points[:10], 40)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="k must be between 0 and the 2 rows there are, got 3"):
        k_center(np.zeros((2, 2)), None, 3)
    with pytest.raises(ValueError, match="must be finite and below 1e.70; row 1 is not"):
        k_center(np.array([[1.0], [np.nan]]), None, 1)
    with pytest.raises(ValueError, match=r"points must have shape \[2, D\] with D > 0, got \(2,\)"):
        k_center(np.zeros(2), None, 1)
    with pytest.raises(ValueError, match=r"centres must have shape \[m, 2\], got \(1, 3\)"):
        k_center(np.zeros((2, 2)), np.zeros((1, 3)), 1)
