"""Small pools and networks for tests of strategies: real digits, and the hard cases."""

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.datasets import load_digits

from openal_ray import config, seeds
from openal_ray.data.images import ArrayImages
from openal_ray.models.learners import Classifier
from openal_ray.pool import Pool
from openal_ray.shard import Settings
from openal_ray.strategies import catalogue
from openal_ray.strategies.strategy import Query, Strategy, query
from openal_ray.workers import LocalShards, Shards

N_CLASSES = 10
LEARNER = Classifier(N_CLASSES, params={"drop_rate": 0.3})  # dropout, for the Monte Carlo strategies


@dataclass(frozen=True)
class Case:
    """A pool of images with a network that reads them."""

    images: ArrayImages
    labels: np.ndarray
    weights: dict[str, torch.Tensor]
    pool: Pool

    @property
    def learner(self) -> Classifier:
        return LEARNER

    def shards(self, count: int = 1, batch_size: int = 256) -> LocalShards:
        settings = Settings(config.Read(batch_size=batch_size), (0.5,), (0.5,))
        return self.loaded(LocalShards({"train": self.images}, settings, count))

    def loaded(self, shards: Shards) -> Shards:
        shards.load(self.learner, self.weights)
        return shards

    def ask(self, strategy: Strategy | str, budget: int, shards: Shards | None = None, **options) -> Query:
        chosen = catalogue.build(strategy) if isinstance(strategy, str) else strategy
        purpose = options.pop("rng", lambda name: seeds.rng(7, 3, name))
        pool = options.pop("pool", self.pool)
        return query(chosen, shards or self.shards(), pool, N_CLASSES, budget, purpose, **options)


def digits(copies: int = 1, scale: float = 1.0, constant: bool = False, labelled: int = 30) -> Case:
    """scikit-learn's digits, `copies` times (exact duplicates in other blocks), and a fresh network.

    scale     multiplies the last layer, so that large values give probabilities of exactly 0 and 1
    constant  every image is the same
    """
    data = load_digits()
    pictures = np.tile((data.images * 15.9375).astype(np.uint8)[..., None], (copies, 1, 1, 1))
    if constant:
        pictures[:] = pictures[0]
    labels = np.tile(data.target, copies)
    torch.manual_seed(0)
    network = LEARNER.build((8, 8, 1))
    weights = {key: value * scale if key.startswith("fc.") else value for key, value in network.state_dict().items()}
    first = np.arange(labelled) * 7
    return Case(ArrayImages(pictures), labels, weights, Pool(len(labels), first, labels[first]))
