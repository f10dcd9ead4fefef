"""What a strategy saw, gathered: for references that need all signals in one place."""

from collections.abc import Mapping

import numpy as np

from openal_ray.pool import AllBut, Listed, Pool
from openal_ray.shard import ReadOrder
from openal_ray.strategies.strategy import Strategy
from openal_ray.testing.pools import Case


def signals(
    case: Case, strategy: Strategy, pool: Pool | None = None
) -> tuple[np.ndarray, Mapping[str, np.ndarray], Mapping[str, np.ndarray]]:
    """Dataset indices of the unlabelled images, their signals, and those of labelled images, both ascending."""
    pool, shards = pool or case.pool, case.shards()
    case.load(strategy, shards, pool)
    shards.read(ReadOrder("all", "train", AllBut(pool.size, pool.taken), strategy.needs))
    shards.read(ReadOrder("known", "train", Listed(pool.labelled), strategy.needs_labelled or strategy.needs))
    found = shards.gather("all")
    return found.indices, found.signals, shards.gather("known").signals
