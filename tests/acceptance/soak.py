"""A run whose processes are killed until it ends: `python -m tests.acceptance.soak --rounds 20 --every 5 --seed 0`

Every few seconds the driver, a shard or a training worker gets SIGKILL, and a driver that is gone is started again by
`openal-ray resume`. The cluster is a head of the soak's own on loopback. At the end the selections must be those of a
run that nobody disturbed, and no image asked twice.
"""

import random
import subprocess
import sys
import time
from collections import Counter
from typing import Any

import click
import psutil
import yaml

from openal_ray.record import Record
from tests.acceptance.sameness import differences, undisturbed
from tests.cluster.heads import Head, head
from tests.experiments import SMALL

TITLES = {"shard": "ray::ShardActor", "training worker": "ray::RayTrainWorker"}
WEIGHTS = {"driver": 1, "shard": 4, "training worker": 2}  # by how soon they are at work again
TRAINING = {"epochs": 30, "steps_per_epoch": 40, "optimizer": {"lr": 5.0e-3}, "retries": 5}  # some seconds a round


class Soak:
    """A run, whoever works for it on this cluster, and what was done to them."""

    def __init__(self, cluster: Head, values: dict[str, Any], seed: int) -> None:
        self.cluster, self.rng = cluster, random.Random(seed)
        self.out, self.log = cluster.folder / "run", cluster.folder / "driver.log"
        self.config = cluster.folder / "config.yaml"
        self.config.write_text(yaml.safe_dump({**values, "out": str(self.out)}))
        self.kills: Counter[str] = Counter()
        self.starts, self.gave_up = 0, 0
        self.driver = self.start()

    def start(self) -> subprocess.Popen:
        """The run, or, where it has begun, its resumption."""
        begun = (self.out / "config.yaml").exists()
        what = ["resume", str(self.out)] if begun else ["run", str(self.config)]
        self.starts += 1
        with self.log.open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "openal_ray", *what, f"cluster.address={self.cluster.gcs}"],
                env=dict(self.cluster.environment), cwd=self.cluster.folder, stdout=log, stderr=log,
            )  # fmt: skip

    def ended(self) -> bool:
        """True once a driver has ended well; one that was killed, or gave up, is followed by another."""
        code = self.driver.poll()
        if code is None:
            return False
        if code == 0:
            return True
        assert code in (-9, 2), self.log.read_text()[-3000:]
        self.gave_up += code == 2
        self.driver = self.start()
        return False

    def kill(self) -> str:
        """SIGKILL to one process of a kind; returns the kind, or why there was none to kill."""
        kind = self.rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        found = [psutil.Process(self.driver.pid)] if kind == "driver" else self.workers(kind)
        if not found:
            return f"no {kind}: none is there"
        try:
            self.rng.choice(found).kill()
        except psutil.NoSuchProcess:
            return f"no {kind}: it has just ended"
        self.kills[kind] += 1
        return kind

    def workers(self, kind: str) -> list[psutil.Process]:
        def is_one(process: psutil.Process) -> bool:
            try:
                return process.cmdline()[0].startswith(TITLES[kind])
            except (psutil.Error, IndexError):
                return False

        return [process for process in self.cluster.processes() if is_one(process)]

    def rounds(self) -> int:
        return len(Record(self.out / "rounds.jsonl", read_only=True).state.evaluated)


@click.command()
@click.option("--rounds", default=20, show_default=True, help="Rounds of the run, round 0 included.")
@click.option("--every", default=5.0, show_default=True, help="Seconds between two kills, on average.")
@click.option("--seed", default=0, show_default=True, help="Of who is killed and when.")
@click.option("--strategy", default="badge", show_default=True)
@click.option("--minutes", default=30.0, show_default=True, help="After which the soak has failed.")
def main(rounds: int, every: float, seed: int, strategy: str, minutes: float) -> None:
    """Exit code 0 if the run came to its end, to the selections of an undisturbed one."""
    values = SMALL | {
        "strategy": strategy, "shards": 2, "budget": {"n_start": 20, "n_query": 10, "n_end": 10 + 10 * rounds},
        "train": TRAINING, "cluster": {"use": "ray"},
    }  # fmt: skip
    with head(cpus=2) as cluster:
        begin = time.monotonic()
        expected = undisturbed(cluster.folder / "here", values)
        alone, begin = time.monotonic() - begin, time.monotonic()
        soak = Soak(cluster, values, seed)
        _disturb(soak, every, begin + minutes * 60)
        wrong = differences(soak.out, expected) if soak.driver.poll() == 0 else f"not done after {minutes:g} minutes"
        soak.driver.kill()
        _print(soak, {"seconds, undisturbed in one process": alone, "seconds, disturbed": time.monotonic() - begin})
    print(wrong or "selections: those of the undisturbed run, no image asked twice")
    sys.exit(1 if wrong else 0)


def _disturb(soak: Soak, every: float, end: float) -> None:
    """Kills until the run has ended, or time is up."""
    begin = time.monotonic()
    following = begin + every
    while not soak.ended() and time.monotonic() < end:
        if time.monotonic() >= following:
            kind = soak.kill()
            print(f"{time.monotonic() - begin:6.1f} s  {soak.rounds():2} rounds  kill -9 {kind}", flush=True)
            following = time.monotonic() + every * soak.rng.uniform(0.5, 1.5)
        time.sleep(0.1)


def _print(soak: Soak, seconds: dict[str, float]) -> None:
    rows = {
        "rounds": soak.rounds(), **{f"kill -9 {kind}": soak.kills[kind] for kind in WEIGHTS},
        "drivers started": soak.starts, "of which gave up in words": soak.gave_up,
        **{name: f"{value:.0f}" for name, value in seconds.items()},
    }  # fmt: skip
    print("\n| what | how many |\n|---|---|")
    for name, value in rows.items():
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    main()
