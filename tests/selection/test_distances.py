"""Tests of exact distances: naive float64 ones, whatever the products say; ties to the lowest."""

import numpy as np
import pytest

from openal_ray.selection import distances
from openal_ray.selection.distances import nearest, squared_about, unit_rows


def naive_squared(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    return np.stack([np.square(rows.astype(float) - other.astype(float)).sum(axis=1) for other in others], axis=1)


@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_rough_distances_are_within_their_slack(offset: float) -> None:
    rng = np.random.default_rng(0)
    rows, others = rng.normal(size=(200, 33)) + offset, rng.normal(size=(90, 33)) + offset
    rough, slack = squared_about(rows, others)
    exact = np.square(rows[:, None].astype(np.longdouble) - others).sum(axis=2)
    assert (np.abs(rough - exact) <= slack[:, None]).all()


@pytest.mark.parametrize("kind", ["gauss", "grid", "far"])
def test_nearest_is_that_of_naive_distances(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    rows, others = rng.normal(size=(3000, 4)), rng.normal(size=(40, 4))
    if kind == "grid":
        rows, others = rng.integers(0, 3, (3000, 4)).astype(np.float32), rng.integers(0, 3, (40, 4)).astype(np.float32)
    if kind == "far":  # products say nothing
        rows, others = 1e9 + rows, 1e9 + others
    positions, squared = nearest(rows, others)
    expected = naive_squared(rows, others)
    assert (positions == expected.argmin(axis=1)).all() and (squared == expected.min(axis=1)).all()
    allowed = rng.random((3000, 40)) < 0.1
    allowed[7] = False
    positions, squared = nearest(rows, others, allowed)
    expected[~allowed] = np.inf
    best = np.where(allowed.any(axis=1), expected.argmin(axis=1), -1)
    assert positions[7] == -1 and (positions == best).all() and (squared == expected.min(axis=1)).all()

    def disturbed(*args: object) -> tuple[np.ndarray, np.ndarray]:
        rough, slack = squared_about(*args)
        return rough + rng.uniform(-1, 1, rough.shape) * slack[:, None], slack

    monkeypatch.setattr(distances, "squared_about", disturbed)
    assert (nearest(rows, others, allowed)[0] == best).all()


def test_nothing_to_be_near() -> None:
    positions, squared = nearest(np.ones((3, 2)), np.ones((0, 2)))
    assert positions.tolist() == [-1] * 3 and np.isinf(squared).all()
    assert nearest(np.ones((0, 2)), np.ones((3, 2)))[0].tolist() == []


def test_unit_rows() -> None:
    assert unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist() == [[0.6, 0.8], [0.0, 0.0]]
    assert unit_rows(np.ones((2, 3), np.float32)).dtype == np.float32
    halves = unit_rows(np.full((1, 512), 200, np.float16))  # their squares overflow float16
    assert halves.dtype == np.float32 and halves == pytest.approx(512**-0.5)
