"""Shards that an autoscaler brings in the middle of a read: `python -m tests.acceptance.elastic`

A real head with Ray's autoscaler v2, whose nodes are processes of this machine. A read begins with one shard on one
node; its images wait until three processes read them, so it only ends if the autoscaler was asked, and heard. Then
the shards are given back, and the nodes go.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.acceptance.autoscale import IDLE_SECONDS, WORKER, Watch
from tests.cluster.heads import head

SHARDS = 3


def main() -> int:
    """0 if the read began with one shard and ended with three, and the nodes came and went with them."""
    begin = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - begin:6.1f} s  {text}", flush=True)

    with head(cpus=0, workers={"worker": WORKER}) as cluster:
        os.environ.update(cluster.environment)  # before Ray is imported
        counts = Watch(cluster, lambda count: say(f"{count} workers"))
        shards = read(cluster.gcs, say)
        counts.until(0, IDLE_SECONDS)
        seen = counts.end()
    print(f"shards: {' → '.join(map(str, shards))}; workers: {' → '.join(map(str, seen))}")
    return 0 if shards == [1, SHARDS] and max(seen) == SHARDS and seen[0] == seen[-1] == 0 else 1


def read(address: str, say) -> list[int]:
    """How many shards there were before and after the read."""
    from openal_ray.cluster.connect import connected
    from openal_ray.cluster.shards import RayShards
    from openal_ray.cluster.share import share
    from openal_ray.config import Read
    from openal_ray.pool import AllBut
    from openal_ray.runs import as_config
    from openal_ray.shard import ReadOrder, Settings
    from openal_ray.testing.pools import LEARNER, digits
    from tests.cluster.awaiting import Awaiting, meet

    configuration = as_config(
        {
            "shards": [1, SHARDS], "train": {"mode": "local"},
            "cluster": {"address": address, "cpus_per_shard": 1, "wait_seconds": 120},
        }
    )  # fmt: skip
    case = digits(copies=3)
    images = Awaiting(case.images.load(np.arange(case.pool.size)), Path(tempfile.mkdtemp()))
    meet(images, SHARDS)
    with connected(configuration.cluster):
        mine = share(configuration)
        shards = RayShards({"train": images}, Settings(Read(), (0.5,), (0.5,)), mine)
        shards.load(LEARNER, case.weights())
        counts = [shards.count]
        say(f"reading with {shards.count} shard")
        shards.read(ReadOrder("all", "train", AllBut(case.pool.size, np.empty(0, np.int64)), ("probs",)))
        counts.append(shards.count)
        say(f"read with {shards.count} shards")
        shards.release()
        mine.withdraw()
    return counts


if __name__ == "__main__":
    sys.exit(main())
