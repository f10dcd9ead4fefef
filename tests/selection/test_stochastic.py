"""Tests of the stochastic batches: the law of the draw, the dense form with the same noise, shards, ties, zeros."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from scipy import stats

from openal_ray.selection import stochastic_top_k
from openal_ray.selection.halves import BLOCK
from openal_ray.selection.stochastic import FORMS, StochasticHalf, pick_stochastic
from tests.selection.naive import Counting, split

SCORES = np.array([0.1, 0.9, 0.4, 0.4, 0.7])


def halves_of(
    scores: np.ndarray,
    form: str,
    beta: float = 1.0,
    n_shards: int = 1,
    indices: np.ndarray | None = None,
    seed: int = 7,
) -> Counting:
    def half(part: np.ndarray, mine: np.ndarray) -> StochasticHalf:
        return StochasticHalf(part, mine, seed, form, beta)

    return split(half, n_shards, scores, indices=indices)


def weights(scores: np.ndarray, form: str, beta: float) -> np.ndarray:
    """The paper's weights, with ranks by sorting pairs."""
    if form == "power":
        return scores**beta
    if form == "softmax":
        return np.exp(beta * scores)
    descending = sorted(range(len(scores)), key=lambda row: (-scores[row], row))
    return np.array([(descending.index(row) + 1.0) ** -beta for row in range(len(scores))])


def law(weight: np.ndarray, k: int) -> dict[tuple[int, ...], float]:
    """Probability of every sequence of `k` draws without replacement."""
    table = {}
    for picks in itertools.permutations(range(len(weight)), k):
        left = weight.sum() - np.concatenate([[0.0], np.cumsum(weight[list(picks)])[:-1]])
        table[picks] = float(np.prod(weight[list(picks)] / left))
    return table


@pytest.mark.parametrize(("form", "beta"), [("power", 1.0), ("power", 3.0), ("softmax", 2.0), ("softrank", 1.5)])
@pytest.mark.parametrize("n_shards", [1, 3])
def test_the_law_is_drawing_weights_without_replacement(form: str, beta: float, n_shards: int) -> None:
    expected = law(weights(SCORES, form, beta), 3)
    assert sum(expected.values()) == pytest.approx(1)
    indices = np.array([5, BLOCK + 1, BLOCK + 2, 3 * BLOCK, 4 * BLOCK + 17])
    seen = dict.fromkeys(expected, 0)
    for seed in range(800):
        picks = pick_stochastic(halves_of(SCORES, form, beta, n_shards, indices, seed), 3, form, beta)
        seen[tuple(np.searchsorted(indices, picks.indices).tolist())] += 1
    counts = np.array([seen[picks] for picks in expected], dtype=float)
    wanted = 800 * np.array(list(expected.values()))
    rare = wanted < 5
    counts, wanted = (np.append(cells[~rare], cells[rare].sum()) for cells in (counts, wanted))
    assert wanted.size > 12 and stats.chisquare(counts[wanted > 0], wanted[wanted > 0]).pvalue > 0.001


def dense(scores: np.ndarray, indices: np.ndarray, k: int, form: str, beta: float, seed: int = 7) -> list[int]:
    """All rows at once, each with the noise of its block's stream."""
    streams = {block: np.random.default_rng([seed, block]).gumbel(size=BLOCK) for block in set(indices // BLOCK)}
    noise = np.array([streams[index // BLOCK][index % BLOCK] for index in indices])
    with np.errstate(divide="ignore"):
        if form == "softrank":
            descending = np.lexsort((indices, -scores))
            ranks = np.empty(len(scores))
            ranks[descending] = np.arange(len(scores)) + 1
            values = noise - beta * np.log(ranks)
        else:
            values = noise + beta * (np.log(scores) if form == "power" else scores)
    return indices[np.lexsort((indices, -values))[:k]].tolist()


@pytest.mark.parametrize("n_shards", [1, 2, 5])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("beta", [0.3, 1.0, 30.0])
def test_shards_give_the_dense_form(form: str, beta: float, n_shards: int) -> None:
    rng = np.random.default_rng(0)
    indices = np.flatnonzero(rng.random(15000) < 0.4)
    tied = rng.integers(0, 20, indices.size) / 20  # 300 rows a value, some of them 0
    for scores in (rng.random(indices.size) ** 3, tied):
        picks = pick_stochastic(halves_of(scores, form, beta, n_shards, indices), 200, form, beta)
        assert picks.indices.tolist() == dense(scores, indices, 200, form, beta)
        assert picks.scores.tolist() == scores[np.searchsorted(indices, picks.indices)].tolist()


@given(
    some.lists(some.sampled_from([0.0, 0.25, 0.5, 1.0, 8.0]), min_size=1, max_size=30),
    some.sampled_from(FORMS),
    some.integers(0, 30),
    some.integers(1, 4),
)
def test_any_small_pool(values: list[float], form: str, k: int, n_shards: int) -> None:
    scores, k = np.array(values), min(k, len(values))
    indices = np.arange(len(values)) * (BLOCK // 3)
    picks = pick_stochastic(halves_of(scores, form, 2.0, n_shards, indices), k, form, 2.0)
    assert picks.indices.tolist() == dense(scores, indices, k, form, 2.0)


def noise_of(indices: np.ndarray, form: str) -> dict[int, float]:
    half = StochasticHalf(np.linspace(0.1, 1, indices.size), indices, 7, form)
    found, _, noise, _, _ = half.highest(0, indices.size, -np.inf)
    return dict(zip(found.tolist(), noise.tolist(), strict=True))


@pytest.mark.parametrize("form", FORMS)
def test_noise_does_not_depend_on_the_other_candidates(form: str) -> None:
    everyone, few = noise_of(np.arange(3000), form), noise_of(np.arange(5, 3000, 7), form)
    assert few == {index: everyone[index] for index in few}
    assert len(set(everyone.values())) == 3000


@pytest.mark.parametrize("n_shards", [2, 16])
@pytest.mark.parametrize("sorted_by_shard", [False, True])
def test_softrank_takes_few_exchanges_and_sends_few_rows(n_shards: int, sorted_by_shard: bool) -> None:
    scores = np.random.default_rng(1).random(40 * BLOCK)
    if sorted_by_shard:  # the best images all live on the first shards
        scores = np.sort(scores)
        scores[np.argsort(np.arange(scores.size) // BLOCK % n_shards, kind="stable")] = scores[::-1].copy()
    for beta in (0.5, 1.0, 8.0):
        halves = halves_of(scores, "softrank", beta, n_shards)
        picks = pick_stochastic(halves, 100, "softrank", beta)
        assert picks.indices.tolist() == dense(scores, np.arange(scores.size), 100, "softrank", beta)
        sent = [sum(len(answer[0]) for answer in answers) for answers in halves.answers("highest")]
        assert len(sent) <= 3 and max(sent) <= n_shards * 100 and sum(sent[1:]) <= 200


def test_exact_forms_take_one_exchange() -> None:
    halves = halves_of(np.random.default_rng(1).random(5000), "power", n_shards=3)
    pick_stochastic(halves, 50)
    assert [verb for verb, _, _ in halves.exchanges] == ["size", "highest"]


def test_zeros_come_last_by_the_lower_index() -> None:
    scores = np.array([0.0, 0.2, 0.0, 0.5, 0.0])
    picks = stochastic_top_k(scores, 4, np.random.default_rng(0)).tolist()
    assert sorted(picks[:2]) == [1, 3] and picks[2:] == [0, 2]
    assert stochastic_top_k(np.zeros(5), 3, np.random.default_rng(0)).tolist() == [0, 1, 2]
    halves = halves_of(np.zeros(5000), "power", n_shards=3)
    assert pick_stochastic(halves, 1100).indices.tolist() == list(range(1100))
    assert len(halves.answers("highest")) == 1


def test_float32_rounding_below_zero_counts_as_zero() -> None:
    picks = stochastic_top_k(np.array([-3e-8, 0.1, 0.0]), 3, np.random.default_rng(0))
    assert picks.tolist() == [1, 0, 2]


@pytest.mark.parametrize("form", FORMS)
def test_infinite_scores(form: str) -> None:
    scores = np.array([1.0, np.inf, 0.0 if form == "power" else -np.inf, np.inf])
    picks = stochastic_top_k(scores, 4, np.random.default_rng(0), form, 50.0).tolist()
    assert picks == [1, 3, 0, 2]


@pytest.mark.parametrize("form", FORMS)
def test_cold_is_top_k_and_a_seed_repeats(form: str) -> None:
    scores = np.random.default_rng(3).permutation(np.arange(1, 51)).astype(float) ** 2
    assert (
        stochastic_top_k(scores, 5, np.random.default_rng(0), form, 5000.0).tolist() == np.argsort(-scores)[:5].tolist()
    )
    one, again, other = (
        stochastic_top_k(np.full(50, 1.0), 20, np.random.default_rng(seed), form).tolist() for seed in (1, 1, 2)
    )
    assert one == again != other and len(set(one)) == 20
    assert stochastic_top_k(scores, 0, np.random.default_rng(0), form).tolist() == []


def test_refusals() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="k must be between 0 and the 2 rows there are, got 3"):
        stochastic_top_k(np.zeros(2), 3, rng)
    with pytest.raises(ValueError, match=r"got NaN at 1 place\(s\), first \[1\]"):
        stochastic_top_k(np.array([0.0, np.nan]), 1, rng, "softmax")
    with pytest.raises(ValueError, match=r"power needs scores >= 0, got values down to -1 at 1 .*choose softmax"):
        stochastic_top_k(np.array([0.0, -1.0]), 1, rng)
    with pytest.raises(ValueError, match="one of power, softmax, softrank, got 'gibbs'"):
        stochastic_top_k(np.zeros(2), 1, rng, "gibbs")
    for beta in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="beta must be a number above 0, got"):
            stochastic_top_k(np.zeros(2), 1, rng, "power", beta)
    with pytest.raises(ValueError, match=r"scores must have shape \(2,\), got \(2, 1\)"):
        stochastic_top_k(np.zeros((2, 1)), 1, rng)
