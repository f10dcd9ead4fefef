"""Fit and read on a Ray cluster."""

import logging
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from queue import Queue

import ray
import torch

from openal_ray import config
from openal_ray.cluster.metrics import meters
from openal_ray.cluster.shards import RayShards
from openal_ray.cluster.share import share
from openal_ray.cluster.trainers import GroupLost, TrainSession
from openal_ray.cluster.trials import run_search
from openal_ray.config_values import in_words
from openal_ray.data.cached import remember
from openal_ray.data.images import Images
from openal_ray.errors import ResourceError
from openal_ray.shard import Settings
from openal_ray.storage import files
from openal_ray.storage.url import Place
from openal_ray.training.file_keeper import STORED
from openal_ray.training.job import Epoch, Job, Trained
from openal_ray.workers import Listener, Trials, search_here, train_here

log = logging.getLogger(__name__)


class RayWorkers:
    """Shards as actors, training by Ray Train; needs a connected Ray.

    storage  a folder that all nodes can write to, for checkpoints inside a training
    """

    def __init__(
        self, images: Mapping[str, Images], settings: Settings, configuration: config.Config, storage: Place
    ) -> None:
        self.plan, self.storage = configuration.train, storage
        self.share = share(configuration)
        self.mode = self._mode(configuration)
        log.info("starting %s; training: %s", self.share.described, self._describe())
        self.images = remember(images["train"], settings.cache_bytes)
        self._train_images = ray.put(self.images)
        settings = replace(settings, device="cuda" if self.share.gpus_per_shard else "cpu")
        self.shards = RayShards(images, settings, self.share)
        self._sessions: dict[int, TrainSession] = {}
        if self.mode == "session":
            self._start(0)  # while the shards start and read

    def _describe(self) -> str:
        chosen = " (chosen by train.mode=auto)" if self.plan.mode == "auto" else ""
        workers = "this process" if self.mode == "local" else f"{in_words(self.plan.workers)} Ray Train worker(s)"
        return f"{self.mode}{chosen}, {workers}"

    @property
    def _device(self) -> torch.device:
        """Where this process trains."""
        return torch.device("cuda" if self.plan.gpus_per_worker and torch.cuda.is_available() else "cpu")

    def _mode(self, configuration: config.Config) -> str:
        if self.plan.mode != "auto":
            return self.plan.mode
        return "per_round" if self.share.take_turns or configuration.tune else "session"

    def fit(self, jobs: Mapping[str, Job], listener: Listener = lambda name, epoch: None) -> dict[str, Trained]:
        if self.mode == "local":
            return {
                name: train_here(job, self.images, self._device, partial(listener, name), self.storage)
                for name, job in jobs.items()
            }
        if self.share.take_turns:
            self.shards.release()
        try:
            return self._fit_in_sessions(jobs, listener)
        finally:
            if self.mode == "per_round":
                self._end_sessions(wait=sys.exc_info()[0] is None)

    def search(self, trials: Trials) -> None:
        if self.mode == "local":
            search_here(trials, self.images, self._device, self.storage)
            return
        self._end_sessions(wait=True)  # trials need their hardware; one that is needed again starts again
        if self.share.take_turns:
            self.shards.release()
        run_search(trials, self._train_images, self.plan, self.storage)

    def close(self) -> None:
        well = sys.exc_info()[0] is None
        with ExitStack() as steps:  # each is done whatever becomes of those before it; the last pushed comes first
            steps.callback(meters().end)
            steps.callback(self.share.withdraw)
            steps.callback(self.shards.release)
            self._end_sessions(wait=well)
        if well:  # otherwise a resume goes on from the last checkpoint inside the training
            files.remove(self.storage / STORED)

    def _fit_in_sessions(self, jobs: Mapping[str, Job], listener: Listener) -> dict[str, Trained]:
        # Where the number of workers follows the cluster, the first training would take all that there is.
        at_once = 1 if self.plan.elastic else min(self.plan.at_once, len(jobs))
        if at_once == 1:
            return {name: self._fit_in_session(0, job, partial(listener, name)) for name, job in jobs.items()}
        free: Queue[int] = Queue()
        for number in range(at_once):
            free.put(number)

        def fit(name: str) -> Trained:
            number = free.get()
            try:
                return self._fit_in_session(number, jobs[name], partial(listener, name))
            finally:
                free.put(number)

        threads = ThreadPoolExecutor(at_once)
        try:
            return dict(zip(jobs, threads.map(fit, jobs), strict=True))
        except BaseException:
            self._end_sessions(wait=False)  # what the other threads wait for will not come
            raise
        finally:
            threads.shutdown(wait=False, cancel_futures=True)

    def _fit_in_session(self, number: int, job: Job, listener: Callable[[Epoch], None]) -> Trained:
        for attempt in (1, 2):  # Ray Train restarts a group train.retries times itself; this is for all that it is not
            session = self._sessions.get(number) or self._start(number, cautious=attempt > 1)
            try:
                return session.fit(job, listener)
            except GroupLost as error:
                log.warning("%s: %s (try %d of 2)", job.name, error, attempt)
                self._end_session(number, wait=False)
                problem = str(error)
        raise ResourceError(f"{job.name}: the training workers were lost again and again. {problem}")

    def _start(self, number: int, cautious: bool = False) -> TrainSession:
        """A session; a cautious one has the least number of workers, whatever the cluster seems to have room for."""
        plan = self.plan.model_copy(update={"workers": self.plan.fewest_workers}) if cautious else self.plan
        self._sessions[number] = TrainSession(self._train_images, plan, self.storage, number=number)
        return self._sessions[number]

    def _end_session(self, number: int, wait: bool) -> None:
        session = self._sessions.pop(number, None)
        if session:
            session.close(wait)

    def _end_sessions(self, wait: bool) -> None:
        with ExitStack() as steps:
            for number in self._sessions:
                steps.callback(self._end_session, number, wait)
