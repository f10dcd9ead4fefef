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
from torch.utils.data import DataLoader, RandomSampler, Subset

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
    **params: Any,
) -> "QueryStrategy":
    """A strategy for a training loop of your own, called as in OpenAL, with its order of arguments.

    model          it is copied, so `init_model` gives its present weights for ever
    strategy_name  OpenAL's class name or ours
    dataset        map-style, items (image, label) or image; reading uses a copy whose `.transform` is `transform`
    is_labeled     bool [N]; it is copied, so the caller's array never changes
    params         parameters of the strategy
    raises         ConfigError for an unknown strategy or parameter, a mask that does not fit the data set, or a data
                   set without a `.transform` to replace
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
    return QueryStrategy(strategy_name, params, model, dataset, transform, mask, n_query, n_subset, loader, seed)


@dataclass(frozen=True)
class _Loader:
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
        self.model, self.dataset, self.is_labeled = copy.deepcopy(model), dataset, is_labeled
        self.n_query, self.n_subset, self.loader, self.seed = n_query, n_subset, loader, seed
        self.images = _TransformedImages(dataset, transform)
        self.round = 0

    def query(self, model: nn.Module, unlabeled_idx: np.ndarray | None = None) -> np.ndarray:
        """Dataset indices to label next, best first: int64 [min(n_query, unlabelled)], distinct. Changes nothing.

        unlabeled_idx  the only images that may be asked; all unlabelled ones if not given
        """
        candidates = np.flatnonzero(~self.is_labeled) if unlabeled_idx is None else self._indices(unlabeled_idx)
        out = np.ones(len(self.is_labeled), dtype=bool)
        out[candidates] = False
        if not len(candidates):
            return candidates
        device = next((str(parameter.device) for parameter in model.parameters()), "cpu")
        settings = Settings(config.Read(batch_size=self.loader.batch_size), (0.0,), (UNCHANGED,), device)
        shards = LocalShards({"train": self.images}, settings)
        shards.load(_Given(model), model.state_dict())
        labelled = np.flatnonzero(self.is_labeled)
        pool = Pool(len(self.is_labeled)).annotate(labelled, self._targets()[labelled])
        pool = pool.hold_out(np.flatnonzero(out & ~self.is_labeled))
        found = query(
            self.strategy, shards, pool, self._n_classes(model), self.n_query,
            lambda purpose: seeds.rng(self.seed, self.round, purpose), self.n_subset,
        )  # fmt: skip
        return found.indices

    def update(self, query_idx: np.ndarray) -> None:
        """Marks the dataset indices as labelled; raises ValueError if they are none, and then marks nothing."""
        self.is_labeled[self._indices(query_idx)] = True
        self.round += 1

    def get_unlabeled_idx(self) -> np.ndarray:
        """The candidates of the next query, ascending: unlabelled images, or with n_subset a random part of them."""
        unlabelled = Listed(np.flatnonzero(~self.is_labeled))
        count = int(self.n_subset * unlabelled.count) if 0 < self.n_subset < 1 else int(self.n_subset)
        if not count or max(count, self.n_query) >= unlabelled.count:
            return unlabelled.indices
        return np.sort(unlabelled.draw(max(count, self.n_query), seeds.rng(self.seed, self.round, "subset")))

    def get_trainloader(self) -> DataLoader[Any]:
        """Batches of the labelled images: one pass, or `steps_per_epoch` batches drawn with replacement."""
        loader, labelled = self.loader, np.flatnonzero(self.is_labeled).tolist()
        chosen = Subset(self.dataset, labelled)
        generator = torch.Generator().manual_seed(seeds.derive(self.seed, self.round, "order"))
        count = loader.steps_per_epoch * loader.batch_size or None
        sampler = RandomSampler(chosen, replacement=count is not None, num_samples=count, generator=generator)
        return DataLoader(
            chosen, loader.batch_size, sampler=sampler, num_workers=loader.num_workers, generator=generator
        )

    def init_model(self) -> nn.Module:
        """A copy of the network as it was at construction."""
        return copy.deepcopy(self.model)

    def loss_fn(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Cross-entropy."""
        return functional.cross_entropy(outputs, targets)

    def _indices(self, given: np.ndarray) -> np.ndarray:
        indices, size = np.asarray(given), len(self.is_labeled)
        if indices.size and (indices.dtype.kind not in "iu" or indices.min() < 0 or indices.max() >= size):
            raise ValueError(f"dataset indices must be integers in 0 … {size - 1}, got {indices.dtype} {indices}")
        return indices.astype(np.int64)

    def _targets(self) -> np.ndarray:
        """Classes [N] as the data set lists them, all 0 if it does not; a query sees those of labelled images alone."""
        targets = getattr(self.dataset, "targets", getattr(self.dataset, "labels", None))
        return np.zeros(len(self.is_labeled), np.int64) if targets is None else np.asarray(targets, np.int64)

    def _n_classes(self, model: nn.Module) -> int:
        return int(getattr(model, "num_classes", 0)) or int(self._targets().max()) + 1


class _Given:
    """A learner around a network that the caller trains."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def build(self, shape: tuple[int, int, int]) -> nn.Module:
        return copy.deepcopy(self.model).cpu()  # where a shard expects it, wherever the caller trains

    def loss(
        self, network: nn.Module, images: torch.Tensor, targets: torch.Tensor, progress: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        raise NotImplementedError("the caller trains this network")

    def reader(self) -> "_Given":
        return self


class _TransformedImages:
    """A map-style data set through the caller's transform: float32 [n, H, W, channels], ready for the network."""

    def __init__(self, dataset: Any, transform: Any) -> None:
        self.dataset = copy.copy(dataset)
        if transform is not None:
            if not hasattr(dataset, "transform"):
                raise ConfigError(
                    f"transform: {type(dataset).__name__} has no `.transform` that it could replace; "
                    "give transform=None and a data set whose images are tensors, ready for the network"
                )
            self.dataset.transform = transform
        self.shape: tuple[int, int, int] = self.load(np.array([0])).shape[1:]

    def __len__(self) -> int:
        return len(self.dataset)

    def load(self, indices: np.ndarray) -> np.ndarray:
        items = [self.dataset[int(index)] for index in indices]
        images = [item[0] if isinstance(item, tuple | list) else item for item in items]
        if not all(isinstance(image, torch.Tensor) and image.ndim == 3 for image in images):
            raise ConfigError(
                f"transform: an image must become a tensor [channels, height, width], got {type(images[0]).__name__}"
            )
        return torch.stack([image.float() for image in images]).permute(0, 2, 3, 1).numpy()

    def ids(self, indices: np.ndarray) -> list[str]:
        return [str(index) for index in indices]
