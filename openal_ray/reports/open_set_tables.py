"""Open-set results written down: a table for people and open_set.csv."""

import csv
import math
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from openal_ray.reports.groups import Estimate
from openal_ray.reports.open_set import OpenSet
from openal_ray.reports.run_page import TextTable
from openal_ray.reports.wording import count, percent


def open_set_table(part: OpenSet) -> TextTable:
    """A row for each strategy, after the last count of annotated images that its seeds share; shares in per cent."""
    header = [
        "strategy", "annotated", "in-distribution", "purity of all queries", "recall", "wasted", "detector AUROC",
        "accuracy", "AUBC", "AUBC by ID labels",
    ]  # fmt: skip
    rows = [
        [
            row.group.label,
            count(row.annotated),
            count(row.found.mean),
            *map(percent, (row.purity_total, row.recall, row.wasted, row.detector)),
            *map(percent, (row.accuracy, row.area, row.area_labelled)),
        ]
        for row in part.rows
    ]
    return TextTable(header, rows)


def write_open_set(parts: Sequence[OpenSet], path: Path) -> None:
    """One line a strategy and data set: every estimate as mean and sd, shares in 0 … 1, empty without a number."""
    lines = []
    for part in parts:
        for row in part.rows:
            line: dict[str, object] = {"dataset": part.dataset, "strategy": row.group.label, "annotated": row.annotated}
            for field in fields(row):
                value = getattr(row, field.name)
                if isinstance(value, Estimate):
                    line[f"{field.name}_mean"], line[f"{field.name}_sd"] = map(_number, (value.mean, value.sd))
            lines.append(line)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def _number(value: float) -> float | str:
    return "" if math.isnan(value) else value
