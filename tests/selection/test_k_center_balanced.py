"""Tests of class-balanced k-center: the picks of the formula's naive float64 greedy, for any shards, few exchanges."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openal_ray.selection import k_center, k_center_balanced
from openal_ray.selection.halves import LocalHalves
from openal_ray.selection.k_center_balanced import KCenterBalancedHalf, Lacking, pick_k_center_balanced
from tests.selection import naive


def greedy(
    points: np.ndarray, probs: np.ndarray, covered: np.ndarray, counts: np.ndarray, k: int, weight: float = 5.0
) -> tuple[list[int], list[float]]:
    """Positions and -value of picks that minimise -d_i + (weight / C) |R - p_i - sum of picked p|_1, as it stands."""
    rows, p = points.astype(float), probs.astype(float)
    n_classes = len(counts)
    lacking = np.array([max(int(counts.sum() + k) // n_classes - int(count), 0) for count in counts], dtype=float)
    distances = np.full(len(rows), np.inf)
    for centre in covered.astype(float):
        distances = np.minimum(distances, np.sqrt(np.square(rows - centre).sum(axis=1)))
    picks: list[int] = []
    scores: list[float] = []
    for _ in range(k):
        picked = p[picks].sum(axis=0)
        values = -distances + weight / n_classes * np.abs(lacking - p - picked).sum(axis=1)
        left = np.setdiff1d(np.arange(len(rows)), picks)
        best = int(left[np.argmin(values[left])])
        picks.append(best)
        scores.append(-float(values[best]))
        distances = np.minimum(distances, np.sqrt(np.square(rows - rows[best]).sum(axis=1)))
    return picks, scores


def case(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int, float]:
    """Points, probabilities, covered points, class counts, k, weight. With copies, sums of probabilities are exact."""
    rng = np.random.default_rng(seed)
    n, n_classes, d = int(rng.integers(2, 300)), int(rng.choice([1, 2, 5, 12])), int(rng.choice([1, 3, 10]))
    points = (rng.normal(size=(n, d)) * rng.choice([0.1, 1, 8])).astype(rng.choice([np.float32, np.float64]))
    probs = rng.dirichlet(np.full(n_classes, rng.choice([0.03, 1.0])), n)
    if seed % 3 == 0:
        points = points[rng.integers(0, n // 3 + 1, n)]
        probs = rng.multinomial(16, np.full(n_classes, 1 / n_classes), n) / 16
    covered = rng.normal(size=(int(rng.choice([0, 4])), d)).astype(points.dtype)
    counts = rng.integers(0, 6, n_classes) * (rng.random(n_classes) < 0.7)
    return points, probs, covered, counts, int(rng.integers(1, min(n, 80) + 1)), float(rng.choice([0.5, 5.0, 50.0]))


@given(seed=st.integers(0, 2**31), n_shards=st.sampled_from([1, 2, 5]))
@settings(deadline=None, max_examples=150, derandomize=True)
def test_picks_of_the_formula(seed: int, n_shards: int) -> None:
    points, probs, covered, counts, k, weight = case(seed)
    indices = np.sort(np.random.default_rng(seed).choice(4 * len(points), len(points), replace=False))
    owner = np.random.default_rng(seed).integers(0, n_shards, len(points))
    mine = [owner == shard for shard in range(n_shards)]
    halves = LocalHalves([KCenterBalancedHalf(points[m], probs[m], indices[m]) for m in mine])
    picks = pick_k_center_balanced(halves, k, covered, counts, weight)
    expected, scores = greedy(points, probs, covered, counts, k, weight)
    assert picks.indices.tolist() == indices[expected].tolist()
    assert picks.scores == pytest.approx(scores, abs=1e-6)


def test_by_hand() -> None:
    """One class lacks two images, the other none: R = floor((4 + 2) / 2) - (1, 3) = (2, 0); weight / C = 1.

    First: at 3, sure of class 1: -3 + |2| + |-1| = 0; at 2.5, sure of class 0: -2.5 + |1| + 0 = -1.5, picked. Then
    at 3 the distance is 0.5: -0.5 + 1 + 1; at 0.2, class 0: -0.2 + 0 + 0, picked.
    """
    points, probs = np.array([[3.0], [2.5], [0.2]]), np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    half = KCenterBalancedHalf(points, probs, np.arange(3))
    picks = pick_k_center_balanced(LocalHalves([half]), 2, np.zeros((1, 1)), np.array([1, 3]), 2.0)
    assert picks.indices.tolist() == [1, 2] and picks.scores == pytest.approx([1.5, 0.2])
    assert k_center(points, np.zeros((1, 1)), 2).tolist() == [0, 1]


def test_classes_without_a_labelled_image_count() -> None:
    assert Lacking.at_first(np.array([5, 0, 1]), 4, 6.0).images.tolist() == [0, 3, 2]
    assert Lacking.at_first(np.array([5, 0, 1]), 4, 6.0).weight == 2.0


def network_like(n: int, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Rectified features of overlapping classes of very different sizes, and probabilities of a rough classifier."""
    rng = np.random.default_rng(1)
    middles, classes = 1.5 * rng.normal(size=(n_classes, 24)), (n_classes * rng.random(n) ** 3).astype(int)
    points = np.maximum(middles[classes] + rng.normal(size=(n, 24)), 0)
    logits = points @ middles.T / 6
    probs = np.exp(logits - logits.max(axis=1, keepdims=True))
    return points.astype(np.float32), (probs / probs.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("n_shards", [1, 2, 5])
@pytest.mark.parametrize("n_classes", [3, 10])
def test_many_picks_an_exchange(n_shards: int, n_classes: int) -> None:
    points, probs = network_like(5200, n_classes)
    counts = np.bincount(probs[:200].argmax(axis=1), minlength=n_classes)
    halves = naive.split(KCenterBalancedHalf, n_shards, points[200:], probs[200:])
    picks = pick_k_center_balanced(halves, 200, points[:200], counts)
    assert picks.indices.tolist() == greedy(points[200:], probs[200:], points[:200], counts, 200)[0]
    exchanges = halves.answers("candidates")
    assert len(exchanges) <= 3 * n_classes
    for answers in exchanges:
        assert sum(len(offer.probs) for offer, _ in answers) <= max(2 * 200, 128 * n_shards) + n_shards
    plain = k_center(points[200:], points[:200], 200)
    assert picks.indices.tolist() != plain.tolist()


def test_without_weight_it_is_k_center() -> None:
    points, probs = network_like(1500, 4)
    picks = k_center_balanced(points, probs, points[:9], np.array([9, 0, 0, 0]), 60, weight=0.0)
    assert picks.tolist() == k_center(points, points[:9], 60).tolist()


def test_without_a_labelled_image_the_first_pick_is_the_lowest_index() -> None:
    points, probs = network_like(300, 3)
    picks = k_center_balanced(points, probs, None, np.zeros(3, dtype=int), 300)
    assert picks[0] == 0 == k_center(points, None, 1)[0]
    assert sorted(picks) == list(range(300))
    assert k_center_balanced(points, probs, None, np.zeros(3, dtype=int), 0).tolist() == []


def test_halves_survive_pickling_and_read_only_arrays() -> None:
    points, probs = network_like(1500, 4)
    points.flags.writeable = probs.flags.writeable = False
    halves = naive.split(KCenterBalancedHalf, 2, points, probs)
    again = LocalHalves(pickle.loads(pickle.dumps(halves._halves)))
    counts = np.array([3, 0, 0, 0])
    expected = k_center_balanced(points, probs, points[:3], counts, 50).tolist()
    assert pick_k_center_balanced(again, 50, points[:3], counts).indices.tolist() == expected


def test_refusals() -> None:
    points, probs, counts = np.ones((3, 2)), np.full((3, 2), 0.5), np.array([1, 1])
    with pytest.raises(
        ValueError, match="probs must be finite and >= 0, got values from -0.5 to 0.5; are these logits"
    ):
        k_center_balanced(points, np.array([[0.5, 0.5], [-0.5, 0.5], [0.5, 0.5]]), None, counts, 1)
    with pytest.raises(ValueError, match="probs must be finite and >= 0, got values from nan"):
        k_center_balanced(points, probs * np.nan, None, counts, 1)
    with pytest.raises(ValueError, match=r"class_counts must have shape \[2\], got \(3,\)"):
        k_center_balanced(points, probs, None, np.ones(3), 1)
    with pytest.raises(ValueError, match=r"class_counts must be C numbers >= 0, got \[-1, 1\]"):
        k_center_balanced(points, probs, None, np.array([-1, 1]), 1)
    with pytest.raises(ValueError, match="the weight of the balance must be finite and >= 0, got -1"):
        k_center_balanced(points, probs, None, counts, 1, -1.0)
    with pytest.raises(ValueError, match="k must be between 0 and the 3 rows there are, got 4"):
        k_center_balanced(points, probs, None, counts, 4)
    with pytest.raises(ValueError, match="must be finite and below 1e.70; row 0 is not"):
        k_center_balanced(points * np.inf, probs, None, counts, 1)
