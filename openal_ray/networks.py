"""The networks of a run, classifier and helpers: trained by the workers, kept in the folder, held by the shards."""

import logging
from collections.abc import Callable, Mapping
from functools import partial

import torch

from openal_ray.errors import DataError
from openal_ray.listener import Listener
from openal_ray.models.learners import Fitted, Learner
from openal_ray.models.signals import CLASSIFIER
from openal_ray.run_folder import RunFolder, Weights
from openal_ray.strategies.strategy import Helpers
from openal_ray.training.job import Epoch, Job, Trained
from openal_ray.workers import Shards, Workers

log = logging.getLogger(__name__)


class Networks:
    """From jobs to weights, by training or from the folder, and from there to the shards.

    shape  of the images: height, width, channels
    """

    def __init__(self, workers: Workers, folder: RunFolder, shape: tuple[int, int, int], listener: Listener) -> None:
        self._workers, self._folder, self._shape, self._listener = workers, folder, shape, listener
        self._held = Held(workers.shards)
        self._classifier: tuple[int, Weights] | None = None

    def train(self, round: int, job: Job, helpers: Helpers, ready: Trained | None = None) -> tuple[Epoch, ...]:
        """Trains the classifier, and the helpers that the folder has not; returns the classifier's epochs.

        ready  what `job` comes to, if a search has trained it already
        """
        missing = {
            name: helper
            for name, helper in helpers.items()
            if isinstance(helper, Job) and self._folder.load_helper(key_of(name, helper)) is None
        }
        jobs = missing if ready else {CLASSIFIER: job, **missing}
        trained = (self._fit(round, jobs) if jobs else {}) | ({CLASSIFIER: ready} if ready else {})
        for name, helper in missing.items():
            self._folder.save_helper(key_of(name, helper), trained[name].weights)
        self._folder.save_weights(round, trained[CLASSIFIER].weights)
        self._classifier = (round, trained[CLASSIFIER].weights)
        return trained[CLASSIFIER].history

    def hold(self, round: int, learner: Learner, retrain: Callable[[], Job], helpers: Helpers) -> None:
        """Has the shards hold the networks of a round.

        learner  the classifier's
        retrain  makes the job that trains the classifier again, should its weights be lost
        """
        for name, helper in helpers.items():
            self._held.hold(name, key_of(name, helper), helper.learner, partial(self._helper, round, name, helper))
        self._held.hold(CLASSIFIER, f"round {round}", learner, partial(self.classifier_of, round, retrain))

    def classifier_of(self, round: int, retrain: Callable[[], Job] | None = None) -> Weights:
        """A round's classifier: at hand, from its checkpoint, or trained again to the same weights.

        raises  DataError  if it is lost and must not be trained again
        """
        if self._classifier and self._classifier[0] == round:
            return self._classifier[1]
        weights = self._folder.load_weights(round)
        if weights is None:
            if retrain is None:
                raise DataError(f"{self._folder.path / 'checkpoints'}: the weights of round {round} are missing")
            log.warning("the weights of round %d are missing and are trained again", round)
            weights = self._fit(round, {CLASSIFIER: retrain()})[CLASSIFIER].weights
        self._classifier = (round, weights)
        return weights

    def drop_before(self, round: int, helpers: Helpers) -> None:
        """Removes what no later round needs: classifiers before `round`, and all helpers but these."""
        self._folder.drop_weights_before(round)
        self._folder.keep_helpers({key_of(name, helper) for name, helper in helpers.items()})

    def _helper(self, round: int, name: str, helper: Job | Fitted) -> Weights:
        if isinstance(helper, Fitted):
            return weights_of(helper, self._shape)
        weights = self._folder.load_helper(key_of(name, helper))
        if weights is None:
            weights = self._fit(round, {name: helper})[name].weights
            self._folder.save_helper(key_of(name, helper), weights)
        return weights

    def _fit(self, round: int, jobs: Mapping[str, Job]) -> dict[str, Trained]:
        return self._workers.fit(jobs, _Follower(self._listener, round, jobs))


class Held:
    """Which networks the shards hold: one that they hold already is not loaded again."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        self._keys: dict[str, str] = {}

    def hold(self, name: str, key: str, learner: Learner, weights: Callable[[], Weights]) -> None:
        """Has the shards hold a network under its name.

        key      tells it from any other of that name
        weights  makes them; called only if it is not held
        """
        if self._keys.get(name) != key:
            self._shards.load(learner.reader(), weights(), name)
            self._keys[name] = key


def weights_of(fitted: Fitted, shape: tuple[int, int, int]) -> Weights:
    """The weights of a network that is ready; those it is built with, where it brings none."""
    if fitted.weights is not None:
        return dict(fitted.weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return dict(fitted.learner.build(shape).state_dict())


def key_of(name: str, helper: Job | Fitted) -> str:
    """Tells a helper from any other, so that one that stays the same is trained, kept and loaded once."""
    return f"{name}-{helper.digest[:16]}"


class _Follower:
    """Tells the listener of one training at a time, also where several run side by side."""

    def __init__(self, listener: Listener, round: int, jobs: Mapping[str, Job]) -> None:
        self._listener, self._round = listener, round
        self._name, self._done = "", True
        self._follow(next(iter(jobs)), next(iter(jobs.values())).plan.epochs)

    def __call__(self, name: str, epoch: Epoch) -> None:
        if self._done and name != self._name:
            self._follow(name, epoch.epochs)
        if name == self._name:
            self._done = epoch.epoch + 1 == epoch.epochs
            self._listener.epoch(epoch)

    def _follow(self, name: str, epochs: int) -> None:
        self._name, self._done = name, False
        self._listener.phase(f"train {name}".strip(), self._round, epochs)
