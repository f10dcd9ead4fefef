"""Tests of clipn.py: scores on hand-made cosines, CLIPNAL's rule and scale against plain loops, edge cases."""

import numpy as np
import pytest
from scipy.special import softmax

from openal_ray.selection.purity.clipn import (
    CLIPN_SCALE,
    SCALES,
    Prototypes,
    agreement,
    clipnal_margin,
    competition,
    search_scale,
)

YES = np.array([[0.30, 0.20], [0.25, 0.25], [0.10, 0.30]])
NO = np.array([[0.28, 0.25], [0.30, 0.30], [0.10, 0.20]])


def sigmoid(x: np.ndarray | float) -> np.ndarray:
    return 1 / (1 + np.exp(-np.asarray(x, dtype=float)))


def test_scores_on_hand_made_cosines() -> None:
    # P(yes) of the first image: sigmoid(2) and sigmoid(-5); its classes differ by 10.
    first = sigmoid(2) * sigmoid(10) + sigmoid(-5) * sigmoid(-10)
    second = sigmoid(-5)
    third = sigmoid(0) * sigmoid(-20) + sigmoid(10) * sigmoid(20)
    assert agreement(YES, NO) == pytest.approx([first, second, third])
    assert competition(YES, NO) == pytest.approx([sigmoid(2), sigmoid(-5), sigmoid(10)])
    assert agreement(YES * 1e3, NO * 1e3).max() <= 1.0  # no overflow


def direct_margin(yes: np.ndarray, no: np.ndarray, s: float, sim: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """CLIPNAL's id and ood, image by image."""
    known, unknown = [], []
    for i in range(len(yes)):
        pairs = softmax(s * np.stack([yes[i], no[i]]), axis=0)[0]
        a = pairs * softmax(s * yes[i])
        ood = 1 - a.sum()
        if sim is not None:
            a, ood = a * softmax(s * sim[i]), ood / len(a)
        known.append(a.max())
        unknown.append(ood)
    return np.array(known), np.array(unknown)


@pytest.mark.parametrize("with_similarity", [False, True])
def test_the_search_is_brute_force(with_similarity: bool) -> None:
    rng = np.random.default_rng(0)
    is_ood = np.arange(60) % 3 == 0
    yes = rng.normal(0.25, 0.03, (60, 5)) + 0.05 * np.eye(5)[np.arange(60) % 5] * ~is_ood[:, None]
    no = rng.normal(0.25, 0.03, (60, 5))
    similarity = rng.uniform(0.3, 0.9, (60, 5)) if with_similarity else None
    best, quality = 0.0, -1.0
    for scale in np.arange(1, 1001) / 10:
        known, unknown = direct_margin(yes, no, scale, similarity)
        found = ((known > unknown)[~is_ood].mean() + (known <= unknown)[is_ood].mean()) / 2
        if found > quality + 1e-12:
            best, quality = float(scale), found
    assert search_scale(yes, no, is_ood, similarity) == best
    known, unknown = direct_margin(yes, no, best, similarity)
    assert np.allclose(clipnal_margin(yes, no, best, similarity), known - unknown)


def test_without_rejected_images_the_scale_is_that_of_clipn() -> None:
    assert search_scale(YES, NO, np.zeros(3, bool)) == CLIPN_SCALE == 100.0
    assert search_scale(YES, NO, np.ones(3, bool)) == 100.0
    assert search_scale(YES[:0], NO[:0], np.zeros(0, bool)) == 100.0
    assert SCALES[[0, -1]].tolist() == [0.1, 100.0]


def test_prototypes_leave_out_the_image_itself() -> None:
    embeddings = np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 4.0], [5.0, 0.0]])
    classes = np.array([0, 0, 1, 0])
    prototypes = Prototypes.of(embeddings, classes, 3)
    found = prototypes.similarity(embeddings)
    assert found[0] == pytest.approx([2 / 3, 0.6, -np.inf])
    out = prototypes.similarity(embeddings, classes)
    assert out[0] == pytest.approx([0.5, 0.6, -np.inf])  # of (0, 1) and (1, 0)
    assert out[2] == pytest.approx([(0.6 + 0.8 + 0.6) / 3, -np.inf, -np.inf])  # its class has no other image
    assert np.array_equal(prototypes.similarity(embeddings, np.full(4, -1)), found)


def test_classes_without_prototypes_are_no_trouble() -> None:
    found = clipnal_margin(YES, NO, 10.0, np.full((3, 2), -np.inf))
    known, unknown = direct_margin(YES, NO, 10.0, np.zeros((3, 2)))
    assert np.allclose(found, known - unknown)
    one = clipnal_margin(YES, NO, 10.0, np.array([[0.5, -np.inf]] * 3))
    chances = sigmoid(10 * (YES - NO)) * softmax(10 * YES, axis=1)
    assert np.allclose(one, chances[:, 0] - (1 - chances.sum(axis=1)) / 2)
