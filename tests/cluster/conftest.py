"""One Ray for all tests of this folder: starting it costs five CPU-seconds."""

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import ray

from openal_ray.cluster.connect import connected
from openal_ray.config import Cluster
from tests.cluster.heads import RAY

JOIN_SECONDS = 60


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "1")  # not on loopback alone: a test's own nodes may join
        with connected(Cluster(cpus=4)):
            patch.undo()
            yield


@pytest.fixture
def another_node(ray_cluster: None) -> Callable[..., object]:
    """Makes a second node of that Ray: `with another_node(cpus=3) as lose:`; lose() is a SIGKILL to all of it."""
    return _joined


@contextmanager
def _joined(cpus: int) -> Iterator[Callable[[], None]]:
    before = len(ray.nodes())
    command = [
        *RAY, "start", f"--address={ray.get_runtime_context().gcs_address}", "--block", f"--num-cpus={cpus}",
        "--object-store-memory=100000000",
    ]  # fmt: skip
    log = Path(tempfile.mkdtemp()) / "log"
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True, env=os.environ)

    def lose() -> None:
        for each in [each for each in psutil.process_iter() if _session(each) == process.pid]:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        process.wait()

    try:
        end = time.monotonic() + JOIN_SECONDS
        while len(ray.nodes()) == before:
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.2)
        yield lose
    finally:
        lose()


def _session(process: psutil.Process) -> int:
    try:
        return os.getsid(process.pid)
    except ProcessLookupError:
        return -1
