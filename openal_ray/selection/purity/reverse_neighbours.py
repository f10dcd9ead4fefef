"""How often an image is among the nearest unlabelled neighbours of labelled ones, class by class, over shards.

EAOA (CVPR 2025), its data-driven epistemic uncertainty. The labelled images are gone through in small lots: a shard
answers with its own most similar rows, the driver says from which cosine on a row is among the nearest of all shards.
"""

import numpy as np

from openal_ray.selection.halves import Halves
from openal_ray.selection.purity.energies import free_energy, open_energy
from openal_ray.selection.similarity import directions, most_similar

_LOT = 256  # labelled images gone through at a time


class ReverseNeighboursHalf:
    """One shard's features.

    features   [n, D]; similarity is the cosine
    indices    int64 [n] ascending dataset indices
    n_classes  of the labelled images, unknown included
    """

    def __init__(self, features: np.ndarray, indices: np.ndarray, n_classes: int) -> None:
        self._rows, self._indices = directions(features), np.asarray(indices, dtype=np.int64)
        self.counts = np.zeros((len(self._indices), n_classes), dtype=np.int64)
        self._found = (np.empty((0, 0), np.int64), np.empty((0, 0)))

    def size(self) -> int:
        """The number of rows."""
        return len(self._indices)

    def neighbours(self, labelled: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Of each unit row [m, D] the `k` most similar rows here: cosines and dataset indices [m, min(k, n)]."""
        if not len(self._indices):
            return np.empty((len(labelled), 0)), np.empty((len(labelled), 0), np.int64)
        self._found = most_similar(labelled, self._rows, min(k, len(self._indices)))
        positions, cosines = self._found
        return cosines, self._indices[positions]

    def count(self, classes: np.ndarray, cosines: np.ndarray, indices: np.ndarray) -> None:
        """Counts the rows of the last question that are among the nearest of all shards.

        classes   int64 [m] of the labelled rows of that question
        cosines   float64 [m] of their farthest neighbours, and
        indices   int64 [m] the dataset indices of those
        """
        if not len(self._indices):
            return
        positions, found = self._found
        last = cosines[:, None]
        near = (found > last) | ((found == last) & (self._indices[positions] <= indices[:, None]))
        row, column = np.nonzero(near)
        np.add.at(self.counts, (positions[row, column], classes[row]), 1)


def count_reverse_neighbours(halves: Halves, labelled: np.ndarray, classes: np.ndarray, k: int = 250) -> None:
    """Leaves in every half, for each row and class, of how many labelled images it is one of the `k` most similar.

    labelled  [L, D] features of the labelled and rejected images
    classes   int64 [L] their classes, the highest = unknown
    k         or all rows, if there are fewer; ties go to the lower dataset index
    """
    k = min(k, sum(halves.ask("size")))
    rows = directions(labelled)
    if not k:
        return
    for low in range(0, len(rows), _LOT):
        lot = slice(low, low + _LOT)
        answers = halves.ask("neighbours", rows[lot], k)
        cosines = np.concatenate([found for found, _ in answers], axis=1)
        indices = np.concatenate([where for _, where in answers], axis=1)
        last = np.lexsort((indices, -cosines), axis=1)[:, k - 1 : k]
        halves.ask(
            "count",
            classes[lot],
            np.take_along_axis(cosines, last, axis=1)[:, 0],
            np.take_along_axis(indices, last, axis=1)[:, 0],
        )


def neighbour_energy(counts: np.ndarray, labelled_sizes: np.ndarray) -> np.ndarray:
    """The open energy float64 [n] of the counts [n, C+1]; low = known.

    labelled_sizes  int64 [C+1] labelled images by class, rejected ones last: counts are divided by a class's size in
                    units of the mean size of the known ones; absent classes count 0. Without rejected images the
                    term of the unknown is left out.
    """
    known = labelled_sizes[:-1]
    weights = labelled_sizes / max(known.mean(), np.finfo(np.float64).tiny)
    scaled = counts / np.where(weights > 0, weights, 1.0)
    return open_energy(scaled) if labelled_sizes[-1] else free_energy(scaled[:, :-1])
