"""Tests of ALFA-Mix's closed form: the first step of the naive float64 scan, whatever stands beside a row."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openal_ray.selection import alpha_steps
from openal_ray.selection.alpha_bounds import CriticalBounds
from openal_ray.selection.alpha_mix import class_anchors
from openal_ray.selection.alpha_steps import NEVER, first_steps, step_limits
from openal_ray.selection.mixed_head import MixedHead
from tests.selection import alpha_naive


def case(
    seed: int, n_classes: int, d: int, n: int = 60, scale: float = 1.0, dtype: type = np.float32
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rectified features, weights, bias and anchors; some columns dead, some classes without labelled images."""
    rng = np.random.default_rng(seed)
    features = np.maximum(rng.normal(size=(n, d)) - rng.choice([0.0, 0.7]), 0).astype(dtype)
    labelled = np.maximum(rng.normal(size=(2 * n_classes, d)) - rng.choice([0.0, 0.7]), 0).astype(dtype)
    labelled[:, rng.random(d) < 0.2] = 0
    present = rng.choice(n_classes, max(1, 2 * n_classes // 3), replace=False)
    anchors = class_anchors(labelled, rng.choice(present, 2 * n_classes), n_classes)
    return features, scale * rng.normal(size=(n_classes, d)), scale * rng.normal(size=n_classes), anchors


def logits_of(features: np.ndarray, weights: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return features.astype(float) @ weights.T + bias


def scanned(features: np.ndarray, weights: np.ndarray, bias: np.ndarray, anchors: np.ndarray, cap: float) -> list[int]:
    rows = features.astype(float)
    return [alpha_naive.first_step(row, weights, bias, anchors, cap) or NEVER for row in rows]


@pytest.mark.parametrize("n_classes", [2, 10, 30])
@pytest.mark.parametrize("scale", [0.2, 1.0, 5.0])  # of the head: from nearly uniform to saturated probabilities
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_steps_of_the_scan(n_classes: int, scale: float, dtype: type) -> None:
    seen: set[int] = set()
    for seed, d in enumerate((3, 8, 24)):
        features, weights, bias, anchors = case(seed, n_classes, d, 25, scale, dtype)
        assert ((anchors == 0) & (features[:, None] == 0)).any()
        steps = first_steps(features, logits_of(features, weights, bias), weights, anchors)
        assert steps.tolist() == scanned(features, weights, bias, anchors, 1 / 32), (seed, d)
        seen |= set(steps.tolist())
    assert len(seen) > 5


@given(seed=st.integers(0, 2**31), cap=st.sampled_from([1 / 32, 0.1, 0.3, 1.0]), n_classes=st.integers(2, 6))
@settings(deadline=None, max_examples=60, derandomize=True)
def test_the_steps_of_the_scan_for_any_cap(seed: int, cap: float, n_classes: int) -> None:
    features, weights, bias, anchors = case(seed, n_classes, 1 + seed % 7, 8, dtype=np.float64)
    steps = first_steps(features, logits_of(features, weights, bias), weights, anchors, cap)
    assert steps.tolist() == scanned(features, weights, bias, anchors, cap)


@given(seed=st.integers(0, 2**31), n_classes=st.integers(2, 5))
@settings(deadline=None, max_examples=60, derandomize=True)
def test_columns_that_equal_an_anchor_move_unless_both_are_zero(seed: int, n_classes: int) -> None:
    rng = np.random.default_rng(seed)
    features, anchors = rng.integers(0, 4, (10, 5)) / 2.0, rng.integers(0, 4, (n_classes, 5)) / 2.0
    weights, bias = rng.normal(size=(n_classes, 5)), rng.normal(size=n_classes)
    steps = first_steps(features.astype(np.float32), logits_of(features, weights, bias), weights, anchors)
    expected = [alpha_naive.first_step(row, weights, bias, anchors, 1 / 32, guard=0) or NEVER for row in features]
    assert steps.tolist() == expected


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("largest", [10.0, 1e20])
def test_intervals_hold_the_critical_eps_and_are_narrow(seed: int, largest: float) -> None:
    features, weights, bias, anchors = case(seed, 7, 16, 200)
    logits = logits_of(features, weights, bias)
    head = MixedHead(weights, anchors)
    least, most, rivals = CriticalBounds(head, 1.0, largest).intervals(features, logits)
    everyone = np.ones(7, dtype=bool)
    critical = np.array([head.critical(*row, everyone) for row in zip(features, logits, strict=True)])
    reached = most <= 1
    assert ((least <= critical) & (critical <= most))[reached].all() and reached.sum() > 20
    by_rivals = [head.critical(*row) for row in zip(features[reached], logits[reached], rivals[reached], strict=True)]
    assert by_rivals == critical[reached].tolist() and rivals[reached].sum(axis=1).mean() < 4
    narrow = 1e-9 if largest > 1e15 else 1e-3  # products in float64, in float32
    assert (most[reached] - least[reached] <= narrow * most[reached]).all()
    assert (critical > 1)[~reached & (least > 1)].all() and (reached | (least > 1)).mean() > 0.95


def test_by_hand_in_two_columns() -> None:
    """The head compares the columns: G ∝ (-1, 1), |G| = sqrt(2) of it. From (2, 1) towards (-1, 5): |path| = 5.

    eps moves each column by eps · 5 / sqrt(2) / sqrt(2), the gap of 1 closes by twice that: eps = 0.2, step 7 of 1/32.
    From (2, 0) towards (-1, 0) only the first column moves: |path| = 3, gap 2 closes by eps · 1.5: never below 1.
    """
    weights = np.eye(2)
    features = np.array([[2.0, 1.0], [2.0, 0.0]])
    assert first_steps(features[:1], features[:1], weights, np.array([[-1.0, 5.0]])).tolist() == [7]
    assert first_steps(features[1:], features[1:], weights, np.array([[-1.0, 0.0]])).tolist() == [NEVER]
    assert first_steps(features[1:], features[1:], weights, np.array([[-4.0, 0.0]])).tolist() == [22]  # 2 / 3


def test_images_that_nothing_changes() -> None:
    features, weights, bias, anchors = case(0, 4, 6, 20)
    logits = logits_of(features, weights, bias)
    certain = np.tile([0.0, -800.0, -900.0, -1000.0], (20, 1))  # the other probabilities are 0 in float64
    assert set(first_steps(features, certain, 1e6 * weights, anchors).tolist()) == {NEVER}
    assert set(first_steps(features, logits, np.zeros((4, 6)), anchors).tolist()) == {NEVER}
    same = np.tile(weights[:1], (4, 1))
    assert set(first_steps(features, np.tile(bias, (20, 1)), same, anchors).tolist()) == {NEVER}
    on_the_anchor = np.tile(anchors[:1], (20, 1))
    assert set(first_steps(on_the_anchor, logits, weights, anchors[:1]).tolist()) == {NEVER}
    assert set(first_steps(features, logits[:, :1], weights[:1], anchors).tolist()) == {NEVER}  # one class


def test_a_tie_changes_at_the_first_step() -> None:
    logits = np.array([[1.0, 1.0, 0.0]])
    assert first_steps(np.ones((1, 3)), logits, np.eye(3), np.zeros((1, 3))).tolist() == [1]


@pytest.mark.parametrize("kind", ["rectified", "grid"])
def test_neighbours_and_tiles_change_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    features, weights, bias, anchors = case(3, 10, 12, 700)
    if kind == "grid":  # critical values that lie exactly on limits, and columns that equal anchors
        features, weights, anchors = (np.rint(2 * part) / 2 for part in (features, weights, anchors))
        bias = np.zeros_like(bias)
    logits = logits_of(features, weights, bias).astype(np.float32)
    steps = first_steps(features, logits, weights, anchors)
    order = np.random.default_rng(0).permutation(700)
    assert first_steps(features[order], logits[order], weights, anchors).tolist() == steps[order].tolist()
    for tile in (1, 7, 1000):
        monkeypatch.setattr(alpha_steps, "_TILE", tile)
        assert first_steps(features, logits, weights, anchors).tolist() == steps.tolist()


@pytest.mark.parametrize("unit", [1e-25, 1e-10, 1e12, 1e30])
def test_the_unit_of_the_features_does_not_matter(unit: float) -> None:
    features, weights, bias, anchors = case(6, 6, 10, 40, dtype=np.float64)
    logits = logits_of(features, weights, bias)
    steps = first_steps(features * unit, logits, weights / unit, anchors * unit)
    assert steps.tolist() == first_steps(features, logits, weights, anchors).tolist()


def test_log_probabilities_will_do() -> None:
    features, weights, bias, anchors = case(1, 5, 9)
    logits = logits_of(features, weights, bias)
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert (first_steps(features, log_probs, weights, anchors) == first_steps(features, logits, weights, anchors)).all()


def test_limits_end_at_one() -> None:
    for cap, n in ((1 / 32, 32), (0.1, 10), (0.3, 4), (1.0, 1), (0.999, 2)):
        limits = step_limits(cap)
        assert len(limits) == n and limits[-1] >= 1 and (limits[:-1] < 1).all() and math.isclose(limits[0], cap)


def test_refusals() -> None:
    good = np.ones((2, 3)), np.zeros((2, 4)), np.ones((4, 3)), np.ones((4, 3))
    with pytest.raises(ValueError, match="alpha_cap must be above 0 and at most 1, got 0"):
        first_steps(*good, cap=0)
    with pytest.raises(ValueError, match="logits must be finite, got values from nan to nan"):
        first_steps(good[0], good[1] + np.nan, *good[2:])
    with pytest.raises(ValueError, match="features must be finite, got values from -inf to 1.0"):
        first_steps(np.array([[1.0, 1, 1], [1, -np.inf, 1]]), *good[1:])
    with pytest.raises(ValueError, match=r"shapes \(\(4, 3\), \(4, 3\)\), got \(4, 2\) and \(4, 3\)"):
        first_steps(good[0], good[1], np.ones((4, 2)), good[3])
    with pytest.raises(ValueError, match=r"features must have shape \[5, D\]"):
        first_steps(good[0], np.zeros((5, 4)), *good[2:])
