"""OpenAL's create_query_strategy: the same call, on your own training loop, without its defects."""

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, RandomSampler, Subset, SubsetRandomSampler

from openal_ray import config, seeds
from openal_ray.errors import ConfigError
from openal_ray.pool import Listed, Pool
from openal_ray.shard import Settings
from openal_ray.strategies import catalogue
from openal_ray.strategies.strategy import query
from openal_ray.workers import LocalShards

log = logging.getLogger(__name__)
UNCHANGED = 1 / 255  # as std, with mean 0, it makes the shard's normalisation of pixels the identity


def create_query_strategy(
    strategy_name: str,
    model: nn.Module,
    dataset: Any,
    transform: Callable[[Any], torch.Tensor] | None,
    is_labeled: np.ndarray,
    n_query: int,
    n_subset: int | float = 0,
    batch_size: int = 256,
    num_workers: int = 0,
    sampler_name: str = "SubsetRandomSampler",
    steps_per_epoch: int = 0,
    interval_type: str = "top",
    seed: int = 0,
    **params: Any,
) -> "QueryStrategy":
    """A strategy for a training loop of your own, called as in OpenAL.

    strategy_name  OpenAL's class name or ours
    dataset        map-style, items (image, label) or image; its `.transform` is replaced by `transform` for reading
    is_labeled     bool [N]; it is copied, so the caller's array never changes
    params         parameters of the strategy
    raises         ConfigError for an unknown strategy or parameter, or a mask that does not fit the data set
    """
    if interval_type != "top":
        raise ConfigError(f"interval_type={interval_type!r}: only 'top' exists, the best-scored images are asked")
    mask = np.array(is_labeled, dtype=bool)
    if mask.shape != (len(dataset),):
        raise ConfigError(f"is_labeled must have shape [{len(dataset)}], one entry an image, got {list(mask.shape)}")
    catalogue.build(strategy_name, params)
    loader = _Loader(sampler_name, steps_per_epoch, batch_size, num_workers)
    return QueryStrategy(strategy_name, params, model, dataset, transform, mask, n_query, n_subset, loader, seed)


@dataclass(frozen=True)
class _Loader:
    sampler_name: str
    steps_per_epoch: int
    batch_size: int
    num_workers: int


class QueryStrategy:
    """`query(model)` proposes, `update(query_idx)` marks as labelled; `is_labeled` is this object's own copy."""

    def __init__(
        self, name: str, params: dict[str, Any], model: nn.Module, dataset: Any, transform: Any,
        is_labeled: np.ndarray, n_query: int, n_subset: int | float, loader: _Loader, seed: int,
    ) -> None:  # fmt: skip
        self.strategy = catalogue.build(name, params)
        self.model, self.dataset, self.is_labeled = model, dataset, is_labeled
        self.n_query, self.n_subset, self.loader, self.seed = n_query, n_subset, loader, seed
        self.images = _TransformedImages(dataset, transform)
        self.round = 0

    def query(self, model: nn.Module) -> np.ndarray:
        """Dataset indices to label next, best first: int64 [min(n_query, unlabelled)], distinct. Changes nothing."""
        device = next((str(parameter.device) for parameter in model.parameters()), "cpu")
        settings = Settings(config.Read(batch_size=self.loader.batch_size), (0.0,), (UNCHANGED,), device)
        shards = LocalShards({"train": self.images}, settings)
        shards.load(_Given(model), model.state_dict())
        labelled = np.flatnonzero(self.is_labeled)
        pool = Pool(len(self.is_labeled), labelled, self._targets()[labelled])
        found = query(
            self.strategy, shards, pool, self._n_classes(model), self.n_query,
            lambda purpose: seeds.rng(self.seed, self.round, purpose), self.n_subset,
        )  # fmt: skip
        return found.indices

    def update(self, query_idx: np.ndarray) -> None:
        """Marks the indices as labelled."""
        self.is_labeled[np.asarray(query_idx, dtype=np.int64)] = True
        self.round += 1

    def get_unlabeled_idx(self) -> np.ndarray:
        """Unlabelled dataset indices, ascending; a random subset of them if n_subset is set."""
        unlabelled = Listed(np.flatnonzero(~self.is_labeled))
        count = int(self.n_subset * unlabelled.count) if 0 < self.n_subset < 1 else int(self.n_subset)
        if not count or count >= unlabelled.count:
            return unlabelled.indices
        return unlabelled.draw(count, seeds.rng(self.seed, self.round, "subset"))

    def get_trainloader(self) -> DataLoader[Any]:
        """Batches of the labelled images: one pass, or `steps_per_epoch` batches drawn with replacement."""
        loader, labelled = self.loader, np.flatnonzero(self.is_labeled).tolist()
        if loader.steps_per_epoch:
            chosen = Subset(self.dataset, labelled)
            count = loader.steps_per_epoch * loader.batch_size
            sampler: Any = RandomSampler(chosen, replacement=True, num_samples=count)
            return DataLoader(chosen, loader.batch_size, sampler=sampler, num_workers=loader.num_workers)
        return DataLoader(
            self.dataset, loader.batch_size, sampler=SubsetRandomSampler(labelled), num_workers=loader.num_workers
        )

    def init_model(self) -> nn.Module:
        """A copy of the network given at construction."""
        return copy.deepcopy(self.model)

    def loss_fn(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Cross-entropy."""
        return functional.cross_entropy(outputs, targets)

    def _targets(self) -> np.ndarray:
        """Classes of the images; only labelled ones are ever looked at. All 0 if the data set does not list them."""
        targets = getattr(self.dataset, "targets", getattr(self.dataset, "labels", None))
        return np.zeros(len(self.is_labeled), np.int64) if targets is None else np.asarray(targets, np.int64)

    def _n_classes(self, model: nn.Module) -> int:
        return int(getattr(model, "num_classes", 0)) or int(self._targets().max()) + 1


class _Given:
    """A learner around a network that the caller trains."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def build(self, shape: tuple[int, int, int]) -> nn.Module:
        return copy.deepcopy(self.model)

    def loss(self, network: nn.Module, images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        raise NotImplementedError("the caller trains this network")


class _TransformedImages:
    """A map-style data set through the caller's transform: float32 [n, H, W, channels], ready for the network."""

    def __init__(self, dataset: Any, transform: Any) -> None:
        self.dataset = copy.copy(dataset)
        if transform is not None:
            self.dataset.transform = transform
        self.shape: tuple[int, int, int] = self.load(np.array([0])).shape[1:]

    def __len__(self) -> int:
        return len(self.dataset)

    def load(self, indices: np.ndarray) -> np.ndarray:
        items = [self.dataset[int(index)] for index in indices]
        images = [item[0] if isinstance(item, tuple | list) else item for item in items]
        return torch.stack([torch.as_tensor(image, dtype=torch.float32) for image in images]).permute(0, 2, 3, 1).numpy()

    def ids(self, indices: np.ndarray) -> list[str]:
        return [str(index) for index in indices]
