"""Ray heads of a test's own: on loopback, in a session of their own, stopped by process, never by `ray stop`."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

RAY = (sys.executable, "-m", "ray.scripts.scripts")
START_SECONDS = 90
IDLE_MINUTES = 0.1
FAKE_HEAD, FAKE_HEAD_TYPE = (
    "fffffffffffffffffffffffffffffffffffffffffffffffffff00000",
    "ray.head.default",
)  # fixed in Ray
FAKE_NODES = {
    "RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_enable_autoscaler_v2": "1",
    "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD, "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD,
}  # fmt: skip
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Head:
    """A running head: gcs HOST:PORT, the dashboard's URL, the environment in which its token is known, its folder."""

    gcs: str
    dashboard: str
    environment: Mapping[str, str]
    folder: Path
    pid: int

    @property
    def token(self) -> str:
        return Path(self.environment["RAY_AUTH_TOKEN_PATH"]).read_text()

    def ask(self, path: str) -> Any:
        """The dashboard's answer to a request with the token."""
        request = urllib.request.Request(f"{self.dashboard}{path}", headers={"Authorization": f"Bearer {self.token}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def processes(self) -> list[psutil.Process]:
        """All processes of it: of its session, or with its folder in their command line."""
        return [process for process in psutil.process_iter() if _belongs(process, self.pid, self.folder)]

    def command(self, *arguments: str, seconds: float = 120, **environment: str) -> subprocess.CompletedProcess[str]:
        """`openal-ray` with these arguments, as a user of this cluster calls it; its folder is not the repository."""
        return subprocess.run(
            [sys.executable, "-m", "openal_ray", *arguments],
            env={**self.environment, **environment}, cwd=self.folder, capture_output=True, text=True,
            timeout=seconds, check=False,
        )  # fmt: skip


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@contextmanager
def head(
    cpus: int, workers: Mapping[str, Any] | None = None, settings: Mapping[str, str] | None = None
) -> Iterator[Head]:
    """A head with dashboard and token authentication.

    workers  node types of an autoscaler whose nodes are processes of this machine; ray.cluster_utils' own such cluster
             is not in the wheel, and stops every Ray of the machine
    settings further environment of the head
    """
    folder = Path(tempfile.mkdtemp(prefix="oar_"))  # short: sockets have short names
    (folder / "token").write_text("0123456789abcdef" * 4)
    (folder / "token").chmod(0o600)
    gcs, dashboard, agent = free_port(), free_port(), free_port()
    known = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / "token"), "RAY_TMPDIR": str(folder),
        "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    command = [
        *RAY, "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={gcs}",
        "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--num-cpus={cpus}",
        f"--dashboard-agent-listen-port={agent}",  # its default is one for all: the second Ray here would take no jobs
        "--object-store-memory=100000000", f"--temp-dir={folder / 'ray'}",
    ]  # fmt: skip
    environment = dict(settings or {})
    if workers:
        environment |= FAKE_NODES
        (folder / "autoscaler.json").write_text(json.dumps(_fake_nodes(f"127.0.0.1:{gcs}", workers)))
        command.append(f"--autoscaling-config={folder / 'autoscaler.json'}")
    with (folder / "head.log").open("w") as log:
        process = subprocess.Popen(
            command, env={**known, **environment}, stdout=log, stderr=log, cwd=folder, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{dashboard}"
        _wait_for(url, known, process, folder / "head.log")
        yield Head(f"127.0.0.1:{gcs}", url, known, folder, process.pid)
    finally:
        _stop(process, folder)


def answer_of(url: str, token: str | None, job: bytes | None = None) -> tuple[int, str]:
    """Status and content type of the answer to a request with this token, or without any; POST if there is a job."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(urllib.request.Request(url, job, headers), timeout=5) as answer:
            return int(answer.status), answer.headers.get_content_type()
    except urllib.error.HTTPError as error:
        return error.code, error.headers.get_content_type()


def _fake_nodes(gcs: str, workers: Mapping[str, Any]) -> dict[str, Any]:
    empty_lists = (
        "initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands",
        "head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files", "rsync_exclude", "rsync_filter",
    )  # fmt: skip
    return {
        "cluster_name": "fake", "max_workers": 8, "upscaling_speed": 1.0, "idle_timeout_minutes": IDLE_MINUTES,
        "provider": {
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "gcs_address": gcs, "use_node_id_as_ip": True, "disable_node_updaters": True,
            "disable_launch_config_check": True, "launch_multiple": True, "head_node_id": FAKE_HEAD,
        },
        "auth": {}, "docker": {}, "file_mounts": {}, "file_mounts_sync_continuously": False,
        **{name: [] for name in empty_lists},
        "head_node_type": FAKE_HEAD_TYPE,
        "available_node_types": {
            FAKE_HEAD_TYPE: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}, **workers,
        },
    }  # fmt: skip


def _wait_for(url: str, environment: Mapping[str, str], process: subprocess.Popen, log: Path) -> None:
    token = Path(environment["RAY_AUTH_TOKEN_PATH"]).read_text()
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            if answer_of(f"{url}/api/jobs/", token)[0] == 200:
                return
        except OSError:
            pass
        assert process.poll() is None and time.monotonic() < end, log.read_text()
        time.sleep(0.3)


def _belongs(process: psutil.Process, session: int, folder: Path) -> bool:
    try:
        return os.getsid(process.pid) == session or any(str(folder) in part for part in process.cmdline())
    except (OSError, psutil.Error):
        return False


def _stop(process: subprocess.Popen, folder: Path) -> None:
    """SIGTERM to the head, then SIGKILL to whatever is left of its session and folder."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        pass
    mine = [each for each in psutil.process_iter() if each.pid != os.getpid() and _belongs(each, process.pid, folder)]
    for each in mine:
        try:
            each.kill()
        except psutil.NoSuchProcess:
            pass
    process.wait()
    psutil.wait_procs(mine, timeout=10)
    shutil.rmtree(folder, ignore_errors=True)
