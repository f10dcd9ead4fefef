"""Run folders as an experiment leaves them, small and with known numbers."""

import csv
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

CLASSES = ("zero", "one", "two", "three")
MakeRun = Callable[..., Path]


def write_run(
    folder: Path,
    strategy: str | None,
    seed: int,
    labelled: Iterable[int] = (100, 200, 300),
    accuracy: Iterable[float] = (0.5, 0.7, 0.8),
    dataset: str = "digits",
    config: Mapping[str, Any] | None = None,
    classes: Iterable[str] = CLASSES,
    answers: bool = False,
    seconds: float = 1.0,
    columns: Mapping[str, Iterable[Any]] | None = None,
) -> Path:
    """A run with one round for each label count.

    config   sections to merge into the configuration, one level deep
    answers  whether selections.csv has the column `class`
    seconds  of reading in a round; training takes ten times, selecting half, evaluating a quarter of it
    columns  more columns of metrics.csv, a value for each round
    """
    labelled, accuracy, classes = list(labelled), list(accuracy), list(classes)
    folder.mkdir(parents=True)
    chosen = {"name": strategy} if strategy else None
    values: dict[str, Any] = {"strategy": chosen, "seed": seed, "out": str(folder), "data": {"name": dataset}}
    values |= {"model": {"name": "small_cnn"}, "budget": {"n_query": 100}, "train": {"epochs": 5}}
    for section, keys in (config or {}).items():
        values[section] = {**(values.get(section) or {}), **keys}
    (folder / "config.yaml").write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), encoding="utf-8")
    environment = {
        "command": ["openal-ray", "run"],
        "cpus": 8,
        "gpus": [],
        "packages": {"torch": "2.14.1", "ray": None},
    }
    (folder / "environment.json").write_text(json.dumps(environment), encoding="utf-8")
    _write_rounds(folder, labelled, accuracy, classes, seconds, columns or {})
    _write_selections(folder, labelled, classes, answers)
    return folder


def _write_rounds(
    folder: Path,
    labelled: list[int],
    accuracy: list[float],
    classes: list[str],
    seconds: float,
    columns: Mapping[str, Iterable[Any]],
) -> None:
    rounds = list(enumerate(zip(labelled, accuracy, strict=True)))
    spent = {"train_seconds": 10, "read_seconds": 1, "select_seconds": 0.5, "evaluate_seconds": 0.25}
    scores = ("f1", "recall", "precision", "balanced_accuracy")
    rows: list[dict[str, Any]] = [
        {
            "round": round, "labelled": count, "accuracy": a, "loss": 1 - a, **dict.fromkeys(scores, a - 0.01),
            "auroc": (1 + a) / 2, **{name: share * seconds for name, share in spent.items()},
        }
        for round, (count, a) in rounds
    ]  # fmt: skip
    rows[0] |= {"read_seconds": 0.0, "select_seconds": 0.0, "auroc": ""}  # nothing is read for the start set
    for name, values in columns.items():
        for row, value in zip(rows, values, strict=True):
            row[name] = value
    _write(folder / "metrics.csv", rows)
    per_class = [
        {"round": round, "class": name, "support": 10, "precision": a, "recall": a, "f1": a}
        for round, (_, a) in rounds
        for name in classes
    ]
    _write(folder / "per_class.csv", per_class)


def _write_selections(folder: Path, labelled: list[int], classes: list[str], answers: bool) -> None:
    rows: list[dict[str, Any]] = []
    for round, asked in enumerate(np.diff(labelled, prepend=0)):
        for rank in range(1, asked + 1):
            index = len(rows)
            score = 1 / rank if round else ""
            rows.append({"round": round, "rank": rank, "index": index, "id": f"image-{index}", "score": score})
    _write(folder / "selections.csv", rows)
    if answers:
        named = [(row, classes[row["index"] % len(classes)]) for row in rows]
        given = [{key: row[key] for key in ("round", "index", "id")} | {"class": name} for row, name in named]
        _write(folder / "labels.csv", given)


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
