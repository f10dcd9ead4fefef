"""What a classifier's probabilities are worth on test images, and what a whole learning curve is worth."""

from dataclasses import asdict, dataclass, fields

import numpy as np

# An image whose true class was given no chance at all counts as 36 nats, not as infinity.
_SMALLEST = np.finfo(np.float64).eps


@dataclass(frozen=True)
class ClassMetrics:
    """One class: how many images have it, and how well they are told from the rest.

    A ratio without cases is 0: recall of a class without images, precision of one that is never predicted.
    """

    support: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Metrics:
    """All that is measured on the test images in one round, in the order of the columns of metrics.csv.

    loss is the mean cross-entropy in nats. f1, recall and precision are means over the classes that occur among the
    labels or the predictions; balanced_accuracy is the mean recall of the classes that occur among the labels.
    auroc is the mean over the classes that have both images and others, one against the rest; nan if there is none.
    per_class has an entry for every class, at its number.
    """

    accuracy: float
    loss: float
    f1: float
    recall: float
    precision: float
    balanced_accuracy: float
    auroc: float
    per_class: tuple[ClassMetrics, ...]

    def scalars(self) -> dict[str, float]:
        """The single numbers by name."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "per_class"}

    def per_class_rows(self) -> list[dict[str, float]]:
        """The table of classes as plain data, in the order of the columns of per_class.csv."""
        return [asdict(entry) for entry in self.per_class]


def classification(probs: np.ndarray, labels: np.ndarray) -> Metrics:
    """Metrics of predicted probabilities against true classes.

    probs    [n, C] class probabilities; the prediction is the largest, ties go to the lower class
    labels   [n] true classes, 0 … C-1
    raises   ValueError for shapes that do not fit, no images, labels out of range, or values that are no probabilities
    """
    probs, labels = _checked(probs, labels)
    classes = probs.shape[1]
    predicted = probs.argmax(axis=1)
    support = np.bincount(labels, minlength=classes)
    claimed = np.bincount(predicted, minlength=classes)
    hits = np.bincount(labels[predicted == labels], minlength=classes)
    recall, precision, f1 = _ratio(hits, support), _ratio(hits, claimed), _ratio(2 * hits, support + claimed)
    present = (support > 0) | (claimed > 0)
    true_probs = probs[np.arange(len(labels)), labels].astype(np.float64)
    columns = zip(support.tolist(), precision.tolist(), recall.tolist(), f1.tolist(), strict=True)
    return Metrics(
        accuracy=float(hits.sum() / len(labels)),
        loss=float(np.abs(np.log(np.clip(true_probs, _SMALLEST, 1))).mean()),
        f1=float(f1[present].mean()),
        recall=float(recall[present].mean()),
        precision=float(precision[present].mean()),
        balanced_accuracy=float(recall[support > 0].mean()),
        auroc=_macro_auroc(probs, labels, support),
        per_class=tuple(ClassMetrics(*column) for column in columns),
    )


def aubc(labelled: np.ndarray, values: np.ndarray) -> float:
    """Area under the budget curve: the mean height of `values` over the range of label counts.

    labelled  [r] label counts, never falling
    values    [r] a score at each count, joined by straight lines; a constant score s gives s
    returns   the trapezoid area over the range of counts; with no range, the mean of the values
    raises    ValueError if the arrays differ in length, are empty, or the counts fall
    """
    labelled, values = _checked_curve(labelled, values)
    span = labelled[-1] - labelled[0]
    return float(np.trapezoid(values, labelled) / span) if span > 0 else float(values.mean())


def labels_needed(labelled: np.ndarray, values: np.ndarray, target: float) -> float:
    """The label count at which a curve first reaches a value, read between its points by a straight line.

    returns   the count, which is the first one for a curve that starts there; nan where it never gets there
    raises    ValueError if the arrays differ in length, are empty, or the counts fall
    """
    labelled, values = _checked_curve(labelled, values)
    reached = np.flatnonzero(values >= target)
    if len(reached) == 0:
        return float("nan")
    first = reached[0]
    if first == 0:
        return float(labelled[0])
    share = (target - values[first - 1]) / (values[first] - values[first - 1])
    return float(labelled[first - 1] + share * (labelled[first] - labelled[first - 1]))


def labels_saved(
    labelled: np.ndarray, values: np.ndarray, reference_labelled: np.ndarray, reference_values: np.ndarray
) -> float:
    """How many labels fewer a curve needs than a reference curve to reach the reference's last value.

    returns   the reference's last label count minus `labels_needed`: negative where the curve needs more labels,
              nan where it never gets there
    raises    ValueError if a curve's arrays differ in length, are empty, or its counts fall
    """
    reference_labelled, reference_values = _checked_curve(reference_labelled, reference_values)
    return float(reference_labelled[-1]) - labels_needed(labelled, values, float(reference_values[-1]))


def _checked(probs: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    probs, labels = np.asarray(probs), np.asarray(labels)
    if probs.ndim != 2 or labels.ndim != 1 or len(probs) != len(labels) or probs.size == 0:
        raise ValueError(
            "metrics need probs [n, C] and labels [n] of the same n images, at least one; "
            f"got {list(probs.shape)} and {list(labels.shape)}"
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be class numbers (an integer array), got {labels.dtype}")
    if labels.min() < 0 or labels.max() >= probs.shape[1]:
        raise ValueError(f"labels must lie in 0 … {probs.shape[1] - 1}, got {labels.min()} … {labels.max()}")
    # The margin forgives the rounding of a half-precision softmax; logits are far outside it. Nan fails as well.
    if not (probs.min() >= -1e-3 and probs.max() <= 1 + 1e-3):
        raise ValueError(f"probs must lie in 0 … 1, got {probs.min()} … {probs.max()}")
    return probs, labels


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return part / np.maximum(whole, 1)  # no part without a whole, so an empty class gives 0


def _macro_auroc(probs: np.ndarray, labels: np.ndarray, support: np.ndarray) -> float:
    """Mean over classes of the chance that an image of the class is scored above another image (a tie is one half)."""
    areas = []
    for label in np.flatnonzero((support > 0) & (support < len(labels))):
        positive = labels == label
        others = np.sort(probs[~positive, label])
        below = np.searchsorted(others, probs[positive, label], side="left")
        not_above = np.searchsorted(others, probs[positive, label], side="right")
        areas.append((below + not_above).mean() / 2 / len(others))
    return float(np.mean(areas)) if areas else float("nan")


def _checked_curve(labelled: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labelled, values = np.asarray(labelled, np.float64), np.asarray(values, np.float64)
    if labelled.ndim != 1 or labelled.shape != values.shape or len(labelled) == 0:
        raise ValueError(
            "a curve needs one value for each label count, at least one; "
            f"got {list(labelled.shape)} counts and {list(values.shape)} values"
        )
    if (np.diff(labelled) < 0).any():
        raise ValueError(f"label counts must not fall, got {labelled.tolist()}")
    return labelled, values
