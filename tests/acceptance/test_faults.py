"""Machines that go: a node at once, a node's network, the head, a spot node with a notice; an autoscaler without nodes.

Killed shards, training workers and drivers: tests/cluster/test_shards.py, test_trainers.py and test_crashes.py.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.sameness import differences, undisturbed
from tests.cluster.heads import RAY, Head, head
from tests.cluster.nodes import Node, node
from tests.experiments import SMALL

pytest.importorskip("aiohttp", reason="Ray's dashboard needs openal-ray[cluster]")
pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.acceptance]
SECONDS = 400  # a run takes some 40 s on two idle cores
RUN = SMALL | {
    "strategy": "badge", "budget": {"n_start": 20, "n_query": 15, "n_end": 170}, "shards": 2,
    "cluster": {"use": "ray", "cpus_per_shard": 0.1},
}  # fmt: skip
# A node counts as lost after some five seconds; Ray's own setting is half a minute.
IMPATIENT = {
    "RAY_health_check_initial_delay_ms": "2000", "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000", "RAY_health_check_failure_threshold": "4",
}  # fmt: skip


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return undisturbed(tmp_path_factory.mktemp("undisturbed") / "run", RUN)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Head]:
    with head(cpus=2, settings=IMPATIENT) as running:
        yield running


@pytest.fixture
def second(cluster: Head) -> Iterator[Node]:
    with node(cluster.gcs, 2, cluster.environment) as joined:
        wait(lambda: nodes(cluster) == 2, "the second node is in the cluster")
        yield joined


class Run:
    """`openal-ray` at work on a cluster."""

    def __init__(self, cluster: Head, arguments: list[str], folder: Path) -> None:
        self.log = folder / "log"
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "openal_ray", *arguments, f"cluster.address={cluster.gcs}"],
                env=dict(cluster.environment), cwd=cluster.folder, stdout=log, stderr=log,
            )  # fmt: skip

    def code(self) -> int:
        return self.process.wait(SECONDS)


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Begins RUN, or goes on with it; whatever still runs at the end is killed."""
    begun: list[Run] = []
    (tmp_path / "config.yaml").write_text(json.dumps(RUN))

    def start(cluster: Head, resume: bool = False) -> Run:
        out = str(tmp_path / "run")
        arguments = ["resume", out] if resume else ["run", str(tmp_path / "config.yaml"), f"out={out}"]
        begun.append(Run(cluster, arguments, tmp_path))
        return begun[-1]

    yield start
    for each in begun:
        each.process.kill()
        each.process.wait()


def wait(condition: Callable[[], bool], what: str, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(0.2)


def nodes(cluster: Head) -> int:
    told = cluster.ask("/api/v0/nodes?limit=100")["data"]["result"]["result"]
    return sum(each["state"] == "ALIVE" for each in told)


def at_work(joined: Node) -> list[str]:
    """The shards and training workers of a node."""
    titles = [" ".join(process.cmdline()) for process in joined.processes()]
    return [title for title in titles if title.startswith(("ray::ShardActor", "ray::RayTrainWorker"))]


def wait_for_round(folder: Path, number: int, running: Run) -> None:
    record = folder / "rounds.jsonl"

    def there() -> bool:
        assert running.process.poll() is None, running.log.read_text()
        return record.exists() and f'"kind": "evaluated", "round": {number}' in record.read_text()

    wait(there, f"round {number} is done", SECONDS)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "cut off"])
def test_a_run_survives_a_node(
    number: signal.Signals, cluster: Head, second: Node, begin: Callable[..., Run], tmp_path: Path, expected: bytes
) -> None:
    """SIGKILL to all of a node's processes, or SIGSTOP: the rest of the cluster cannot tell that from a cut network."""
    running = begin(cluster)
    wait_for_round(tmp_path / "run", 1, running)
    assert at_work(second)
    second.signal(number)
    assert running.code() == 0, running.log.read_text()
    assert not differences(tmp_path / "run", expected)
    wait(lambda: nodes(cluster) == 1, "the head has found the node lost")


def test_a_run_moves_off_a_spot_node_that_has_a_notice(
    cluster: Head, second: Node, begin: Callable[..., Run], tmp_path: Path, expected: bytes
) -> None:
    running = begin(cluster)
    wait_for_round(tmp_path / "run", 1, running)
    assert at_work(second)
    told = cluster.ask("/api/v0/nodes?limit=100")["data"]["result"]["result"]
    going = next(each["node_id"] for each in told if each["state"] == "ALIVE" and not each["is_head_node"])
    drain = ["drain-node", f"--address={cluster.gcs}", f"--node-id={going}", "--deadline-remaining-seconds=15"]
    done = subprocess.run(
        [*RAY, *drain, "--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=spot"],
        env=dict(cluster.environment), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    time.sleep(15)
    second.signal(signal.SIGKILL)
    assert running.code() == 0, running.log.read_text()
    assert not differences(tmp_path / "run", expected)


def test_a_lost_head_ends_the_driver_and_another_cluster_goes_on(
    begin: Callable[..., Run], tmp_path: Path, expected: bytes
) -> None:
    with head(cpus=2, settings=IMPATIENT) as lost:
        running = begin(lost)
        wait_for_round(tmp_path / "run", 1, running)
        for process in lost.processes():
            if process.pid not in (os.getpid(), running.process.pid):
                process.kill()
        assert running.code() == 1, running.log.read_text()  # after the minute in which Ray tries to reach it
        assert "Failed to connect to GCS" in running.log.read_text()
    with head(cpus=2) as other:
        resumed = begin(other, resume=True)
        assert resumed.code() == 0, resumed.log.read_text()
    assert not differences(tmp_path / "run", expected)


def test_an_autoscaler_that_gives_no_node_is_waited_for_then_told(tmp_path: Path) -> None:
    worker = {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": 0}
    (tmp_path / "config.yaml").write_text(json.dumps(RUN))
    with head(cpus=0, workers={"worker": worker}) as cluster:
        arguments = [str(tmp_path / "config.yaml"), f"out={tmp_path / 'run'}", f"cluster.address={cluster.gcs}"]
        since = time.monotonic()
        done = cluster.command("run", *arguments, "cluster.wait_seconds=5")
        assert time.monotonic() - since > 5
    assert done.returncode == 2, done.stderr
    told = re.sub(r"\s+", " ", done.stderr)
    assert "asking its autoscaler for" in told and "the cluster is too small" in told and "the cluster has 0" in told
    assert not (tmp_path / "run" / "config.yaml").exists()  # the same command may be tried again
