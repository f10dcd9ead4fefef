"""CCAL: of each class the images that look like it at large (semantic) yet unlike its labelled images (distinctive).

Du et al. 2021 (ICCV), by the authors' code. Differs: a class with a single labelled image counts it as both neighbours;
a class with too few images leaves its share to the best of the others, where the published code picks any.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from openal_ray.selection.columns import ColumnsHalf, Extents, fit_extents
from openal_ray.selection.grouped import GroupedHalf
from openal_ray.selection.halves import Halves, Picks, checked_sizes
from openal_ray.selection.inner import Inner
from openal_ray.selection.quotas import pick_by_quota
from openal_ray.selection.similarity import cosines, directions, most_similar

Form = Literal["official", "openal"]


@dataclass(frozen=True)
class CcalPlan:
    """The formulas.

    form    official  tanh(k (m - t) / 2) and (s1 - s2) + cos(a, b) + s1; openal: tanh(k (m - t)), without the last s1
    k, t    steepness and threshold of the semantic score
    """

    form: Form = "official"
    k: float = 100.0
    t: float = 0.9


@dataclass(frozen=True)
class LabelledViews:
    """Features of the labelled images, L > 0 of them.

    semantic     [L, D]
    distinctive  [L, R, E] one a rotation of the image; R = 1 where the encoder knows no rotations
    classes      int64 [L] in 0 … C-1
    """

    semantic: np.ndarray
    distinctive: np.ndarray
    classes: np.ndarray


def semantic_score(similarity: np.ndarray, plan: CcalPlan) -> np.ndarray:
    """About -1 … 1, float64 [n]; of the similarity to the nearest labelled image, scaled to 0 … 1 over the pool."""
    steepness = plan.k / 2 if plan.form == "official" else plan.k
    return np.tanh(steepness * (np.asarray(similarity, dtype=np.float64) - plan.t))


def typicality(views: np.ndarray, labelled: np.ndarray, form: Form = "official") -> np.ndarray:
    """How much float64 [n] an image is like the labelled images of one class; the distinctive score falls with it.

    views, labelled  [n, R, E] and [m, R, E], m > 0: the mean over R of (s1 - s2) + cos(a, b) + s1, where a and b are
                     the two most similar labelled images and s1 >= s2 their cosines
    """
    result = np.zeros(len(views))
    for rotation in range(views.shape[1]):
        rows, others = directions(views[:, rotation]), directions(labelled[:, rotation])
        where, similar = most_similar(rows, others, min(2, len(others)))
        first, second = similar[:, 0], similar[:, -1]
        between = cosines(others[where[:, 0]], others[where[:, -1]]) if len(others) > 1 else 1.0
        result += (first - second) + between + (first if form == "official" else 0.0)
    return result / views.shape[1]


class CcalHalf:
    """One shard's similarities to the labelled images.

    semantic, distinctive  [n, D] and [n, R, E] as in `LabelledViews`
    indices                int64 [n] ascending dataset indices
    n_classes              classes without a labelled image are nobody's pseudo label
    """

    def __init__(
        self,
        semantic: np.ndarray,
        distinctive: np.ndarray,
        labelled: LabelledViews,
        n_classes: int,
        indices: np.ndarray,
        plan: CcalPlan | None = None,
    ) -> None:
        self._plan = plan or CcalPlan()
        self._indices, self._n_classes = np.asarray(indices, dtype=np.int64), n_classes
        where, similar = most_similar(directions(semantic), directions(labelled.semantic), 1)
        self._pseudo = labelled.classes[where[:, 0]]
        present = np.unique(labelled.classes)
        self._column = np.searchsorted(present, self._pseudo)
        typical = [
            typicality(distinctive, labelled.distinctive[labelled.classes == label], self._plan.form)
            for label in present
        ]
        self._raw = np.stack([similar[:, 0], *typical], axis=1)  # [n, 1 + classes present]
        self._halves: dict[str, Any] = {"raw": ColumnsHalf(self._raw, self._indices)}

    def size(self) -> int:
        """The number of rows."""
        return len(self._indices)

    def inner(self, name: str, verb: str, *args: Any) -> Any:
        """A question to the `ColumnsHalf` of what is scaled over the pool, or, after `rank`, to the `GroupedHalf`."""
        return getattr(self._halves[name], verb)(*args)

    def rank(self, extents: Extents) -> None:
        """Takes the extremes over all shards: the rows by pseudo label get their score as key."""
        scaled = extents.scaled(self._raw)
        distinctive = 1.0 - scaled[np.arange(len(scaled)), 1 + self._column]
        score = semantic_score(scaled[:, 0], self._plan) + distinctive
        self._halves["ranked"] = GroupedHalf(score, self._pseudo, self._indices, self._n_classes)


def pick_ccal(halves: Halves, quotas: np.ndarray) -> Picks:
    """quotas[c] rows of each pseudo label c (see `quotas.pick_by_quota`); scores are semantic plus distinctive.

    raises   ValueError if there are fewer rows than the quotas add up to
    """
    checked_sizes(halves, int(quotas.sum()))
    halves.ask("rank", fit_extents(Inner(halves, "raw")))
    return pick_by_quota(Inner(halves, "ranked"), quotas)
