"""Tests of energies.py: identities, extreme logits, edge shapes."""

import numpy as np
import pytest
from scipy.special import logsumexp, softmax

from openal_ray.selection.purity.energies import (
    aleatoric,
    free_energy,
    known_log_odds,
    log_sum_exp,
    open_energy,
    softplus,
)

LOGITS = np.random.default_rng(0).normal(0, 5, (200, 4))


def test_aleatoric_is_the_log_of_what_the_largest_probability_leaves() -> None:
    largest = softmax(LOGITS, axis=1).max(axis=1)
    assert np.allclose(aleatoric(LOGITS), np.log1p(-largest), atol=1e-9)
    assert np.array_equal(aleatoric(np.ones((3, 1))), np.zeros(3))


def test_formulas() -> None:
    assert np.allclose(log_sum_exp(LOGITS), logsumexp(LOGITS, axis=1))
    assert np.allclose(free_energy(LOGITS), -logsumexp(LOGITS, axis=1))
    expected = -logsumexp(LOGITS[:, :3], axis=1) + np.log1p(np.exp(LOGITS[:, 3]))
    assert np.allclose(open_energy(LOGITS), expected)
    probs = softmax(LOGITS, axis=1)
    assert np.allclose(known_log_odds(LOGITS), np.log((1 - probs[:, 3]) / probs[:, 3]))


@pytest.mark.parametrize("size", [1e3, -1e3])
def test_large_logits(size: float) -> None:
    logits = np.array([[size, 0.0, -size], [size, size, size]], dtype=np.float32)
    first, second = open_energy(logits)
    highest = abs(size)
    assert first == pytest.approx(-max(size, 0.0) + max(-size, 0.0))
    assert second == pytest.approx(-size - np.log(2) + max(size, 0.0))
    assert aleatoric(logits)[0] == pytest.approx(-highest)
    assert softplus(np.array([1e3, -1e3])).tolist() == [1e3, 0.0]


def test_nothing_at_all() -> None:
    assert np.isneginf(log_sum_exp(np.empty((2, 0)))).all()
    assert log_sum_exp(np.empty((0, 3))).shape == (0,)
    assert np.isneginf(log_sum_exp(np.full((1, 2), -np.inf)))
