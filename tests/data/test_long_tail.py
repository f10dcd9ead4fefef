"""Tests of data/long_tail.py: class sizes, and which images are kept."""

import numpy as np
import pytest

from openal_ray.data.dataset import Dataset
from openal_ray.data.images import ArrayImages
from openal_ray.data.long_tail import long_tail, long_tail_counts
from openal_ray.errors import ConfigError


def test_exponential_counts_of_cifar10() -> None:
    # 5000 · 100^(-c/9), rounded down, as published for CIFAR-10-LT with factor 100.
    expected = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    assert long_tail_counts(5000, 10, "exp", 100).tolist() == expected
    assert sum(expected) == 12_406


def test_step_counts() -> None:
    assert long_tail_counts(5000, 4, "step", 10).tolist() == [5000, 5000, 500, 500]
    assert long_tail_counts(5000, 5, "step", 3).tolist() == [5000, 5000, 1666, 1666, 1666]  # odd: no class is lost


def test_factor_one_changes_nothing_and_no_class_vanishes() -> None:
    assert long_tail_counts(7, 3, "exp", 1).tolist() == [7, 7, 7]
    assert long_tail_counts(7, 3, "exp", 1e9).tolist() == [7, 1, 1]
    assert long_tail_counts(7, 1, "exp", 10).tolist() == [7]


def test_wrong_parameters() -> None:
    with pytest.raises(ConfigError, match=r"data.params.imbalance: unknown form 'stpe'. Did you mean 'step'\?"):
        long_tail_counts(10, 2, "stpe", 10)
    for factor in (0.01, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match=rf"data.params.factor must be a number >= 1 .*, got {factor}"):
            long_tail_counts(10, 2, "exp", factor)


def dataset() -> Dataset:
    labels = np.tile([0, 1], 50)
    pictures = np.arange(100, dtype=np.uint8).reshape(100, 1, 1, 1)
    test = ArrayImages(np.zeros((2, 1, 1, 1), np.uint8))
    return Dataset(
        "toy", ("a", "b"), ArrayImages(pictures), labels, test, np.array([0, 1]), (0.5,), (0.5,), np.arange(90, 100)
    )


def test_kept_images_carry_their_label_id_and_picture() -> None:
    tail = long_tail(dataset(), "exp", 5, seed=0)
    assert np.bincount(tail.labels).tolist() == [50, 10]
    ids = [int(name) for name in tail.train.ids(np.arange(60))]
    assert ids == sorted(ids)
    assert tail.labels.tolist() == [each % 2 for each in ids]
    assert tail.train.load(np.arange(60)).ravel().tolist() == ids
    assert [ids[index] for index in tail.validation] == [each for each in ids if each >= 90]
    assert np.array_equal(tail.test_labels, dataset().test_labels)


def test_the_seed_decides_which_are_kept() -> None:
    def kept(seed: int) -> list[str]:
        return long_tail(dataset(), "exp", 5, seed).train.ids(np.arange(60))

    assert kept(0) == kept(0)
    assert kept(0) != kept(1)
