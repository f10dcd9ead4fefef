"""Sweeps on a real Ray: reserved, failing, stopped early; and the installed command, killed and started again."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from openal_ray import run_folder, runs, sweep_file
from openal_ray.cluster.reservation import adapted
from openal_ray.cluster.sweeps import run_trials
from openal_ray.config import Config
from openal_ray.data.dataset import Dataset
from openal_ray.storage.url import Url
from openal_ray.sweep_file import Asha

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.acceptance]
COMMAND = str(Path(sys.executable).parent / "openal-ray")
SHIPPED = Path(__file__).parent.parent.parent / "configs" / "sweeps" / "digits.yaml"
SECONDS = 240  # some 40 s on two idle cores


def test_a_sweep_in_s3_is_that_on_a_disk(bucket: Url, tmp_path: Path) -> None:
    """The command; its second run finds all of the first, and starts no Ray."""
    small = ["grid.strategy=margin", "grid.seed=0,1", "budget.n_end=70", "train.epochs=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for out in (str(tmp_path / "disk"), f"{bucket}/sweep", f"{bucket}/sweep"):
        done = subprocess.run(
            [COMMAND, "sweep", str(SHIPPED), f"out={out}", *small], env=environment, timeout=SECONDS,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    for name in ("margin-0", "margin-1"):
        there, here = (folder / name / "selections.csv" for folder in (bucket / "sweep", tmp_path / "disk"))
        assert there.read_bytes() == here.read_bytes()
    assert "report.html" in {each.name for each in (bucket / "sweep").iterdir()}
    assert not (bucket / "sweep" / ".tune" / "trials").exists()


class Heard:
    """A sweep's listener that writes down what it is told."""

    def __init__(self) -> None:
        self.rounds: dict[str, list[int]] = {}
        self.failures: list[tuple[str, str, bool]] = []
        self.over: list[str] = []

    def begin(self, runs: int, finished: int, at_once: int) -> None: ...

    def round_done(self, run: str, row: dict[str, Any]) -> None:
        self.rounds.setdefault(run, []).append(row["round"])

    def failed(self, run: str, error: BaseException, again: bool) -> None:
        self.failures.append((run, f"{type(error).__name__}: {error}", again))

    def ended(self, run: str) -> None:
        self.over.append(run)


class Piece:
    """What a shard is here: something that needs a whole CPU."""

    def group(self) -> int:
        return len(ray.util.get_current_placement_group().bundle_specs)


def work(configuration: Config, dataset: Dataset, tell: Callable[[dict[str, Any]], None]) -> None:
    """Not a run, but it places shards as a run does, and fails where its folder's name says so."""
    from openal_ray.cluster.crew import _place

    folder = configuration.folder
    piece = ray.remote(Piece)
    pieces = [
        piece.options(num_cpus=configuration.cluster.cpus_per_shard, scheduling_strategy=_place()).remote()
        for _ in range(configuration.shards)
    ]
    assert ray.get([piece.group.remote() for piece in pieces]) == [3, 3]  # the trial's own bundle and two of shards
    assert len(dataset.train)
    folder.mkdir(exist_ok=True)
    with (folder / "tries").open("a") as tries:
        print(os.getpid(), file=tries)
    if "bad" in folder.name or ("once" in folder.name and len((folder / "tries").read_text().split()) == 1):
        raise ValueError("a reason")
    for round in range(4):
        tell({"round": round, "labelled": 10, "accuracy": 0.1 if "poor" in folder.name else 0.9})


def tried(names: list[str], folder: Path, **options: Any) -> Heard:
    """Trials of these names, each as large as half of the cluster's four CPUs."""
    base = {"shards": 2, "cluster": {"cpus_per_shard": 0.99}}
    trials = {name: adapted(runs.as_config(base | {"out": folder / name})) for name in names}
    data = runs.closed_dataset(trials[names[0]], "digits")
    heard = Heard()
    settings = {"at_once": 10, "retries": 1, "asha": None} | options
    run_trials(trials, dict.fromkeys(names, data), work, heard, scratch=folder / ".tune", **settings)
    assert not (folder / ".tune").exists()
    return heard


def test_trials_reserve_their_shards_and_one_that_fails_is_tried_again_then_told(
    ray_cluster: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    heard = tried(["a", "bad", "once"], tmp_path)
    assert heard.rounds == dict.fromkeys(["a", "once"], [0, 1, 2, 3])
    assert sorted(heard.over) == ["a", "once"]
    reason = "ValueError: a reason"
    assert sorted(heard.failures) == [("bad", reason, False), ("bad", reason, True), ("once", reason, True)]
    assert len((tmp_path / "bad" / "tries").read_text().split()) == 2
    assert capfd.readouterr() == ("", "")  # Tune is quiet


def test_asha_stops_what_falls_behind_and_nothing_else(ray_cluster: None, tmp_path: Path) -> None:
    heard = tried(["good", "poor", "other"], tmp_path, at_once=1, asha=Asha(grace=1, reduction=2))
    assert heard.rounds == {"good": [0, 1, 2, 3], "poor": [0], "other": [0, 1, 2, 3]}
    assert not heard.failures


def started(out: Path, log: Path, *overrides: str) -> subprocess.Popen:
    arguments = [COMMAND, "sweep", str(SHIPPED), f"out={out}", *SCALED, *overrides]
    with log.open("w") as file:
        return subprocess.Popen(arguments, stdout=file, stderr=file, env={**os.environ, "OMP_NUM_THREADS": "1"})


SCALED = ("budget.n_end=40", "train.epochs=3", "cluster.cpus=2", "cluster.use=local")


def test_a_killed_sweep_goes_on_to_the_selections_of_undisturbed_single_runs(tmp_path: Path) -> None:
    out, log = tmp_path / "sweep", tmp_path / "log"
    process = started(out, log)
    family: list[psutil.Process] = []
    try:
        wait_for(lambda: "1 of 6 runs" in log.read_text() and log.read_text().count("round 0/1") > 1, process, log)
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        process.wait()
        states = {path.name: run_folder.status(path)["state"] for path in run_folder.runs_in(out)}
        finished = [name for name, state in states.items() if state == "finished"]
        assert 1 <= len(finished) < 6
        before = {name: (out / name / "rounds.jsonl").stat().st_mtime_ns for name in finished}
        process = started(out, log)
        assert process.wait(SECONDS) == 0, log.read_text()
    finally:
        leave_none(process, family)
    assert f"{len(finished)} of them finished before" in log.read_text()
    assert {name: (out / name / "rounds.jsonl").stat().st_mtime_ns for name in finished} == before
    assert (out / "report.html").is_file() and not (out / ".tune").exists()
    alone = sweep_file.read(SHIPPED, [*SCALED, f"out={tmp_path / 'alone'}"]).runs()
    for run in runs.run_all(alone):
        assert (out / run.folder.name / "selections.csv").read_bytes() == (run.folder / "selections.csv").read_bytes()


def wait_for(condition: Callable[[], bool], process: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert process.poll() is None and time.monotonic() < end, log.read_text()
        time.sleep(0.02)


def leave_none(process: subprocess.Popen, family: list[psutil.Process]) -> None:
    """Ends what a failing test, or the killed driver, may have left: only processes that were started here."""
    if process.poll() is None:
        family = [*family, *psutil.Process(process.pid).children(recursive=True)]
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs(family, timeout=10)
    for one in alive:
        one.kill()
