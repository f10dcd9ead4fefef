"""Tests of data/dataset.py: what a data set refuses."""

from typing import Any

import numpy as np
import pytest

from openal_ray.data.dataset import Dataset
from openal_ray.data.images import ArrayImages
from openal_ray.errors import DataError


def make(**changes: Any) -> Dataset:
    given: dict[str, Any] = {
        "name": "toy",
        "classes": ("cat", "dog"),
        "train": ArrayImages(np.zeros((4, 2, 2, 1), np.uint8)),
        "labels": np.array([0, 1, -1, 1]),
        "test": ArrayImages(np.zeros((2, 2, 2, 1), np.uint8)),
        "test_labels": np.array([1, 0]),
        "mean": (0.5,),
        "std": (0.25,),
    }
    return Dataset(**(given | changes))


def test_labels_are_read_only_copies() -> None:
    labels = np.array([0, 1, -1, 1], np.int32)
    dataset = make(labels=labels)
    labels[0] = 1
    assert dataset.labels.dtype == np.int64
    assert dataset.labels.tolist() == [0, 1, -1, 1]
    assert dataset.validation.tolist() == []
    with pytest.raises(ValueError, match="read-only"):
        dataset.labels[0] = 1


def test_validation_indices_are_kept() -> None:
    assert make(validation=np.array([1, 3])).validation.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.array([0, 1])}, "there are 4 images but 2 labels"),
        ({"test_labels": np.array([0])}, "there are 2 images but 1 test_labels"),
        ({"labels": np.array([0, 1, 2, 0])}, r"labels must be in -2\.\.1, got 0\.\.2"),
        ({"labels": np.array([0, 1, -3, 0])}, r"labels must be in -2\.\.1, got -3\.\.1"),
        ({"test_labels": np.array([0, -1])}, r"test_labels must be in 0\.\.1, got -1\.\.0"),
        ({"labels": np.array([0.0, 1, 1, 0])}, r"labels must be integers \[n\], got float64 \[4\]"),
        ({"labels": np.zeros((4, 1), int)}, r"labels must be integers \[n\], got int64 \[4, 1\]"),
        ({"classes": ()}, "it has no class"),
        ({"classes": ("cat", "cat")}, "class names must differ, got more than once: cat"),
        ({"mean": (0.5, 0.5)}, r"mean must be one number per channel \(1\), got \(0.5, 0.5\)"),
        ({"std": (float("nan"),)}, r"std must be one number per channel \(1\), got \(nan,\)"),
        ({"std": (0.0,)}, r"std must be > 0, got \(0.0,\)"),
        ({"test": ArrayImages(np.zeros((2, 3, 2, 1), np.uint8))}, r"train images are \(2, 2, 1\), test images \(3,"),
        ({"test": ArrayImages(np.zeros((0, 2, 2, 1), np.uint8)), "test_labels": np.array([], int)}, "no test image"),
        ({"validation": np.array([3, 1])}, "validation indices must be ascending and distinct"),
        ({"validation": np.array([1, 1])}, "validation indices must be ascending and distinct"),
        ({"validation": np.array([1, 4])}, r"validation indices must be in 0\.\.3"),
        ({"validation": np.array([1, 2])}, "every validation image needs a label"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"data set toy: .*{message}"):
        make(**changes)
