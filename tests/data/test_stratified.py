"""Tests of data/stratified.py: class proportions of what is set apart."""

import numpy as np

from openal_ray.data.stratified import held_out


def test_each_class_gives_its_share() -> None:
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    positions = held_out(labels, 10, seed=0)
    assert np.bincount(labels[positions]).tolist() == [5, 3, 2]
    assert (np.diff(positions) > 0).all()


def test_what_rounding_leaves_goes_to_the_largest_remainders() -> None:
    labels = np.repeat([0, 1, 2], [5, 4, 2])  # of 4: 1.82, 1.45 and 0.73, so 1 + 1 + 0 and one more for 0 and 2
    assert np.bincount(labels[held_out(labels, 4, seed=0)]).tolist() == [2, 1, 1]


def test_no_class_loses_its_last_image() -> None:
    labels = np.array([0, 0, 0, 0, 1])
    assert labels[held_out(labels, 4, seed=0)].tolist() == [0, 0, 0]


def test_the_seed_decides_which() -> None:
    labels = np.repeat([0, 1], 100)
    first = held_out(labels, 20, seed=0)
    assert np.array_equal(first, held_out(labels, 20, seed=0))
    assert not np.array_equal(first, held_out(labels, 20, seed=1))
