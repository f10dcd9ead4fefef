"""The statistics of run folders against hand-worked numbers."""

import math

import numpy as np
import pytest

from openal_ray.reports.comparison import Comparison, compare
from openal_ray.reports.curves import load
from openal_ray.reports.settings import settings
from openal_ray.reports.significance import Significance, significance
from tests.reports.run_folders import MakeRun

COUNTS = (100, 200, 300, 400, 500)
RANDOM = (0.4, 0.5, 0.6, 0.7, 0.8)


def _above(*gains: float) -> tuple[float, ...]:
    return tuple(low + gain for low, gain in zip(RANDOM, gains, strict=True))


@pytest.fixture
def comparisons(make_run: MakeRun) -> list[Comparison]:
    """Random, and a strategy whose gains at 200 and 300 labels have the t values 4 and 19."""
    gains = [(0.1, 0.10), (0.1, 0.12), (0.2, 0.11)]
    runs = [make_run("random", seed=seed, labelled=COUNTS, accuracy=RANDOM) for seed in range(3)]
    runs += [
        make_run("badge", seed=seed, labelled=COUNTS, accuracy=_above(0, at_200, at_300, 0, 0))
        for seed, (at_200, at_300) in enumerate(gains)
    ]
    return compare(load(runs))


def _found(comparisons: list[Comparison]) -> Significance:
    found = significance(comparisons)
    assert found is not None
    return found


def test_budgets_double_until_random_is_saturated(comparisons: list[Comparison]) -> None:
    (setting,) = settings(comparisons)
    # 99 % of .8 is .792, which random reaches with 492 labels: 100 + 100 and 100 + 200 lie before, 100 + 400 after.
    np.testing.assert_array_equal(setting.budgets, [200, 300])
    assert (setting.name, setting.target) == ("digits", pytest.approx(0.8))


def test_without_random_budgets_go_on_to_the_last_count(make_run: MakeRun) -> None:
    runs = [make_run(name, labelled=COUNTS, accuracy=RANDOM) for name in ("badge", "margin")]
    (setting,) = settings(compare(load(runs)))
    np.testing.assert_array_equal(setting.budgets, [200, 300, 500])


def test_the_penalty_counts_the_share_of_budgets_that_are_won(comparisons: list[Comparison]) -> None:
    found = _found(comparisons)
    assert found.strategies == ("badge", "random")
    # At 200 labels the mean gain is .1333 and its error .0333: t = 4.0, below 4.303; at 300 it is .11 ÷ .00577 = 19.
    np.testing.assert_array_equal(found.penalty, [[0, 0.5], [0, 0]])
    (pair,) = found.pairs
    assert (pair.first, pair.second, pair.wins, pair.ties, pair.losses) == ("badge", "random", 1, 1, 0)
    assert (found.fewest, found.tested) == (3, True)


def test_a_pair_compares_areas_over_shared_seeds(comparisons: list[Comparison]) -> None:
    (pair,) = _found(comparisons).pairs
    # A gain at an inner count adds a quarter of itself: .05, .055 and .0775; mean .060833, deviation .014649.
    assert pair.area.mean == pytest.approx(0.0608333)
    assert pair.area.t == pytest.approx(0.0608333 / (0.0146487 / math.sqrt(3)), rel=1e-4)
    assert pair.p_holm == pair.area.p


def test_saved_labels_have_a_bootstrap_interval(make_run: MakeRun) -> None:
    """Each seed's curve is random's moved left by a number of labels: draws of three are their means."""
    runs = [make_run("random", seed=seed, labelled=COUNTS, accuracy=RANDOM) for seed in range(3)]
    runs += [
        make_run("badge", seed=seed, labelled=COUNTS, accuracy=[value + moved / 1000 for value in RANDOM])
        for seed, moved in enumerate((20, 50, 80))
    ]
    (saved,) = _found(compare(load(runs))).saved
    assert (saved.strategy, saved.n) == ("badge", 3)
    assert (saved.labels, saved.low, saved.high) == pytest.approx((50, 20, 80))


def test_an_accuracy_that_some_draws_never_reach_opens_the_interval(make_run: MakeRun) -> None:
    runs = [make_run("random", seed=seed, labelled=COUNTS, accuracy=RANDOM) for seed in range(3)]
    runs += [
        make_run("badge", seed=seed, labelled=COUNTS, accuracy=[value + moved for value in RANDOM])
        for seed, moved in enumerate((-0.05, 0.05, 0.05))
    ]
    (saved,) = _found(compare(load(runs))).saved
    assert (saved.labels, saved.low, saved.high) == pytest.approx((500 - 500 + 50 / 3, -math.inf, 50))


def test_ratios_and_ranks_over_seeds_that_all_have(make_run: MakeRun) -> None:
    """Three strategies reach random's .8 with 500, 400 and never; the fourth seed lacks one of them."""
    curves = {"random": RANDOM, "badge": _above(0.1, 0.1, 0.1, 0.1, 0.1), "weak": _above(-0.1, -0.1, -0.1, -0.1, -0.1)}
    runs = [
        make_run(name, seed=seed, labelled=COUNTS, accuracy=curve)
        for name, curve in curves.items()
        for seed in range(3)
    ]
    runs.append(make_run("random", seed=3, labelled=COUNTS, accuracy=RANDOM))
    found = _found(compare(load(runs)))
    assert found.strategies == ("badge", "random", "weak")
    np.testing.assert_allclose(found.ratios, [[1, 1.25, np.inf]] * 3)
    assert found.ranking is not None
    np.testing.assert_allclose(found.ranking.mean_ranks, [1, 2, 3])
    assert (found.ranking.blocks, found.blocks_are_seeds) == (3, True)
    # Every gain is the same for all seeds, hence certain: badge beats two at all budgets, random one.
    np.testing.assert_array_equal(found.penalty, [[0, 1, 1], [0, 0, 1], [0, 0, 0]])


def test_from_five_settings_on_they_are_the_blocks(make_run: MakeRun) -> None:
    gains = {"random": 0.0, "badge": 0.1, "margin": 0.05}
    runs = [
        make_run(name, seed, dataset=dataset, folder=f"{dataset}-{name}-{seed}", accuracy=(0.4 + gain, 0.5, 0.6))
        for dataset in "abcde"
        for name, gain in gains.items()
        for seed in (0, 1)
    ]
    found = _found(compare(load(runs)))
    assert found.ranking is not None and (found.ranking.blocks, found.blocks_are_seeds) == (5, False)
    assert found.settings == tuple("abcde") and not found.tested
    assert len(found.ratios) == 10


def test_strategies_are_paired_within_a_setting_only(make_run: MakeRun) -> None:
    runs = [
        make_run(name, seed, folder=f"{name}-{seed}-{epochs}", config={"train": {"epochs": epochs}})
        for name in ("random", "badge")
        for epochs in (5, 50)
        for seed in (0, 1)
    ]
    found = _found(compare(load(runs)))
    names = [(pair.setting, pair.first, pair.second) for pair in found.pairs]
    assert sorted(names) == [
        ("digits · train.epochs=5", "random", "badge"),
        ("digits · train.epochs=50", "random", "badge"),
    ]


def test_two_seeds_are_not_tested(make_run: MakeRun) -> None:
    runs = [make_run(name, seed) for name in ("random", "badge", "margin") for seed in (0, 1)]
    found = _found(compare(load(runs)))
    assert not found.tested and found.ranking is None and found.penalty.sum() == 0
    assert math.isnan(found.pairs[0].area.p) and math.isnan(found.pairs[0].p_holm)


def test_no_statistics_without_two_strategies_that_share_two_seeds(make_run: MakeRun) -> None:
    runs = [make_run("random", 0), make_run("random", 1), make_run("badge", 1), make_run("badge", 2)]
    assert significance(compare(load(runs))) is None
    assert significance(compare(load(runs[:2]))) is None


def test_runs_without_common_label_counts_have_none(make_run: MakeRun) -> None:
    runs = [make_run("random", seed, labelled=(10, 20), accuracy=(0.1, 0.2)) for seed in (0, 1)]
    runs += [make_run("badge", seed, labelled=(30, 40), accuracy=(0.1, 0.2)) for seed in (0, 1)]
    assert significance(compare(load(runs))) is None
