"""Hosts made of namespaces: each has its own network, processes, mounts, name, home, /tmp and /dev/shm, and an sshd.

Needs root, iproute2, util-linux and openssh-server (Debian: `apt-get install iproute2 openssh-server rsync`). All hosts
see this machine's programs; /root is empty, changes to this Python's environment stay a host's own, and /srv is a disk
that they share. Nothing outlives `hosts`: a host is killed by its first process, and its mounts go with it.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

NETWORK = "10.77.0"
NOBODY = f"{NETWORK}.254"  # Ray finds its own address by a route to the world; nobody answers there
SSHD_SECONDS = 20
TOOLS = ("ip", "unshare", "nsenter", "ssh", "ssh-keygen", "rsync")
SSHD = "/usr/sbin/sshd"
ROOT = Path(__file__).parents[2]
BOOT = Path(__file__).with_name("host.sh")


@dataclass
class Host:
    """A machine that ssh reaches at `address`, from other hosts only."""

    name: str
    address: str
    namespace: str
    switch: str
    folder: Path
    boot: subprocess.Popen | None = None

    def start(self) -> None:
        """Powers it on, with a fresh disk, and waits for its sshd."""
        self.boot = subprocess.Popen(
            [
                "ip", "netns", "exec", self.namespace, "unshare", "--pid", "--mount", "--uts", "--ipc", "--fork",
                "--kill-child", "--mount-proc", str(BOOT), self.name, self.address,
                str(self.folder), str(ROOT), sys.prefix, sys.base_prefix,
            ],
            stdout=(log := self.log.open("a")), stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        end = time.monotonic() + SSHD_SECONDS
        while not any(process.name() == "sshd" for process in self.processes()):
            assert self.boot.poll() is None and time.monotonic() < end, self.log.read_text()
            time.sleep(0.1)

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def processes(self) -> list[psutil.Process]:
        """All that runs on it, as this machine sees it."""
        listed = _ip("netns", "pids", self.namespace).split()
        return [psutil.Process(int(pid)) for pid in listed if psutil.pid_exists(int(pid))]

    def kill(self) -> None:
        """Power off: kill -9 to everything at once."""
        for process in self.processes():
            try:
                process.kill()
            except psutil.NoSuchProcess:
                pass
        if self.boot:
            self.boot.wait()

    def cut(self) -> None:
        """Takes its network cable out; whatever runs there goes on."""
        _ip("-n", self.switch, "link", "set", self.name, "down")

    def mend(self) -> None:
        _ip("-n", self.switch, "link", "set", self.name, "up")

    def command(self, line: str) -> list[str]:
        """What runs a line of shell on it, in the repository, as a person there does."""
        first = next(process for process in self.processes() if process.name() == "sshd")
        inside = ["nsenter", f"--target={first.pid}", "--net", "--mount", "--pid", "--uts", "--ipc", "--"]
        setting = f"PATH={sys.prefix}/bin:$PATH PYTHONPATH=/opt/openal_ray HOME=/root RAY_AUTH_MODE=token"
        return [*inside, "bash", "-c", f"cd /opt/openal_ray; export {setting} RAY_USAGE_STATS_ENABLED=0; {line}"]


@contextmanager
def hosts(names: Sequence[str], folder: Path) -> Iterator[list[Host]]:
    """Hosts on one switch, powered on; their logs, their ssh key and the shared disk lie in the folder."""
    switch, mark = f"{folder.name}-switch", folder.name
    made = [Host(name, f"{NETWORK}.{number}", f"{mark}-{name}", switch, folder) for number, name in enumerate(names, 1)]
    (folder / "shared").mkdir()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key"], check=True)
    try:
        _ip("netns", "add", switch)
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        for host in made:
            _wire(host)
            host.start()
        yield made
    finally:
        for host in made:
            if Path(f"/run/netns/{host.namespace}").exists():
                host.kill()
                _ip("netns", "del", host.namespace)
        if Path(f"/run/netns/{switch}").exists():
            _ip("netns", "del", switch)


def missing_tools() -> list[str]:
    return [tool for tool in (*TOOLS, SSHD) if not shutil.which(tool)]


def _wire(host: Host) -> None:
    inside = ("-n", host.namespace)
    _ip("netns", "add", host.namespace)
    _ip("link", "add", "eth0", "netns", host.namespace, "type", "veth", "peer", "name", host.name, "netns", host.switch)
    _ip("-n", host.switch, "link", "set", host.name, "master", "bridge", "up")
    _ip(*inside, "link", "set", "lo", "up")
    _ip(*inside, "addr", "add", f"{host.address}/24", "dev", "eth0")
    _ip(*inside, "link", "set", "eth0", "up")
    _ip(*inside, "route", "add", "default", "via", NOBODY)


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout
