"""Comparisons in the terminal, as CSV and as JSON."""

import csv
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from openal_ray.reports.comparison import compare
from openal_ray.reports.curves import Curve, load
from openal_ray.reports.groups import Estimate
from openal_ray.reports.tables import as_json, cells, header, print_comparison, write_csv
from openal_ray.reports.wording import count, percent, seconds, short
from tests.reports.run_folders import MakeRun


@pytest.fixture
def curves(make_run: MakeRun) -> list[Curve]:
    """Badge with one seed, random with two, and a supervised reference."""
    return load(
        [
            make_run("random", seed=0, accuracy=(0.4, 0.5, 0.6)),
            make_run("random", seed=1, accuracy=(0.4, 0.6, 0.8)),
            make_run("badge", seed=0, accuracy=(0.4, 0.8, 0.9)),
            make_run(None, labelled=[1397], accuracy=[0.95]),
        ]
    )


def test_cells_for_people(curves: list[Curve]) -> None:
    (comparison,) = compare(curves)
    assert header(comparison) == [
        "strategy", "seeds", "100 labels", "200 labels", "300 labels", "AUBC", "labels saved", "seconds", "querying",
    ]  # fmt: skip
    texts = [[cell.text for cell in row] for row in cells(comparison)]
    assert texts == [
        ["badge", "1", "40.0", "80.0", "90.0", "72.5", "125 (42\N{NO-BREAK SPACE}%)", "33.8", "3.00"],
        ["random", "2", "40.0 ± 0.0", "55.0 ± 7.1", "70.0 ± 14.1", "55.0 ± 7.1", "–", "33.8", "3.00"],
    ]
    best = [[cell.text for cell in row if cell.best] for row in cells(comparison)]
    assert best == [["40.0", "80.0", "90.0", "72.5"], ["40.0 ± 0.0"]]


def test_labels_saved_says_when_random_was_not_reached_or_took_fewer(make_run: MakeRun) -> None:
    runs = [
        make_run("random", accuracy=(0.4, 0.6, 0.7)),
        make_run("weak", accuracy=(0.4, 0.5, 0.6)),
        make_run("late", labelled=(100, 300, 500), accuracy=(0.4, 0.6, 0.8)),
    ]
    (comparison,) = compare(load(runs))
    assert {row[0].text: row[6].text for row in cells(comparison)} == {
        "random": "–",
        "weak": "not reached",
        "late": "−100 (−33\N{NO-BREAK SPACE}%)",
    }


def _printed(curves: list[Curve], width: int) -> str:
    output = io.StringIO()
    print_comparison(curves, Console(file=output, width=width))
    return output.getvalue()


def test_the_terminal_shows_table_and_words(curves: list[Curve]) -> None:
    printed = _printed(curves, width=120)
    assert "digits: accuracy in %, mean ± sd over seeds" in printed
    assert "100 labels  200 labels   300 labels" in printed
    assert "badge is best" in printed


def test_a_narrow_terminal_does_without_the_start_and_the_seconds(curves: list[Curve]) -> None:
    printed = _printed(curves, width=80)
    assert "300 labels" in printed and "200 labels" in printed
    assert " 100 labels" not in printed and "seconds" not in printed
    assert max(map(len, printed.splitlines())) <= 80
    assert "70.0 ± 14.1" in printed


def test_names_are_no_markup_in_the_terminal(make_run: MakeRun) -> None:
    assert "[red]hot[/red]" in _printed(load([make_run("[red]hot[/red]", folder="hot")]), width=120)


def test_supervised_runs_alone_need_no_table(make_run: MakeRun) -> None:
    printed = _printed(load([make_run(None, labelled=[1397], accuracy=[0.95])]), width=120)
    assert printed == "supervised reaches 95.0 % accuracy with 1,397 labels, trained on all of them.\n"


def test_json_holds_shares_and_null_where_there_is_no_number(curves: list[Curve]) -> None:
    (written,) = json.loads(json.dumps(as_json(compare(curves)), allow_nan=False))
    assert (written["dataset"], written["labelled"]) == ("digits", [100, 200, 300])
    badge, random, supervised = written["strategies"]
    assert badge["seeds"] == [0] and badge["strategy"] == "badge"
    assert badge["accuracy"][2] == {"mean": 0.9, "sd": None}
    assert badge["labels_saved"] == pytest.approx(125)
    assert random["labels_saved"] is None
    assert random["aubc"]["mean"] == pytest.approx(0.55)
    assert supervised["accuracy"] == [] and supervised["last_accuracy"]["mean"] == 0.95


def test_csv_has_a_line_for_each_strategy(curves: list[Curve], make_run: MakeRun, tmp_path: Path) -> None:
    other = load([make_run("badge", folder="other", dataset="mnist", labelled=(5, 7), accuracy=(0.5, 0.7))])
    write_csv(compare([*curves, *other]), tmp_path / "comparison.csv")
    with (tmp_path / "comparison.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["dataset"], line["strategy"], line["seeds"]) for line in lines] == [
        ("digits", "badge", "0"),
        ("digits", "random", "0 1"),
        ("digits", "supervised", "0"),
        ("mnist", "badge", "0"),
    ]
    assert float(lines[0]["accuracy_at_300_mean"]) == 0.9
    assert lines[0]["accuracy_at_300_sd"] == "" and lines[3]["accuracy_at_300_mean"] == ""
    assert float(lines[3]["accuracy_at_7_mean"]) == 0.7
    assert float(lines[2]["last_labelled"]) == 1397


def test_how_numbers_are_spelt() -> None:
    assert (count(12345.4), count(-2)) == ("12,345", "-2")
    assert percent(Estimate(0.91234, 0.0031)) == "91.2 ± 0.3"
    assert percent(Estimate(0.5, float("nan"))) == "50.0"
    assert percent(Estimate(float("nan"), float("nan"))) == "–"
    assert [seconds(value) for value in (0.041, 8.314, 83.14, 1234.2)] == ["0.04", "8.31", "83.1", "1,234"]
    assert (short("badge"), short("k" * 40, 5)) == ("badge", "kkkk…")
