"""Tests of lfosa.py: planted activations, what comes last, shards, baselines."""

import numpy as np
import pytest

from openal_ray.selection.grouped import GroupedHalf, pick_ranked
from openal_ray.selection.halves import BLOCK, LocalHalves, Picks
from openal_ray.selection.purity.lfosa import activation_log_odds, activations, lfosa_keys, uncertain_activations
from openal_ray.selection.purity.mixture import MixtureHalf, fit_mixtures


def pick(logits: np.ndarray, n_classes: int, k: int, n_shards: int = 1, monotone: bool = False) -> Picks:
    """LfOSA as a strategy would call it."""
    indices = np.arange(len(logits))
    shards = [indices[indices // BLOCK % n_shards == shard] for shard in range(n_shards)]
    halves = [MixtureHalf(*activations(logits[own], n_classes), own, n_classes) for own in shards]
    mixtures = fit_mixtures(LocalHalves(halves))
    keys = [lfosa_keys(logits[own], n_classes, mixtures, monotone) for own in shards]
    none = [np.zeros(len(own), int) for own in shards]
    return pick_ranked(LocalHalves([GroupedHalf(*one) for one in zip(keys, none, shards, strict=True)]), k)


def planted(n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Detector logits [4n, 3] of two classes and unknown; for each class a low and a high bunch of activations."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 0.1, (4 * n, 3))
    kind = np.arange(4 * n) % 4  # 0 high of class 0, 1 low of class 0, 2 high of class 1, 3 predicted unknown
    logits[kind == 0, 0] = rng.normal(12, 1, n)
    logits[kind == 1, 0] = rng.normal(4, 1, n)
    logits[kind == 2, 1] = rng.normal(30, 2, n)
    logits[kind == 2, 1][::2] -= 15
    logits[kind == 3, 2] = rng.normal(50, 1, n)
    return logits, kind


def test_the_upper_bunch_comes_first_and_the_predicted_unknown_last() -> None:
    logits, kind = planted()
    picks = pick(logits, 2, len(logits))
    assert set(kind[picks.indices[-300:]]) == {3}
    assert np.isneginf(picks.scores[-300:]).all()
    upper = picks.indices[picks.scores > 0]
    assert (kind[upper] == 0).sum() == 300
    assert not (kind[upper] == 1).any()
    # Among the predicted unknown the detector's own P(known) decides.
    last = logits[picks.indices[-300:]]
    assert (np.diff(np.log(np.exp(last[:, :2]).sum(axis=1)) - last[:, 2]) <= 1e-12).all()


@pytest.mark.parametrize("n_shards", [2, 5])
def test_shards_change_nothing(n_shards: int) -> None:
    logits, _ = planted(1700)
    one, other = (pick(logits.astype(np.float32), 2, 500, n) for n in (1, n_shards))
    assert one.indices.tolist() == other.indices.tolist()
    assert one.scores.tolist() == other.scores.tolist()


def test_everything_predicted_unknown_is_ranked_by_the_detector() -> None:
    logits = np.array([[0.0, 5.0], [4.0, 5.0], [2.0, 5.0]])
    picks = pick(logits, 1, 3)
    assert picks.indices.tolist() == [1, 2, 0]
    assert np.isneginf(picks.scores).all()


def test_a_class_predicted_once_can_still_be_asked() -> None:
    logits = np.array([[9.0, 0.0, 1.0], [0.0, 9.0, 0.0], [0.0, 2.0, 1.0], [0.0, 0.0, 9.0]])
    assert pick(logits, 2, 4).indices.tolist() == [1, 2, 0, 3]


def test_ties_go_to_the_larger_activation() -> None:
    # Far above the upper mean all count as at it where log-odds are monotone.
    rng = np.random.default_rng(3)
    column = np.concatenate([rng.normal(0, 1, 50), rng.normal(20, 1, 50), [40.0, 45.0, 42.0]])
    logits = np.stack([column + 30, np.zeros(103)], axis=1)
    assert pick(logits, 1, 3, monotone=True).indices.tolist() == [101, 102, 100]


def test_baselines_of_the_plain_classifier() -> None:
    logits = np.array([[4.0, 0.0], [0.0, 3.0]])
    values, groups = activations(logits, 2)
    assert values.tolist() == [4.0, 3.0] and groups.tolist() == [0, 1]
    probs = np.array([[0.5, 0.5], [0.0, 1.0]])
    assert uncertain_activations(logits, probs)[0].tolist() == [4 * np.log(2), 0.0]
    halves = LocalHalves([MixtureHalf(values, groups, np.arange(2), 2)])
    assert np.isneginf(activation_log_odds((values, groups), fit_mixtures(halves))).all()


def test_shards_without_rows_change_nothing() -> None:
    logits, _ = planted(100)
    assert pick(logits, 2, 50, n_shards=5).indices.tolist() == pick(logits, 2, 50).indices.tolist()
