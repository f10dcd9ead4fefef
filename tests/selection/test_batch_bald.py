"""Tests of BatchBALD against joint entropies written out over all label configurations, and the paper's estimate."""

import itertools
import pickle

import numpy as np
import pytest

from openal_ray.selection import batch_bald, scores
from openal_ray.selection.batch_bald import BatchBaldHalf, _fast_gains, _gains, pick_batch_bald
from openal_ray.selection.configurations import Configurations, drawn_classes
from openal_ray.selection.halves import BLOCK, LocalHalves
from tests.selection.naive import split


def passes(n: int, t: int, c: int, seed: int = 0, spread: float = 0.3) -> np.ndarray:
    """Passes that disagree; some images are alike."""
    rng = np.random.default_rng(seed)
    centres = rng.dirichlet(np.full(c, 0.6), size=n)
    centres[1::5] = centres[::5][: len(centres[1::5])]
    logits = np.log(centres)[:, None] + rng.normal(scale=spread * rng.uniform(0, 4, (n, 1, 1)), size=(n, t, c))
    probs = np.exp(logits)
    return (probs / probs.sum(axis=2, keepdims=True)).astype(np.float32)


def shannon(p: np.ndarray) -> float:
    return float(-sum(value * np.log(value) for value in np.ravel(p) if value > 0))


def information(mc_probs: np.ndarray, batch: list[int]) -> float:
    """I(y_1 … y_b; w): entropy over all C^b configurations minus the mean entropy of every label in every pass."""
    probs = mc_probs[batch].astype(np.float64)
    probs /= probs.sum(axis=2, keepdims=True)
    n_classes = probs.shape[2]
    joint = [
        np.mean([np.prod([probs[i, t, y] for i, y in enumerate(classes)]) for t in range(probs.shape[1])])
        for classes in itertools.product(range(n_classes), repeat=len(batch))
    ]
    return shannon(np.array(joint)) - sum(np.mean([shannon(one) for one in image]) for image in probs)


def greedy(mc_probs: np.ndarray, k: int) -> tuple[list[int], list[float]]:
    picks, joint = [], []
    for _ in range(k):
        left = [row for row in range(len(mc_probs)) if row not in picks]
        values = [information(mc_probs, [*picks, row]) for row in left]
        picks.append(left[int(np.argmax(values))])
        joint.append(max(values))
    return picks, joint


@pytest.mark.parametrize(("n", "t", "c", "k"), [(10, 4, 3, 4), (7, 3, 2, 6), (6, 5, 4, 3)])
def test_the_picks_maximise_the_joint_information(n: int, t: int, c: int, k: int) -> None:
    for seed in range(3):
        mc_probs = passes(n, t, c, seed)
        expected, joint = greedy(mc_probs, k)
        picks = pick_batch_bald(split(BatchBaldHalf, 1, mc_probs), k, np.random.default_rng(0))
        assert picks.indices.tolist() == expected
        np.testing.assert_allclose(np.cumsum(picks.scores), joint, atol=1e-12)


def test_the_first_pick_is_that_of_bald() -> None:
    mc_probs = passes(3000, 8, 5)
    picks = pick_batch_bald(split(BatchBaldHalf, 2, mc_probs), 1, np.random.default_rng(0))
    bald = scores.bald(mc_probs)
    assert picks.indices.tolist() == [int(np.argmax(bald))] and picks.scores[0] == pytest.approx(bald.max(), abs=1e-6)


def test_a_batch_is_more_varied_than_the_highest_scores() -> None:
    """Two images that disagree most are copies: BALD takes both, BatchBALD the copy last, as it says little more."""
    a, b = [[0.98, 0.02], [0.02, 0.98], [0.98, 0.02], [0.02, 0.98]], [[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9]]
    mc_probs = np.array([a, a, b], dtype=np.float32)
    assert np.argsort(-scores.bald(mc_probs), kind="stable")[:2].tolist() == [0, 1]
    assert batch_bald(mc_probs, 2, np.random.default_rng(0)).tolist() == [0, 2]


def estimate(mc_probs: np.ndarray, picks: list[int], row: int, classes: np.ndarray) -> float:
    """The paper's equation for the joint entropy from sampled configurations, term by term."""
    probs = mc_probs.astype(np.float64)
    probs /= probs.sum(axis=2, keepdims=True)
    n_passes, total = probs.shape[1], 0.0
    for configuration in classes:
        so_far = np.prod([probs[pick, :, label] for pick, label in zip(picks, configuration, strict=True)], axis=0)
        for label in range(probs.shape[2]):
            joint = float((so_far * probs[row, :, label]).sum() / n_passes)
            total -= joint / float(so_far.sum() / n_passes) * np.log(joint)
    conditional = sum(np.mean([shannon(one) for one in probs[image]]) for image in [*picks, row])
    return total / len(classes) - float(conditional)


@pytest.mark.parametrize("n_shards", [1, 3])
def test_sampled_configurations_give_the_papers_estimate(n_shards: int) -> None:
    mc_probs = passes(9, 4, 3, seed=2)
    indices = np.arange(9) * (BLOCK // 2)
    halves = split(BatchBaldHalf, n_shards, mc_probs, indices=indices)
    found = np.searchsorted(
        indices, pick_batch_bald(halves, 6, np.random.default_rng(5), configurations=12).indices
    ).tolist()
    rng, picks = np.random.default_rng(5), greedy(mc_probs, 3)[0]  # 1, 3 and 9 configurations are counted
    for _ in range(3):
        probs = mc_probs[picks].astype(np.float64)
        classes = drawn_classes(probs / probs.sum(axis=2, keepdims=True), 12, rng)
        left = [row for row in range(9) if row not in picks]
        picks.append(left[int(np.argmax([estimate(mc_probs, picks, row, classes) for row in left]))])
    assert found == picks
    assert [known.exact for known, _ in halves.questions("best")] == [True] * 3 + [False] * 3


def test_the_estimate_is_near_the_exact_gain() -> None:
    mc_probs = passes(40, 6, 3, seed=4)
    exact = pick_batch_bald(split(BatchBaldHalf, 1, mc_probs), 7, np.random.default_rng(0), configurations=3**6)
    halves = split(BatchBaldHalf, 1, mc_probs)
    near = pick_batch_bald(halves, 7, np.random.default_rng(0), configurations=3**6 - 1)
    assert [known.exact for known, _ in halves.questions("best")] == [True] * 6 + [False]
    assert near.indices[:6].tolist() == exact.indices[:6].tolist()
    assert near.scores[6] == pytest.approx(exact.scores[6], abs=0.03)


@pytest.mark.parametrize("configurations", [5, 200, 10_000])
def test_shards_change_nothing(configurations: int) -> None:
    mc_probs = passes(1200, 6, 4)
    mc_probs[600:] = mc_probs[:600]  # every image twice: ties
    indices = np.sort(np.random.default_rng(2).choice(8 * BLOCK, 1200, replace=False))

    def picks(n_shards: int) -> tuple[list[int], list[float]]:
        halves = split(BatchBaldHalf, n_shards, mc_probs, indices=indices)
        found = pick_batch_bald(halves, 8, np.random.default_rng(3), configurations)
        assert len(halves.answers("best")) == 8
        return found.indices.tolist(), found.scores.tolist()

    expected = picks(1)
    assert len(set(expected[0])) == 8
    for n_shards in (2, 5, 11):  # of 8 blocks: some shards are empty
        assert picks(n_shards) == expected


class Counted(BatchBaldHalf):
    """Counts the rows whose probabilities are looked at."""

    looked = 0

    def _rows(self, rows: np.ndarray) -> np.ndarray:
        self.looked += len(rows)
        return super()._rows(rows)


def test_old_gains_spare_most_rows() -> None:
    half = Counted(passes(4000, 5, 4), np.arange(4000))
    before = half.looked
    lazily = pick_batch_bald(LocalHalves([half]), 6, np.random.default_rng(0))
    assert half.looked - before < 2.5 * 4000  # of six times

    class Forgetful(BatchBaldHalf):
        def best(self, known: Configurations, picked: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            self._bounds[:] = np.inf
            return super().best(known, picked)

    again = LocalHalves([Forgetful(passes(4000, 5, 4), np.arange(4000))])
    assert pick_batch_bald(again, 6, np.random.default_rng(0)).indices.tolist() == lazily.indices.tolist()


@pytest.mark.parametrize(("t", "c", "m"), [(1, 1, 1), (3, 2, 50), (25, 10, 300), (4, 1000, 9)])
def test_float32_gains_err_less_than_their_bound(t: int, c: int, m: int) -> None:
    rng = np.random.default_rng(0)
    known = Configurations(rng.dirichlet(np.ones(m)), rng.dirichlet(np.full(t, 0.2), m).T.copy(), True)
    for spread in (0.001, 1.0, 30.0):
        half = BatchBaldHalf(passes(12, t, c, spread=spread), np.arange(12))
        probs = half._rows(np.arange(12))
        predicted = np.einsum("tm,rtc->rmc", known.posterior, probs)
        exact = [sum(w * shannon(p) for w, p in zip(known.weights, one, strict=True)) for one in predicted]
        np.testing.assert_allclose(_gains(probs, known), exact, rtol=1e-12, atol=1e-13)
        fast = _fast_gains(probs, known.weights, known.posterior.astype(np.float32))
        assert np.abs(fast - exact).max() <= half._error < 0.01


def test_gains_do_not_depend_on_the_rows_beside() -> None:
    half = BatchBaldHalf(passes(30, 7, 9), np.arange(30))
    rng = np.random.default_rng(0)
    for m in (1, 8, 20_000):  # the last in several tiles
        known = Configurations(np.full(m, 1 / m), rng.dirichlet(np.ones(7), m).T.copy(), True)
        together = _gains(half._rows(np.arange(30)), known)
        assert together.tolist() == [float(_gains(half._rows(np.array([row])), known)[0]) for row in range(30)]


def test_degenerate_pools_give_the_lowest_indices() -> None:
    rng = np.random.default_rng(0)
    alike = np.tile(np.array([0.2, 0.5, 0.3], np.float32), (50, 4, 1))
    assert batch_bald(alike, 5, rng).tolist() == [0, 1, 2, 3, 4]
    certain = np.tile(np.array([0.0, 1.0, 0.0], np.float32), (50, 4, 1))
    assert batch_bald(certain, 50, rng, configurations=2).tolist() == list(range(50))
    certain[7, 1] = [1.0, 0.0, 0.0]  # the only disagreement
    picks = pick_batch_bald(split(BatchBaldHalf, 1, certain), 4, rng)
    assert picks.indices.tolist() == [7, 0, 1, 2]
    assert picks.scores == pytest.approx([-(0.25 * np.log(0.25) + 0.75 * np.log(0.75)), 0, 0, 0], abs=1e-12)
    assert batch_bald(np.ones((3, 2, 1)), 2, rng).tolist() == [0, 1]
    assert batch_bald(passes(5, 2, 2), 0, rng).tolist() == []


def test_the_whole_pool_and_a_long_batch() -> None:
    picks = batch_bald(passes(120, 5, 10), 120, np.random.default_rng(0), configurations=20)
    assert sorted(picks.tolist()) == list(range(120))


def test_halves_survive_pickling_and_read_only_arrays() -> None:
    mc_probs = passes(200, 4, 3)
    mc_probs.flags.writeable = False
    halves = split(BatchBaldHalf, 2, mc_probs)
    expected = pick_batch_bald(LocalHalves(pickle.loads(pickle.dumps(halves._halves))), 5, np.random.default_rng(0))
    assert pick_batch_bald(halves, 5, np.random.default_rng(0)).indices.tolist() == expected.indices.tolist()


def test_refusals() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="k must be between 0 and the 2 rows there are, got 3"):
        batch_bald(passes(2, 2, 2), 3, rng)
    with pytest.raises(ValueError, match="configurations must be at least 1, got 0"):
        batch_bald(passes(2, 2, 2), 1, rng, configurations=0)
    with pytest.raises(ValueError, match=r"mc_probs must have shape \[2, T, C\] with T and C >= 1, got \(2, 3\)"):
        batch_bald(np.ones((2, 3)), 1, rng)
    for bad in ([0.5, 0.6], [-0.1, 1.1], [np.nan, 1.0], [np.inf, 0.0], [0.0, 0.0]):
        with pytest.raises(ValueError, match="sum to one over the classes; of dataset index 1 they do not"):
            batch_bald(np.array([[[0.5, 0.5]], [bad]]), 1, rng)
