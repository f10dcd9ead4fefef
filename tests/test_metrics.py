"""Metrics against scikit-learn and against numbers worked out by hand."""

import math

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    log_loss,
    precision_recall_fscore_support,
    roc_auc_score,
)

from openal_ray.metrics import aubc, classification, labels_needed, labels_saved


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_agrees_with_scikit_learn_when_every_class_occurs(classes: int) -> None:
    rng = np.random.default_rng(classes)
    labels = np.concatenate([np.arange(classes), rng.integers(classes, size=300)])
    logits = rng.normal(size=(len(labels), classes))
    logits[np.arange(len(labels)), labels] += 1
    probs = _softmax(logits)
    predicted = probs.argmax(axis=1)
    precision, recall, f1, support = precision_recall_fscore_support(labels, predicted, labels=range(classes))

    metrics = classification(probs, labels)

    assert metrics.scalars() == pytest.approx(
        {
            "accuracy": accuracy_score(labels, predicted),
            "loss": log_loss(labels, probs),
            "f1": f1.mean(),
            "recall": recall.mean(),
            "precision": precision.mean(),
            "balanced_accuracy": balanced_accuracy_score(labels, predicted),
            "auroc": np.mean([roc_auc_score(labels == c, probs[:, c]) for c in range(classes)]),
        },
        rel=1e-12,
    )
    columns = {"support": support, "precision": precision, "recall": recall, "f1": f1}
    expected = [{name: column[c] for name, column in columns.items()} for c in range(classes)]
    assert metrics.per_class_rows() == [pytest.approx(row) for row in expected]
    assert all(list(row) == list(columns) for row in metrics.per_class_rows())


def test_scalars_come_in_the_order_of_metrics_csv() -> None:
    metrics = classification(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1]))
    names = ["accuracy", "loss", "f1", "recall", "precision", "balanced_accuracy", "auroc"]
    assert list(metrics.scalars()) == names
    assert all(type(value) is float for value in metrics.scalars().values())


def test_absent_classes_by_hand() -> None:
    """Classes 0 and 1 have images, class 2 is only predicted, class 3 occurs nowhere."""
    probs = np.array([[0.8, 0.1, 0.1, 0], [0.1, 0.2, 0.7, 0], [0.3, 0.6, 0.1, 0], [0.2, 0.7, 0.1, 0]])
    metrics = classification(probs, np.array([0, 0, 1, 1]))

    assert metrics.accuracy == 3 / 4
    assert metrics.loss == pytest.approx(-(math.log(0.8) + math.log(0.1) + math.log(0.6) + math.log(0.7)) / 4)
    assert metrics.recall == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert metrics.precision == pytest.approx((1 + 1 + 0) / 3)
    assert metrics.f1 == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert metrics.balanced_accuracy == pytest.approx((1 / 2 + 1) / 2)
    # Class 0: scores .8 .1 against .3 .2, so 2 of 4 pairs are in order. Class 1: .6 .7 against .1 .2, all 4.
    assert metrics.auroc == pytest.approx((2 / 4 + 4 / 4) / 2)
    assert [row.support for row in metrics.per_class] == [2, 2, 0, 0]
    assert (metrics.per_class[3].precision, metrics.per_class[3].recall, metrics.per_class[3].f1) == (0, 0, 0)


def test_macro_means_agree_with_scikit_learn_when_classes_are_absent() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice([1, 4, 5], size=60)
    probs = _softmax(rng.normal(size=(60, 8)))
    precision, recall, f1, _ = precision_recall_fscore_support(
        labels, probs.argmax(axis=1), average="macro", zero_division=0
    )
    metrics = classification(probs, labels)
    assert (metrics.precision, metrics.recall, metrics.f1) == pytest.approx((precision, recall, f1))


def test_one_class_has_no_auroc() -> None:
    metrics = classification(np.ones((3, 1)), np.zeros(3, dtype=int))
    assert (metrics.accuracy, metrics.balanced_accuracy, metrics.loss) == (1, 1, 0)
    assert math.copysign(1, metrics.loss) == 1, "a loss of -0.0 would be printed"
    assert math.isnan(metrics.auroc)


def test_only_one_class_among_the_labels() -> None:
    metrics = classification(np.array([[0.6, 0.4], [0.3, 0.7]]), np.array([1, 1]))
    assert metrics.accuracy == 0.5
    assert math.isnan(metrics.auroc)


def test_ties_predict_the_lower_class_and_count_half_in_auroc() -> None:
    metrics = classification(np.full((4, 2), 0.5), np.array([0, 1, 1, 1]))
    assert metrics.accuracy == 1 / 4
    assert metrics.auroc == 0.5


def test_a_certain_and_wrong_prediction_keeps_the_loss_finite() -> None:
    metrics = classification(np.array([[1.0, 0.0]], dtype=np.float32), np.array([1]))
    assert metrics.loss == pytest.approx(-math.log(np.finfo(np.float64).eps))


def test_half_precision_probabilities_are_accepted() -> None:
    probs = _softmax(np.random.default_rng(0).normal(size=(50, 5))).astype(np.float16)
    labels = np.arange(50) % 5
    assert classification(probs, labels).loss == pytest.approx(classification(probs.astype(float), labels).loss)


@pytest.mark.parametrize(
    ("probs", "labels", "message"),
    [
        (np.ones((3, 2)), [0, 1], r"probs \[n, C\] and labels \[n\].*got \[3, 2\] and \[2\]"),
        (np.ones((0, 2)), np.empty(0, int), r"at least one; got \[0, 2\]"),
        (np.ones(2), [0, 1], r"got \[2\] and \[2\]"),
        (np.ones((2, 2)) / 2, [0, 2], r"labels must lie in 0 … 1, got 0 … 2"),
        (np.ones((2, 2)) / 2, [0, -1], r"labels must lie in 0 … 1, got -1 … 0"),
        (np.ones((2, 2)) / 2, [0.0, 1.0], r"integer array\), got float64"),
        (np.array([[3.0, -4.0]]), [0], r"probs must lie in 0 … 1, got -4.0 … 3.0"),
        (np.array([[np.nan, 1.0]]), [0], r"probs must lie in 0 … 1, got nan"),
    ],
)
def test_wrong_input_is_named(probs: np.ndarray, labels: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classification(probs, np.asarray(labels))


def test_aubc_of_a_constant_score_is_that_score() -> None:
    for counts in ([10, 20], [10, 20, 30, 40], [1, 2, 50, 1000]):
        assert aubc(np.array(counts), np.full(len(counts), 0.7)) == pytest.approx(0.7)


def test_aubc_by_hand_with_uneven_steps() -> None:
    # (0.5 + 0.7) / 2 over 100 labels and (0.7 + 0.9) / 2 over 300: (60 + 240) / 400
    assert aubc(np.array([100, 200, 500]), np.array([0.5, 0.7, 0.9])) == pytest.approx(0.75)


def test_aubc_without_a_range_is_the_mean() -> None:
    assert aubc(np.array([100]), np.array([0.8])) == 0.8
    assert aubc(np.array([100, 100]), np.array([0.8, 0.6])) == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("counts", "values", "message"),
    [
        ([], [], r"at least one; got \[0\] counts and \[0\] values"),
        ([1, 2], [0.5], r"got \[2\] counts and \[1\] values"),
        ([2, 1], [0.5, 0.6], r"label counts must not fall, got \[2.0, 1.0\]"),
    ],
)
def test_curves_that_cannot_be_measured_are_refused(counts: list[int], values: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        aubc(np.array(counts), np.array(values))
    with pytest.raises(ValueError, match=message):
        labels_saved(np.array([1, 2]), np.array([0.1, 0.2]), np.array(counts), np.array(values))


REFERENCE = (np.array([100, 200, 300, 400]), np.array([0.5, 0.6, 0.7, 0.8]))


@pytest.mark.parametrize(
    ("values", "saved"),
    [
        ([0.5, 0.7, 0.9, 0.95], 150),  # reaches 0.8 half-way between 200 and 300 labels: 400 - 250
        ([0.5, 0.9, 0.7, 0.95], 400 - 175),  # what counts is the first time
        ([0.9, 0.9, 0.9, 0.9], 300),  # good enough from its first point on
        ([0.5, 0.6, 0.7, 0.8], 0),
    ],
)
def test_labels_saved_by_hand(values: list[float], saved: float) -> None:
    assert labels_saved(REFERENCE[0], np.array(values), *REFERENCE) == pytest.approx(saved)


def test_labels_saved_is_negative_beyond_the_reference_and_nan_if_never_reached() -> None:
    counts = np.array([100, 400, 600])
    assert labels_saved(counts, np.array([0.4, 0.7, 0.9]), *REFERENCE) == pytest.approx(-100)
    assert math.isnan(labels_saved(counts, np.array([0.4, 0.5, 0.79]), *REFERENCE))


def test_labels_saved_where_rounds_added_no_label() -> None:
    """Two rounds at one label count (every answer was a rejection) make a vertical step, not a division by zero."""
    assert labels_saved(np.array([100, 100, 300]), np.array([0.5, 0.85, 0.9]), *REFERENCE) == 300


def test_labels_needed_by_hand() -> None:
    counts, values = np.array([100, 200, 400]), np.array([0.5, 0.7, 0.6])
    assert labels_needed(counts, values, 0.6) == pytest.approx(150)
    assert labels_needed(counts, values, 0.5) == 100
    assert labels_needed(counts, values, 0.1) == 100
    assert np.isnan(labels_needed(counts, values, 0.71))
