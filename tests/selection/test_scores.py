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


def test_one_class_leaves_no_doubt() -> None:
    one = np.ones((2, 1))
    for score in (scores.entropy, scores.least_confidence, scores.margin, scores.ratio):
        assert score(one).tolist() == [0.0, 0.0]


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


# Three passes over three classes, as counted on paper: votes 0, 0, 2; mean (0.5, 0.1, 0.4).
THREE = [[0.7, 0.1, 0.2], [0.6, 0.2, 0.2], [0.2, 0.0, 0.8]]
AGREE = [[0.75, 0.25, 0.0]] * 3
OPPOSED = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
MC = [scores.bald, scores.mean_std, scores.variation_ratio, scores.vote_entropy]
LOG = np.log


def test_monte_carlo_values_by_hand() -> None:
    mc_probs = np.array([THREE, AGREE, OPPOSED])
    of_mean = -(0.5 * LOG(0.5) + 0.1 * LOG(0.1) + 0.4 * LOG(0.4))
    of_each = -(
        (0.7 * LOG(0.7) + 0.1 * LOG(0.1) + 0.2 * LOG(0.2))
        + (0.6 * LOG(0.6) + 0.4 * LOG(0.2))
        + (0.2 * LOG(0.2) + 0.8 * LOG(0.8))
    )
    assert scores.bald(mc_probs) == pytest.approx([of_mean - of_each / 3, 0.0, LOG(3)], abs=1e-15)
    # squared deviations from the mean: .04 .01 .09 | 0 .01 .01 | .04 .04 .16; opposed: 2/9 a class
    by_class = [np.sqrt(0.14 / 3), np.sqrt(0.02 / 3), np.sqrt(0.24 / 3)]
    assert scores.mean_std(mc_probs) == pytest.approx([sum(by_class) / 3, 0.0, np.sqrt(2) / 3])
    assert scores.variation_ratio(mc_probs) == pytest.approx([1 / 3, 0.0, 2 / 3])
    assert scores.vote_entropy(mc_probs) == pytest.approx([LOG(3) - 2 / 3 * LOG(2), 0.0, LOG(3)])


def test_ties_in_a_pass_vote_for_the_lower_class() -> None:
    tied = np.array([[[0.0, 0.5, 0.5], [0.0, 1.0, 0.0], [0.5, 0.5, 0.0]]])  # votes 1, 1, 0
    assert scores.variation_ratio(tied) == pytest.approx([1 / 3])
    assert scores.vote_entropy(tied) == pytest.approx([LOG(3) - 2 / 3 * LOG(2)])


@pytest.mark.parametrize("score", MC)
def test_agreeing_or_single_passes_give_zero_even_when_saturated(score) -> None:
    certain = np.array([[[0, 1, 0]] * 4, [[1e-45, 1, 0]] * 4], dtype=np.float32)
    assert score(certain).tolist() == [0.0, 0.0] and not np.signbit(score(certain)).any()
    rng = np.random.default_rng(0)
    assert score(rng.dirichlet(np.ones(5), size=(20, 1))) == pytest.approx(np.zeros(20))
    assert (score(np.repeat(rng.dirichlet(np.ones(5), size=(200, 1)), 7, axis=1)) >= 0).all()
    one_class = score(np.ones((2, 3, 1)))
    assert one_class.dtype == np.float64 and one_class.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("score", MC)
def test_relabelling_classes_and_reordering_passes_changes_nothing(score) -> None:
    mc_probs = np.random.default_rng(0).dirichlet(np.ones(4), size=(50, 6))
    assert score(mc_probs[:, ::-1][:, :, [2, 0, 3, 1]]) == pytest.approx(score(mc_probs), abs=1e-14)


@pytest.mark.parametrize("score", MC)
def test_many_images_are_scored_one_by_one(score) -> None:
    mc_probs = np.random.default_rng(1).dirichlet(np.full(7, 0.3), size=(4000, 20)).astype(np.float32)
    together = score(mc_probs)
    assert together[[0, 2000, 3999]].tolist() == [float(score(mc_probs[[i]])[0]) for i in (0, 2000, 3999)]
    assert score(np.empty((0, 2, 3))).shape == (0,)


@pytest.mark.parametrize("score", MC)
def test_what_cannot_be_passes_is_refused(score) -> None:
    with pytest.raises(ValueError, match=r"mc_probs must have shape \[n, T, C\] with T and C >= 1, got \(2, 3\)"):
        score(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"got \(2, 0, 3\)"):
        score(np.ones((2, 0, 3)))
    for bad in (np.nan, np.inf, -0.1):
        with pytest.raises(ValueError, match="mc_probs must be finite and >= 0, got values from"):
            score(np.array([[[0.5, 0.5], [bad, 1.0]]]))
