"""Purity and informativeness of the same rows as one ranking: a filter, or a mean of ranks over the whole pool."""

import numpy as np

from openal_ray.selection.quantiles import Quantiles


def filtered(purity: np.ndarray, informativeness: np.ndarray, level: float) -> np.ndarray:
    """Keys float64 [n, 3] for `grouped`: rows of purity >= level by informativeness, then the others by purity.

    So a shortage of pure rows is filled by the purest of the rest. For a pick that is no ranking (BADGE, k-center),
    make its halves of the rows that reach `quantiles.filter_level`.
    """
    passed = np.asarray(purity) >= level
    return np.stack([passed, np.where(passed, informativeness, 0.0), purity], axis=1).astype(np.float64)


def rank_sum(
    purity: np.ndarray, informativeness: np.ndarray, ranks: tuple[Quantiles, Quantiles], weight: float = 0.5
) -> np.ndarray:
    """Weighted mean float64 [n] of the shares of the pool that lie below in purity and in informativeness.

    ranks    of both over the pool; whatever their scales and tails are, they count the same
    weight   of purity, 0 … 1
    """
    return weight * ranks[0].shares(purity) + (1 - weight) * ranks[1].shares(informativeness)


def rank_product(purity: np.ndarray, informativeness: np.ndarray, ranks: tuple[Quantiles, Quantiles]) -> np.ndarray:
    """The product float64 [n] of both shares: high only where both are."""
    return ranks[0].shares(purity) * ranks[1].shares(informativeness)
