"""A run folder: what an experiment leaves behind, the lock that keeps a second driver out, and the tables in it.

config.yaml        the resolved configuration          rounds.jsonl      the record, the only truth
environment.json   versions, machine, command          metrics.csv       one line a round
selections.csv     every image asked, in order         per_class.csv     one line a round and class
labels.csv         every answer, by class name         report.html       figures and tables
checkpoints/       weights by round, and those of helpers
trials.csv         every trial of a search for hyper-parameters, if there is one; choices.csv: what each round had

It lies on a disk or in an object store: the files are the same, and `storage` knows the difference. Their order is such
that a stop between any two writes loses nothing that a resume needs: weights first, then the round's line in the
record, then tables; old weights go last.
"""

import csv
import io
import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import torch

from openal_ray import config, config_file
from openal_ray.errors import ConfigError, RunError, UserError
from openal_ray.pool import OUT_OF_DISTRIBUTION
from openal_ray.record import Record, State, choices, labels, selections, trials
from openal_ray.storage import files, hold
from openal_ray.storage.url import Place
from openal_ray.training.job import Epoch, Trained

ROUND, HELPER = "round-", "helper-"  # how the names of checkpoints begin
TRIAL = "trial-"  # likewise, of the best trial of a search
LOCK = ".lock"
UNBEGUN = (LOCK, ".config.yaml.tmp")  # all that a driver leaves that is killed before its run begins
INTERRUPTED = "interrupted"
PACKAGES = ("openal-ray", "ray", "torch", "torchvision", "timm", "numpy", "scikit-learn", "optuna")
Weights = dict[str, torch.Tensor]


class RunFolder:
    """One experiment, held by this process until `close`."""

    def __init__(self, path: Place) -> None:
        self.path = path
        self._hold = held(path, LOCK)
        try:
            self.record = Record(path / "rounds.jsonl", check=self._hold.check)
        except BaseException:  # Ctrl-C too: in a notebook, the process goes on
            self.close()
            raise

    @classmethod
    def create(cls, configuration: config.Config) -> "RunFolder":
        """A new run; raises RunError if the folder holds anything already."""
        path = configuration.folder.expanduser()
        _check_empty(path)
        folder = cls(path)
        try:
            _check_empty(path)  # another driver may have begun a run before this one held the folder
            folder.write("config.yaml", config.dump(configuration))
            folder.write("environment.json", json.dumps(_environment(), indent=2) + "\n")
        except BaseException:
            folder.close()
            raise
        return folder

    @classmethod
    def open(cls, path: Place) -> tuple["RunFolder", config.Config]:
        """A run that exists, and its configuration; raises RunError if there is none."""
        configuration = read_config(path)
        return cls(path), configuration

    def close(self) -> None:
        self._hold.release()

    def discard(self) -> None:
        """Removes the folder's files if no work has been recorded yet, so that the same command can be tried again.

        Nothing is removed once another driver has, or had, taken the folder over: its files are not this one's.
        """
        record = self.path / "rounds.jsonl"
        with suppress(RunError):
            self._hold.check()
            if not self.record.state.asked and not Record(record, read_only=True).state.asked:
                for name in ("config.yaml", "environment.json", record.name):
                    (self.path / name).unlink(missing_ok=True)

    def write(self, name: str, text: str) -> None:
        """Writes a file whole: a reader never sees half of it."""
        write(self.path / name, text)

    def write_tables(self, classes: Sequence[str]) -> None:
        """Derives metrics.csv, per_class.csv, selections.csv and labels.csv from the record."""
        state = self.record.state
        lines = [line for _, line in sorted(state.evaluated.items())]
        per_class = [
            {"round": line["round"], "class": name, **entry}
            for line in lines
            for name, entry in zip(classes, line["per_class"], strict=True)
        ]
        self.write("metrics.csv", _table(["round", "labelled", "accuracy"], [line["row"] for line in lines]))
        self.write("per_class.csv", _table(["round", "class"], per_class))
        self.write("selections.csv", _csv(["round", "rank", "index", "id", "score"], selections(state)))
        named = ((*row, classes[label] if label >= 0 else "") for *row, label in labels(state))
        self.write("labels.csv", _csv(["round", "index", "id", "class"], named))
        if state.tuned or state.tried:
            self.write("trials.csv", _table(["round", "trial"], list(trials(state))))
            self.write("choices.csv", _table(["round", "labelled"], list(choices(state))))

    def save_weights(self, round: int, weights: Weights) -> None:
        """Stores a round's classifier."""
        self._save(f"{ROUND}{round:03d}", weights)

    def save_helper(self, key: str, weights: Weights) -> None:
        """Stores a helper under its key."""
        self._save(f"{HELPER}{key}", weights)

    def load_helper(self, key: str) -> Weights | None:
        """The helper of that key, or None if it is not there."""
        return self._load(f"{HELPER}{key}")

    def keep_helpers(self, keys: set[str]) -> None:
        """Removes all helpers but those of these keys."""
        for file in self._weights(HELPER):
            if file.stem.removeprefix(HELPER) not in keys:
                file.unlink()

    def save_trial(self, round: int, number: int, trained: Trained) -> None:
        """Stores what the best trial of a round's search came to, in place of the one before."""
        name = f"{TRIAL}{round:03d}-{number}"
        self._save(name, {"weights": trained.weights, "history": [asdict(epoch) for epoch in trained.history]})
        self.drop_trials(all_but=name)

    def load_trial(self, round: int, number: int) -> Trained | None:
        """What that trial came to, or None if it is not there."""
        found = self._load(f"{TRIAL}{round:03d}-{number}")
        return Trained(found["weights"], tuple(Epoch(**epoch) for epoch in found["history"])) if found else None

    def drop_trials(self, all_but: str = "") -> None:
        """Removes stored trials, whose weights are no longer needed or are the round's by now."""
        for file in self._weights(TRIAL):
            if file.stem != all_but:
                file.unlink()

    def _save(self, name: str, content: dict[str, Any]) -> None:
        folder = self.path / "checkpoints"
        try:
            files.make_folder(folder)
            with files.complete(folder / f"{name}.pt") as incomplete:
                torch.save(content, incomplete)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
            raise RunError(f"{folder}: weights cannot be written ({error}); make room and resume") from None

    def drop_weights_before(self, round: int) -> None:
        """Removes the weights of earlier rounds, which a resume may need until this round is in the record."""
        for old in self._weights(ROUND):
            if int(old.stem.removeprefix(ROUND)) < round:
                old.unlink()

    def _weights(self, prefix: str) -> list[Place]:
        folder = self.path / "checkpoints"
        found = folder.iterdir() if folder.is_dir() else ()
        return [file for file in found if file.name.startswith(prefix) and file.name.endswith(".pt")]

    def load_weights(self, round: int) -> Weights | None:
        """A round's weights, or None if they are not there (they can be trained again); RunError for a damaged file."""
        return self._load(f"{ROUND}{round:03d}")

    def _load(self, name: str) -> dict[str, Any] | None:
        path = self.path / "checkpoints" / f"{name}.pt"
        if not path.exists():
            return None
        try:
            with files.opened(path) as stream:
                content: dict[str, Any] = torch.load(stream, map_location="cpu", weights_only=True)
        except UserError:
            raise
        except Exception as error:  # torch has no one type for a file that was cut off
            problem = str(error).partition("\n")[0]
            raise RunError(f"{path}: damaged weights ({problem}); delete the file and `openal-ray resume`") from None
        return content


def held(path: Place, lock: str) -> hold.Hold:
    """Makes the folder, and holds it by the lock of that name; raises RunError."""
    try:
        files.make_folder(path)
        return hold.hold(path / lock)
    except hold.Busy as other:
        raise RunError(
            f"{path}: another openal-ray process{other} works in this folder; wait for it or stop it"
        ) from None
    except OSError as error:
        raise RunError(
            f"out: {path} cannot be the output folder ({error.strerror}); choose another with out=DIR"
        ) from None


def write(file: Place, text: str) -> None:
    """Writes a file whole, or not at all; raises RunError."""
    try:
        with files.complete(file) as incomplete:
            incomplete.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise RunError(f"{file}: cannot be written ({error.strerror}); make room and resume") from None


def runs_in(path: Place) -> list[Place]:
    """The folder itself if it is a run, else the runs directly in it; raises RunError if there is none."""
    if (path / "config.yaml").is_file():
        return [path]
    inside: Iterable[Place] = path.iterdir() if path.is_dir() else ()
    found = sorted((folder for folder in inside if (folder / "config.yaml").is_file()), key=str)
    if not found:
        raise RunError(f"{path}: neither a run folder nor a folder of runs; `openal-ray run` makes them, as out=DIR")
    return found


def wait_until_free(path: Place, seconds: float) -> None:
    """Until no other process works in the folder: one whose driver was killed lives on for a moment.

    raises  RunError after so many seconds
    """
    try:
        hold.wait(path / LOCK, seconds)
    except hold.Busy as other:
        raise RunError(
            f"{path}: another openal-ray process{other} has worked in this folder for {seconds:g} s"
        ) from None


def rows(path: Place) -> list[dict[str, Any]]:
    """metrics.csv's rows of the rounds that are finished; reads only."""
    evaluated = Record(path / "rounds.jsonl", read_only=True).state.evaluated
    return [line["row"] for _, line in sorted(evaluated.items())]


def status(path: Place) -> dict[str, Any]:
    """How far a run is, as plain data; reads only, so that it may be asked while the run goes on."""
    configuration = read_config(path)
    state = Record(path / "rounds.jsonl", read_only=True).state
    last = state.evaluated[max(state.evaluated)]["row"] if state.evaluated else {}
    return {
        "folder": str(path),
        "state": _state_of(path, state),
        "data": configuration.data.name,
        "strategy": configuration.strategy.name if configuration.strategy else None,
        "seed": configuration.seed,
        "rounds": len(state.evaluated),
        "labelled": sum(a != OUT_OF_DISTRIBUTION for line in state.answered.values() for a in line["answers"]),
        "accuracy": last.get("accuracy"),
        "waiting_for_labels": len(state.pending["indices"]) if state.pending else 0,
    }


def _state_of(path: Place, state: State) -> str:
    running = hold.held(path / LOCK)
    if running:
        return "running"
    if state.pending:
        return "waiting for labels"
    if state.ending:
        return "finished"
    return "running or interrupted; its lock is another user's" if running is None else INTERRUPTED


def _check_empty(path: Place) -> None:
    if path.is_dir() and any(entry.name not in UNBEGUN for entry in path.iterdir()):
        what = "a run" if (path / "config.yaml").exists() else "files"
        raise RunError(
            f"out: {path} holds {what} already. `openal-ray resume {path}` goes on with a run; "
            "otherwise choose another folder with out=DIR."
        )


def read_config(path: Place) -> config.Config:
    """The configuration of a run folder, with `out` set to where it lies now.

    raises  RunError     if it is no run folder
            ConfigError  if its config.yaml was damaged, naming the file
    """
    file = path / "config.yaml"
    if not file.is_file():
        raise RunError(f"{path}: not a run folder, it has no config.yaml")
    values = {**config_file.read_file(file), "out": str(path)}
    try:
        return config.parse(values)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None


def _table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """CSV of rows with names: `columns` first, then whatever else a row has; a cell that a row lacks stays empty."""
    names = list(dict.fromkeys([*columns, *(name for row in rows for name in row)]))
    return _csv(names, ([row.get(name) for name in names] for row in rows))


def _csv(columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def _environment() -> dict[str, Any]:
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
