"""`openal-ray submit` on a real head with dashboard and token authentication, and who may not use it."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

import pytest

from tests.cluster.heads import RAY, ROOT, Head, answer_of, head
from tests.experiments import SMALL, experiment, small
from tests.test_experiment import finish

pytest.importorskip("aiohttp", reason="Ray's dashboard needs openal-ray[cluster]")
pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.acceptance]
ON_RAY = SMALL | {"cluster": {"use": "ray"}, "train": SMALL["train"] | {"mode": "local"}, "shards": 2}
JOB = json.dumps({"entrypoint": "touch ../../../hacked"}).encode()
METRICS = "text/plain"  # Prometheus' pages answer to every path, and know no jobs
TEXTS = (".yaml", ".json", ".jsonl", ".csv", ".html", ".log", ".out", ".err", ".txt")
STRATEGY = """
from openal_ray.strategies.strategy import Strategy

def closest() -> Strategy:
    '''Margin, written by a user.'''
    return Strategy(needs=("probs",), score=lambda read: -_margin(read["probs"]))

def _margin(probs):
    import numpy as np
    two = -np.partition(-probs, 1, axis=1)[:, :2]
    return two[:, 0] - two[:, 1]
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Head]:
    with head(cpus=3) as running:
        yield running


@pytest.fixture
def config_file(cluster: Head) -> Path:
    path = cluster.folder / "config.yaml"
    path.write_text(json.dumps(ON_RAY))
    return path


def test_a_run_is_submitted_followed_and_selects_what_it_selects_here(
    cluster: Head, config_file: Path, tmp_path: Path
) -> None:
    (cluster.folder / "mine.py").write_text(STRATEGY)
    out = tmp_path / "run"
    done = cluster.command(
        "submit", str(config_file), "strategy=mine.py:closest", f"out={out}", "--address", cluster.dashboard, "--json"
    )
    assert done.returncode == 0, done.stderr
    ended = json.loads(done.stdout)
    assert (ended["status"], ended["exit_code"], ended["out"]) == ("SUCCEEDED", 0, str(out))
    assert "round 2/2, 50 labels" in done.stderr  # the job's log
    here = finish(experiment(small(tmp_path / "here", f"strategy={cluster.folder / 'mine.py'}:closest")))
    assert (out / "selections.csv").read_text() == (here / "selections.csv").read_text()

    # No secret in what is kept: the run folder, the job's description, its log and Ray's own.
    told = [json.dumps(cluster.ask(f"/api/jobs/{ended['job']}")), done.stderr]
    kept = [*out.rglob("*"), *(path for path in cluster.folder.rglob("*") if path.name != "token")]
    told += [path.read_text(errors="replace") for path in kept if path.is_file() and path.suffix in TEXTS]
    assert not [text[:80] for text in told if cluster.token in text]
    assert len(told) > 20 and "working_dir" in told[0]


def test_waiting_for_people_is_told_from_a_failure(cluster: Head, config_file: Path, tmp_path: Path) -> None:
    from PIL import Image

    lines = ["id,path,label,split"]
    for number in range(24):
        Image.new("L", (8, 8), number * 10).save(tmp_path / f"{number}.png")
        label = "" if number >= 12 else "ab"[number % 2]
        lines.append(f"i{number},{number}.png,{label},{'test' if number < 4 else 'train'}")
    (tmp_path / "images.csv").write_text("\n".join(lines))
    done = cluster.command(
        "submit", str(config_file), f"data.name=manifest:{tmp_path / 'images.csv'}", "data.image_size=8",
        "budget.start=given", f"out={tmp_path / 'run'}", "--address", cluster.dashboard,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr + done.stdout
    assert "have no label yet" in done.stdout and "FAILED, exit code 3" in done.stderr


def test_ctrl_c_detaches_and_the_job_goes_on_until_it_is_stopped(
    cluster: Head, config_file: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    command = ["submit", str(config_file), f"out={tmp_path / 'run'}", "train.epochs=5000", "--address"]
    with log.open("w") as out:
        following = subprocess.Popen(
            [sys.executable, "-m", "openal_ray", *command, cluster.dashboard],
            env=dict(cluster.environment), cwd=cluster.folder, stdout=out, stderr=out,
        )  # fmt: skip
    end = time.monotonic() + 90
    while "starting 2 shards" not in log.read_text():
        assert following.poll() is None and time.monotonic() < end, log.read_text()
        time.sleep(0.2)
    following.send_signal(signal.SIGINT)
    assert following.wait(20) == 130
    said = log.read_text()
    assert "Detached; the job goes on." in said
    stop = next(line for line in said.splitlines() if line.startswith("stop it:")).split()[2:]
    job = stop[-1]
    assert cluster.ask(f"/api/jobs/{job}")["status"] == "RUNNING"
    done = subprocess.run([*RAY, *stop[1:]], env=dict(cluster.environment), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert cluster.ask(f"/api/jobs/{job}")["status"] == "STOPPED"


def test_rays_own_command_runs_what_launch_ships(cluster: Head) -> None:
    """The command of launch/README.md, but for the address; --dry-run, since only the way there is new."""
    command = ["job", "submit", "--address", cluster.dashboard, "--working-dir", str(ROOT / "configs"), "--"]
    done = subprocess.run(
        [*RAY, *command, "python", "-m", "openal_ray", "run", "digits.yaml", "out=/tmp/unused", "--dry-run"],
        env=dict(cluster.environment), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    assert "images read" in done.stdout and "succeeded" in done.stdout


def test_a_job_without_the_token_is_refused_in_words(cluster: Head, config_file: Path) -> None:
    done = cluster.command(
        "submit", str(config_file), "out=/tmp/x", "--address", cluster.dashboard, RAY_AUTH_TOKEN="f" * 64
    )
    assert done.returncode == 2
    assert "refuses this machine" in done.stderr and "Traceback" not in done.stderr


def test_a_run_that_joins_without_the_token_is_refused(cluster: Head, config_file: Path, tmp_path: Path) -> None:
    done = cluster.command(
        "run", str(config_file), f"out={tmp_path / 'run'}", f"cluster.address={cluster.gcs}", RAY_AUTH_TOKEN="f" * 64
    )
    assert done.returncode == 2, done.stderr
    assert "it refuses this machine's token" in done.stderr
    assert not (tmp_path / "run" / "rounds.jsonl").exists()


def test_the_dashboard_listens_on_loopback_and_no_port_takes_jobs_without_the_token(cluster: Head) -> None:
    listening = [
        connection.laddr
        for process in cluster.processes()
        for connection in process.net_connections("inet")
        if connection.status == "LISTEN"
    ]
    port = int(cluster.dashboard.rpartition(":")[2])
    assert {address.ip for address in listening if address.port == port} == {"127.0.0.1"}
    answers = {}
    for address in {(address.ip.replace("::ffff:", ""), address.port) for address in listening}:
        host = "127.0.0.1" if address[0] in ("::", "0.0.0.0") else address[0]
        for path in ("/api/jobs/", "/api/job_agent/jobs/"):
            url = f"http://{host}:{address[1]}{path}"
            for token, job in ((None, None), (None, JOB), ("f" * 64, JOB)):
                try:
                    answers[url, token, job] = answer_of(url, token, job)
                except (OSError, HTTPException):  # not HTTP
                    continue
    assert {status for (url, *_), (status, _) in answers.items() if f":{port}/" in url} == {401, 403}
    let_in = [asked for asked, (status, kind) in answers.items() if status < 400 and kind != METRICS]
    assert not let_in
    assert not (cluster.folder / "hacked").exists()
