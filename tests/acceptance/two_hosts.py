"""A cluster over ssh from `ray up` to `ray down`: `python -m tests.acceptance.two_hosts`, as root

Three hosts made of network namespaces (hosts.py says what that needs): a laptop with the repository, a head and a
worker. The laptop does what launch/README.md says, with launch/on-premise.yaml and the hosts' addresses filled in. Then
one run loses the worker's network, and the next the worker itself. Every run must end with the selections of a run that
nothing disturbed, and nothing may be left. Some ten minutes on two cores; pip fetches hatchling.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.acceptance.hosts import Host, hosts, missing_tools
from tests.acceptance.sameness import differences, undisturbed
from tests.experiments import SMALL

ROOT = Path(__file__).parents[2]
PORT = 8265
RUN = SMALL | {
    "budget": {"n_start": 20, "n_query": 15, "n_end": 200},
    "shards": 2,
    "cluster": {"use": "ray", "cpus_per_shard": 0.5},  # all of it has room on one host
}
UP, COMMAND, RUN_SECONDS = 400, 240, 600
CLUSTER = "/srv/cluster.yaml"
JOB = f"ray job submit --address http://127.0.0.1:{PORT} --working-dir /srv/jobs --"


def main() -> int:
    """0 if all of it went as it should."""
    if missing := missing_tools():
        print(f"missing: {', '.join(missing)}; apt-get install -y iproute2 util-linux openssh-server rsync")
        return 2
    with tempfile.TemporaryDirectory(prefix="oar") as folder:
        story = Story(Path(folder))
        with hosts(("laptop", "head", "worker"), story.folder) as (laptop, head, worker):
            story.tell(laptop, head, worker)
            left = [
                process.cmdline()[:3] for host in (head, worker) for process in host.processes() if is_rays(process)
            ]
            story.check("ray down leaves no process of Ray on the hosts", not left, str(left))
        story.check("nothing is left of the hosts", not list(Path("/run/netns").glob(f"{story.folder.name}-*")))
    print(f"{len(story.failed)} of {story.checked} checks failed" + "".join(f"\n  {each}" for each in story.failed))
    return 1 if story.failed else 0


class Story:
    """What happens, told with the seconds that it took, and what went wrong."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.begin = folder, time.monotonic()
        self.failed: list[str] = []
        self.checked = 0
        self.expected = b""

    def tell(self, laptop: Host, head: Host, worker: Host) -> None:
        self.laptop, self.head, self.worker = laptop, head, worker
        self.prepare()
        self.expected = undisturbed(self.folder / "here", RUN)
        self.say("an undisturbed run in one process is what all others are compared with")
        self.do("ray get-auth-token --generate", COMMAND)
        self.do(f"RAY_UP_enable_autoscaler_v2=0 ray up -y --no-config-cache {CLUSTER}", UP)
        with self.tunnel():
            self.until(lambda: self.nodes() == 2, "the worker is there")
            self.do(f"ray submit {CLUSTER} launch/run.py -- run /srv/jobs/run.json out=/srv/submit", RUN_SECONDS)
            self.same("ray submit", "submit")
            self.do(f"openal-ray submit /srv/jobs/run.json out=/srv/job --address http://127.0.0.1:{PORT}", RUN_SECONDS)
            self.same("openal-ray submit", "job")
            self.keep_out()
            self.disturb("cut off", worker.cut)
            worker.mend()
            self.until(lambda: self.nodes() == 2, "the worker is in the cluster again")
            self.disturb("killed", worker.kill)
        self.do(f"ray down -y {CLUSTER}", COMMAND)

    def prepare(self) -> None:
        """What a person does before: addresses into the file, and, as these hosts reach no index, a wheel for pip."""
        shared = self.folder / "shared"
        given: dict[str, Any] = yaml.safe_load((ROOT / "launch/on-premise.yaml").read_text())
        given["provider"] |= {"head_ip": self.head.address, "worker_ips": [self.worker.address]}
        given["auth"]["ssh_user"] = "root"
        given |= {"min_workers": 1, "max_workers": 1}
        (shared / "cluster.yaml").write_text(yaml.safe_dump(given, sort_keys=False))
        (shared / "jobs").mkdir()
        (shared / "jobs/run.json").write_text(json.dumps(RUN))
        fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(shared / "wheels")]
        subprocess.run([*fetch, "hatchling>=1.27"], check=True, stderr=subprocess.DEVNULL)
        if others := not_installed():
            subprocess.run([*fetch, "--no-deps", *others], check=True, stderr=subprocess.DEVNULL)

    def keep_out(self) -> None:
        """Nobody without the token runs anything, through the tunnel or past it."""
        refused = self.shell("RAY_AUTH_TOKEN=" + "f" * 64 + f" {JOB} touch /srv/hacked")
        hacked = (self.folder / "shared/hacked").exists()
        self.check("a job with a wrong token is refused", refused.returncode and not hacked, refused.stdout)
        self.check("the dashboard is out of reach from other machines", self.knock(self.head.address) != 0)

    def disturb(self, name: str, harm: Callable[[], None]) -> None:
        """A job on both hosts, harmed in the middle of it and followed to its end."""
        out, log = self.folder / "shared" / name.replace(" ", "-"), self.folder / "job.log"
        line = f"{JOB} python -m openal_ray run run.json out=/srv/{out.name}"
        with log.open("w") as written:
            job = subprocess.Popen(self.laptop.command(line), stdout=written, stderr=written)
        self.until(lambda: lines(out) > 8, "the job is in its third round", job, log)
        begin = time.monotonic()
        harm()
        self.say(f"the worker is {name}; the record has {lines(out)} lines")
        job.wait(RUN_SECONDS)
        self.check(f"the job with the worker {name} ends well", job.returncode == 0, log.read_text()[-3000:])
        self.say(f"it ended {time.monotonic() - begin:.0f} s after the worker was {name}")
        self.same(f"the job with the worker {name}", out.name)

    def same(self, what: str, name: str) -> None:
        found = differences(self.folder / "shared" / name, self.expected)
        self.check(f"{what}: selections of the undisturbed run, nothing asked twice", not found, found)

    @contextmanager
    def tunnel(self) -> Iterator[None]:
        """`ray dashboard`, as launch/README.md has it."""
        process = subprocess.Popen(
            self.laptop.command(f"exec ray dashboard -p {PORT} {CLUSTER}"),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            self.until(lambda: self.knock("127.0.0.1") == 0, "the tunnel is open", process)
            yield
        finally:
            process.kill()
            process.wait()

    def do(self, line: str, seconds: float) -> None:
        """A command on the laptop that must end well; the story ends here if it does not."""
        begin = time.monotonic()
        done = self.shell(line, seconds)
        self.check(f"{line} [{time.monotonic() - begin:.0f} s]", done.returncode == 0, done.stdout[-3000:])
        if done.returncode:
            raise SystemExit(1)

    def shell(self, line: str, seconds: float = COMMAND) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.laptop.command(line),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, timeout=seconds,
            check=False,
        )  # fmt: skip

    def knock(self, address: str) -> int:
        """0 if something listens there at the dashboard's port."""
        return self.shell(f"exec 3<> /dev/tcp/{address}/{PORT}").returncode

    def nodes(self) -> int:
        """How many nodes the cluster counts as alive."""
        told = self.shell(f"ray list nodes --format=json --address http://127.0.0.1:{PORT}").stdout
        return told.count('"ALIVE"')

    def until(
        self, condition: Callable[[], bool], what: str, process: subprocess.Popen | None = None, log: Path | None = None
    ) -> None:
        end = time.monotonic() + COMMAND
        while not condition():
            if (process and process.poll() is not None) or time.monotonic() > end:
                self.check(what, False, log.read_text()[-3000:] if log else "it never came to that")
                raise SystemExit(1)
            time.sleep(0.2)
        self.say(what)

    def check(self, what: str, well: object, otherwise: str = "") -> None:
        self.checked += 1
        self.say(f"{'ok  ' if well else 'FAIL'} {what}")
        if not well:
            self.failed.append(what)
            print(otherwise)

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self.begin:6.1f} s  {text}", flush=True)


def lines(out: Path) -> int:
    record = out / "rounds.jsonl"
    return record.read_text().count("\n") if record.exists() else 0


def not_installed() -> list[str]:
    """What launch/constraints.txt asks for in another version than this environment has."""
    wanted = [line for line in (ROOT / "launch/constraints.txt").read_text().splitlines() if "==" in line]
    here = {f"{each.name}=={each.version}".lower() for each in metadata.distributions()}
    return [line for line in wanted if line.lower() not in here]


def is_rays(process: psutil.Process) -> bool:
    try:
        return any("ray" in part for part in process.cmdline()[:3])
    except psutil.Error:
        return False


if __name__ == "__main__":
    sys.exit(main())
