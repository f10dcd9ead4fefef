"""Tests of run_folder.py: one driver a folder, nothing lost on a full disk, tables that follow from the record."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from openal_ray import config
from openal_ray.errors import ConfigError, RunError
from openal_ray.run_folder import RunFolder, read_config, runs_in, status
from tests.disk import full_beyond

WEIGHTS = {"layer.weight": torch.arange(6.0).reshape(2, 3), "steps": torch.tensor(7)}


def configuration(path: Path) -> config.Config:
    return config.parse({"strategy": "margin", "seed": 5, "out": str(path)})


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[RunFolder]:
    with closing(RunFolder.create(configuration(tmp_path / "run"))) as created:
        yield created


def refusal(tmp_path: Path) -> str:
    with pytest.raises(RunError) as caught:
        RunFolder.create(configuration(tmp_path))
    return str(caught.value)


def answered_rounds(folder: RunFolder) -> None:
    """Two rounds: image 3 is a cat, image 1 none of the classes, image 0 a dog; the second has one measure more."""
    per_class = [{"support": 2, "f1": 0.5}, {"support": 1, "f1": None}]
    folder.record.begin("pets", 9, ["cat", "dog"])
    folder.record.append(
        {"kind": "asked", "round": 0, "indices": [3, 1], "ids": ["c,3", "a1"], "scores": [None, None]},
        {"kind": "answered", "round": 0, "answers": [0, -1]},
        {"kind": "evaluated", "round": 0, "row": {"round": 0, "labelled": 1, "accuracy": 0.5}, "per_class": per_class},
        {"kind": "asked", "round": 1, "indices": [0], "ids": ['b"0'], "scores": [0.25]},
        {"kind": "answered", "round": 1, "answers": [1]},
    )
    row = {"labelled": 2, "round": 1, "loss": 0.125, "accuracy": 0.75}
    folder.record.append({"kind": "evaluated", "round": 1, "row": row, "per_class": per_class})


def test_a_new_run_holds_its_configuration_and_surroundings(folder: RunFolder) -> None:
    environment = json.loads((folder.path / "environment.json").read_text())
    assert environment["command"] == sys.argv
    assert environment["packages"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert environment["cpus"] == os.cpu_count()
    folder.close()
    opened, found = RunFolder.open(folder.path)
    with closing(opened):
        assert found == configuration(folder.path)
        assert opened.record.state.round == -1


def test_a_folder_that_holds_anything_is_refused(tmp_path: Path, folder: RunFolder) -> None:
    assert refusal(folder.path) == (
        f"out: {folder.path} holds a run already. `openal-ray resume {folder.path}` goes on with a run; "
        "otherwise choose another folder with out=DIR."
    )
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("precious")
    assert refusal(mine).startswith(f"out: {mine} holds files already.")
    assert [path.name for path in mine.iterdir()] == ["thesis.tex"]
    assert "thesis.tex cannot be the output folder (File exists); choose another" in refusal(mine / "thesis.tex")
    assert "(Not a directory); choose another with out=DIR" in refusal(mine / "thesis.tex" / "run")


def test_an_empty_folder_or_one_with_an_old_lock_is_taken(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    with closing(RunFolder.create(configuration(tmp_path))) as folder:
        assert (folder.path / "config.yaml").is_file()


HOLD = """
import sys, pathlib
from openal_ray.run_folder import RunFolder
held = RunFolder(pathlib.Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_process_keeps_out_until_the_first_is_gone(folder: RunFolder) -> None:
    folder.close()
    command = [sys.executable, "-c", HOLD, str(folder.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(RunError, match="another openal-ray process works in this folder; wait for it or stop it"):
            RunFolder.open(folder.path)
        assert status(folder.path)["state"] == "running"
        other.send_signal(signal.SIGKILL)
        other.wait()
        with closing(RunFolder.open(folder.path)[0]):
            assert status(folder.path)["state"] == "running"
    assert status(folder.path)["state"].startswith("interrupted")


def test_a_folder_that_cannot_be_opened_is_not_kept_locked(folder: RunFolder) -> None:
    folder.close()
    (folder.path / "rounds.jsonl").write_text("damaged\n")
    with pytest.raises(RunError, match="line 1 is damaged") as first:
        RunFolder(folder.path)
    with pytest.raises(RunError, match="line 1 is damaged"):
        RunFolder(folder.path)
    assert first.value is not None  # its traceback still holds the first attempt


def test_a_run_that_found_no_room_can_be_begun_again(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with full_beyond(100), pytest.raises(RunError) as caught:
        RunFolder.create(configuration(path))
    assert str(caught.value) == f"{path / 'config.yaml'}: cannot be written (File too large); make room and resume"
    assert {entry.name for entry in path.iterdir()} <= {".lock"}
    with closing(RunFolder.create(configuration(path))):
        assert read_config(path) == configuration(path)


def test_a_run_that_is_interrupted_at_its_beginning_leaves_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt) as caught:
        patch.setattr("openal_ray.run_folder._environment", interrupted)
        RunFolder.create(configuration(tmp_path / "run"))
    assert status(tmp_path / "run")["state"].startswith("interrupted")
    assert caught.value is not None  # its traceback still holds the folder


def test_a_file_is_replaced_whole_or_not_at_all(folder: RunFolder) -> None:
    folder.write("metrics.csv", "old\n")
    with full_beyond(1000), pytest.raises(RunError, match=r"metrics.csv: cannot be written \(File too large\)"):
        folder.write("metrics.csv", "new\n" * 1000)
    assert (folder.path / "metrics.csv").read_text() == "old\n"
    assert not list(folder.path.glob(".*.tmp"))


def test_weights_come_back_as_they_were(folder: RunFolder) -> None:
    assert folder.load_weights(0) is None
    folder.save_weights(0, WEIGHTS)
    found = folder.load_weights(0)
    assert found is not None and found.keys() == WEIGHTS.keys()
    assert all(torch.equal(found[name], WEIGHTS[name]) for name in WEIGHTS)


@pytest.mark.parametrize(("keep", "kept"), [("last", [2]), ("all", [0, 1, 2])])
def test_which_weights_stay(folder: RunFolder, keep: str, kept: list[int]) -> None:
    for round in range(3):
        folder.save_weights(round, {"bias": torch.tensor([float(round)])})
    if keep == "last":
        folder.drop_weights_before(2)
    assert [round for round in range(4) if folder.load_weights(round) is not None] == kept
    newest = folder.load_weights(2)
    assert newest is not None and newest["bias"].item() == 2.0


def test_weights_that_find_no_room_cost_no_older_ones(folder: RunFolder) -> None:
    folder.save_weights(0, WEIGHTS)
    with full_beyond(20_000), pytest.raises(RunError, match="checkpoints: weights cannot be written .*; make room and"):
        folder.save_weights(1, {"large": torch.zeros(100_000)})
    assert [path.name for path in (folder.path / "checkpoints").iterdir()] == ["round-000.pt"]
    assert folder.load_weights(0) is not None


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("attacked",)


@pytest.mark.parametrize("content", [b"", b"half of it", pickle.dumps({"bias": Malicious()})])
def test_damaged_weights_are_refused_and_never_executed(
    folder: RunFolder, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.path)
    folder.save_weights(0, WEIGHTS)
    file = folder.path / "checkpoints" / "round-000.pt"
    file.write_bytes(content)
    with pytest.raises(RunError) as caught:
        folder.load_weights(0)
    assert str(caught.value).startswith(f"{file}: damaged weights (")
    assert str(caught.value).endswith("); delete the file and `openal-ray resume`")
    assert not (folder.path / "attacked").exists()


def test_the_tables_follow_from_the_record(folder: RunFolder) -> None:
    answered_rounds(folder)
    folder.write_tables(["cat", "dog"])
    texts = {name: (folder.path / f"{name}.csv").read_text() for name in ("metrics", "per_class", "selections")}
    assert texts == {
        "metrics": "round,labelled,accuracy,loss\n0,1,0.5,\n1,2,0.75,0.125\n",
        "per_class": "round,class,support,f1\n0,cat,2,0.5\n0,dog,1,\n1,cat,2,0.5\n1,dog,1,\n",
        "selections": 'round,rank,index,id,score\n0,1,3,"c,3",\n0,2,1,a1,\n1,1,0,"b""0",0.25\n',
    }


def test_tables_before_the_first_round(folder: RunFolder) -> None:
    folder.write_tables(["cat", "dog"])
    assert (folder.path / "metrics.csv").read_text() == "round,labelled,accuracy\n"
    assert (folder.path / "per_class.csv").read_text() == "round,class\n"
    assert (folder.path / "selections.csv").read_text() == "round,rank,index,id,score\n"


def test_how_far_a_run_is(folder: RunFolder) -> None:
    answered_rounds(folder)
    folder.close()
    facts = {"data": "digits", "strategy": "margin", "seed": 5, "rounds": 2, "labelled": 2, "accuracy": 0.75}
    expected = {"folder": str(folder.path), "state": "interrupted", **facts}
    assert status(folder.path) == {**expected, "waiting_for_labels": 0}
    folder.record.append({"kind": "asked", "round": 2, "indices": [7, 8, 4], "ids": ["", "", ""], "scores": [1, 1, 1]})
    assert status(folder.path) == {**expected, "state": "waiting for labels", "waiting_for_labels": 3}
    folder.record.append({"kind": "answered", "round": 2, "answers": [0, 0, -1]}, {"kind": "finished"})
    assert status(folder.path) == {**expected, "state": "finished", "labelled": 4, "waiting_for_labels": 0}


def test_asking_how_far_a_run_is_writes_nothing(tmp_path: Path, folder: RunFolder) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(folder.path / "config.yaml", copy)
    (copy / "rounds.jsonl").write_text('{"kind": "asked", "rou')
    assert status(copy)["rounds"] == 0
    assert {path.name for path in copy.iterdir()} == {"config.yaml", "rounds.jsonl"}
    assert (copy / "rounds.jsonl").read_text() == '{"kind": "asked", "rou'


def test_how_far_another_users_run_is(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    assert status(folder.path)["state"] == "running or interrupted; its lock is another user's"
    folder.record.begin("pets", 9, ["cat"])
    folder.record.append({"kind": "finished"})
    assert status(folder.path)["state"] == "finished"


def test_a_run_that_was_moved_knows_where_it_lies(tmp_path: Path, folder: RunFolder) -> None:
    folder.close()
    moved = folder.path.rename(tmp_path / "archive")
    assert read_config(moved) == configuration(moved)
    assert read_config(moved).folder == moved


def test_a_damaged_configuration_is_named(folder: RunFolder) -> None:
    file = folder.path / "config.yaml"
    file.write_text("seed: 1\nstrategie: margin\n")
    with pytest.raises(ConfigError, match=f"^{file}: strategie: unknown key 'strategie'. Did you mean 'strategy'?"):
        read_config(folder.path)
    file.write_text("seed: [")
    with pytest.raises(ConfigError, match=f"^{file}: not a YAML file") as caught:
        read_config(folder.path)
    assert str(caught.value).count(str(file)) == 1


def test_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=f"{tmp_path}: not a run folder, it has no config.yaml"):
        RunFolder.open(tmp_path)
    with pytest.raises(RunError, match="neither a run folder nor a folder of runs; `openal-ray run` makes them"):
        runs_in(tmp_path / "nowhere")


def test_the_runs_in_a_folder(tmp_path: Path) -> None:
    for name in ("b", "a", "a/inner", "empty"):
        (tmp_path / name).mkdir()
        if name != "empty":
            (tmp_path / name / "config.yaml").touch()
    assert runs_in(tmp_path) == [tmp_path / "a", tmp_path / "b"]
    assert runs_in(tmp_path / "a") == [tmp_path / "a"]


def test_a_folder_without_any_work_is_given_back(tmp_path: Path) -> None:
    configuration = config.parse({"out": str(tmp_path / "run")})
    first = RunFolder.create(configuration)
    first.discard()
    first.close()
    again = RunFolder.create(configuration)  # which would be refused if anything had stayed
    again.record.begin("pets", 1, ["cat"])
    again.record.append({"kind": "asked", "round": 0, "indices": [], "ids": [], "scores": []})
    again.discard()
    again.close()
    assert (tmp_path / "run" / "config.yaml").exists()
