"""Jobs without a cluster: which address, whose exit code, and a log that is followed over lost connections."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
from ray.job_submission import JobStatus

from openal_ray.cluster import jobs
from openal_ray.errors import ResourceError


class Client:
    """A stand-in for Ray's: tells the log from its beginning on every connection, as Ray does, and may lose it."""

    def __init__(self, connections: list[list[str]], status: JobStatus, code: int | None = None) -> None:
        self.connections, self.infos = connections, [JobStatus.RUNNING, status]
        self.code = code

    async def tail_job_logs(self, id: str) -> AsyncIterator[str]:
        chunks = self.connections.pop(0)
        for chunk in chunks:
            if chunk == "LOST":
                raise RuntimeError("WebSocket connection closed unexpectedly with close code 1006")
            yield chunk

    def get_job_info(self, id: str) -> SimpleNamespace:
        status = self.infos.pop(0) if len(self.infos) > 1 else self.infos[0]
        return SimpleNamespace(status=status, driver_exit_code=self.code, message="")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs.time, "sleep", lambda seconds: None)


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (JobStatus.SUCCEEDED, 0, 0),
        (JobStatus.FAILED, 3, 3),
        (JobStatus.FAILED, 2, 2),
        (JobStatus.FAILED, None, 1),  # Ray could not start it
        (JobStatus.STOPPED, None, 130),
    ],
)
def test_the_runs_own_exit_code_is_passed_on(status: JobStatus, code: int | None, expected: int) -> None:
    ended = jobs.Job(Client([["log"]], status, code), "x", "http://h:1").follow(lambda text: None)
    assert (ended.exit_code, ended.status) == (expected, status.value)


def test_a_lost_connection_neither_repeats_nor_loses_a_line() -> None:
    written: list[str] = []
    client = Client([["one\n", "tw", "LOST"], ["one\ntwo\n", "LOST"], ["one\n", "two\nthree\n"]], JobStatus.SUCCEEDED)
    assert jobs.Job(client, "x", "http://h:1").follow(written.append).exit_code == 0
    assert "".join(written) == "one\ntwo\nthree\n"


def test_a_cluster_that_is_gone_for_good_is_told_with_how_to_go_on() -> None:
    client = Client([["LOST"]] * jobs.RECONNECTS, JobStatus.RUNNING)
    with pytest.raises(ResourceError, match="the job may still run") as lost:
        jobs.Job(client, "x", "http://h:1").follow(lambda text: None)
    assert "ray job logs --address http://h:1 --follow x" in str(lost.value)


@pytest.mark.parametrize("address", ["head:6379", "ray://head:10001", "auto", "http://"])
def test_an_address_that_is_no_dashboards_is_refused(address: str) -> None:
    with pytest.raises(ResourceError, match="must be that of the cluster's dashboard"):
        jobs.submit({}, address, "x")


def test_nobody_at_the_address_is_told_in_words() -> None:
    pytest.importorskip("aiohttp", reason="needs openal-ray[cluster]")
    # In a process of its own: Ray keeps the first token that a process has seen.
    code = "from openal_ray.cluster import jobs; jobs.submit({'config.yaml': b''}, 'http://127.0.0.1:9', 'x')"
    environment = {**os.environ, "RAY_AUTH_TOKEN": "0" * 64}
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "ResourceError" in told.stderr and "no Ray dashboard answers at http://127.0.0.1:9" in told.stderr


def test_without_rays_jobs_installed_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(address: str) -> None:
        raise RuntimeError("The Ray jobs CLI & SDK require the ray[default] installation")

    monkeypatch.setattr(jobs, "JobSubmissionClient", absent)
    with pytest.raises(ResourceError, match=r"pip install 'openal-ray\[cluster\]'"):
        jobs.submit({}, "http://127.0.0.1:9", "x")


def test_a_token_over_plain_http_to_another_machine_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    assert jobs._address("http://10.0.0.1:8265/") == "http://10.0.0.1:8265"
    assert "unencrypted" in caplog.text
    caplog.clear()
    assert jobs._address("https://10.0.0.1:8265") and jobs._address(None) == "http://127.0.0.1:8265"
    assert not caplog.text


def test_a_head_without_an_agent_is_asked_again_then_told_with_the_usual_cause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def refuse(submission_id: str, **_: object) -> None:
        asked.append(submission_id)
        raise RuntimeError("Request failed with status code 500: No available agent to submit job, please try again.")

    monkeypatch.setattr(jobs, "AGENT_SECONDS", 0.2)
    monkeypatch.setattr(jobs, "JobSubmissionClient", lambda address: SimpleNamespace(submit_job=refuse))
    with pytest.raises(ResourceError, match="another Ray on its machine holds port 52365"):
        jobs.submit({"config.yaml": b""}, "http://127.0.0.1:8265", "x")
    assert len(asked) > 1 and len(set(asked)) == 1
