"""Which training images are labelled, rejected, held out or still unlabelled; and the oracle that answers for them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

import numpy as np

from openal_ray.errors import UserError

OUT_OF_DISTRIBUTION = -1
UNLABELLED = -2
"""In place of a class: nobody has said yet what the image shows."""


def _none() -> np.ndarray:
    return np.empty(0, dtype=np.int64)


def _as_indices(indices: Sequence[int] | np.ndarray) -> np.ndarray:
    array = np.asarray(indices)
    if array.size and array.dtype.kind not in "iu":  # a mask or a share would become wrong indices without a word
        raise TypeError(f"indices and classes must be integers, got {array.dtype}")
    return array.astype(np.int64, copy=False).reshape(-1)


def _check_count(count: int, available: int) -> None:
    if count > available:
        raise ValueError(f"{count} images asked of {available}")


class Members(Protocol):
    """A set of dataset indices that can be listed piece by piece, so that nobody needs all of it at once."""

    count: int

    def between(self, start: int, stop: int) -> np.ndarray:
        """Its indices i with start <= i < stop, ascending, int64."""
        ...

    def blocks(self, block_size: int) -> np.ndarray:
        """The numbers i // block_size that may occur, ascending, int64."""
        ...

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """`count` of its indices, uniform without replacement, in random order; ValueError if it has fewer."""
        ...

    def without(self, indices: np.ndarray) -> "Members":
        """The members but for `indices`."""
        ...


class Listed:
    """Members given one by one: a labelled set, a random candidate subset, a validation split."""

    def __init__(self, indices: Sequence[int] | np.ndarray) -> None:
        self.indices = np.unique(_as_indices(indices))
        self.count = len(self.indices)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Listed) and np.array_equal(self.indices, other.indices)

    def between(self, start: int, stop: int) -> np.ndarray:
        low, high = np.searchsorted(self.indices, [start, stop])
        return self.indices[low:high]

    def blocks(self, block_size: int) -> np.ndarray:
        return np.unique(self.indices // block_size)

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        _check_count(count, self.count)
        return rng.choice(self.indices, size=count, replace=False)

    def without(self, indices: np.ndarray) -> "Listed":
        return Listed(np.setdiff1d(self.indices, indices))


class AllBut:
    """Every index below `size` except `taken` (ascending): holds what is missing, never what is there."""

    def __init__(self, size: int, taken: np.ndarray) -> None:
        self.size, self.taken = size, taken
        self.count = size - len(taken)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AllBut) and self.size == other.size and np.array_equal(self.taken, other.taken)

    def between(self, start: int, stop: int) -> np.ndarray:
        start, stop = max(start, 0), min(stop, self.size)
        low, high = np.searchsorted(self.taken, [start, stop])
        free = np.ones(max(stop - start, 0), dtype=bool)
        free[self.taken[low:high] - start] = False
        return np.flatnonzero(free) + start

    def blocks(self, block_size: int) -> np.ndarray:
        return np.arange(-(-self.size // block_size), dtype=np.int64)

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        _check_count(count, self.count)
        ranks = rng.choice(self.count, size=count, replace=False).astype(np.int64)
        # The r-th free index is r plus the taken ones before it; taken[j] - j counts the free ones before taken[j].
        free_before = self.taken - np.arange(len(self.taken))
        return ranks + np.searchsorted(free_before, ranks, side="right")

    def without(self, indices: np.ndarray) -> "AllBut":
        return AllBut(self.size, np.union1d(self.taken, indices))


@dataclass(frozen=True, eq=False)
class Pool:
    """An immutable partition of the dataset indices 0 … size-1.

    size      number of training images
    labelled  [L] indices whose class the oracle gave, in the order they were answered
    classes   [L] their classes, 0 … n_classes-1
    rejected  [R] indices the oracle called out-of-distribution
    held_out  [H] indices outside the experiment: the validation split, images that cannot be decoded
    return_rejected  rejected images may be asked, and paid for, again: LfOSA's published setting
    Everything else is unlabelled. Memory is O(L + R + H), whatever the size.
    """

    size: int
    labelled: np.ndarray = field(default_factory=_none)
    classes: np.ndarray = field(default_factory=_none)
    rejected: np.ndarray = field(default_factory=_none)
    held_out: np.ndarray = field(default_factory=_none)
    return_rejected: bool = False

    def __post_init__(self) -> None:
        for name in ("labelled", "classes", "rejected", "held_out"):
            array = _as_indices(getattr(self, name)).copy()
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        if len(self.labelled) != len(self.classes):
            raise ValueError(f"{len(self.labelled)} labelled indices but {len(self.classes)} classes")
        if (self.classes < 0).any():
            raise ValueError(f"classes must be 0 or more, got {self.classes.min()}")
        everything = np.concatenate([self.labelled, self.rejected, self.held_out])
        if len(everything) != len(np.unique(everything)):
            raise ValueError("an index is in the pool twice: labelled, rejected and held_out must be disjoint")
        if len(self.taken) and not 0 <= self.taken[0] <= self.taken[-1] < self.size:
            raise ValueError(f"indices must lie in 0 … {self.size - 1}, got {self.taken[0]} … {self.taken[-1]}")

    @cached_property
    def taken(self) -> np.ndarray:
        """Every index that is not unlabelled, ascending."""
        gone = [self.labelled, self.held_out] if self.return_rejected else [self.labelled, self.rejected, self.held_out]
        indices = np.unique(np.concatenate(gone))
        indices.setflags(write=False)
        return indices

    @property
    def answered(self) -> np.ndarray:
        """Indices of labelled images, then of rejected ones, each in the order they were answered."""
        return np.concatenate([self.labelled, self.rejected])

    @property
    def unlabelled(self) -> AllBut:
        """The unlabelled images, as members that are listed piece by piece."""
        return AllBut(self.size, self.taken)

    def annotate(self, indices: Sequence[int] | np.ndarray, answers: Sequence[int] | np.ndarray) -> "Pool":
        """The pool after the oracle answered `answers` (a class, or -1 for out-of-distribution) for `indices`."""
        indices, answers = _as_indices(indices), _as_indices(answers)
        if len(indices) != len(answers):
            raise ValueError(f"{len(indices)} indices asked but {len(answers)} answers")
        known = answers != OUT_OF_DISTRIBUTION
        return replace(
            self,
            labelled=np.concatenate([self.labelled, indices[known]]),
            classes=np.concatenate([self.classes, answers[known]]),
            rejected=np.concatenate([self.rejected, self._new(indices[~known])]),
        )

    def _new(self, rejected: np.ndarray) -> np.ndarray:
        """Those that were not rejected before, where images may be asked again."""
        return rejected[~np.isin(rejected, self.rejected)] if self.return_rejected else rejected

    def hold_out(self, indices: Sequence[int] | np.ndarray) -> "Pool":
        """The pool without `indices`, which leave the experiment."""
        return replace(self, held_out=np.concatenate([self.held_out, _as_indices(indices)]))


class AnswersPending(UserError):
    """The oracle cannot answer yet: people have still to label `indices`, which the run in `folder` asks for."""

    def __init__(self, indices: Sequence[int] | np.ndarray, folder: str = "RUN") -> None:
        self.indices, self.folder = _as_indices(indices), folder
        super().__init__(
            f"{len(self.indices)} image(s) of the query have no label yet: they are in the last round of "
            f"{folder}/selections.csv. Fill in their labels and `openal-ray resume {folder}`."
        )

    def __reduce__(self) -> tuple[type["AnswersPending"], tuple[np.ndarray, str]]:
        return AnswersPending, (self.indices, self.folder)


class Oracle(Protocol):
    """The only holder of the true classes of training images."""

    def answer(self, indices: np.ndarray) -> np.ndarray:
        """The class of each index, or -1 for out-of-distribution; raises AnswersPending if some are not known yet."""
        ...


class DatasetOracle:
    """Answers with a data set's own labels: a class, OUT_OF_DISTRIBUTION, or UNLABELLED where people have to say."""

    def __init__(self, labels: np.ndarray) -> None:
        self._labels = np.asarray(labels, dtype=np.int64)

    def answer(self, indices: np.ndarray) -> np.ndarray:
        answers = self._labels[_as_indices(indices)]
        if (answers == UNLABELLED).any():
            raise AnswersPending(_as_indices(indices)[answers == UNLABELLED])
        return answers

    def answerable(self, members: Members) -> np.ndarray:
        """Those of the members for which there is an answer, ascending."""
        indices = members.between(0, len(self._labels))
        return indices[self._labels[indices] != UNLABELLED]

    def in_distribution(self, members: Members) -> np.ndarray:
        """Those of the members whose class is known, ascending."""
        indices = members.between(0, len(self._labels))
        return indices[self._labels[indices] >= 0]

    def stratified(self, members: Members, count: int, n_classes: int, rng: np.random.Generator) -> np.ndarray:
        """`count` members, each class in proportion to its size and at least once, in random order.

        Shares are rounded by largest remainder, on a tie for the lower class.
        raises  ValueError  if there are fewer members of known class, or more classes among them than `count`
        """
        indices = self.in_distribution(members)
        _check_count(count, len(indices))
        classes = self._labels[indices]
        sizes = np.bincount(classes, minlength=n_classes)
        if count < np.count_nonzero(sizes):
            raise ValueError(f"{count} images cannot hold one of each of {np.count_nonzero(sizes)} classes")
        exact = sizes * count / max(1, sizes.sum())
        quotas = np.minimum(np.maximum(np.floor(exact), 1), sizes).astype(np.int64)
        while quotas.sum() < count:
            quotas[np.argmax(np.where(quotas < sizes, exact - quotas, -np.inf))] += 1
        while quotas.sum() > count:  # only where single images of rare classes pushed the sum up
            quotas[np.argmax(np.where(quotas > 1, quotas - exact, -np.inf))] -= 1
        drawn = [rng.permutation(indices[classes == label])[:quota] for label, quota in enumerate(quotas)]
        return rng.permutation(np.concatenate(drawn))
