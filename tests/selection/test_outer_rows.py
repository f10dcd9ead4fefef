"""Tests of distances between outer products that are never built."""

import numpy as np
import pytest

from openal_ray.selection.outer_rows import OuterRows, squared_distances, squared_norms
from tests.selection import naive


def rows(n: int, seed: int) -> OuterRows:
    rng = np.random.default_rng(seed)
    return OuterRows(np.arange(n), rng.normal(size=(n, 3)).astype("f"), rng.normal(size=(n, 7)).astype("f"))


def test_by_hand() -> None:
    ones = OuterRows(np.arange(1), np.array([[1.0, 0.0]]), np.array([[2.0, 0.0]]))  # one number, 2, at (0, 0)
    other = OuterRows(np.arange(1), np.array([[0.0, 3.0]]), np.array([[1.0, 0.0]]))  # 3 at (1, 0)
    assert squared_norms(ones).tolist() == [4.0]
    assert squared_distances(ones, other)[0].tolist() == [[13.0]]


def test_equal_to_the_materialised_rows() -> None:
    some, others = rows(20, 0), rows(9, 1)
    one, other = naive.outer(some.left, some.right), naive.outer(others.left, others.right)
    truth = np.square(one[:, None] - other[None]).sum(axis=2)
    assert squared_distances(some, others)[0] == pytest.approx(truth, rel=1e-12)
    assert squared_norms(rows(3000, 2)) == pytest.approx(
        np.square(naive.outer(rows(3000, 2).left, rows(3000, 2).right)).sum(axis=1)
    )


def test_copies_are_at_distance_zero_and_near_copies_are_not() -> None:
    some = rows(50, 3)
    distances, rounding = squared_distances(some, some)
    assert (np.diag(distances) == 0).all() and (distances > 0).sum() == 50 * 49
    nudged = OuterRows(some.indices, some.left * np.float32(1.001), some.right)
    assert np.diag(squared_distances(some, nudged)[0]) == pytest.approx(1e-6 * squared_norms(some), rel=2e-3)
    assert (rounding < 1e-12 * (squared_norms(some)[:, None] + squared_norms(some)[None])).all()


def test_joined_and_sliced() -> None:
    some = rows(4, 0)
    again = OuterRows.joined([some[:1], some[[3, 2]]])
    assert again.indices.tolist() == [0, 3, 2] and again.right.tolist() == some.right[[0, 3, 2]].tolist()
