"""Trackers: the real wandb in its offline mode, whose file is read back."""

import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from wandb.proto import wandb_internal_pb2

from openal_ray.errors import UserError
from openal_ray.reports.trackers import NoTracker, Tracker, WandbTracker, run_id

CONFIG: dict[str, Any] = {"seed": 1, "out": "runs/a", "strategy": {"name": "badge"}}


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No network, no output, and no helper process left afterwards."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    yield
    wandb.teardown()


def _records(path: Path) -> Iterator[Any]:
    """The records of a .wandb file: LevelDB's log format after a head of 7 bytes, with a protobuf in each record."""
    content, place, parts = path.read_bytes(), 7, b""
    while place < len(content):
        left_in_block = 32768 - place % 32768
        if left_in_block < 7:
            place += left_in_block
            continue
        length, kind = struct.unpack_from("<HB", content, place + 4)
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield wandb_internal_pb2.Record.FromString(parts)
            parts = b""


def _sent(path: Path) -> tuple[Any, dict[str, Any], list[dict[str, Any]]]:
    """The run, its configuration and its rows of history."""
    wandb.teardown()  # its service writes behind our back; only once it has ended is the file whole
    records = list(_records(path))
    run = next(record.run for record in records if record.WhichOneof("record_type") == "run")
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    rows = [
        {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.WhichOneof("record_type") == "history"
    ]
    return run, config, rows


@pytest.mark.usefixtures("offline")
def test_one_run_holds_configuration_and_every_round(tmp_path: Path) -> None:
    folder = tmp_path / "digits-badge-1"
    folder.mkdir()
    tracker: Tracker = WandbTracker(project="shelf", entity="team")
    tracker.start(CONFIG, "badge, seed 1", folder)
    tracker.log(0, {"accuracy": 0.5, "labelled": 100})
    tracker.log(1, {"accuracy": 0.75, "labelled": 200})
    tracker.finish()

    (file,) = (folder / "wandb").glob("offline-run-*/run-*.wandb")
    run, config, rows = _sent(file)
    assert (run.project, run.entity, run.display_name) == ("shelf", "team", "badge, seed 1")
    assert run.run_id == run_id(folder, CONFIG)
    assert {key: config[key] for key in CONFIG} == CONFIG
    assert [(row["_step"], row["accuracy"], row["labelled"]) for row in rows] == [(0, 0.5, 100), (1, 0.75, 200)]


@pytest.mark.usefixtures("offline")
def test_a_resumed_experiment_goes_on_with_the_same_run(tmp_path: Path) -> None:
    for round in (0, 1):
        tracker = WandbTracker(project="shelf")
        tracker.start(CONFIG, "badge", tmp_path)
        tracker.log(round, {"accuracy": 0.5})
        tracker.finish()
    found = [_sent(file) for file in sorted((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))]
    assert {run.run_id for run, _, _ in found} == {run_id(tmp_path, CONFIG)}
    assert sorted(row["_step"] for _, _, rows in found for row in rows) == [0, 1]


def test_the_id_depends_on_folder_name_and_configuration_but_not_on_the_place(tmp_path: Path) -> None:
    known = run_id(tmp_path / "here" / "run", CONFIG)
    assert run_id(tmp_path / "there" / "run", {**CONFIG, "out": "elsewhere"}) == known
    assert run_id(tmp_path / "here" / "other", CONFIG) != known
    assert run_id(tmp_path / "here" / "run", {**CONFIG, "seed": 2}) != known
    assert len(known) == 16 and known.isalnum()


def test_a_missing_package_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"tracking.wandb: the package wandb is not installed. Run pip install 'openal"):
        WandbTracker(project="shelf").start(CONFIG, "badge", tmp_path)


def test_a_folder_called_wandb_is_not_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wandb").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    for name in [each for each in sys.modules if each == "wandb" or each.startswith("wandb.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UserError, match="the package wandb is not installed"):
        WandbTracker(project="shelf").start(CONFIG, "badge", tmp_path)


def test_a_start_that_fails_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: None) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(UserError, match=r"cannot be used .*Log in with `wandb login`, or set WANDB_MODE=offline"):
        WandbTracker(project="shelf").start(CONFIG, "badge", tmp_path)


def test_finishing_what_never_started_is_fine() -> None:
    WandbTracker(project="shelf").finish()


def test_no_tracker_does_nothing(tmp_path: Path) -> None:
    tracker: Tracker = NoTracker()
    tracker.start(CONFIG, "badge", tmp_path)
    tracker.log(0, {"accuracy": 0.5})
    tracker.finish()
    assert list(tmp_path.iterdir()) == []
