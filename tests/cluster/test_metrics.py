"""Our metrics in the endpoint that Prometheus asks, over HTTP, after a run on a real Ray."""

import os
import re
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import ray

from openal_ray import config, runs
from openal_ray.cluster import metrics
from openal_ray.cluster.metrics import Metered
from openal_ray.cluster.shards import RayShards
from openal_ray.cluster.share import Share
from openal_ray.errors import RunError
from openal_ray.listener import Silent
from openal_ray.pool import Listed
from openal_ray.shard import ReadOrder, Settings
from openal_ray.testing.pools import digits
from openal_ray.training.job import Epoch
from tests.experiments import SMALL, experiment

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]
WAIT_SECONDS = 60  # Ray's processes report every ten


def scraped(run: str) -> dict[str, float]:
    """Our metrics of a run, by name and the tag beside those that all have."""
    mine = ray.get_runtime_context().get_node_id()  # a test's other nodes may be there too
    (node,) = [node for node in ray.nodes() if node["NodeID"] == mine]
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    found = {}
    for line in lines:
        if line.startswith("ray_openal_") and f'run="{run}"' in line:
            tags = dict(re.findall(r'(\w+)="([^"]*)"', line))
            assert (tags["strategy"], tags["data"]) == ("margin", "digits")
            own = "".join(tags[name] for name in ("stage", "state", "reason") if name in tags)
            found[f"{line.partition('{')[0].removeprefix('ray_openal_')} {own}".strip()] = float(line.split()[-1])
    return found


def until(run: str, complete: Callable[[dict[str, float]], bool]) -> dict[str, float]:
    end = time.monotonic() + WAIT_SECONDS
    while not complete(found := scraped(run)):
        assert time.monotonic() < end, found
        time.sleep(0.5)
    return found


def test_a_run_shows_what_it_read_its_pool_and_its_shards(tmp_path: Path) -> None:
    here = {"cluster": {"use": "ray"}, "shards": 1, "out": str(tmp_path / "metered")}
    done = runs.run(SMALL | here, "train.mode=local")
    assert [row["labelled"] for row in done.rows] == [20, 35, 50]
    test = len(runs.load_dataset(runs.as_config(SMALL)).test_labels)
    pool = 1797 - test
    found = until(
        "metered", lambda found: found.get("images_read_total evaluate") == 3 * test and not found.get("shards")
    )
    assert found.pop("images_read_total query") == (pool - 20) + (pool - 35)
    # An epoch is ten batches of all labelled images: 3 rounds of 3 epochs.
    assert found.pop("images_read_total train") == 3 * 10 * (20 + 35 + 50)
    assert found.pop("pool_images labelled") == 50 and found.pop("pool_images unlabelled") == pool - 50
    assert found.pop("pool_images rejected") == 0
    assert (found.pop("round"), found.pop("rounds")) == (2, 3)
    assert (found.pop("shards"), found.pop("blocks_waiting")) == (0, 0)  # all are given back
    speeds = {name: found.pop(f"images_per_second {name}") for name in ("query", "train", "evaluate")}
    assert speeds == {"query": 0, "train": 0, "evaluate": 0}
    assert list(found) == ["images_read_total evaluate"]


def test_speeds_shards_and_losses_while_a_step_is_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = runs.as_config(SMALL | {"out": str(tmp_path / "under-way")})
    begun = experiment(configuration)
    begun.ask_start_set()
    begun.folder.close()
    listener = Metered(Silent())
    listener.begin(configuration, configuration.folder, 5, 2)
    listener.phase("train detector", 2, 3)
    listener.epoch(Epoch(0, 3, 0.1, 0.9, 0.1, 0.9, 2.0, images=500))
    begin = time.monotonic()
    listener.phase("query", 3, 1000)
    time.sleep(0.2)
    listener.advance(300)
    listener.advance(-300)  # a lost shard's, to be read again
    listener.advance(900)
    slowest = 900 / (time.monotonic() - begin)
    case = digits()
    shards = RayShards({"train": case.images}, Settings(config.Read(), (0.5,), (0.5,)), Share(0.1))
    shards.read(ReadOrder("first", "train", Listed(range(1797))))
    lose(shards)
    shards.read(ReadOrder("second", "train", Listed(range(1797))))
    monkeypatch.setattr(metrics, "REFRESH_SECONDS", 0.5)
    found = until("under-way", lambda found: found.get("shards_lost_total lost") == 1 and found.get("shards") == 1)
    assert found["images_per_second train"] == 0 and slowest <= found["images_per_second query"] <= 900 / 0.2
    assert found["images_read_total train"] == 500 and found["images_read_total query"] == 1200
    assert (found["round"], found["rounds"]) == (3, 5)
    assert found["pool_images labelled"] == 20
    shards.release()


def test_the_record_is_read_once_a_round_and_a_store_that_is_away_stops_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    configuration = runs.as_config(SMALL | {"out": str(tmp_path / "away")})
    reads: list[int] = []

    def away(*_: object, **__: object) -> None:
        reads.append(1)
        raise RunError("the store did not answer 4 times")

    monkeypatch.setattr(metrics, "Record", away)
    listener = Metered(Silent())
    listener.begin(configuration, configuration.folder, 5, 2)
    for name in ("query", "train detector", "train", "train", "evaluate"):
        listener.phase(name, 2, 3)
    assert len(reads) == 2  # at the beginning, and once the round's answers have come
    listener.phase("train", 3, 3)
    assert len(reads) == 3 and caplog.text.count("the store did not answer") == 3
    metrics.meters().end()


def lose(shards: RayShards) -> None:
    """Ends the process of the only shard, and waits until it is gone."""
    (actor,) = shards._crew.actors.values()
    process = psutil.Process(ray.get(actor.__ray_call__.remote(lambda self: os.getpid())))
    process.kill()
    psutil.wait_procs([process])
