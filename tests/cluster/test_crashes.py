"""The installed command on a real Ray: killed, interrupted, and run twice at once."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.experiments import SMALL, experiment, small
from tests.test_experiment import finish

pytestmark = [pytest.mark.ray, pytest.mark.slow]
COMMAND = [str(Path(sys.executable).parent / "openal-ray")]
SECONDS = 300  # a run takes some 30 s on two idle cores


LOOPBACK = {"127.0.0.1", "::ffff:127.0.0.1", "::1"}


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(SMALL | {"cluster": {"use": "ray"}, "shards": 2}))  # JSON is YAML
    return path


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """selections.csv of the same experiment, run in one process to its end."""
    return (finish(experiment(small(tmp_path_factory.mktemp("undisturbed") / "run"))) / "selections.csv").read_bytes()


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen]]:
    """Commands that a test starts; whatever is left of them is killed at the end."""
    processes: list[subprocess.Popen] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def start(arguments: list[str], started: list[subprocess.Popen], log: Path) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with log.open("w") as out:
        process = subprocess.Popen(COMMAND + arguments, stdout=out, stderr=out, env=environment)
    started.append(process)
    return process


def wait_for_line(record: Path, text: str, process: subprocess.Popen) -> None:
    """Until the record holds the text."""
    end = time.monotonic() + SECONDS
    while not (record.exists() and text in record.read_text()):
        assert process.poll() is None and time.monotonic() < end, "the run ended before it came so far"
        time.sleep(0.05)


def family(process: subprocess.Popen) -> list[psutil.Process]:
    """The process and all that it started, Ray's daemons included."""
    parent = psutil.Process(process.pid)
    return [parent, *parent.children(recursive=True)]


def listening(processes: list[psutil.Process]) -> set[str]:
    """The addresses at which they take connections.

    But for training workers, whose ranks meet by PyTorch's TCPStore: that listens everywhere and cannot be told not to.
    """
    found = set()
    for process in processes:
        with suppress(psutil.Error):  # it has just ended
            if "RayTrainWorker" in process.cmdline()[0]:
                continue
            found |= {each.laddr.ip for each in process.net_connections("inet") if each.status == "LISTEN"}
    return found


def test_a_killed_driver_is_resumed_to_the_same_selections(
    config_file: Path, tmp_path: Path, undisturbed: bytes, started: list[subprocess.Popen]
) -> None:
    folder = tmp_path / "run"
    process = start(["run", str(config_file), f"out={folder}"], started, tmp_path / "log")
    wait_for_line(folder / "rounds.jsonl", '"kind": "answered", "round": 0', process)
    second = subprocess.run([*COMMAND, "resume", str(folder)], capture_output=True, text=True, check=False)
    assert second.returncode == 2 and "another openal-ray process works in this folder" in second.stderr
    wait_for_line(folder / "rounds.jsonl", '"kind": "answered", "round": 1', process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert '"finished"' not in (folder / "rounds.jsonl").read_text()
    resumed = start(["resume", str(folder)], started, tmp_path / "log2")
    assert resumed.wait(SECONDS) == 0, (tmp_path / "log2").read_text()
    assert (folder / "selections.csv").read_bytes() == undisturbed
    state = subprocess.run([*COMMAND, "status", str(folder), "--json"], capture_output=True, text=True, check=True)
    assert json.loads(state.stdout)[0]["state"] == "finished"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_no_process_and_loses_no_round(
    number: signal.Signals, config_file: Path, tmp_path: Path, started: list[subprocess.Popen]
) -> None:
    folder = tmp_path / "run"
    process = start(["run", str(config_file), f"out={folder}"], started, tmp_path / "log")
    wait_for_line(folder / "rounds.jsonl", '"kind": "evaluated", "round": 0', process)
    everyone = family(process)
    assert len(everyone) > 5  # Ray, the shards and the trainer are really there
    assert listening(everyone) <= LOOPBACK
    process.send_signal(number)
    assert process.wait(60) == 130
    assert "openal-ray resume" in (tmp_path / "log").read_text()
    _, alive = psutil.wait_procs(everyone, timeout=30)
    assert not alive, [one.cmdline() for one in alive]
    assert '"kind": "evaluated", "round": 0' in (folder / "rounds.jsonl").read_text()


def test_a_run_on_more_shards_and_trainers_than_cores_works(
    config_file: Path, tmp_path: Path, undisturbed: bytes, started: list[subprocess.Popen]
) -> None:
    folder = tmp_path / "run"
    arguments = ["run", str(config_file), f"out={folder}", "shards=3", "cluster.cpus=1", "train.mode=local"]
    assert start(arguments, started, tmp_path / "log").wait(SECONDS) == 0, (tmp_path / "log").read_text()
    assert (folder / "selections.csv").read_bytes() == undisturbed


def test_more_than_the_cluster_has_is_refused_with_the_sums(config_file: Path, tmp_path: Path) -> None:
    arguments = ["run", str(config_file), f"out={tmp_path / 'run'}", "cluster.cpus=2", "train.workers=5"]
    done = subprocess.run(COMMAND + arguments, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 2
    assert "training needs 5 (train.workers=5)" in done.stderr and "the cluster has 2" in done.stderr
