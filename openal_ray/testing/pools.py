"""Small pools and networks to try strategies on: real digits, and the hard cases."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from openal_ray import config, seeds
from openal_ray.data.images import ArrayImages
from openal_ray.models.learners import Classifier, Fitted, Learner
from openal_ray.pool import Pool
from openal_ray.shard import Settings
from openal_ray.strategies import catalogue
from openal_ray.strategies.query import Query, query
from openal_ray.strategies.strategy import Round, Strategy
from openal_ray.training.job import Job
from openal_ray.training.loop import NoKeeper, train
from openal_ray.training.team import Team
from openal_ray.workers import LocalShards, Shards

N_CLASSES = 10
LEARNER = Classifier(N_CLASSES, params={"drop_rate": 0.3})  # dropout, for the Monte Carlo strategies
ONE_KNOWN = "one known class"
MEAN, STD = (0.5,), (0.5,)
PLAN = config.Train(epochs=2, batch_size=16)
SEED, ROUND = 7, 3
Weights = Mapping[str, torch.Tensor]


@dataclass
class Case:
    """A pool of images with a network that reads them.

    scale      multiplies the last layer, so that large values give probabilities of exactly 0 and 1
    n_classes  known ones
    """

    images: ArrayImages
    labels: np.ndarray
    pool: Pool
    scale: float = 1.0
    helpers: dict[str, Weights] = field(default_factory=dict)
    n_classes: int = N_CLASSES

    @property
    def learner(self) -> Classifier:
        """The classifier."""
        return replace(LEARNER, n_classes=self.n_classes)

    def shards(self, count: int = 1, batch_size: int = 256, **read: Any) -> LocalShards:
        """Shards in this process that hold no network yet."""
        return LocalShards(
            {"train": self.images}, Settings(config.Read(batch_size=batch_size, **read), MEAN, STD), count
        )

    def ask(
        self,
        strategy: Strategy | str,
        budget: int,
        shards: Shards | None = None,
        pool: Pool | None = None,
        rng: Callable[[str], np.random.Generator] = lambda purpose: seeds.rng(SEED, ROUND, purpose),
        **options: Any,
    ) -> Query:
        """What the strategy asks for, once the shards hold its networks; helpers are trained, shortly."""
        chosen = catalogue.build(strategy) if isinstance(strategy, str) else strategy
        shards, pool = shards or self.shards(), pool or self.pool
        self.load(chosen, shards, pool)
        return query(chosen, shards, pool, self.n_classes, budget, rng, **options)

    def load(self, strategy: Strategy, shards: Shards, pool: Pool) -> None:
        """Gives the shards the classifier, untrained, and the strategy's helpers."""
        learner = strategy.classifier(self.learner)
        shards.load(learner, self.weights(learner))
        none = np.empty(0, np.int64)
        round = Round(ROUND, pool, self.n_classes, self.learner, PLAN, MEAN, STD, SEED, (none, none))
        for name, helper in strategy.prepare(round).items():
            shards.load(helper.learner.reader(), self._helper(helper), name)

    def weights(self, learner: Learner | None = None) -> Weights:
        """Of a fresh network, by default the classifier, its last layer scaled."""
        last = ("fc.weight", "fc.bias")
        state = _fresh(learner or self.learner, self.images.shape).state_dict()
        return {key: value * self.scale if key.endswith(last) else value for key, value in state.items()}

    def _helper(self, helper: Job | Fitted) -> Weights:
        if helper.digest not in self.helpers:
            if isinstance(helper, Job):
                self.helpers[helper.digest] = train(helper, self.images, Team(), NoKeeper()).weights
            else:
                self.helpers[helper.digest] = helper.weights or _fresh(helper.learner, self.images.shape).state_dict()
        return self.helpers[helper.digest]


def digits(copies: int = 1, scale: float = 1.0, constant: bool = False, labelled: int = 30) -> Case:
    """scikit-learn's digits, `copies` times (exact duplicates in other blocks), of which 30 are labelled.

    constant  every image is the same
    """
    data = load_digits()
    pictures = np.tile((data.images * 15.9375).astype(np.uint8)[..., None], (copies, 1, 1, 1))
    if constant:
        pictures[:] = pictures[0]
    labels = np.tile(data.target, copies)
    first = np.arange(labelled) * 7
    return Case(ArrayImages(pictures), labels, Pool(len(labels), first, labels[first]), scale)


HARD_CASES: dict[str, dict[str, Any]] = {
    "saturated probabilities": {"scale": 1e6},
    "duplicates": {"copies": 2},
    "identical images": {"constant": True},
    "identical and saturated": {"constant": True, "scale": 1e6},
}


@cache
def case(name: str = "") -> Case:
    """An ordinary pool, "many blocks", ONE_KNOWN (zeros, one of which is labelled), or of HARD_CASES; made once."""
    if name == ONE_KNOWN:
        made = digits()
        first = np.flatnonzero(made.labels == 0)[:1]
        return Case(made.images, made.labels, Pool(made.pool.size, first, made.labels[first]), n_classes=1)
    return digits(copies=3) if name == "many blocks" else digits(**HARD_CASES.get(name, {}))


def _fresh(learner: Learner, shape: tuple[int, int, int]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return learner.build(shape)
