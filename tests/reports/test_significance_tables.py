"""The statistics as sentences, tables and CSV files."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from openal_ray.reports.significance import Pair, Saved, Significance
from openal_ray.reports.significance_tables import pair_table, saved_table, strategy_table, verdict, write_csvs
from openal_ray.reports.statistics import Paired, Ranking

NAN = math.nan
SURE = Pair("digits", "badge", "random", Paired(4, 0.0471, 0.0394, 0.0549, 26.0, 0.00002), 0.00004, 3, 1, 0)
OPEN = Pair("digits", "margin", "badge", Paired(4, -0.007, -0.03, 0.016, -0.9, 0.4568), 0.4568, 0, 3, 1)
UNTESTED = Pair("digits", "badge", "random", Paired(2, 0.01, NAN, NAN, NAN, NAN), NAN, 0, 4, 0)


def _found(*pairs: Pair, ranking: Ranking | None = None, saved: tuple[Saved, ...] = ()) -> Significance:
    names = ("badge", "random", "margin")
    penalty = np.array([[0, 0.75, 0.25], [0, 0, 0], [0, 0, 0]])
    fewest = min(pair.area.n for pair in pairs)
    return Significance(names, ("digits",), pairs, saved, penalty, np.ones((0, 3)), ranking, True, fewest)


def test_two_seeds_are_too_few() -> None:
    assert verdict(_found(UNTESTED)) == [
        "2 shared seeds are too few for any test; with 3 a first one is possible, 5 are usual."
    ]
    assert pair_table(_found(UNTESTED)).rows == [["badge − random", "digits", "2", "+1.0", "–", "–", "–", "–"]]


def test_less_than_five_are_weak_and_what_is_sure_is_named() -> None:
    weak, sure = verdict(_found(SURE, OPEN))
    assert weak.startswith("4 shared seeds are weak evidence")
    assert sure == "More than chance in mean accuracy (paired t-tests, Holm, 5 %): badge over random by 4.7 points."


def test_nothing_sure_is_said_and_a_worse_first_loses() -> None:
    assert verdict(_found(OPEN))[1] == (
        "No two strategies differ in mean accuracy by more than chance may do (paired t-tests, Holm, 5 %)."
    )
    worse = Pair("digits", "margin", "badge", Paired(5, -0.02, -0.03, -0.01, -9, 0.001), 0.001, 0, 0, 3)
    assert verdict(_found(worse)) == [
        "More than chance in mean accuracy (paired t-tests, Holm, 5 %): badge over margin by 2.0 points."
    ]
    assert verdict(_found(*[SURE] * 5))[1].endswith("; and 2 more.")


def test_ranks_are_put_into_words() -> None:
    ranking = Ranking(np.array([1.0, 2.5, 2.5]), 6, 9.0, 0.011, 1.35)
    sentences = verdict(_found(SURE, ranking=ranking))
    assert "Over 6 seeds the mean ranks of the 3 strategies differ (Friedman's test, p = 0.011)." in sentences
    assert sentences[-1].startswith("Seeds are the blocks")


def test_a_row_for_each_strategy_counts_both_sides_of_its_pairs() -> None:
    assert strategy_table(_found(SURE, OPEN)).rows == [
        ["badge", "–", "4 / 4 / 0", "1.00", "0.00"],  # 3 wins over random, and margin's loss
        ["random", "–", "0 / 1 / 3", "0.00", "0.75"],
        ["margin", "–", "0 / 3 / 1", "0.00", "0.25"],
    ]


def test_pairs_have_signs_and_intervals() -> None:
    assert pair_table(_found(SURE, OPEN)).rows == [
        ["badge − random", "digits", "4", "+4.7", "+3.9 … +5.5", "< 0.001", "< 0.001", "3 / 1 / 0"],
        ["margin − badge", "digits", "4", "−0.7", "−3.0 … +1.6", "0.457", "0.457", "0 / 3 / 1"],
    ]


def test_saved_labels_may_be_never_or_fewer_than_none() -> None:
    saved = (
        Saved("digits", "badge", 4, 1050.4, -math.inf, 1200),
        Saved("digits", "margin", 4, NAN, -math.inf, -math.inf),
        Saved("digits", "weak", 2, -20, NAN, NAN),
    )
    assert saved_table(_found(SURE, saved=saved)).rows == [
        ["badge", "digits", "4", "1,050", "never … 1,200"],
        ["margin", "digits", "4", "never", "never … never"],
        ["weak", "digits", "2", "−20", "–"],
    ]


def test_csv_files_hold_every_number(tmp_path: Path) -> None:
    saved = (Saved("digits", "badge", 4, 105.5, -math.inf, 120.0),)
    write_csvs(_found(SURE, UNTESTED, saved=saved), tmp_path)

    def read(name: str) -> list[dict[str, str]]:
        with (tmp_path / name).open(newline="") as file:
            return list(csv.DictReader(file))

    first, second = read("pairwise.csv")
    names = ["n", "mean", "low", "high", "t", "p"]
    assert list(first) == [
        "setting", "first", "second", "p_holm", "wins", "ties", "losses", *(f"aubc_{name}" for name in names),
    ]  # fmt: skip
    assert {key: first[key] for key in ("setting", "first", "second", "wins", "aubc_n")} == {
        "setting": "digits", "first": "badge", "second": "random", "wins": "3", "aubc_n": "4",
    }  # fmt: skip
    assert [float(first[f"aubc_{key}"]) for key in ("mean", "low", "high", "t", "p")] == pytest.approx(
        [0.0471, 0.0394, 0.0549, 26, 0.00002]
    )
    assert (second["aubc_p"], second["p_holm"], second["aubc_mean"]) == ("", "", "0.01")
    assert read("penalty.csv")[0] == {"beats": "badge", "badge": "0.0", "random": "0.75", "margin": "0.25"}
    assert read("labels_saved.csv") == [
        {"setting": "digits", "strategy": "badge", "n": "4", "labels": "105.5", "low": "-inf", "high": "120.0"}
    ]
    assert read("ranks.csv")[0] == {"strategy": "badge", "mean_rank": "", "wins": "3", "ties": "5", "losses": "0"}
