"""OpenAL's create_query_strategy: the same call, on your own training loop, without its defects."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, RandomSampler, Subset

from openal_ray import config, seeds
from openal_ray.errors import ConfigError
from openal_ray.models.learners import Fitted
from openal_ray.networks import Held, key_of, weights_of
from openal_ray.openal.brought import Given, Labels, Normalisation, TransformedImages
from openal_ray.pool import Listed, Pool
from openal_ray.record import PastQuery
from openal_ray.run_folder import Weights
from openal_ray.shard import Settings
from openal_ray.strategies import catalogue
from openal_ray.strategies.query import Query, query
from openal_ray.strategies.strategy import Helpers, Round
from openal_ray.training.job import Job
from openal_ray.training.loop import check_plan
from openal_ray.workers import LocalWorkers, Shards

AS_THEY_ARE: Normalisation = ((0.0,), (1 / 255,))  # makes the normalisation of pixels the identity


def create_query_strategy(
    model: nn.Module,
    strategy_name: str,
    dataset: Any,
    is_labeled: np.ndarray,
    sampler_name: str = "SubsetRandomSampler",
    transform: Callable[[Any], torch.Tensor] | None = None,
    n_query: int = 1,
    batch_size: int = 256,
    num_workers: int = 0,
    steps_per_epoch: int = 0,
    n_subset: int | float = 0,
    interval_type: str = "top",
    seed: int = 0,
    plan: config.Train | None = None,
    normalisation: Normalisation | None = None,
    **params: Any,
) -> "QueryStrategy":
    """A strategy for a training loop of your own, called as in OpenAL, with its order of arguments.

    model          it is copied, so `init_model` gives its present weights for ever
    strategy_name  OpenAL's class name or ours
    dataset        map-style, items (image, label) or image; reading uses a copy whose `.transform` is `transform`
    is_labeled     bool [N]; it is copied, so the caller's array never changes
    plan           how networks are trained that the strategy needs beside yours; config.Train() if not given
    normalisation  mean and std per channel of `transform`, for strategies with a published network; found in a
                   transform that ends in torchvision's Normalize
    params         parameters of the strategy
    raises         ConfigError for an unknown strategy or parameter, a mask that does not fit the data set, a data set
                   without a `.transform` to replace, or a plan that cannot be followed

    Strategies that ask where several networks disagree, or that need a detector, train these in `query`, on the
    labelled images in `transform`; each starts as a copy of `model` with a last layer drawn anew. Targets of -1 are
    images of no known class. learning_loss changes the network itself: train what `init_model` gives, with `loss_fn`.
    """
    if interval_type != "top":
        raise ConfigError(f"interval_type={interval_type!r}: only 'top' exists, the best-scored images are asked")
    if sampler_name != "SubsetRandomSampler":
        raise ConfigError(
            f"sampler_name={sampler_name!r}: only 'SubsetRandomSampler' exists; weigh rare classes in your loss instead"
        )
    mask = np.array(is_labeled)
    if mask.dtype != bool or mask.shape != (len(dataset),):
        raise ConfigError(
            f"is_labeled must be bool [{len(dataset)}], one entry an image, got {mask.dtype} {list(mask.shape)}"
        )
    loader = _Loader(steps_per_epoch, batch_size, num_workers)
    images = TransformedImages(dataset, transform)
    helpers = _HelperPlan(plan or config.Train(), normalisation or images.normalisation)
    return QueryStrategy(strategy_name, params, model, dataset, images, mask, n_query, n_subset, loader, seed, helpers)


@dataclass(frozen=True)
class _Loader:
    steps_per_epoch: int
    batch_size: int
    num_workers: int


@dataclass(frozen=True)
class _HelperPlan:
    plan: config.Train
    normalisation: Normalisation | None


class QueryStrategy:
    """`query(model)` proposes, `update(query_idx)` marks as labelled; `is_labeled` is this object's own copy."""

    def __init__(
        self, name: str, params: dict[str, Any], model: nn.Module, dataset: Any, images: TransformedImages,
        is_labeled: np.ndarray, n_query: int, n_subset: int | float, loader: _Loader, seed: int, helpers: _HelperPlan,
    ) -> None:  # fmt: skip
        self.strategy = catalogue.build(name, params)
        if helpers.plan.augment:
            raise ConfigError("plan.augment: images come as `transform` makes them, so augmentation belongs there")
        check_plan(helpers.plan, images.shape)
        self.model, self.dataset, self.is_labeled = copy.deepcopy(model), dataset, is_labeled
        self.n_query, self.n_subset, self.loader, self.seed, self.helpers = n_query, n_subset, loader, seed, helpers
        self.images, self.labels = images, Labels(images.dataset)
        self.round = 0
        self._past = [PastQuery(0, *self._answered(np.flatnonzero(is_labeled)))]
        self._asked: Query | None = None
        self._device = ""
        self._workers: LocalWorkers | None = None
        self._held: Held | None = None

    def query(self, model: nn.Module, unlabeled_idx: np.ndarray | None = None) -> np.ndarray:
        """Dataset indices to label next, best first: int64 [min(n_query, unlabelled)], distinct. Changes nothing.

        unlabeled_idx  the only images that may be asked; all unlabelled ones if not given
        """
        candidates = np.flatnonzero(~self.is_labeled) if unlabeled_idx is None else self._indices(unlabeled_idx)
        out = np.ones(len(self.is_labeled), dtype=bool)
        out[candidates] = False
        if not len(candidates):
            return candidates
        labelled = np.flatnonzero(self.is_labeled)
        pool = Pool(len(self.is_labeled)).annotate(*self._answered(labelled))
        pool = pool.hold_out(np.flatnonzero(out & ~self.is_labeled))
        self._asked = query(
            self.strategy, self._shards(model, pool), pool, self.n_classes, self.n_query,
            lambda purpose: seeds.rng(self.seed, self.round, purpose), self.n_subset, history=tuple(self._past),
        )  # fmt: skip
        return self._asked.indices

    def update(self, query_idx: np.ndarray) -> None:
        """Marks the dataset indices as labelled; raises ValueError if they are none, and then marks nothing."""
        indices = self._indices(query_idx)
        self.is_labeled[indices] = True
        self.round += 1
        asked = self._asked
        notes = asked.notes if asked and np.array_equal(asked.indices, indices) else {}
        self._past.append(PastQuery(self.round, *self._answered(indices), notes))

    def get_unlabeled_idx(self) -> np.ndarray:
        """The candidates of the next query, ascending: unlabelled images, or with n_subset a random part of them."""
        unlabelled = Listed(np.flatnonzero(~self.is_labeled))
        count = int(self.n_subset * unlabelled.count) if 0 < self.n_subset < 1 else int(self.n_subset)
        if not count or max(count, self.n_query) >= unlabelled.count:
            return unlabelled.indices
        return np.sort(unlabelled.draw(max(count, self.n_query), seeds.rng(self.seed, self.round, "subset")))

    def get_trainloader(self) -> DataLoader[Any]:
        """Batches of the labelled images: one pass, or `steps_per_epoch` batches drawn with replacement."""
        loader, (labelled, classes) = self.loader, self._answered(np.flatnonzero(self.is_labeled))
        chosen = Subset(self.dataset, labelled[classes >= 0].tolist())
        generator = torch.Generator().manual_seed(seeds.derive(self.seed, self.round, "order"))
        count = loader.steps_per_epoch * loader.batch_size or None
        sampler = RandomSampler(chosen, replacement=count is not None, num_samples=count, generator=generator)
        return DataLoader(
            chosen, loader.batch_size, sampler=sampler, num_workers=loader.num_workers, generator=generator
        )

    def init_model(self) -> nn.Module:
        """A copy of the network as it was at construction, or what the strategy makes of it, to be trained.

        That of learning_loss gives {"logits": [n, C], "predicted_loss": [n]} in training mode, for `loss_fn`; called
        with detach=True, its head no longer teaches the rest, which the paper does after 0.6 of the epochs.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeds.derive(self.seed, 0, "weights"))
            network = self._learner().build(self.images.shape)
        return network.to(_device_of(self.model))

    def loss_fn(self, outputs: Any, targets: torch.Tensor) -> torch.Tensor:
        """Cross-entropy, and what the strategy adds to it where `init_model`'s network gives more than logits."""
        if isinstance(outputs, torch.Tensor):
            return functional.cross_entropy(outputs, targets)
        loss: torch.Tensor = self._learner().loss_of(outputs, targets)
        return loss

    @property
    def n_classes(self) -> int:
        """As the network says, or as the labels can tell."""
        own = int(getattr(self.model, "num_classes", 0))
        return own or self.labels.n_classes(np.flatnonzero(self.is_labeled))

    def _learner(self) -> Any:
        """How the network that the caller trains is made."""
        return self.strategy.classifier(Given(self.n_classes, model=self.model))

    def _shards(self, model: nn.Module, pool: Pool) -> Shards:
        """The shards, holding the caller's network and the strategy's helpers, where the caller's network is."""
        device = _device_of(model)
        if self._workers is None or self._held is None or device != self._device:
            settings = Settings(config.Read(batch_size=self.loader.batch_size), *AS_THEY_ARE, device)
            self._workers, self._device = LocalWorkers({"train": self.images}, settings), device
            self._held = Held(self._workers.shards)
        for name, helper in self._helpers(pool).items():
            weights = partial(self._weights, self._workers, name, helper)
            self._held.hold(name, key_of(name, helper), helper.learner, weights)
        self._workers.shards.load(Given(self.n_classes, model=model), model.state_dict())
        return self._workers.shards

    def _helpers(self, pool: Pool) -> Helpers:
        none, (mean, std) = np.empty(0, np.int64), self.helpers.normalisation or AS_THEY_ARE
        helpers = self.strategy.prepare(
            Round(
                self.round, pool, self.n_classes, Given(self.n_classes, model=self.model, fresh=True),
                self.helpers.plan, mean, std, self.seed, (none, none), tuple(getattr(self.dataset, "classes", ())),
            )
        )  # fmt: skip
        if self.helpers.normalisation is None and any(isinstance(helper, Fitted) for helper in helpers.values()):
            raise ConfigError(
                "normalisation: the strategy shows your images to a published network, which must know how `transform` "
                "normalises them: give normalisation=(mean, std), each one number a channel, of pixels in 0 … 1"
            )
        return {
            name: replace(helper, mean=AS_THEY_ARE[0], std=AS_THEY_ARE[1]) if isinstance(helper, Job) else helper
            for name, helper in helpers.items()
        }

    def _weights(self, workers: LocalWorkers, name: str, helper: Job | Fitted) -> Weights:
        if isinstance(helper, Fitted):
            return weights_of(helper, self.images.shape)
        if self.labels.of(helper.indices) is None:
            raise ConfigError(
                f"dataset: the strategy trains a {name}, and {type(self.dataset).__name__} has no labels: give it "
                "`.targets`, or items (image, label)"
            )
        return workers.fit({name: helper})[name].weights

    def _indices(self, given: np.ndarray) -> np.ndarray:
        indices, size = np.asarray(given), len(self.is_labeled)
        if indices.size and (indices.dtype.kind not in "iu" or indices.min() < 0 or indices.max() >= size):
            raise ValueError(f"dataset indices must be integers in 0 … {size - 1}, got {indices.dtype} {indices}")
        return indices.astype(np.int64)

    def _answered(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The indices, and the classes of their images: 0 where the data set has no labels."""
        classes = self.labels.of(indices)
        return indices, np.zeros(len(indices), np.int64) if classes is None else classes


def _device_of(model: nn.Module) -> str:
    return next((str(parameter.device) for parameter in model.parameters()), "cpu")
