"""Learning curves read from run folders; `groups` puts the seeds of one strategy together."""

import csv
import io
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from openal_ray.config_file import read_file
from openal_ray.errors import ConfigError, RunError
from openal_ray.storage.url import Place

SUPERVISED = "supervised"
"""What a run without a strategy is called: it trained once, on all labels."""

PHASES = ("train", "read", "select", "evaluate")
"""Where a round's seconds go, in the order in which charts stack them."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Curve:
    """The finished rounds of one run.

    config   the resolved configuration
    columns  every column of metrics.csv, float64 [r] for r finished rounds, nan where a field is empty
    """

    folder: Place
    config: dict[str, Any]
    columns: dict[str, np.ndarray]

    @property
    def strategy(self) -> str:
        chosen = self.config.get("strategy")
        return str(chosen["name"]) if chosen else SUPERVISED

    @property
    def dataset(self) -> str:
        return str(self.config["data"]["name"])

    @property
    def seed(self) -> int:
        return int(self.config["seed"])

    @property
    def labelled(self) -> np.ndarray:
        """[r] labelled images in each round, never falling."""
        return self.columns["labelled"]

    @property
    def annotated(self) -> np.ndarray:
        """[r] answers paid for so far, labelled and rejected images; what every curve is drawn and compared against.

        A run without the column `annotated` rejected nothing: its labelled images.
        """
        return self.columns.get("annotated", self.labelled)

    @property
    def accuracy(self) -> np.ndarray:
        """[r] share of the test images that were classified correctly."""
        return self.columns["accuracy"]

    def at(self, column: str, counts: np.ndarray) -> np.ndarray:
        """[k] a column read at k counts of annotated images, by straight lines between rounds that have a number.

        Outside of those rounds it is nan. Of rounds with equal counts the last one counts.
        """
        values = self.columns.get(column, np.full(len(self.annotated), np.nan))
        kept = np.append(np.diff(self.annotated) > 0, True) & ~np.isnan(values)
        if not kept.any():
            return np.full(len(counts), np.nan)
        return np.interp(counts, self.annotated[kept], values[kept], left=np.nan, right=np.nan)

    def seconds(self, *phases: str) -> float:
        """Seconds spent in these phases over all finished rounds; a phase that was not timed adds nothing."""
        return float(sum(np.nansum(self.columns.get(f"{phase}_seconds", 0.0)) for phase in phases))


def load(folders: Iterable[Place]) -> list[Curve]:
    """The curves of run folders, or of the runs that lie directly in a folder; each run once, in the order given.

    Runs without a finished round are left out with a warning when only their parent was named.
    raises  RunError for a folder that is no run and holds none, for a named run without a finished round,
            and for files that are damaged
    """
    found: dict[Place, Curve] = {}
    for folder in folders:
        for run in [folder] if _is_run(folder) else _finished_runs_in(folder):
            if run.resolve() not in found:
                found[run.resolve()] = _read_run(run)
    if not found:
        raise RunError("no run folder was named: give at least one, such as those that `openal-ray run` makes in runs/")
    return list(found.values())


def read_table(path: Place) -> list[dict[str, str]]:
    """The rows of a CSV file by column name; none if there is no such file."""
    if not path.is_file():
        return []
    try:
        text = io.StringIO(path.read_bytes().decode("utf-8"), newline="")
        return list(csv.DictReader(text, strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise RunError(f"{path}: not a CSV file ({error}); `openal-ray resume {path.parent}` writes it anew") from None


def _is_run(folder: Place) -> bool:
    return (folder / "config.yaml").is_file()


def _finished_runs_in(parent: Place) -> list[Place]:
    inside: Iterable[Place] = parent.iterdir() if parent.is_dir() else ()
    runs = [child for child in sorted(inside, key=str) if _is_run(child)]
    if not runs:
        what = "has no config.yaml, nor has any folder directly in it" if parent.is_dir() else "there is no such folder"
        raise RunError(f"{parent}: not a run ({what}); name a folder that `openal-ray run` made, or its parent")
    finished = [run for run in runs if read_table(run / "metrics.csv")]
    for run in runs:
        if run not in finished:
            log.warning("%s: left out, it has no finished round yet", run)
    if not finished:
        raise RunError(f"{parent}: none of its {len(runs)} runs has a finished round; `openal-ray resume RUN` goes on")
    return finished


def _read_run(folder: Place) -> Curve:
    try:
        config = read_file(folder / "config.yaml")
        curve = Curve(folder, config, _read_columns(folder))
        _ = (curve.strategy, curve.dataset, curve.seed)
    except ConfigError as error:
        raise RunError(str(error)) from None
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{folder / 'config.yaml'}: expected the keys seed, data.name and strategy.name of a run ({error!r})"
        ) from None
    return curve


def _read_columns(folder: Place) -> dict[str, np.ndarray]:
    path = folder / "metrics.csv"
    rows = read_table(path)
    if not rows:
        raise RunError(f"{folder}: no round is finished yet; `openal-ray resume {folder}` goes on with the run")
    missing = [name for name in ("round", "labelled", "accuracy") if name not in rows[0]]
    if missing:
        raise RunError(f"{path}: expected the columns round, labelled and accuracy, got none called {missing[0]!r}")
    columns = {name: np.array([_number(path, i, name, row[name]) for i, row in enumerate(rows, 2)]) for name in rows[0]}
    paid = columns.get("annotated", columns["labelled"])
    if (np.diff(columns["round"]) <= 0).any() or (np.diff(columns["labelled"]) < 0).any() or (np.diff(paid) < 0).any():
        raise RunError(f"{path}: its rounds are out of order; `openal-ray resume {folder}` writes it anew")
    return columns


def _number(path: Place, line: int, column: str, text: str | None) -> float:
    optional = column not in ("round", "labelled", "annotated", "accuracy")
    if text == "" and optional:
        return float("nan")
    try:
        return float(text or "")
    except ValueError:
        raise RunError(f"{path}: line {line}: {column} must be a number, got {text!r}") from None
