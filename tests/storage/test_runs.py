"""Whole runs in a store: the files and selections of one on a disk, whatever is lost on the way."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console

from openal_ray import config, config_file, run_folder, runs, sweep_file, sweeps
from openal_ray.cluster import parcel
from openal_ray.cluster.reservation import adapted
from openal_ray.errors import RunError
from openal_ray.progress import SweepLines
from openal_ray.run_folder import RunFolder, status
from openal_ray.storage import hold
from openal_ray.storage.url import Place, Url
from openal_ray.sweep_file import Sweep
from openal_ray.training import file_keeper
from openal_ray.training.job import Epoch
from openal_ray.workers import train_here
from tests.command import exit_of
from tests.experiments import SMALL, small
from tests.storage.conftest import Faulty
from tests.training.jobs import IMAGES, job, same, trained

QUICK = ("budget.n_end=35", "train.epochs=1", "train.steps_per_epoch=3")
SECONDS = 60
CPU = torch.device("cpu")


class Killed(BaseException):
    """As good as SIGKILL for what a run leaves behind: no handler of errors catches it."""


def names(folder: Place) -> list[str]:
    """All files of a run folder, but those that tell of processes."""
    found = []
    for each in folder.iterdir():
        found += [f"{each.name}/{name}" for name in names(each)] if each.is_dir() else [each.name]
    return sorted(name for name in found if name != ".lock")


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quick run that nothing disturbs."""
    return Path(str(runs.run(small(tmp_path_factory.mktemp("disk") / "run", *QUICK)).folder))


def selected(folder: Place) -> bytes:
    return (folder / "selections.csv").read_bytes()


def test_a_run_in_s3_leaves_what_one_on_a_disk_leaves(
    bucket: Url, on_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the command, each part of which takes the URL where it takes a folder."""
    file, url = tmp_path / "config.yaml", f"{bucket}/runs/a"
    file.write_text(json.dumps(SMALL))
    assert exit_of("run", str(file), f"out={url}", *QUICK) == 0
    assert f"report  {url}/report.html" in capsys.readouterr().out
    run = bucket / "runs" / "a"
    assert names(run) == names(on_disk) and selected(run) == selected(on_disk)
    page = (run / "report.html").read_text()
    assert page.startswith("<!doctype html>") and url in page

    assert exit_of("run", str(file), f"out={url}") == 2
    assert f"out: {url} holds a run already. `openal-ray resume {url}` goes on" in capsys.readouterr().err
    assert exit_of("status", f"{bucket}/runs", "--json") == 0
    (facts,) = json.loads(capsys.readouterr().out)
    assert (facts["folder"], facts["state"], facts["labelled"]) == (url, "finished", 35)
    assert exit_of("report", url, str(on_disk)) == 2  # one seed twice
    assert "are the same experiment twice" in capsys.readouterr().err
    assert exit_of("report", f"{bucket}/runs", "--out", f"{bucket}/both") == 0
    assert {"report.html", "curves.png", "comparison.csv"} == set(names(bucket / "both"))


def test_several_runs_get_folders_of_their_own_in_the_store() -> None:
    configurations = runs.expand(SMALL | {"strategy": "random", "seed": [0, 1], "out": "s3://bucket/seeds"})
    assert [str(each.folder) for each in configurations] == [f"s3://bucket/seeds/random-{seed}" for seed in (0, 1)]
    assert str(runs.common_folder(configurations)) == "s3://bucket/seeds"
    assert config.parse(yaml.safe_load(config.dump(configurations[0]))) == configurations[0]


DRIVER = """
import os, signal, sys
from openal_ray import runs
from openal_ray.record import Record

append = Record.append

def killed(self, *lines):
    append(self, *lines)
    if any(line["kind"] == "answered" and line["round"] == 1 for line in lines):
        os.kill(os.getpid(), signal.SIGKILL)

Record.append = killed
runs.run("config.yaml", *sys.argv[1:])
"""


def test_a_lost_head_node_is_survived(bucket: Url, on_disk: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle of a run, and nothing of its machine is left: no home, no folder, no temporary file."""
    node = tmp_path / "node"
    node.mkdir()
    (node / "config.yaml").write_text(json.dumps(SMALL))
    command = [sys.executable, "-c", DRIVER, f"out={bucket}/run", *QUICK]
    here = {**os.environ, "HOME": str(node), "TMPDIR": str(node), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, cwd=node, env=here, timeout=SECONDS, check=False)
    assert done.returncode == -signal.SIGKILL
    shutil.rmtree(node)
    assert status(bucket / "run")["state"] == "running"  # as far as the lease tells, for some seconds
    assert status(bucket / "run")["rounds"] == 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hold, "WATCH_SECONDS", 0.5)
        patch.setattr(hold, "POLL_SECONDS", 0.1)
        assert exit_of("resume", f"{bucket}/run") == 0
    assert selected(bucket / "run") == selected(on_disk)
    assert status(bucket / "run")["state"] == "finished"


def stop_at(call: int, error: Callable[[], BaseException]) -> Callable[[str, str], None]:
    """From the call of that number on, no write happens; renewals of the lease do not count."""
    left = [call]

    def fail(kind: str, path: str) -> None:
        if kind in ("move", "delete") and not path.endswith(".lock"):
            left[0] -= 1
            if left[0] < 0:
                raise error()

    return fail


def test_a_stop_between_any_two_writes_loses_nothing(
    faulty: Faulty, store: Url, on_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "write_report", lambda folders, path: path)  # the slow part, whose files nothing reads
    monkeypatch.setattr(hold, "STALE_SECONDS", 0.0)  # the killed driver's lease is not watched
    number, ended = 0, False
    while not ended:
        configuration = small(store / f"run{number}", *QUICK, "shards=1")  # type: ignore[arg-type]
        faulty.failing = stop_at(number, Killed)
        try:
            runs.run(configuration)
            ended = True
        except Killed:
            faulty.failing = lambda kind, path: None
            begun = (configuration.folder / "config.yaml").exists()
            done = runs.resume(configuration.folder) if begun else runs.run(configuration)
            assert selected(done.folder) == selected(on_disk), number
            number += 1
    assert number > 15


def test_a_store_that_fails_now_and_then_changes_nothing(faulty: Faulty, store: Url, on_disk: Path) -> None:
    calls = [0]

    def fail(kind: str, path: str) -> None:
        calls[0] += 1
        if calls[0] % 3 == 0:
            raise OSError("slow down")

    faulty.failing = fail
    run = runs.run(small(store / "run", *QUICK))  # type: ignore[arg-type]
    assert selected(run.folder) == selected(on_disk)


def test_a_store_that_goes_away_stops_the_run_and_a_resume_goes_on(faulty: Faulty, store: Url, on_disk: Path) -> None:
    faulty.failing = stop_at(8, lambda: OSError("gone"))
    with pytest.raises(RunError, match="the store did not answer 4 times: gone.* `openal-ray resume` goes on with it"):
        runs.run(small(store / "run", *QUICK))  # type: ignore[arg-type]
    faulty.failing = lambda kind, path: None
    assert selected(runs.resume(f"{store}/run").folder) == selected(on_disk)


@pytest.mark.usefixtures("brisk")
def test_a_second_driver_is_refused_and_one_that_was_taken_over_writes_nothing(store: Url) -> None:
    configuration = config.parse({"out": f"{store}/run"})
    first = RunFolder.create(configuration)
    first.record.begin("pets", 9, ["cat"])
    with pytest.raises(RunError, match=r"another openal-ray process \(process \d+ on .*\) works in this folder; wait"):
        RunFolder.open(store / "run")
    assert status(store / "run")["state"] == "running"
    slept_through(first)
    second = RunFolder.open(store / "run")[0]
    before = (store / "run" / "rounds.jsonl").read_bytes()
    asked = {"kind": "asked", "round": 0, "indices": [1], "ids": ["a"], "scores": [None]}
    with pytest.raises(RunError, match="has taken this folder over"):
        first.record.append(asked)
    assert (store / "run" / "rounds.jsonl").read_bytes() == before
    second.record.append(asked)
    first.close()
    second.close()
    assert status(store / "run")["state"] == "waiting for labels"
    assert names(store / "run") == ["config.yaml", "environment.json", "rounds.jsonl"]


@pytest.mark.usefixtures("brisk")
@pytest.mark.parametrize("ended", [False, True])
def test_a_run_that_was_taken_over_before_its_first_round_is_not_discarded(store: Url, ended: bool) -> None:
    """Neither while the other works nor when it has ended, and its lease is gone."""
    configuration = config.parse({"out": f"{store}/run"})
    first = RunFolder.create(configuration)
    slept_through(first)
    second = RunFolder.open(store / "run")[0]
    second.record.begin("pets", 9, ["cat"])
    if ended:
        second.record.append({"kind": "asked", "round": 0, "indices": [1], "ids": ["a"], "scores": [None]})
        second.close()
    first.discard()
    first.close()
    assert names(store / "run") == ["config.yaml", "environment.json", "rounds.jsonl"]
    second.close()


@pytest.mark.usefixtures("brisk")
def test_of_two_that_find_the_folder_empty_one_begins(store: Url, monkeypatch: pytest.MonkeyPatch) -> None:
    configuration, holding = config.parse({"out": f"{store}/run"}), run_folder.held

    def late(path: Place, lock: str) -> hold.Hold:
        monkeypatch.setattr(run_folder, "held", holding)
        first = RunFolder.create(configuration)  # a moment before
        slept_through(first)
        return holding(path, lock)

    monkeypatch.setattr(run_folder, "held", late)
    with pytest.raises(RunError, match="holds a run already"):
        RunFolder.create(configuration)
    assert names(store / "run") == ["config.yaml", "environment.json"]
    assert not (store / "run" / ".lock").exists()


def slept_through(driver: RunFolder) -> None:
    """As after a sleep of some minutes: its lease is old, and not written anew."""
    lease = driver._hold
    assert isinstance(lease, hold.Lease)
    lease._released.set()
    lease._thread.join()
    lease._released.clear()
    told = json.loads(lease._file.read_bytes())
    lease._file.write_bytes(json.dumps(told | {"time": told["time"] - 2 * hold.STALE_SECONDS}).encode())


def test_what_cannot_work_is_refused_before_any_work(
    s3: str, bucket: Url, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps(SMALL))
    for out, sentence in (
        ("ftp://host/run", "out: ftp://host/run: unknown scheme 'ftp'"),
        ("s3://someone:something@bucket/run", "out: looks like a secret"),
        ("s3://missing/run", "NO_SUCH_BUCKET"),
    ):
        assert exit_of("run", str(file), f"out={out}") == 2
        assert sentence in capsys.readouterr().err
    assert exit_of("resume", f"{bucket}/nothing") == 2
    assert "neither a run folder nor a folder of runs" in capsys.readouterr().err
    assert exit_of("status", "ftp://host/run") == 2
    assert exit_of("pretrain", str(file), f"out={bucket}/encoder") == 2
    assert "an encoder is a file that runs read from a disk" in capsys.readouterr().err


def test_a_training_goes_on_from_its_checkpoint_in_the_store(
    faulty: Faulty, store: Url, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_keeper, "SAVE_SECONDS", 0.0)
    one, heard = job(epochs=4), []

    def stop(epoch: Epoch) -> None:
        if epoch.epoch == 2:
            raise Killed

    with pytest.raises(Killed):
        train_here(one, IMAGES, CPU, stop, store)
    finished = train_here(one, IMAGES, CPU, heard.append, store)
    assert [epoch.epoch for epoch in heard] == [2, 3]
    assert same(finished.weights, trained(one).weights)
    assert not names(store)


@pytest.mark.usefixtures("brisk")
def test_a_sweep_lies_in_a_store_with_its_runs(store: Url, on_disk: Path) -> None:
    quiet = SweepLines(Console(quiet=True))
    base = config_file.override(SMALL, QUICK)
    plan = Sweep(base=base, grid={"strategy": ["margin"]}, out=f"{store}/sweep")
    (one,) = (adapted(each) for each in plan.runs())
    told: list[dict[str, Any]] = []
    sweeps.carry_out(one, runs.closed_dataset(one, "digits"), told.append)
    sweeps.carry_out(one, runs.closed_dataset(one, "digits"), told.append)
    assert [row["round"] for row in told] == [0, 1] and selected(one.folder) == selected(on_disk)
    assert sweeps.sweep(plan, quiet) == sweeps.Swept([store / "sweep" / "margin-0"], {}, [], [])
    assert sweep_file.read(store / "sweep", ["concurrency=1"]) == plan.model_copy(update={"concurrency": 1})
    with sweeps._held(plan), pytest.raises(RunError, match="another openal-ray process .* works in this folder"):
        sweeps.sweep(plan, quiet)


def test_a_job_may_write_to_a_store() -> None:
    values = SMALL | {"out": "s3://bucket/run"}
    assert b"out: s3://bucket/run" in parcel.pack(values, runs.as_config(values))["config.yaml"]
