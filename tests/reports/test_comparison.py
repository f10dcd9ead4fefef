"""Comparison rows against hand-worked numbers."""

import math

import pytest

from openal_ray.reports.comparison import compare
from openal_ray.reports.curves import load
from tests.reports.run_folders import MakeRun


def test_rows_by_hand(make_run: MakeRun) -> None:
    runs = [
        make_run("random", seed=0, accuracy=(0.4, 0.5, 0.6)),
        make_run("random", seed=1, accuracy=(0.4, 0.6, 0.8)),
        make_run("badge", seed=0, accuracy=(0.4, 0.8, 0.9), seconds=2),
        make_run(None, seed=0, labelled=[1000], accuracy=[0.95]),
    ]
    (comparison,) = compare(load(runs))

    assert comparison.dataset == "digits"
    assert comparison.counts == (100, 200, 300)
    assert [row.group.label for row in comparison.rows] == ["badge", "random"]
    badge, random = comparison.rows
    assert [each.mean for each in random.accuracy] == pytest.approx([0.4, 0.55, 0.7])
    # Areas of the two seeds: (.4/2 + .5 + .6/2) / 2 = .5 and (.4/2 + .6 + .8/2) / 2 = .6
    assert (random.aubc.mean, random.aubc.sd) == pytest.approx((0.55, math.sqrt(0.005)))
    assert (badge.aubc.mean, badge.last.mean, badge.last_labelled) == pytest.approx((0.725, 0.9, 300))
    # Random's mean curve ends at .7, which badge crosses three quarters of the way from 100 to 200 labels.
    assert (badge.labels_saved, badge.saved_share) == pytest.approx((125, 125 / 300))
    assert random.reference is None and math.isnan(random.labels_saved)
    assert badge.seconds.mean == pytest.approx(2 * (3 * 10 + 2 * 1 + 2 * 0.5 + 3 * 0.25))
    assert badge.query_seconds.mean == pytest.approx(2 * (2 * 1 + 2 * 0.5))
    (supervised,) = comparison.supervised
    assert (supervised.last.mean, supervised.last_labelled, supervised.accuracy) == (0.95, 1000, ())


def test_areas_cover_only_what_all_strategies_have_reached(make_run: MakeRun) -> None:
    far = make_run("badge", labelled=(100, 200, 300, 400), accuracy=(0.2, 0.4, 0.6, 0.8))
    near = make_run("random", labelled=(100, 200), accuracy=(0.2, 0.3))
    (comparison,) = compare(load([far, near]))
    assert comparison.counts == (100, 200)
    assert [row.aubc.mean for row in comparison.rows] == pytest.approx([0.3, 0.25])
    assert comparison.rows[0].labels_saved == pytest.approx(200 - 150)


def test_few_of_many_label_counts_are_shown_the_last_among_them(make_run: MakeRun) -> None:
    counts = list(range(10, 120, 10))
    (comparison,) = compare(load([make_run("badge", labelled=counts, accuracy=[0.5] * len(counts))]))
    assert comparison.counts == (10, 40, 80, 110)


def test_saved_labels_are_counted_against_random_in_the_same_setting(make_run: MakeRun) -> None:
    long = {"train": {"epochs": 50}}
    runs = [
        make_run("random", folder="a", accuracy=(0.1, 0.2, 0.3)),
        make_run("random", folder="b", accuracy=(0.1, 0.5, 0.9), config=long),
        make_run("badge", folder="c", accuracy=(0.1, 0.5, 0.9), config=long),
    ]
    rows = {row.group.label: row for row in compare(load(runs))[0].rows}
    assert rows["badge · train.epochs=50"].labels_saved == pytest.approx(0)


def test_runs_without_a_common_label_count_are_listed_unranked(make_run: MakeRun) -> None:
    early = make_run("badge", labelled=(10, 20), accuracy=(0.1, 0.2))
    late = make_run("random", labelled=(30, 40), accuracy=(0.3, 0.4))
    (comparison,) = compare(load([early, late]))
    assert comparison.counts == ()
    assert all(math.isnan(row.aubc.mean) for row in comparison.rows)
    assert math.isnan(comparison.rows[0].labels_saved)  # 0.4 is never reached


def test_each_data_set_is_compared_apart(make_run: MakeRun) -> None:
    runs = [make_run("badge", folder=name, dataset=name) for name in ("mnist", "digits")]
    assert [comparison.dataset for comparison in compare(load(runs))] == ["mnist", "digits"]
