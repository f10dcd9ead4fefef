"""Further nodes of a test's cluster on this machine: lost at once, cut off, or told to go."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil
import ray
from ray.core.generated import autoscaler_pb2

from tests.cluster.heads import RAY

JOIN_SECONDS = 90


@dataclass
class Node:
    """A raylet with its agents and workers."""

    process: subprocess.Popen
    node_id: str = ""  # Ray's, where it is known
    known: list[psutil.Process] = field(default_factory=list)

    def processes(self) -> list[psutil.Process]:
        """All of them, also those that a signal has made orphans."""
        try:
            first = psutil.Process(self.process.pid)
            self.known = [first, *first.children(recursive=True)]
        except psutil.NoSuchProcess:
            pass
        return self.known

    def signal(self, number: signal.Signals) -> None:
        """The same signal to all at once: SIGKILL is a machine that is gone, SIGSTOP one that the network lost."""
        for process in self.processes():
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                pass

    def end(self) -> None:
        self.signal(signal.SIGKILL)
        self.process.wait()
        psutil.wait_procs(self.known, timeout=10)


@contextmanager
def node(address: str, cpus: int, environment: Mapping[str, str] = os.environ) -> Iterator[Node]:
    """A node that has joined the cluster at this address, and is gone afterwards."""
    command = [
        *RAY, "start", f"--address={address}", "--block", f"--num-cpus={cpus}", "--node-ip-address=127.0.0.1",
        "--object-store-memory=100000000",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, env=dict(environment), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    joined = Node(process)
    try:
        _wait_for_raylet(joined)
        yield joined
    finally:
        joined.end()


def _wait_for_raylet(joined: Node) -> None:
    end = time.monotonic() + JOIN_SECONDS
    while not any(process.name() == "raylet" for process in joined.processes()):
        assert joined.process.poll() is None and time.monotonic() < end, "the node did not start"
        time.sleep(0.2)


def alive() -> dict[str, float]:
    """CPUs of the nodes of the connected cluster that are alive, by node id."""
    return {each["NodeID"]: each["Resources"].get("CPU", 0) for each in ray.nodes() if each["Alive"]}


@contextmanager
def another_node() -> Iterator[Node]:
    """A second node of the connected cluster with three CPUs."""
    before = set(alive())  # those of earlier tests too, that are gone and not known to be
    with node(ray.get_runtime_context().gcs_address, 3) as joined:
        end = time.monotonic() + JOIN_SECONDS
        while not (new := set(alive()) - before):
            assert time.monotonic() < end, "the node did not join"
            time.sleep(0.2)
        (joined.node_id,) = new
        yield joined


def reclaim(node_id: str, seconds: int = 120) -> None:
    """Announces the end of a node of the connected cluster in so many seconds, as a cloud does for a spot node."""
    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    cluster = ray._raylet.GcsClient(address=ray.get_runtime_context().gcs_address)
    deadline = int(time.time() * 1000) + seconds * 1000
    accepted, _ = cluster.drain_node(node_id, reason, "reclaimed", deadline)
    assert accepted
