"""What a run does, as metrics in the Prometheus endpoint of its driver's node, beside Ray's own.

Ray puts `ray_` before each name. All have the tags run (the folder's name), strategy and data.
"""

import logging
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any

import ray
from ray.util.metrics import Counter, Gauge

from openal_ray.config import Config
from openal_ray.errors import UserError
from openal_ray.listener import Listener
from openal_ray.record import Record
from openal_ray.storage.url import Place
from openal_ray.training.job import Epoch

log = logging.getLogger(__name__)
RUN = ("run", "strategy", "data")
REFRESH_SECONDS = 5.0  # Ray drops a gauge that nobody has set for two of its reports, 20 s


class Meters:
    """The metrics of this process; they belong to the run that began last. Gauges stay until `end`."""

    def __init__(self) -> None:
        self._run = dict.fromkeys(RUN, "")
        self._shown: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        self._thread = threading.Thread()
        self._lock = threading.Lock()
        self._metrics = {
            metric.info["name"]: metric
            for metric in (
                Counter("openal_images_read", "Images read or trained on, by stage", (*RUN, "stage")),
                Gauge("openal_images_per_second", "The same a second, of the step under way", (*RUN, "stage")),
                Gauge("openal_pool_images", "Images of the pool: labelled, unlabelled, rejected", (*RUN, "state")),
                Gauge("openal_round", "The round that is under way", RUN),
                Gauge("openal_rounds", "How many rounds the run will have", RUN),
                Gauge("openal_blocks_waiting", "Blocks of images that no shard has taken yet", RUN),
                Gauge("openal_shards", "Shards that can read", RUN),
                Counter("openal_shards_lost", "Shards that were lost, or whose node was reclaimed", (*RUN, "reason")),
            )
        }

    def belong_to(self, run: str, strategy: str, data: str) -> None:
        self.end()
        self._run = {"run": run, "strategy": strategy, "data": data}

    def show(self, name: str, value: float, **tags: str) -> None:
        """Sets a gauge."""
        tagged = {**self._run, **tags}
        with self._lock:
            self._shown[name, frozenset(tagged.items())] = value
            self._metrics[name].set(value, tagged)
        if not self._thread.is_alive():
            self._thread = threading.Thread(target=self._refresh, daemon=True)
            self._thread.start()

    def count(self, name: str, amount: int, **tags: str) -> None:
        """Adds to a counter, which cannot go back: what a lost shard had read counts, and again when it is read."""
        if amount > 0:
            self._metrics[name].inc(amount, {**self._run, **tags})

    def end(self) -> None:
        """Gauges are no longer kept, and fade; counters stay as long as this process does."""
        with self._lock:
            self._shown.clear()

    def _refresh(self) -> None:
        while self._shown and ray.is_initialized():
            with self._lock:
                for (name, tags), value in self._shown.items():
                    self._metrics[name].set(value, dict(tags))
            time.sleep(REFRESH_SECONDS)


@cache
def meters() -> Meters:
    """Those of this process; Ray knows a name only once."""
    return Meters()


class Metered:
    """A listener that shows in Ray's metrics what it is told, and passes it on."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._stage, self._begun, self._done = "", 0.0, 0
        self._record: Place = Path()
        self._shown = -1  # the last round whose pool was shown
        self._return_rejected = False

    def begin(self, configuration: Config, folder: Place, rounds: int, done: int) -> None:
        strategy = configuration.strategy.name if configuration.strategy else "supervised"
        meters().belong_to(folder.name, strategy, configuration.data.name)
        self._record = folder / "rounds.jsonl"
        self._return_rejected = configuration.open_set is not None and configuration.open_set.return_rejected
        meters().show("openal_rounds", rounds)
        self._show_pool()
        self._listener.begin(configuration, folder, rounds, done)

    def phase(self, name: str, round: int, total: int) -> None:
        self._end_step()
        self._stage, self._begun, self._done = name.partition(" ")[0], time.monotonic(), 0  # "train detector" too
        meters().show("openal_round", round)
        if name == "train" and round > self._shown:  # the answers have come
            self._shown = round
            self._show_pool()
        self._listener.phase(name, round, total)

    def advance(self, count: int) -> None:
        self._done += count
        meters().count("openal_images_read", count, stage=self._stage)
        self._show_speed(self._done / max(time.monotonic() - self._begun, 1e-9))
        self._listener.advance(count)

    def epoch(self, epoch: Epoch) -> None:
        meters().count("openal_images_read", epoch.images, stage=self._stage)
        self._show_speed(epoch.images / max(epoch.seconds, 1e-9))
        self._listener.epoch(epoch)

    def round_done(self, row: dict[str, Any]) -> None:
        self._end_step()
        self._listener.round_done(row)

    def _end_step(self) -> None:
        if self._stage:
            self._show_speed(0)

    def _show_speed(self, images: float) -> None:
        meters().show("openal_images_per_second", images, stage=self._stage)

    def _show_pool(self) -> None:
        """Reads the record; where that fails, the run has better places to find out."""
        try:
            pool = Record(self._record, read_only=True).state.pool(self._return_rejected)
        except (UserError, OSError) as error:
            log.warning("metrics: the pool's size is not shown this round: %s", error)
            return
        sizes = {"labelled": len(pool.labelled), "unlabelled": pool.unlabelled.count, "rejected": len(pool.rejected)}
        for state, size in sizes.items():
            meters().show("openal_pool_images", size, state=state)
