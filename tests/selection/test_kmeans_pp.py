"""Tests of k-means++ on outer products: its law, its bounds, shards, and degenerate pools."""

import pickle
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from openal_ray.selection import digits, kmeans_pp
from openal_ray.selection.halves import BLOCK, LocalHalves
from openal_ray.selection.kmeans_pp import KMeansPPHalf, pick_kmeans_pp
from openal_ray.selection.outer_rows import OuterRows, squared_distances
from tests.selection import naive

Make = Callable[[int], tuple[np.ndarray, np.ndarray]]


def factors(n: int, c: int, d: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Residuals and features like those of a half-trained network."""
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.full(c, 0.5), size=n)
    left = probs - np.eye(c)[probs.argmax(axis=1)]
    right = np.maximum(rng.normal(size=(n, d)), 0) * (0.5 + rng.random((n, 1)))
    return left.astype(np.float32), right.astype(np.float32)


def network(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Ten classes, sixteen features."""
    return factors(n, 10, 16)


def crowded(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Three directions with tiny differences inside: D² falls to a millionth, where int8 bounds say nothing."""
    rng = np.random.default_rng(1)
    left, right = np.eye(3)[np.arange(n) % 3], np.ones((n, 4)) + 1e-3 * rng.normal(size=(n, 4))
    return left.astype(np.float32), right.astype(np.float32)


def p_value(left: np.ndarray, right: np.ndarray, k: int, runs: int, n_shards: int = 1) -> tuple[float, int]:
    """χ² of the picks of many runs against the law of the materialised rows; and the number of joint cells."""
    indices = np.arange(len(left)) * BLOCK // 5  # five rows a block
    law = naive.kmeans_pp_law(left, right, k)
    rng = np.random.default_rng(11)
    seen = dict.fromkeys(law, 0)
    for _ in range(runs):
        picks = pick_kmeans_pp(naive.split(KMeansPPHalf, n_shards, left, right, indices=indices), k, rng)
        seen[tuple(np.searchsorted(indices, picks.indices).tolist())] += 1
    expected, observed = (np.array(list(table.values()), dtype=float) for table in (law, seen))
    expected *= runs
    rare = expected < 3
    expected, observed = (np.append(cells[~rare], cells[rare].sum()) for cells in (expected, observed))
    usable = expected > 0
    return float(stats.chisquare(observed[usable], expected[usable], sum_check=False).pvalue), int(usable.sum())


@pytest.mark.parametrize("n_shards", [1, 3])
def test_the_joint_law_is_that_of_the_materialised_rows(n_shards: int) -> None:
    p, cells = p_value(*factors(12, 3, 4, seed=3), k=3, runs=2000, n_shards=n_shards)
    assert p > 0.01 and cells > 30


@pytest.mark.slow
@pytest.mark.acceptance
@pytest.mark.parametrize("n_shards", [1, 3])
def test_the_joint_law_in_a_thousand_cells(n_shards: int) -> None:
    p, cells = p_value(*factors(14, 3, 6, seed=3), k=4, runs=30000, n_shards=n_shards)
    assert p > 0.01 and cells > 1000


def test_the_law_holds_where_weights_are_made_exact() -> None:
    p, cells = p_value(*crowded(7), k=4, runs=1000)
    assert p > 0.01 and cells > 15


def test_one_pick_at_a_time_the_same_uniforms_give_the_same_picks_as_materialised_rows() -> None:
    left, right = factors(300, 5, 8)
    rows, uniforms = naive.outer(left, right), np.random.default_rng(0).random(40)
    all_rows = OuterRows(np.arange(300), left, right)
    dense, factored = ([int(np.argmax(np.square(rows).sum(axis=1)))] for _ in range(2))
    for uniform in uniforms:
        for picks, weights in (
            (dense, np.square(rows[:, None] - rows[dense]).sum(axis=2).min(axis=1)),
            (factored, squared_distances(all_rows, all_rows[factored])[0].min(axis=1)),
        ):
            running = np.cumsum(weights)
            picks.append(int(np.searchsorted(running, uniform * running[-1], side="right")))
    assert factored == dense


@pytest.mark.parametrize("make", [network, crowded])
def test_weights_are_never_below_d2(make: Make) -> None:
    left, right = make(2000)
    halves = naive.split(KMeansPPHalf, 2, left, right)
    pick_kmeans_pp(halves, 150, np.random.default_rng(0))
    rows, known = naive.outer(left, right), np.empty(0, np.int64)
    for _, _, _, picks, *_ in halves.questions("propose"):
        known = np.union1d(known, picks)
    squared = np.square(rows[:, None] - rows[known]).sum(axis=2).min(axis=1)
    weights = np.concatenate([half._weights for half in halves._halves])  # block 0 and 1: in the order of the rows
    assert (weights >= squared - 1e-14 * np.square(rows).sum(axis=1).max()).all()
    assert (weights[known] == 0).all() and (weights > 0).sum() == 2000 - len(known)
    assert any(exact for _, _, exact, *_ in halves.questions("propose")) == (make is crowded)


@pytest.mark.parametrize("make", [network, crowded])
def test_a_seed_gives_the_same_picks_for_any_shards_and_kernel(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = make(6000)
    indices = np.sort(np.random.default_rng(2).choice(20000, 6000, replace=False))

    def picks(n_shards: int) -> tuple[list[int], list[float]]:
        halves = naive.split(KMeansPPHalf, n_shards, left, right, indices=indices)
        found = pick_kmeans_pp(halves, 200, np.random.default_rng(4))
        return found.indices.tolist(), found.scores.tolist()

    expected = picks(1)
    assert len(set(expected[0])) == 200
    for n_shards in (2, 3, 5, 30):  # of 20 blocks: some shards are empty
        assert picks(n_shards) == expected
    for int8 in (True, False):
        monkeypatch.setattr(digits, "_int8_is_good", lambda int8=int8: int8)
        assert picks(1) == expected


def test_few_exchanges() -> None:
    left, right = factors(8000, 10, 32)
    halves = naive.split(KMeansPPHalf, 3, left, right)
    picks = pick_kmeans_pp(halves, 1000, np.random.default_rng(0))
    assert len(set(picks.indices.tolist())) == 1000
    assert len(halves.answers("propose")) <= 5


def test_scores_are_d2_at_the_pick() -> None:
    left, right = factors(500, 4, 6)
    picks = pick_kmeans_pp(naive.split(KMeansPPHalf, 1, left, right), 100, np.random.default_rng(0))
    rows = naive.outer(left, right)[picks.indices]
    assert picks.scores[0] == pytest.approx(np.square(rows[0]).sum())
    for pick in range(1, 100):
        nearest = np.square(rows[:pick] - rows[pick]).sum(axis=1).min()
        assert picks.scores[pick] == pytest.approx(nearest, rel=1e-9)


def test_first_pick_is_the_largest_norm_and_the_lowest_on_ties() -> None:
    left = np.array([[1.0, 0.0], [0.0, 2.0], [2.0, 0.0]], dtype=np.float32)
    right = np.ones((3, 2), dtype=np.float32)
    picks = pick_kmeans_pp(naive.split(KMeansPPHalf, 1, left, right), 1, np.random.default_rng(0))
    assert picks.indices.tolist() == [1] and picks.scores.tolist() == [8.0]
    barely = np.array([[1.0], [1.0], [1.0000001]], dtype=np.float32)
    assert kmeans_pp(barely, barely, 1, np.random.default_rng(0)).tolist() == [2]
    assert kmeans_pp(barely, barely, 0, np.random.default_rng(0)).tolist() == []


@pytest.mark.parametrize("n_shards", [1, 3])
def test_all_zero_gradients_give_the_lowest_indices(n_shards: int) -> None:
    zeros = np.zeros((4000, 2), np.float32)
    picks = pick_kmeans_pp(naive.split(KMeansPPHalf, n_shards, zeros, zeros), 4, np.random.default_rng(0))
    assert picks.indices.tolist() == [0, 1, 2, 3] and picks.scores.tolist() == [0.0] * 4


@pytest.mark.parametrize("scale", [1.0, 1e-18, 1e18])
def test_fewer_distinct_rows_than_picks(scale: float) -> None:
    left, right = factors(4, 3, 5)
    copies = np.tile(np.arange(4), 500)
    right = (right * scale).astype(np.float32)
    picks = kmeans_pp(left[copies], right[copies], 12, np.random.default_rng(0)).tolist()
    assert sorted(copies[picks[:4]].tolist()) == [0, 1, 2, 3]
    assert picks[4:] == [position for position in range(2000) if position not in picks[:4]][:8]


def test_the_whole_pool_can_be_picked() -> None:
    left, right = factors(300, 4, 6)
    picks = kmeans_pp(left, right, 300, np.random.default_rng(0))
    assert sorted(picks.tolist()) == list(range(300))


def test_saturated_probabilities_and_one_outlier() -> None:
    left, right = factors(2000, 10, 8)
    left[100:] = 0.0  # the network is certain: no gradient
    right[7] *= 1e6
    picks = kmeans_pp(left, right, 105, np.random.default_rng(0)).tolist()
    assert picks[0] == 7 and sorted(picks[:101])[:100] == list(range(100))
    assert len(set(picks)) == 105


def test_halves_survive_pickling_and_read_only_arrays() -> None:
    left, right = factors(3000, 4, 6)
    expected = kmeans_pp(left, right, 50, np.random.default_rng(0)).tolist()
    left.flags.writeable = right.flags.writeable = False
    halves = LocalHalves(pickle.loads(pickle.dumps(naive.split(KMeansPPHalf, 2, left, right)._halves)))
    assert pick_kmeans_pp(halves, 50, np.random.default_rng(0)).indices.tolist() == expected


def test_refusals() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="k must be between 0 and the 2 rows there are, got 3"):
        kmeans_pp(np.ones((2, 2)), np.ones((2, 2)), 3, rng)
    with pytest.raises(ValueError, match="must be finite and below 1e.70; row 0 is not"):
        kmeans_pp(np.ones((1, 1)), np.array([[np.inf]]), 1, rng)
    with pytest.raises(ValueError, match=r"right must have shape \[2, D\] with D > 0, got \(3, 2\)"):
        kmeans_pp(np.ones((2, 2)), np.ones((3, 2)), 1, rng)
