"""Ray Train as a long session: one run of it serves many trainings, and survives killed workers.

Starting Ray Train costs 13–20 CPU-seconds, so the group that it starts takes job after job from a mailbox. With
`train.mode=per_round` the session lives for one job only, which frees its hardware in between.
"""

import logging
import math
import os
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray._private.worker import get_dashboard_url
from ray.exceptions import RayActorError
from ray.train import CheckpointConfig, FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback as Cleaner
from torch import distributed

from openal_ray import config
from openal_ray.cluster.connect import free_in_words
from openal_ray.cluster.mailbox import Failed, open_mailbox
from openal_ray.errors import TrainingError, UserError
from openal_ray.storage.files import for_ray
from openal_ray.storage.url import Place
from openal_ray.training.file_keeper import SAVE_SECONDS, STORED
from openal_ray.training.job import Epoch, Job, Trained
from openal_ray.training.loop import State, train
from openal_ray.training.team import Team

log = logging.getLogger(__name__)
NEWS_SECONDS = 0.2  # between messages about epochs, which may take a millisecond each
POLL_SECONDS = 5.0
QUIET_SECONDS = 30.0  # after so long without news the user is told what is being waited for
SLOWER = 3.0  # times as long as the last epoch, which one may take before it counts as no news
GROUP_START_SECONDS = 60
RESIZE_SECONDS = 60.0  # between looks at whether the cluster has room for more workers


class GroupLost(Exception):
    """The group ended before its job did, and Ray Train will not restart it again."""


class Unwanted(Exception):
    """Nobody waits for this training any more."""


class TrainSession:
    """A group of Ray Train workers that waits for jobs.

    images    a reference to the training images in the object store
    plan      how many workers there are, or may be: Ray Train follows the cluster, also in the middle of a job
    storage   a folder that all nodes can write to, on a disk or in a store; its subfolder STORED holds the checkpoints
              inside a training, `save_seconds` apart
    number    tells apart groups that work at the same time
    """

    def __init__(
        self, images: Any, plan: config.Train, storage: Place, save_seconds: float = SAVE_SECONDS, number: int = 0
    ) -> None:
        self.mailbox = open_mailbox()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(
            target=self._run, args=(images, plan, storage, save_seconds, number), daemon=True
        )
        self._thread.start()

    def fit(self, job: Job, listener: Callable[[Epoch], None]) -> Trained:
        """Trains; raises the job's own error, or GroupLost."""
        number = ray.get(self.mailbox.put.remote(job))
        seen, quiet_since = 0, time.monotonic()
        patience: float | None = None  # until its processes are there
        while True:
            epochs, result = ray.get(self.mailbox.follow.remote(number, seen, POLL_SECONDS))
            if epochs:
                patience = max(QUIET_SECONDS, SLOWER * epochs[-1].seconds)
            elif patience is None and ray.get(self.mailbox.pid.remote(0)):
                patience = math.inf  # how long an epoch takes is not known yet
            if epochs or patience == math.inf:
                quiet_since = time.monotonic()
            elif time.monotonic() - quiet_since > (patience or QUIET_SECONDS):
                log.warning(
                    "%s: Ray Train's processes have told nothing for %.0f s: the machine may be slow, a node may be "
                    "lost, or other work may hold what this run counts on; free now: %s",
                    job.name, time.monotonic() - quiet_since, free_in_words(),
                )  # fmt: skip
                quiet_since = time.monotonic()
            for epoch in epochs:
                listener(epoch)
            seen = epochs[-1].epoch + 1 if epochs else seen
            if isinstance(result, Failed):
                raise result.error
            if isinstance(result, Trained):
                ray.get(self.mailbox.forget.remote(number))
                return result
            if not self._thread.is_alive():
                raise GroupLost(f"Ray Train gave up: {self._failure or 'it ended without a result'}")

    def close(self, wait: bool = True) -> None:
        """Ends the group; waits until its hardware is free, unless a job may be running that nobody wants any more."""
        try:
            if wait:
                ray.get(self.mailbox.close.remote())
                self._thread.join(timeout=GROUP_START_SECONDS)
        finally:
            ray.kill(self.mailbox)  # a group that is still at work fails at its next message

    def _run(self, images: Any, plan: config.Train, storage: Place, save_seconds: float, number: int) -> None:
        settings = {
            "mailbox": self.mailbox, "images": [images], "cpus": plan.cpus_per_worker, "save_seconds": save_seconds
        }  # fmt: skip
        resources = {"CPU": plan.cpus_per_worker, "GPU": plan.gpus_per_worker}
        try:
            _Trainer(
                _serve,
                train_loop_config=settings,
                torch_config=TorchConfig(timeout_s=300),
                scaling_config=ScalingConfig(
                    num_workers=plan.workers,
                    use_gpu=plan.gpus_per_worker > 0,
                    resources_per_worker=resources,
                    elastic_resize_monitor_interval_s=RESIZE_SECONDS,
                ),
                run_config=RunConfig(
                    name=str(number),
                    **for_ray(storage / STORED),
                    failure_config=FailureConfig(max_failures=plan.retries, controller_failure_limit=plan.retries + 1),
                    checkpoint_config=CheckpointConfig(num_to_keep=1),
                    logging_config=LoggingConfig(log_level="ERROR"),
                ),
            ).fit()
        except BaseException as error:  # SystemExit too: this thread only has to remember it
            self._failure = error


class _Trainer(TorchTrainer):
    """Ray Train's trainer, which ends at once also where there is no dashboard.

    Its cleaner removes what a killed controller has reserved, and asks the dashboard whether the controller lives. On a
    Ray without one, such as our own, it can do nothing but hold up the end of every group by 12 s.
    """

    def _create_default_callbacks(self) -> list[Any]:
        callbacks = super()._create_default_callbacks()
        return callbacks if get_dashboard_url() else [one for one in callbacks if not isinstance(one, Cleaner)]


def _serve(settings: dict[str, Any]) -> None:
    """The loop of one Ray Train worker: takes jobs in order until the mailbox is closed."""
    _silence_reports()
    torch.set_num_threads(max(1, int(settings["cpus"])))
    mailbox, images = settings["mailbox"], ray.get(settings["images"][0])
    context = ray.train.get_context()
    team = Team(ray.train.torch.get_device(), context.get_world_rank(), context.get_world_size())
    ray.get(mailbox.report_pid.remote(team.rank, team.size, os.getpid()))
    with suppress(RayActorError, Unwanted):  # no mailbox any more: nobody wants what is done here
        _take_jobs(mailbox, images, team, settings["save_seconds"])


def _take_jobs(mailbox: Any, images: Any, team: Team, save_seconds: float) -> None:
    number = _from_rank_0(ray.get(mailbox.first_unfinished.remote()), team)
    while True:
        state, job = ray.get(mailbox.take.remote(number, POLL_SECONDS))
        state, _ = _from_rank_0((state, None), team)  # all ranks must agree on whether to wait
        if state == "stop":
            return
        if state == "job":
            job = job or ray.get(mailbox.take.remote(number, POLL_SECONDS))[1]
            _do(job, images, _Keeper(job, number, team, mailbox, save_seconds))
            number += 1


def _do(job: Job, images: Any, keeper: "_Keeper") -> None:
    """One job; its result or its error goes to the mailbox."""
    team = keeper.team
    try:
        trained = train(job, images, team, keeper)
    except TrainingError as error:  # a loss that is not finite: all ranks meet it at once
        keeper.finish(Failed(error))
    except (RayActorError, Unwanted):
        raise
    except Exception as error:
        if team.size > 1 and not isinstance(error, UserError):
            log.exception("rank %d of %s", team.rank, job.name)
            raise  # perhaps a lost neighbour: Ray Train restarts the group
        keeper.finish(Failed(told(error, job)))
        if team.size > 1:
            raise  # the other ranks wait for this one
    else:
        if team.rank == 0:
            keeper.finish(trained)


def told(error: Exception, job: Job) -> UserError:
    """The error as the driver shall raise it; a bug in a network comes with its traceback, which does not travel."""
    if isinstance(error, UserError):
        return error
    return TrainingError(f"{job.name}: {error}\n{''.join(traceback.format_exception(error))}")


class _Keeper:
    """Tells the mailbox of every epoch, and has Ray Train store a checkpoint now and then."""

    def __init__(self, job: Job, number: int, team: Team, mailbox: Any, save_seconds: float) -> None:
        self.job, self.number, self.team, self.mailbox = job, number, team, mailbox
        self.save_seconds, self.saved = save_seconds, time.monotonic()
        self.news: list[Epoch] = []
        self.sent: list[Any] = []
        self.told = 0.0

    def finish(self, result: Trained | Failed) -> None:
        self._tell()
        ray.get(self.mailbox.finish.remote(self.number, result))

    def resume(self) -> State | None:
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            return None
        with checkpoint.as_directory() as folder:
            state: State = torch.load(Path(folder) / "state.pt", weights_only=True, map_location=self.team.device)
        return state["training"] if state["job"] == self.job.digest else None

    def epoch_done(self, epoch: Epoch, state: Callable[[], State]) -> None:
        self.news.append(epoch)
        due = time.monotonic() - self.saved > self.save_seconds
        wanted, due = _from_rank_0((self._is_wanted(), due), self.team)
        if not wanted:  # all end at once: one that stayed would wait for the others
            raise Unwanted
        if not due:
            return
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = None
            if self.team.rank == 0:
                torch.save({"job": self.job.digest, "training": state()}, Path(folder) / "state.pt")
                checkpoint = ray.train.Checkpoint.from_directory(folder)
            ray.train.report({"epoch": epoch.epoch}, checkpoint=checkpoint)
        self.saved = time.monotonic()

    def _is_wanted(self) -> bool:
        """Tells the news, if it is time to, and whether there is anybody to be told."""
        try:
            if time.monotonic() - self.told > NEWS_SECONDS:
                self._tell()
        except RayActorError:
            return False
        return True

    def _tell(self) -> None:
        if self.team.rank == 0 and self.news:
            ray.get(self.sent)  # the last message has long arrived, or found that there is no mailbox any more
            self.sent = [self.mailbox.epochs_done.remote(self.number, self.news)]
        self.news, self.told = [], time.monotonic()


def _from_rank_0(value: Any, team: Team) -> Any:
    """Rank 0's value, on every rank."""
    if team.size == 1:
        return value
    box = [value]
    distributed.broadcast_object_list(box, src=0, device=team.device)
    return box[0]


def _silence_reports() -> None:
    """Ray Train logs a line per report and rank from a logger named after its file; ours go through the mailbox."""
    from ray.train.v2._internal.execution import context

    logging.getLogger(context.__file__).setLevel(logging.ERROR)
