"""Tests of bounded and exact distances to the nearest centre."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openal_ray.selection import nearest
from openal_ray.selection.nearest import NearestCentre, squared_distances


def truth(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Exact squared distances to the nearest centre, one centre after the other."""
    result = np.full(len(points), np.inf)
    for centre in centres:
        result = np.minimum(result, np.square(points.astype(float) - centre.astype(float)).sum(axis=1))
    return result


def test_exact_distances_do_not_depend_on_the_rows_beside() -> None:
    rng = np.random.default_rng(0)
    rows, centre = rng.normal(size=(100, 130)).astype(np.float32), rng.normal(size=130).astype(np.float32)
    together = squared_distances(rows, centre)
    assert together.tolist() == [float(squared_distances(row[None], centre[None])[0]) for row in rows]
    assert together.tolist() == truth(rows, centre[None]).tolist()
    assert squared_distances(np.asfortranarray(rows), centre).tolist() == together.tolist()


@given(
    kind=st.sampled_from(["gauss", "grid", "copies", "clusters"]),
    n=st.integers(1, 400),
    m=st.integers(1, 60),
    seed=st.integers(0, 2**31),
)
@settings(deadline=None, max_examples=60, derandomize=True)
def test_rows_kept_back_are_below_the_floor(kind: str, n: int, m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = {
        "gauss": lambda: rng.normal(size=(n, 6)),
        "grid": lambda: rng.integers(0, 2, size=(n, 4)),
        "copies": lambda: rng.normal(size=(5, 6))[rng.integers(0, 5, n)],
        "clusters": lambda: 1000 * rng.normal(size=(4, 6))[rng.integers(0, 4, n)] + rng.normal(size=(n, 6)),
    }[kind]().astype(np.float32)
    indices = np.sort(rng.choice(2 * n, n, replace=False))
    some, centres, taken = NearestCentre(points, indices), points[:0], indices[:0]
    for _ in range(3):
        new = rng.choice(n, min(n, 7), replace=False)
        some.take(indices[new])
        some.add(points[new])
        centres, taken = np.concatenate([centres, points[new]]), np.append(taken, indices[new])
        squared = truth(points, centres)
        found, floor = some.farthest(m)
        assert len(found) <= m and (np.diff(found.indices) > 0).all() and not np.isin(found.indices, taken).any()
        assert found.squared.tolist() == squared[np.isin(indices, found.indices)].tolist()
        assert all(key >= floor for key in zip(found.squared, -found.indices, strict=True))
        rest = ~np.isin(indices, np.append(found.indices, taken))
        copies = {row.tobytes(): index for row, index in zip(points[::-1], indices[::-1], strict=True)}
        for row, value, index in zip(points[rest], squared[rest], indices[rest], strict=True):
            assert (value, -index) <= floor or value == 0 or copies[row.tobytes()] < index


def test_without_a_centre_everything_is_infinitely_far() -> None:
    found, floor = NearestCentre(np.eye(5, dtype=np.float32), np.arange(10, 15)).farthest(2)
    assert found.indices.tolist() == [10, 11] and np.isinf(found.squared).all()
    assert floor == (np.inf, -12)


def test_known_distances_are_kept_and_only_shrink() -> None:
    points = np.array([[0.0], [5.0], [9.0]], dtype=np.float32)
    some = NearestCentre(points, np.arange(3), squared=np.array([1.0, 100.0, 4.0]))
    some.add(np.array([[7.0]], dtype=np.float32))
    assert some.farthest(3)[0].squared.tolist() == [1.0, 4.0, 4.0]
    assert some.farthest(3, least=2.0)[0].indices.tolist() == [1, 2]


def test_tight_clusters_need_the_second_digit(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    points = (30 * rng.normal(size=(3, 8))[np.arange(900) % 3] + rng.normal(size=(900, 8))).astype(np.float32)
    pairs = []
    monkeypatch.setattr(nearest, "squared_distances", lambda a, b: (pairs.append(len(a)), squared_distances(a, b))[1])
    some = NearestCentre(points, np.arange(900))
    some.add(points[:150])
    found, _ = some.farthest(100)
    assert found.squared.tolist() == truth(points, points[:150])[found.indices].tolist()
    assert sum(pairs) < 8 * 900  # of 150 * 900


def test_centres_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match=r"centres must have shape \[m, 3\], got \(2, 4\)"):
        NearestCentre(np.zeros((5, 3)), np.arange(5)).add(np.zeros((2, 4)))
