"""Ray heads of a test's own: on loopback, in a session of their own, stopped by process, never by `ray stop`."""

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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

RAY = (sys.executable, "-m", "ray.scripts.scripts")
START_SECONDS = 90
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Head:
    """A running head: gcs HOST:PORT, the dashboard's URL, the environment in which its token is known, its folder."""

    gcs: str
    dashboard: str
    environment: Mapping[str, str]
    folder: Path
    pid: int

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
def head(cpus: int, further: Sequence[str] = (), **environment: str) -> Iterator[Head]:
    """A head with dashboard and token authentication."""
    folder = Path(tempfile.mkdtemp(prefix="oar_"))  # short: sockets have short names
    (folder / "token").write_text("0123456789abcdef" * 4)
    (folder / "token").chmod(0o600)
    gcs, dashboard = free_port(), free_port()
    known = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / "token"), "RAY_TMPDIR": str(folder),
        "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    command = [
        *RAY, "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={gcs}",
        "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--num-cpus={cpus}",
        "--object-store-memory=100000000", f"--temp-dir={folder / 'ray'}", *further,
    ]  # fmt: skip
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
