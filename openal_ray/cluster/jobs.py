"""A run as a Ray job: submitted over HTTP, its log followed, its own exit code passed on."""

import asyncio
import logging
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from openal_ray.cluster.parcel import CONFIG
from openal_ray.errors import ResourceError

log = logging.getLogger(__name__)
DEFAULT_ADDRESS = "http://127.0.0.1:8265"  # where `ray dashboard cluster.yaml` puts a cluster's
COMMAND = f"python -m openal_ray run {CONFIG}"
FAILED, STOPPED = 1, 130  # exit codes, where the job left none of its own
ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
AGENT_SECONDS = 60.0  # a head that has just started takes some seconds to have one
NO_AGENT = "No available agent"
WITHOUT_AGENT = (
    "the cluster's head takes no jobs: it has no job agent. Mostly another Ray on its machine holds port 52365: stop "
    "that, or start the head with --dashboard-agent-listen-port=PORT. dashboard_agent.log on the head says more."
)
POLL_SECONDS = 1
CHATTY = ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk", "ray._private.runtime_env.packaging")
RECONNECTS = 30  # a laptop's network comes and goes; the job does not mind


@dataclass(frozen=True)
class Ended:
    """How a job ended: Ray's word for it, and the exit code of the run (0 done, 2 bad input, 3 waiting for labels)."""

    status: str
    exit_code: int
    message: str = ""


class Job:
    """A submitted job."""

    def __init__(self, client: Any, id: str, address: str) -> None:
        self.client, self.id, self.address = client, id, address
        self._written = 0  # characters of the log

    @property
    def hints(self) -> str:
        """How to look after the job from now on."""
        return (
            f"follow it:  ray job logs --address {self.address} --follow {self.id}\n"
            f"stop it:    ray job stop --address {self.address} {self.id}"
        )

    def follow(self, write: Callable[[str], None]) -> Ended:
        """Passes the log on while it grows, until the job has ended; raises ResourceError if the cluster is lost."""
        for attempt in range(RECONNECTS):
            try:
                asyncio.run(self._tail(write))
                return self._ended()
            except (OSError, RuntimeError, ConnectionError) as error:
                log.warning("the connection to %s was lost (%s); connecting again", self.address, error)
                time.sleep(min(POLL_SECONDS * 2**attempt, 30))
        raise ResourceError(f"{self.address} does not answer any more; the job may still run.\n{self.hints}")

    async def _tail(self, write: Callable[[str], None]) -> None:
        """Writes what is new of the log, which Ray tells from its beginning on every connection."""
        seen = 0
        async for text in self.client.tail_job_logs(self.id):
            fresh = text[max(0, self._written - seen) :]
            seen += len(text)
            if fresh:
                write(fresh)
                self._written = seen

    def _ended(self) -> Ended:
        info = self.client.get_job_info(self.id)
        while not info.status.is_terminal():  # the log ends a moment before
            time.sleep(POLL_SECONDS)
            info = self.client.get_job_info(self.id)
        if info.status == JobStatus.SUCCEEDED:
            return Ended("SUCCEEDED", 0)
        if info.status == JobStatus.STOPPED:
            return Ended("STOPPED", STOPPED, info.message or "")
        # Ray's own command says 1 for every failure; the run's code tells waiting for people from a bug.
        return Ended("FAILED", info.driver_exit_code or FAILED, info.message or "")


def submit(files: Mapping[str, bytes], address: str | None, label: str) -> Job:
    """Sends the files to the cluster as a job's working folder and has it run them.

    address  of the dashboard, http://HOST:PORT; RAY_API_SERVER_ADDRESS, or port 8265 here, if not given
    label    the beginning of the job's name
    raises   ResourceError  if nobody answers there, or the token is refused
    """
    target = _address(address)
    for name in () if log.isEnabledFor(logging.DEBUG) else CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    client = _client(target)
    job = f"{label}-{secrets.token_hex(4)}"
    with tempfile.TemporaryDirectory(prefix="openal-ray-job-") as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        with _in_words(target):
            _submit(client, job, folder)
    return Job(client, job, target)


def _submit(client: Any, job: str, folder: str) -> None:
    """Asks until a head that has just started has an agent to run the job, for up to AGENT_SECONDS."""
    end = time.monotonic() + AGENT_SECONDS
    while True:
        try:
            client.submit_job(entrypoint=COMMAND, submission_id=job, runtime_env={"working_dir": folder})
            return
        except RuntimeError as error:
            if NO_AGENT not in str(error) or time.monotonic() > end:
                raise
            time.sleep(POLL_SECONDS)


def _address(given: str | None) -> str:
    """The dashboard to talk to; raises ResourceError for the address of something else."""
    address = given or os.environ.get(ADDRESSES[0]) or DEFAULT_ADDRESS
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ResourceError(
            f"--address: must be that of the cluster's dashboard, such as {DEFAULT_ADDRESS}, got {address!r}. "
            "`ray dashboard cluster.yaml` brings it to this machine."
        )
    if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        log.warning("%s: the token travels unencrypted; prefer `ray dashboard cluster.yaml`, https or ssh -L", address)
    return address.rstrip("/")


def _client(address: str) -> Any:
    kept = {name: os.environ.pop(name) for name in ADDRESSES if name in os.environ}  # they would win over `address`
    try:
        with _in_words(address):
            return JobSubmissionClient(address)
    finally:
        os.environ.update(kept)


@contextmanager
def _in_words(address: str) -> Iterator[None]:
    """Ray's errors as sentences."""
    try:
        yield
    except AuthenticationError as error:
        raise ResourceError(
            f"--address: {address} refuses this machine: {str(error).partition(chr(10))[0]} Both need the same token: "
            "RAY_AUTH_TOKEN, or the file ~/.ray/auth_token or RAY_AUTH_TOKEN_PATH. For a cluster without tokens, set "
            "RAY_AUTH_MODE=disabled."
        ) from None
    except ConnectionError as error:
        raise ResourceError(
            f"--address: no Ray dashboard answers at {address}: {error} `ray dashboard cluster.yaml` brings it here."
        ) from None
    except RuntimeError as error:
        if "ray[default]" in str(error):
            raise ResourceError("submitting jobs needs more of Ray: pip install 'openal-ray[cluster]'") from None
        why = WITHOUT_AGENT if NO_AGENT in str(error) else str(error)
        raise ResourceError(f"--address: {address}: {why}") from None
