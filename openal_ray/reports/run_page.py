"""What the report shows of one run: configuration, environment, rounds, classes and what was asked."""

import json
import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import yaml

from openal_ray.errors import RunError
from openal_ray.reports.curves import Curve, read_table
from openal_ray.reports.wording import count, seconds

_SHARES = (
    "accuracy", "f1", "recall", "precision", "balanced_accuracy", "auroc", "purity", "purity_total", "recall_id",
    "wasted", "detector_auroc", "detector_aupr", "detector_aupr_ood", "detector_fpr95", "validation_accuracy",
)  # fmt: skip
_COUNTS = ("round", "labelled", "annotated", "in_distribution", "out_of_distribution", "trials")
_CHOSEN = "train."  # how the columns of chosen hyper-parameters begin


@dataclass(frozen=True)
class TextTable:
    """A table whose fields are text already."""

    header: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class RunPage:
    """One run as text; `asked` counts the images of each round, round 0 being the start set.

    choices           the hyper-parameters of each round; without rows where none were chosen
    labelled_classes  class to (images in the start set, images of the queries); None without a labels.csv
    """

    title: str
    folder: str
    config: str
    environment: list[tuple[str, str]]
    rounds: TextTable
    choices: TextTable
    classes: TextTable
    asked: dict[int, int]
    labelled_classes: dict[str, tuple[int, int]] | None


def run_page(curve: Curve) -> RunPage:
    """Reads the rest of a run folder; raises RunError for a damaged file, absent ones are left out."""
    try:
        return _run_page(curve)
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{curve.folder}: selections.csv, per_class.csv or choices.csv is damaged ({error!r}); "
            f"`openal-ray resume {curve.folder}` writes them anew"
        ) from None


def _run_page(curve: Curve) -> RunPage:
    selections = read_table(curve.folder / "selections.csv")
    classes = _last_round(read_table(curve.folder / "per_class.csv"))
    asked = Counter(int(row["round"]) for row in selections)
    return RunPage(
        title=f"{curve.strategy} on {curve.dataset}, seed {curve.seed}",
        folder=str(curve.folder),
        config=yaml.safe_dump(curve.config, sort_keys=False, allow_unicode=True),
        environment=_environment(curve),
        rounds=_rounds(curve, asked),
        choices=_choices(read_table(curve.folder / "choices.csv")),
        classes=_classes(classes),
        asked=dict(sorted(asked.items())),
        labelled_classes=_labelled_classes(read_table(curve.folder / "labels.csv"), [row["class"] for row in classes]),
    )


def _environment(curve: Curve) -> list[tuple[str, str]]:
    path = curve.folder / "environment.json"
    if not path.is_file():
        return []
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return [(str(key), _spell(value)) for key, value in values.items()]
    except (ValueError, AttributeError) as error:
        raise RunError(f"{path}: expected a JSON object ({error}); delete it to report without it") from None


def _spell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {inner}" for key, inner in value.items() if inner is not None)
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return str(value)


def _rounds(curve: Curve, asked: Counter[int]) -> TextTable:
    rounds = [int(each) for each in curve.columns["round"]]
    columns = [
        (name, [_field(name, value) for value in values])
        for name, values in curve.columns.items()
        if not name.startswith(_CHOSEN)
    ]
    if asked:
        columns.insert(2, ("asked", [count(asked[round]) for round in rounds]))
    fields = zip(*(column for _, column in columns), strict=True)
    return TextTable([_title(name) for name, _ in columns], [list(row) for row in fields])


def _choices(rows: list[dict[str, str]]) -> TextTable:
    """What each round trained with, and where that is from."""
    names = [name for name in (rows[0] if rows else {}) if name != "validation_accuracy"]
    return TextTable(
        [name.removeprefix(_CHOSEN) for name in names], [[_value(row[name]) for name in names] for row in rows]
    )


def _value(text: str) -> str:
    """A field of choices.csv for people: real numbers in four digits, all else as it stands."""
    if not text:
        return "–"
    try:
        return text if text.lstrip("-").isdigit() else f"{float(text):.4g}"
    except ValueError:
        return text


def _classes(classes: list[dict[str, str]]) -> TextTable:
    """Of the last round; a class without test images has no recall, hence dashes."""
    names = ["class", "support", "precision", "recall", "f1"]
    rows = []
    for row in classes:
        measured = [f"{100 * float(row[name]):.1f}" if int(row["support"]) else "–" for name in names[2:]]
        rows.append([row["class"], count(int(row["support"])), *measured])
    return TextTable([_title(name) for name in names], rows)


def _last_round(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    last = max((int(row["round"]) for row in rows), default=0)
    return [row for row in rows if int(row["round"]) == last]


def _labelled_classes(labels: list[dict[str, str]], classes: list[str]) -> dict[str, tuple[int, int]] | None:
    if not labels:
        return None
    start, later = Counter[str](), Counter[str]()
    for row in labels:
        (later if int(row["round"]) else start)[row["class"]] += 1
    names = [name for name in dict.fromkeys([*classes, *start, *later]) if name]  # empty: rejected
    return {name: (start[name], later[name]) for name in names}


def _title(column: str) -> str:
    """The heading of a column with its unit: per cent for shares, seconds for times."""
    if column in _SHARES:
        return f"{column.replace('_', ' ')} %"
    return column.removesuffix("_seconds").replace("_", " ") + (" s" if column.endswith("_seconds") else "")


def _field(column: str, value: float) -> str:
    if math.isnan(value):
        return "–"
    if column in _COUNTS:
        return count(value)
    if column in _SHARES:
        return f"{100 * value:.1f}"
    return seconds(value) if column.endswith("_seconds") else f"{value:.4g}"
