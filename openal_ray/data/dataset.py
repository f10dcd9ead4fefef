"""A data set: the pictures and labels of its training and test splits, and the facts that go with them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from openal_ray.data.images import Images
from openal_ray.errors import DataError
from openal_ray.pool import UNLABELLED


def _none() -> np.ndarray:
    return np.empty(0, np.int64)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Checked on construction; its arrays are read-only.

    name         as the catalogue spells it
    classes      class names; a label is a place in this tuple
    train        the images an experiment may use; their indices are *the* dataset indices
    labels       int64 [len(train)] true classes; -1 = of none of them (out-of-distribution), -2 = not labelled yet
    test         images of the same shape
    test_labels  int64 [len(test)] true classes
    mean, std    per channel, in units of a picture scaled to 0..1
    validation   int64, ascending: the indices of `train` that the source itself marks as validation; may be empty
    outside      int64, ascending: the indices of `train` that are no part of any experiment; may be empty
    raises       DataError
    """

    name: str
    classes: tuple[str, ...]
    train: Images
    labels: np.ndarray
    test: Images
    test_labels: np.ndarray
    mean: tuple[float, ...]
    std: tuple[float, ...]
    validation: np.ndarray = field(default_factory=_none)
    outside: np.ndarray = field(default_factory=_none)

    def __post_init__(self) -> None:
        for key in ("labels", "test_labels", "validation", "outside"):
            object.__setattr__(self, key, self._integers(key))
        for key in ("mean", "std"):
            object.__setattr__(self, key, self._per_channel(key, getattr(self, key)))
        self._check_classes()
        self._check_labels("labels", self.labels, len(self.train), lowest=UNLABELLED)
        self._check_labels("test_labels", self.test_labels, len(self.test), lowest=0)
        self._check_indices("validation")
        self._check_indices("outside")
        if (self.labels[self.validation] < 0).any():
            raise self._error("every validation image needs a label")
        if min(self.std) <= 0:
            raise self._error(f"std must be > 0, got {self.std}")
        if self.train.shape != self.test.shape:
            raise self._error(f"train images are {self.train.shape}, test images {self.test.shape}")

    def _error(self, problem: str) -> DataError:
        return DataError(f"data set {self.name}: {problem}")

    def _integers(self, key: str) -> np.ndarray:
        given = np.asarray(getattr(self, key))
        if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
            raise self._error(f"{key} must be integers [n], got {given.dtype} {list(given.shape)}")
        array = given.astype(np.int64)
        array.flags.writeable = False
        return array

    def _per_channel(self, key: str, given: Sequence[float]) -> tuple[float, ...]:
        values = tuple(float(value) for value in given)
        if len(values) != self.train.shape[2] or not np.isfinite(values).all():
            raise self._error(f"{key} must be one number per channel ({self.train.shape[2]}), got {values}")
        return values

    def _check_classes(self) -> None:
        if not self.classes:
            raise self._error("it has no class")
        twice = sorted(name for name, times in Counter(self.classes).items() if times > 1)
        if twice:
            raise self._error(f"class names must differ, got more than once: {', '.join(twice)}")

    def _check_labels(self, key: str, labels: np.ndarray, count: int, lowest: int) -> None:
        if not count:
            raise self._error(f"it has no {'train' if key == 'labels' else 'test'} image")
        if len(labels) != count:
            raise self._error(f"there are {count} images but {len(labels)} {key}")
        if labels.min() < lowest or labels.max() >= len(self.classes):
            valid = f"{lowest}..{len(self.classes) - 1}"
            raise self._error(f"{key} must be in {valid}, got {labels.min()}..{labels.max()}")

    def _check_indices(self, key: str) -> None:
        indices = getattr(self, key)
        if (np.diff(indices) <= 0).any():
            raise self._error(f"{key} indices must be ascending and distinct")
        if len(indices) and (indices[0] < 0 or indices[-1] >= len(self.train)):
            raise self._error(f"{key} indices must be in 0..{len(self.train) - 1}")
