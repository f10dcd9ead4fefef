"""Tests of ALFA-Mix's selection: which steps give the candidates, who is picked among them, who fills up."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openal_ray.selection import alpha_mix
from openal_ray.selection.alpha_mix import AlphaMixHalf, class_anchors, pick_alpha_mix
from openal_ray.selection.alpha_steps import NEVER, first_steps
from openal_ray.selection.halves import LocalHalves
from tests.selection import naive
from tests.selection.test_alpha_steps import case, logits_of


def steps_with(counts: list[int], never: int, rng: np.random.Generator) -> np.ndarray:
    """So many rows of each first step, in random order."""
    steps = np.repeat([*range(1, len(counts) + 1), NEVER], [*counts, never])
    return rng.permutation(steps)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("n_shards", [1, 2, 5])
def test_candidates_are_those_of_as_few_steps_as_give_k(n_shards: int) -> None:
    rng = np.random.default_rng(0)
    steps, features = steps_with([3, 0, 40, 60], 5000, rng), rng.normal(size=(5103, 6))
    for k, last in ((2, 1), (4, 3), (42, 3), (44, 4), (100, 4)):
        picks = pick_alpha_mix(naive.split(AlphaMixHalf, n_shards, features, steps), k, np.random.default_rng(1))
        assert len(set(picks.indices.tolist())) == k
        assert (steps[picks.indices] <= last).all(), k
    assert set(pick_alpha_mix(naive.split(AlphaMixHalf, n_shards, features, steps), 43, rng).indices.tolist()) == set(
        np.flatnonzero(steps <= 3).tolist()
    )


def test_one_candidate_of_each_cluster_of_directions() -> None:
    rng = np.random.default_rng(3)
    middles = np.eye(8)
    features = (middles[np.arange(2000) % 8] + 0.02 * rng.normal(size=(2000, 8))) * rng.uniform(0.1, 50, (2000, 1))
    steps = np.where(np.arange(2000) % 16 < 13, 2, NEVER)
    picks = pick_alpha_mix(naive.split(AlphaMixHalf, 2, features, steps), 8, rng)
    assert sorted(picks.indices % 8) == list(range(8))
    assert picks.scores.sum() == (steps == 2).sum()
    for index in picks.indices:
        cluster = np.flatnonzero((np.arange(2000) % 8 == index % 8) & (steps == 2))
        rows = unit(features[cluster])
        nearest = np.square(rows - rows.mean(axis=0)).sum(axis=1).argmin()
        assert cluster[nearest] == index


@pytest.mark.parametrize("kind", ["plenty", "few", "none", "copies"])
def test_shards_change_nothing(kind: str) -> None:
    rng = np.random.default_rng(4)
    features = np.maximum(rng.normal(size=(6000, 5)), 0).astype(np.float32)
    if kind == "copies":
        features = features[:4][rng.integers(0, 4, 6000)]
    counts = {"plenty": [10, 900], "few": [3, 4], "none": [0], "copies": [700]}[kind]
    steps = steps_with(counts, 6000 - sum(counts), rng)
    picks = [
        pick_alpha_mix(naive.split(AlphaMixHalf, n, features, steps), 40, np.random.default_rng(9)) for n in (1, 2, 5)
    ]
    assert picks[0].indices.tolist() == picks[1].indices.tolist() == picks[2].indices.tolist()
    assert len(set(picks[0].indices.tolist())) == 40
    expected = min(40, int((steps < NEVER).sum()))
    assert (steps[picks[0].indices] < NEVER).sum() == expected
    other = pick_alpha_mix(naive.split(AlphaMixHalf, 1, features, steps), 40, np.random.default_rng(10))
    assert set(other.indices.tolist()) != set(picks[0].indices.tolist())


def test_filling_up_is_uniform() -> None:
    steps = np.where(np.arange(60) == 7, 1, NEVER)
    counts = np.zeros(60)
    for seed in range(1500):
        picks = pick_alpha_mix(naive.split(AlphaMixHalf, 1, np.ones((60, 1)), steps), 4, np.random.default_rng(seed))
        assert picks.indices[0] == 7
        counts[picks.indices] += 1
    others = np.delete(counts, 7)
    expected = 1500 * 3 / 59
    assert ((others - expected) ** 2 / expected).sum() < 95  # chi-square, 58 degrees of freedom: p = 0.0015


@given(seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=40, derandomize=True)
def test_k_distinct_picks_always(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 60))
    features = rng.integers(0, 2, (n, 3)).astype(np.float16)  # rows of zeros, copies
    steps = rng.choice([1, 2, 5, NEVER], n, p=[0.2, 0.1, 0.1, 0.6])
    owner = rng.integers(0, 3, n)  # some shards may be empty
    halves = LocalHalves(
        [AlphaMixHalf(features[owner == s], steps[owner == s], np.flatnonzero(owner == s)) for s in range(3)]
    )
    k = int(rng.integers(0, n + 1))
    picks = pick_alpha_mix(halves, k, rng)
    assert len(set(picks.indices.tolist())) == len(picks.indices) == len(picks.scores) == k
    assert (steps[picks.indices] < NEVER).sum() == min(k, (steps < NEVER).sum())


def test_candidates_stay_in_the_shards() -> None:
    rng = np.random.default_rng(0)
    features, steps = rng.normal(size=(20_000, 16)).astype(np.float32), steps_with([9000], 11_000, rng)
    halves = naive.split(AlphaMixHalf, 4, features, steps)
    pick_alpha_mix(halves, 10, rng)
    asked = [verb for verb, _, _ in halves.exchanges]
    assert asked[:3] == ["size", "counts", "narrow"] and set(asked[3:]) == {"of_candidates"}
    assert max(len(pickle.dumps(answers)) for _, _, answers in halves.exchanges) < 9000 * 16


def test_on_arrays() -> None:
    features, weights, bias, anchors = case(5, 6, 10, 300)
    logits = logits_of(features, weights, bias)
    picks = alpha_mix(features, logits, weights, anchors, 20, np.random.default_rng(0))
    again = alpha_mix(features, logits, weights, anchors, 20, np.random.default_rng(0))
    steps = first_steps(features, logits, weights, anchors)
    last = np.sort(steps)[19]
    assert picks.tolist() == again.tolist() and len(set(picks.tolist())) == 20
    assert last < NEVER and (steps[picks] <= last).all()
    coarse = alpha_mix(features, logits, weights, anchors, 20, np.random.default_rng(0), cap=1.0)
    assert (first_steps(features, logits, weights, anchors, 1.0)[coarse] == 1).all()


def test_anchors_are_class_means() -> None:
    features = np.array([[1, 2], [3, 4], [8, 0]], dtype=np.float16)
    anchors = class_anchors(features, np.array([2, 2, 0]), 4)
    assert anchors.tolist() == [[8, 0], [4, 2], [2, 3], [4, 2]]
    with pytest.raises(ValueError, match="anchors need at least one labelled image, got none"):
        class_anchors(features[:0], np.empty(0), 4)


def test_halves_survive_pickling_and_refuse() -> None:
    rng = np.random.default_rng(0)
    features, steps = rng.normal(size=(50, 3)), steps_with([30], 20, rng)
    half = AlphaMixHalf(features, steps, np.arange(50))
    again = pickle.loads(pickle.dumps(half))
    expected = pick_alpha_mix(LocalHalves([half]), 5, np.random.default_rng(1)).indices.tolist()
    assert pick_alpha_mix(LocalHalves([again]), 5, np.random.default_rng(1)).indices.tolist() == expected
    with pytest.raises(ValueError, match=r"steps must be numbers from 1 on of shape \(50,\), got \(49,\)"):
        AlphaMixHalf(features, steps[1:], np.arange(50))
    with pytest.raises(ValueError, match="k must be between 0 and the 50 rows there are, got 51"):
        pick_alpha_mix(LocalHalves([half]), 51, rng)
