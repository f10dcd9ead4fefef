"""Tests of joint label configurations against products written out, and of the law of the sample."""

import itertools

import numpy as np
import pytest

from openal_ray.selection.configurations import drawn_classes, of_nothing, sampled, with_all_classes

T, C = 4, 3
PROBS = np.random.default_rng(0).dirichlet(np.full(C, 0.4), size=(3, T))  # three images


def likelihoods(classes: tuple[int, ...]) -> np.ndarray:
    """Of one configuration in every pass."""
    return np.prod([[PROBS[image, t, label] for t in range(T)] for image, label in enumerate(classes)], axis=0)


def test_all_classes_are_the_products() -> None:
    known = of_nothing(T)
    for probs in PROBS:
        known = with_all_classes(known, probs)
    assert known.exact and known.posterior.shape == (T, C**3)
    for place, classes in enumerate(itertools.product(range(C), repeat=3)):
        expected = likelihoods(classes)
        assert known.weights[place] == pytest.approx(expected.mean())
        np.testing.assert_allclose(known.posterior[:, place], expected / expected.sum())
    assert known.weights.sum() == pytest.approx(1)


def test_impossible_classes_are_left_out() -> None:
    certain = np.array([[0.0, 1.0, 0.0]] * T)
    known = with_all_classes(with_all_classes(of_nothing(T), certain), PROBS[0])
    assert known.weights.shape == (C,)
    np.testing.assert_allclose(known.weights, PROBS[0].mean(axis=0))


def test_the_sample_follows_the_joint_law() -> None:
    known = sampled(PROBS, 60_000, np.random.default_rng(1))
    classes = drawn_classes(PROBS, 60_000, np.random.default_rng(1))
    assert classes.shape == (60_000, 3) and not known.exact and known.weights.sum() == pytest.approx(1)
    for configuration in itertools.product(range(C), repeat=3):
        expected = likelihoods(configuration)
        found = (classes == configuration).all(axis=1)
        assert found.mean() == pytest.approx(expected.mean(), abs=5 * np.sqrt(expected.mean() / 60_000))
        for posterior in known.posterior[:, found].T[:3]:
            np.testing.assert_allclose(posterior, expected / expected.sum())


def test_every_pass_is_drawn_as_often() -> None:
    certain = np.eye(T)[None]  # pass t predicts class t
    assert drawn_classes(certain, 11, np.random.default_rng(0))[:, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert drawn_classes(certain, 1, np.random.default_rng(0))[:, 0].tolist() == [0, 1, 2, 3]


def test_many_images_do_not_vanish() -> None:
    many = np.random.default_rng(2).dirichlet(np.full(50, 0.1), size=(400, T))
    posterior = sampled(many, 40, np.random.default_rng(0)).posterior
    np.testing.assert_allclose(posterior.sum(axis=0), 1)
    np.testing.assert_allclose(posterior[np.repeat(np.arange(T), 10), np.arange(40)], 1)  # the pass drawn from
