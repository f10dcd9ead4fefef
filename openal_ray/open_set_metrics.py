"""What an open-set query is worth (purity, recall, cost, balance), and how well a score tells ID from OOD images.

A query may be pure and still teach little, so these stand beside the classifier's own `metrics`, never in their place.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from openal_ray.metrics import aubc
from openal_ray.pool import OUT_OF_DISTRIBUTION, UNLABELLED

_KEPT = 0.95  # FPR95: the share of in-distribution images that a threshold must let through


@dataclass(frozen=True)
class Answered:
    """One round as the record has it; round 0 is the start set.

    indices  int64 [k] dataset indices asked
    answers  int64 [k] their classes, -1 = OOD
    """

    indices: np.ndarray
    answers: np.ndarray


@dataclass(frozen=True)
class SelectionMetrics:
    """One round of an open-set run.

    id_asked, ood_asked  answers of this round of each kind
    id_found, ood_found  distinct images of each kind in this and all rounds before, start set included
    purity               ID share of this round's answers; nan if nothing was asked
    cumulative_purity    ID share of all answers after the start set; nan before the first query
    recall               id_found ÷ all ID images of the pool; nan if nobody knows how many there are
    wasted               share of all that the answers cost so far, start set included, that went to OOD images
    per_class            int64 [C] ID answers of this round by class
    annotated            all answers so far, start set included; one that was paid for twice counts twice
    balance              entropy of per_class ÷ ln C: 1 = equal counts, 0 = one class; nan without ID answers
    """

    id_asked: int
    ood_asked: int
    id_found: int
    ood_found: int
    purity: float
    cumulative_purity: float
    recall: float
    wasted: float
    per_class: np.ndarray
    balance: float
    annotated: int

    def row(self) -> dict[str, float]:
        """As columns of metrics.csv; per_class stays in the record, where the answers are."""
        return {
            "annotated": self.annotated,
            "in_distribution": self.id_asked,
            "out_of_distribution": self.ood_asked,
            "purity": self.purity,
            "purity_total": self.cumulative_purity,
            "recall_id": self.recall,
            "wasted": self.wasted,
            "balance": self.balance,
        }


def selection(
    rounds: Sequence[Answered], n_classes: int, n_id: int | None = None, cost_id: float = 1.0, cost_ood: float = 1.0
) -> list[SelectionMetrics]:
    """The metrics of every round.

    n_id               ID images of the pool, labelled ones included; None where nobody knows
    cost_id, cost_ood  of one answer of each kind, in any unit
    Purity and recall are LfOSA's precision and recall (Ning et al. 2022, section 4.1), which counts the start set too.
    """
    asked = np.array([[(one.answers >= 0).sum(), (one.answers < 0).sum()] for one in rounds]).reshape(-1, 2)
    cost = (asked * [cost_id, cost_ood]).cumsum(axis=0)
    later = asked.cumsum(axis=0) - asked[:1]
    found_id: set[int] = set()
    found_ood: set[int] = set()
    result = []
    for number, one in enumerate(rounds):
        is_id = one.answers != OUT_OF_DISTRIBUTION
        found_id.update(one.indices[is_id].tolist())
        found_ood.update(one.indices[~is_id].tolist())
        per_class = np.bincount(one.answers[is_id], minlength=n_classes)
        result.append(
            SelectionMetrics(
                id_asked=int(asked[number, 0]),
                ood_asked=int(asked[number, 1]),
                id_found=len(found_id),
                ood_found=len(found_ood),
                purity=_share(asked[number, 0], asked[number].sum()),
                cumulative_purity=_share(later[number, 0], later[number].sum()),
                recall=float("nan") if n_id is None else _share(len(found_id), n_id),
                wasted=_share(cost[number, 1], cost[number].sum()),
                per_class=per_class,
                balance=class_balance(per_class),
                annotated=int(asked[: number + 1].sum()),
            )
        )
    return result


def class_balance(counts: np.ndarray) -> float:
    """Entropy of the counts [C] ÷ ln C, in [0, 1]; 1 for a single class, nan if all counts are 0."""
    total = counts.sum()
    if not total:
        return float("nan")
    shares = counts[counts > 0] / total
    return float(-(shares * np.log(shares)).sum() / np.log(len(counts))) + 0.0 if len(counts) > 1 else 1.0


def areas(rounds: Sequence[SelectionMetrics], values: np.ndarray) -> tuple[float, float]:
    """The area under a score [r] by round, over all annotated images and over the ID labels among them.

    Both are mean heights (`metrics.aubc`): a score that is always s gives s. The second forgives impure queries.
    """
    annotated = np.cumsum([one.id_asked + one.ood_asked for one in rounds])
    labelled = np.array([one.id_found for one in rounds])
    return aubc(annotated, values), aubc(labelled, values)


@dataclass(frozen=True)
class Detection:
    """How well a purity score tells the pool's ID images (high) from OOD images (low); nan where one kind is absent.

    auroc           the chance that an ID image scores above an OOD image, ties counting one half
    aupr, aupr_ood  average precision with ID images, and with OOD images, as those to be found
    fpr95           share of the OOD images that pass the highest threshold which lets 95 % of the ID images pass
    """

    auroc: float
    aupr: float
    aupr_ood: float
    fpr95: float


def detection_of(indices: np.ndarray, purity: np.ndarray, labels: np.ndarray) -> Detection | None:
    """`detection` of a score of these dataset indices against a data set's labels; None where people hold the truth."""
    truth = labels[indices]
    return None if (truth == UNLABELLED).any() or not len(truth) else detection(purity, truth == OUT_OF_DISTRIBUTION)


def detection(purity: np.ndarray, is_ood: np.ndarray) -> Detection:
    """Detection of a purity score [n] (higher = surer to be ID; infinities are allowed) against the truth bool [n].

    raises   ValueError for different lengths or NaN
    """
    purity, is_ood = np.asarray(purity), np.asarray(is_ood, dtype=bool)
    if purity.ndim != 1 or purity.shape != is_ood.shape:
        raise ValueError(f"purity and is_ood must both be [n], got {list(purity.shape)} and {list(is_ood.shape)}")
    if np.isnan(purity).any():
        raise ValueError(f"purity must be numbers, got NaN at {int(np.isnan(purity).sum())} place(s)")
    if is_ood.all() or not is_ood.any():
        return Detection(*[float("nan")] * 4)
    ranks = np.unique(purity, return_inverse=True)[1]  # only order matters, and ranks are finite
    passed_ood, passed_id, _ = roc_curve(~is_ood, ranks, drop_intermediate=False)
    return Detection(
        auroc=float(roc_auc_score(~is_ood, ranks)),
        aupr=float(average_precision_score(~is_ood, ranks)),
        aupr_ood=float(average_precision_score(is_ood, -ranks)),
        fpr95=float(passed_ood[np.argmax(passed_id >= _KEPT)]),
    )


def oscr(right: np.ndarray, purity: np.ndarray, ood_purity: np.ndarray) -> float:
    """Area under the open-set classification rate: how often an image is both accepted and classified right.

    The mean share of test images that are right and score above an OOD image, ties counting one half: at every
    threshold, correct classifications over the OOD images that pass (Dhamija et al. 2018). nan if a kind is absent.
    right         bool [n]: whether the classifier names the class of an ID test image
    purity        [n] of these images
    ood_purity    [m] of OOD test images
    """
    if not len(right) or not len(ood_purity):
        return float("nan")
    others = np.sort(ood_purity)
    above = (np.searchsorted(others, purity, side="left") + np.searchsorted(others, purity, side="right")) / 2
    return float((above * np.asarray(right, dtype=bool)).mean() / len(others))


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")
