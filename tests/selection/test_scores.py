"""Tests of the uncertainty scores: values by hand, corners of the simplex, refusals."""

import numpy as np
import pytest
import scipy.stats

from openal_ray.selection import scores

ALL = [scores.least_confidence, scores.margin, scores.ratio, scores.entropy]


def test_values_by_hand() -> None:
    probs = np.array([[0.5, 0.2, 0.3], [0.25, 0.25, 0.5]], dtype=np.float64)
    assert scores.least_confidence(probs) == pytest.approx([0.5, 0.5])
    assert scores.margin(probs) == pytest.approx([0.8, 0.75])
    assert scores.ratio(probs) == pytest.approx([0.6, 0.5])
    log2 = 0.6931471805599453
    assert scores.entropy(probs)[1] == pytest.approx(1.5 * log2)


@pytest.mark.parametrize("score", ALL)
def test_saturated_is_lowest_and_uniform_highest(score) -> None:
    probs = np.array([[0, 1, 0, 0], [0.25] * 4, [0, 0.7, 0.3, 0], [1e-45, 1, 0, 0]], dtype=np.float32)
    values = score(probs)
    assert values.dtype == np.float64 and np.isfinite(values).all()
    assert values[0] == 0.0 and not np.signbit(values[0])
    assert values.argmax() == 1 and values[2] > values[0]
    highest = {"least_confidence": 0.75, "margin": 1.0, "ratio": 1.0, "entropy": np.log(4)}[score.__name__]
    assert values[1] == pytest.approx(highest)


@pytest.mark.parametrize("score", ALL)
def test_relabelling_the_classes_changes_nothing(score) -> None:
    probs = np.random.default_rng(0).dirichlet(np.ones(6), size=50)
    assert score(probs[:, [3, 1, 5, 0, 2, 4]]) == pytest.approx(score(probs), abs=1e-15)


@pytest.mark.parametrize("score", ALL)
def test_logits_and_nan_are_refused(score) -> None:
    with pytest.raises(
        ValueError, match="probs must be finite and >= 0, got values from -1.0 to 2.0; are these logits"
    ):
        score(np.array([[2.0, -1.0]]))
    with pytest.raises(ValueError, match="probs must be finite"):
        score(np.array([[np.inf, 1.0]]))
    with pytest.raises(ValueError, match="probs must be finite"):
        score(np.array([[np.nan, 1.0]]))
    with pytest.raises(ValueError, match=r"shape \[n, C\].*got \(3,\)"):
        score(np.ones(3))


def test_one_class_has_no_margin() -> None:
    one = np.ones((2, 1))
    assert scores.entropy(one).tolist() == [0.0, 0.0] and scores.least_confidence(one).tolist() == [0.0, 0.0]
    for score in (scores.margin, scores.ratio):
        with pytest.raises(ValueError, match=r"C >= 2, got \(2, 1\)"):
            score(one)


@pytest.mark.parametrize("score", ALL)
def test_no_rows_give_no_scores(score) -> None:
    assert score(np.empty((0, 3))).shape == (0,)


@pytest.mark.parametrize("score", ALL)
def test_many_rows_are_scored_one_by_one(score) -> None:
    probs = np.random.default_rng(1).dirichlet(np.ones(7), size=40000).astype(np.float32)
    together = score(probs)
    assert together[[0, 20000, 39999]].tolist() == [float(score(probs[[i]])[0]) for i in (0, 20000, 39999)]
    exact = scipy.stats.entropy(probs[:50].astype(float), axis=1)
    assert scores.entropy(probs)[:50] == pytest.approx(exact, rel=1e-6)
