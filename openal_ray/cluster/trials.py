"""A search for hyper-parameters on Ray Tune: each trial is a process of its own, which trains as this one would.

Tune starts trials where there is room and tries one whose node is lost again. What to try is not left to its
OptunaSearch under a ConcurrencyLimiter: that tells Optuna of trials in the order in which they happen to end, and a
search that was killed could not be played again from the record. So Tune is given the trials of an
`openal_ray.tuning.search`, which asks and tells the same Optuna study as a search without Ray does.
"""

from typing import Any

import ray
import torch
from ray import tune
from ray.tune.search import Searcher

from openal_ray import config
from openal_ray.cluster.mailbox import Failed, open_mailbox
from openal_ray.cluster.quiet_tune import emptied, quiet
from openal_ray.cluster.trainers import told
from openal_ray.errors import ResourceError
from openal_ray.storage import files
from openal_ray.storage.url import Place
from openal_ray.training.file_keeper import STORED
from openal_ray.training.job import Job, Trained, kept_epoch
from openal_ray.workers import Trials, attempt

SCRATCH = ".tune"  # the folder, inside a run's, of what Tune must write


def run_search(trials: Trials, images: Any, plan: config.Train, storage: Place) -> None:
    """Trains the trials, as many at once as are proposed together and the cluster has room for.

    images   a reference to the training images in the object store
    plan     says what a trial reserves, and how often one whose process is lost is tried again
    storage  a folder that all nodes can write to
    raises   UserError  of a trial that cannot be trained at all
    """
    proposals = _Proposals(trials, open_mailbox())
    trial = tune.with_parameters(_trial, mailbox=proposals.mailbox, images=[images], storage=storage.resolve())
    resources = {"CPU": plan.cpus_per_worker, "GPU": plan.gpus_per_worker}
    scratch = storage / SCRATCH
    try:
        if not proposals.more():
            return  # all of them are in the record
        with quiet(), emptied(scratch):
            tune.Tuner(
                tune.with_resources(trial, {name: amount for name, amount in resources.items() if amount}),
                tune_config=tune.TuneConfig(search_alg=proposals, num_samples=-1, reuse_actors=True),
                run_config=tune.RunConfig(
                    name="trials", verbose=0, **files.for_ray(scratch),
                    failure_config=tune.FailureConfig(max_failures=plan.retries),
                ),
            ).fit()  # fmt: skip
    finally:
        ray.kill(proposals.mailbox)
    if proposals.failure:
        raise proposals.failure


class _Proposals(Searcher):
    """Tune's view of the trials: asks for the next one, and hears when one is over.

    failure  what ended the search before its time
    """

    def __init__(self, trials: Trials, mailbox: Any) -> None:
        super().__init__(metric="validation_accuracy", mode="max")
        self.mailbox = mailbox
        self.failure: Exception | None = None
        self._trials = trials
        self._waiting: list[tuple[int, Job]] = []
        self._running: dict[str, tuple[int, int]] = {}  # Tune's name of a trial to its number, and its job's

    def more(self) -> bool:
        """Whether a trial waits; proposes the next batch once all of the last are told."""
        if not self._waiting and not self._running:
            self._waiting = list(self._trials.propose().items())
        return bool(self._waiting)

    def suggest(self, trial_id: str) -> Any:
        if self.failure or not (self.more() or self._running):
            return Searcher.FINISHED
        if not self._waiting:
            return None
        number, job = self._waiting.pop(0)
        self._running[trial_id] = number, ray.get(self.mailbox.put.remote(job))
        return {"job": self._running[trial_id][1]}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        number, job = self._running.pop(trial_id)
        try:
            outcome = ray.get(self.mailbox.follow.remote(job, 0, 0))[1]
            ray.get(self.mailbox.forget.remote(job))
            if isinstance(outcome, Failed):
                raise outcome.error
            if error or outcome is None:
                raise ResourceError(f"the process of trial {number} was lost again and again (train.retries)")
            self._trials.tell(number, outcome)
        except Exception as problem:  # Tune would go on, with a traceback of its own
            self.failure = problem

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the record has all that a resume needs."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


def _trial(chosen: dict[str, int], mailbox: Any, images: list[Any], storage: Place) -> None:
    """What runs in a trial's process."""
    number = chosen["job"]
    job = ray.get(mailbox.take.remote(number, 0))[1]
    device = torch.device("cuda" if ray.get_gpu_ids() and torch.cuda.is_available() else "cpu")
    try:
        # A folder of its own, since whoever has finished removes the one it used.
        outcome: Any = attempt(job, ray.get(images[0]), device, storage / STORED / job.digest[:16])
    except Exception as error:
        outcome = Failed(told(error, job))
    ray.get(mailbox.finish.remote(number, outcome))
    tune.report({"validation_accuracy": _accuracy(job, outcome)})


def _accuracy(job: Job, outcome: Any) -> float:
    """For Tune's own eyes."""
    if not isinstance(outcome, Trained):
        return 0.0
    return outcome.history[kept_epoch(job.plan, outcome.history)].validation_accuracy
