"""A cluster that grows from no worker to as many as a run needs, and back: `python -m tests.acceptance.autoscale`

A real head with Ray's autoscaler v2, whose nodes are processes of this machine; `openal-ray submit` of a small run on
digits with shards of a CPU each; the head itself has none. The trace shows the nodes and the job second by second.
"""

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.cluster.heads import Head, head
from tests.experiments import SMALL

SHARDS = 2
WORKER = {
    "resources": {"CPU": 1, "object_store_memory": 100_000_000}, "node_config": {}, "min_workers": 0, "max_workers": 4,
}  # fmt: skip
RUN = SMALL | {
    "shards": SHARDS,
    "cluster": {"use": "ray", "cpus_per_shard": 1, "wait_seconds": 120},
    "train": SMALL["train"] | {"mode": "local"},
}
IDLE_SECONDS = 120


def main() -> int:
    """0 if the cluster grew to what the run needed, the run ended well, and all workers are gone."""
    begin = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - begin:6.1f} s  {text}", flush=True)

    with head(cpus=0, workers={"worker": WORKER}) as cluster:
        say(f"head is up, {workers(cluster)} workers")
        config = cluster.folder / "config.yaml"
        config.write_text(json.dumps(RUN))
        counts = Watch(cluster, lambda count: say(f"{count} workers"))
        out = cluster.folder / "run"
        done = cluster.command("submit", str(config), f"out={out}", "--address", cluster.dashboard, seconds=300)
        say(f"the run ended with exit code {done.returncode}: {last_line(out / 'metrics.csv')}")
        if done.returncode:
            print(done.stdout, done.stderr)
        counts.until(0, IDLE_SECONDS)
        seen = counts.end()
    grew, shrank = max(seen) >= SHARDS, seen[-1] == 0
    print(f"workers: {' → '.join(map(str, seen))}; {'as it should be' if grew and shrank else 'NOT 0 → n → 0'}")
    return 0 if grew and shrank and seen[0] == 0 and not done.returncode else 1


class Watch:
    """Follows the number of workers in a thread of its own."""

    def __init__(self, cluster: Head, changed: Callable[[int], None]) -> None:
        self.cluster, self.changed = cluster, changed
        self.seen = [workers(cluster)]
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def until(self, count: int, seconds: float) -> None:
        end = time.monotonic() + seconds
        while self.seen[-1] != count and time.monotonic() < end:
            time.sleep(0.5)

    def end(self) -> list[int]:
        self._ending.set()
        self._thread.join()
        return self.seen

    def _follow(self) -> None:
        while not self._ending.wait(0.5):
            try:
                count = workers(self.cluster)
            except OSError:  # a busy head answers late
                continue
            if count != self.seen[-1]:
                self.seen.append(count)
                self.changed(count)


def workers(cluster: Head) -> int:
    """Nodes that are alive, but for the head."""
    nodes = cluster.ask("/api/v0/nodes?limit=100")["data"]["result"]["result"]
    return sum(node["state"] == "ALIVE" and not node["is_head_node"] for node in nodes)


def last_line(path: Path) -> str:
    return path.read_text().splitlines()[-1] if path.exists() else "no metrics"


if __name__ == "__main__":
    sys.exit(main())
