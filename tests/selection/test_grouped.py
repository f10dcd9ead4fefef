"""Tests of grouped.py: best rows by group against a plain sort, shards, refusals."""

import numpy as np
import pytest

from openal_ray.selection.grouped import GroupedHalf, best_of_groups, pick_ranked
from openal_ray.selection.halves import BLOCK
from tests.selection.naive import Counting


def halves(keys: np.ndarray, groups: np.ndarray, n_groups: int, n_shards: int, indices: np.ndarray) -> Counting:
    owner = indices // BLOCK % n_shards
    parts = (owner == shard for shard in range(n_shards))
    return Counting([GroupedHalf(keys[own], groups[own], indices[own], n_groups) for own in parts])


@pytest.mark.parametrize("n_shards", [1, 2, 5])
def test_best_rows_of_every_group(n_shards: int) -> None:
    rng = np.random.default_rng(0)
    indices = np.flatnonzero(rng.random(9000) < 0.5)
    keys = rng.integers(0, 6, (len(indices), 3)).astype(float)
    groups = rng.integers(-1, 4, len(indices))
    depths = np.array([5, 0, 3000, 700])
    found = best_of_groups(halves(keys, groups, 4, n_shards, indices), depths, picked=indices[::7])
    for group in range(4):
        rows = [i for i in range(len(indices)) if groups[i] == group and i % 7]
        rows.sort(key=lambda i: (*(-keys[i]), indices[i]))
        assert found.indices[found.groups == group].tolist() == indices[rows[: depths[group]]].tolist()
    picks = pick_ranked(halves(keys, groups, 4, n_shards, indices), 100)
    rows = sorted(np.flatnonzero(groups >= 0), key=lambda i: (*(-keys[i]), indices[i]))[:100]
    assert picks.indices.tolist() == indices[rows].tolist()
    assert picks.scores.tolist() == keys[rows, 0].tolist()


def test_no_more_than_asked_travels() -> None:
    indices = np.arange(6000)
    both = halves(np.zeros(6000), indices % 2, 2, 2, indices)
    best_of_groups(both, np.array([3, 1]))
    assert [len(answer) for answer in both.answers("best")[0]] == [4, 4]


def test_infinite_keys_and_rows_in_no_group() -> None:
    half = GroupedHalf(np.array([-np.inf, np.inf, 0.0]), np.array([0, 0, -1]), np.array([4, 6, 9]))
    assert pick_ranked(Counting([half]), 2).indices.tolist() == [6, 4]
    with pytest.raises(ValueError, match="k must be between 0 and the 2 rows there are, got 3"):
        pick_ranked(Counting([half]), 3)


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"got NaN at 1 place\(s\), first \[6\]"):
        GroupedHalf(np.array([[0.0, 1.0], [0.0, np.nan]]), np.zeros(2), np.array([4, 6]))
    for groups in (np.array([0, 1]), np.zeros(3)):
        with pytest.raises(ValueError, match="keys and groups must be of 2 rows and groups below 1"):
            GroupedHalf(np.zeros(2), groups, np.arange(2))
