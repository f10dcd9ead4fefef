"""A comparison written down: cells for people (terminal, HTML), and CSV or JSON for machines."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from openal_ray.reports.comparison import Comparison, Row, compare
from openal_ray.reports.curves import PHASES, Curve
from openal_ray.reports.findings import cautions, headline
from openal_ray.reports.groups import Estimate
from openal_ray.reports.significance import significance
from openal_ray.reports.significance_tables import verdict
from openal_ray.reports.wording import count, percent, seconds

WIDE = 110
"""Terminal columns from which everything fits."""


class Cell(NamedTuple):
    """A field as text, and whether it is the best of its column."""

    text: str
    best: bool = False


def header(comparison: Comparison) -> list[str]:
    """The columns of the table for people: accuracies in percent, times in seconds a run."""
    at = [f"{count(each)} labels" for each in comparison.counts]
    return ["strategy", "seeds", *at, "AUBC", "labels saved", "seconds", "querying"]


def cells(comparison: Comparison) -> list[list[Cell]]:
    """The rows under `header`, best area first; of each accuracy column the best is marked."""
    best = [max(means) for means in zip(*(_scores(row) for row in comparison.rows), strict=True)]
    return [
        [
            Cell(row.group.label),
            Cell(str(len(row.group.seeds))),
            *(
                Cell(percent(estimate), estimate.mean == top and len(comparison.rows) > 1)
                for estimate, top in zip((*row.accuracy, row.aubc), best, strict=True)
            ),
            Cell(_saved(row)),
            Cell(seconds(row.seconds.mean)),
            Cell(seconds(row.query_seconds.mean)),
        ]
        for row in comparison.rows
    ]


def print_comparison(curves: Sequence[Curve], console: Console) -> None:
    """One table for each data set, with what it says in words below it.

    A narrow terminal does without the start's accuracy and the seconds.
    """
    comparisons = compare(curves)
    for comparison in comparisons:
        columns = header(comparison)
        left_out = (
            {2, len(columns) - 2, len(columns) - 1} if console.width < WIDE and len(comparison.counts) > 1 else set()
        )
        kept = [place for place in range(len(columns)) if place not in left_out]
        table = Table(
            box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, title_justify="left",
            title=Text(f"{comparison.dataset}: accuracy in %, mean ± sd over seeds"),
        )  # fmt: skip
        for place in kept:
            table.add_column(columns[place], justify="right" if place else "left")
        for row in cells(comparison):
            table.add_row(*(Text(row[place].text, style="bold" if row[place].best else "") for place in kept))
        if comparison.rows:
            console.print(table)
        for sentence in (headline(comparison), *cautions(comparison)):
            console.print(Text(sentence))
    if (found := significance(comparisons)) is not None:
        for sentence in verdict(found):
            console.print(Text(sentence))


def as_json(comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Data for machines: shares in 0 … 1, seconds a run, and null where there is no number."""
    return [
        {
            "dataset": comparison.dataset,
            "labelled": list(comparison.counts),
            "strategies": [_row_as_json(row) for row in (*comparison.rows, *comparison.supervised)],
        }
        for comparison in comparisons
    ]


def write_csv(comparisons: Sequence[Comparison], path: Path) -> None:
    """One line a strategy, with the numbers of `as_json`; fields without a number stay empty."""
    rows = []
    for comparison in as_json(comparisons):
        for strategy in comparison["strategies"]:
            at = zip(comparison["labelled"], strategy.pop("accuracy"), strict=False)  # supervised has none
            accuracy = {f"accuracy_at_{labelled:g}": value for labelled, value in at}
            rows.append({"dataset": comparison["dataset"], **_flat(strategy | accuracy)})
    columns = dict.fromkeys(column for row in rows for column in row)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _scores(row: Row) -> list[float]:
    return [-math.inf if math.isnan(each.mean) else each.mean for each in (*row.accuracy, row.aubc)]


def _saved(row: Row) -> str:
    if row.reference is None:
        return "–"
    if math.isnan(row.labels_saved):
        return "not reached"
    return f"{count(row.labels_saved)} ({100 * row.saved_share:.0f}\N{NO-BREAK SPACE}%)".replace("-", "−")


def _row_as_json(row: Row) -> dict[str, Any]:
    return {
        "strategy": row.group.strategy,
        "setting": row.group.setting,
        "seeds": list(row.group.seeds),
        "accuracy": [_estimate(each) for each in row.accuracy],
        "aubc": _estimate(row.aubc),
        "last_labelled": row.last_labelled,
        "last_accuracy": _estimate(row.last),
        "labels_saved": _number(row.labels_saved),
        "labels_saved_share": _number(row.saved_share),
        "seconds": _estimate(row.seconds),
        "query_seconds": _estimate(row.query_seconds),
        **{f"{phase}_seconds": _estimate(row.group.spent(phase)) for phase in PHASES},
    }


def _estimate(estimate: Estimate) -> dict[str, float | None]:
    return {"mean": _number(estimate.mean), "sd": _number(estimate.sd)}


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _flat(strategy: dict[str, Any]) -> dict[str, Any]:
    """The fields of one CSV line: an estimate becomes two columns, the seeds one text."""
    line: dict[str, Any] = {}
    for name, value in strategy.items():
        if isinstance(value, dict):
            line |= {f"{name}_{part}": inner for part, inner in value.items()}
        else:
            line[name] = " ".join(map(str, value)) if name == "seeds" else value
    return line
