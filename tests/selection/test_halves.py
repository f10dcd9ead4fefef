"""Tests of what driver and shard halves share."""

import numpy as np
import pytest

from openal_ray.selection.halves import (
    JoinedHalves,
    LocalHalves,
    Picks,
    blocks_of,
    checked_rows,
    checked_sizes,
    filled_up,
    positions_of,
)
from openal_ray.selection.top_k import TopKHalf


class Adder:
    """A half that answers with what it was given."""

    def __init__(self, own: int) -> None:
        self.own = own

    def add(self, number: int, other: int = 0) -> int:
        return self.own + number + other


def test_answers_come_in_shard_order() -> None:
    halves = LocalHalves([Adder(10), Adder(20)])
    assert halves.ask("add", 1) == [11, 21]
    assert halves.ask_each("add", [(1,), (2, 3)]) == [11, 25]
    with pytest.raises(ValueError, match="shorter"):
        halves.ask_each("add", [(1,)])


def test_one_more_half_answers_last() -> None:
    halves = JoinedHalves(LocalHalves([Adder(10), Adder(20)]), Adder(30))
    assert halves.ask("add", 1) == [11, 21, 31]
    assert halves.ask_each("add", [(1,), (2,), (3, 4)]) == [11, 22, 37]


def test_blocks_of_rows() -> None:
    assert blocks_of(np.array([0, 1023, 1024, 5000])) == [(0, slice(0, 2)), (1, slice(2, 3)), (4, slice(3, 4))]
    assert blocks_of(np.empty(0, np.int64)) == []


def test_a_budget_that_the_rows_cannot_fill_is_refused() -> None:
    halves = LocalHalves([TopKHalf(np.zeros(2), np.arange(2)), TopKHalf(np.zeros(3), np.arange(2, 5))])
    assert checked_sizes(halves, 5) == [2, 3]
    for k in (6, -1):
        with pytest.raises(ValueError, match=f"k must be between 0 and the 5 rows there are, got {k}"):
            checked_sizes(halves, k)


def test_rows_become_floats_of_the_right_shape() -> None:
    assert checked_rows("points", np.ones((2, 3), np.float16), 2).dtype == np.float16
    assert checked_rows("points", np.ones((2, 3), bool), 2).dtype == np.float64
    for wrong in (np.ones(2), np.ones((3, 3)), np.ones((2, 0))):
        with pytest.raises(ValueError, match=r"points must have shape \[2, D\] with D > 0, got"):
            checked_rows("points", wrong, 2)


def test_positions_of_the_indices_that_are_there() -> None:
    indices = np.array([3, 5, 9])
    assert positions_of(np.array([9, 4, 3, 10, 0]), indices).tolist() == [2, 0]
    assert positions_of(np.array([1]), np.empty(0, np.int64)).size == 0


class Rest:
    """A half that only knows its lowest indices."""

    def __init__(self, *indices: int) -> None:
        self.indices = np.array(indices)

    def lowest(self, k: int, picked: np.ndarray) -> np.ndarray:
        return np.setdiff1d(self.indices, picked)[:k]


def test_missing_picks_are_the_lowest_indices_of_all_shards() -> None:
    picks = filled_up(Picks(np.array([7, 2]), np.array([3.0, 1.0])), LocalHalves([Rest(2, 5, 8), Rest(4, 7)]), 4)
    assert picks.indices.tolist() == [7, 2, 4, 5]
    assert picks.scores.tolist() == [3.0, 1.0, 0.0, 0.0]
