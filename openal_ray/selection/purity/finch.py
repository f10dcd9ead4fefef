"""FINCH partitions by its authors' package, not meant for commercial use; k-means is the way without that limit.

Sarfraz et al. 2019 (CVPR). Needs all rows in one place.
"""

import logging
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from openal_ray.errors import ConfigError
from openal_ray.selection.similarity import directions, most_similar

log = logging.getLogger(__name__)

_ALL_PAIRS = 20_000  # rows up to which the package compares all pairs at once


def finest_partition(rows: np.ndarray, most: int) -> np.ndarray:
    """Clusters int64 [n] of the finest partition of `rows` [n, D] that has at most `most` clusters; else all in one.

    raises   ConfigError if the package is not installed
    """
    partitions = _partitions(rows, None)[0] if len(rows) > 2 else np.arange(len(rows))[:, None]
    for column in partitions.T:
        if column.max(initial=-1) < most:
            return column.astype(np.int64)
    return np.zeros(len(rows), dtype=np.int64)


def partition_into(rows: np.ndarray, count: int) -> np.ndarray:
    """Clusters int64 [n] of `rows` [n, D]: `count` of them, or as many as FINCH's finest partition has.

    raises   ConfigError if the package is not installed
    """
    if count < 1:
        raise ValueError(f"rows fall into at least one cluster, got count={count}")
    finest = finest_partition(rows, len(rows))
    if not len(rows) or finest.max() < count:
        return finest
    if count == 1:
        return np.zeros(len(rows), dtype=np.int64)
    return np.asarray(_partitions(rows, count)[1]).reshape(-1).astype(np.int64)


def cluster_means(rows: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """The mean row float64 [m, D] of each cluster 0 … m-1."""
    counts = np.bincount(clusters)
    sums = np.zeros((len(counts), rows.shape[1]))
    np.add.at(sums, clusters, np.asarray(rows, dtype=np.float64))
    return sums / np.maximum(counts, 1)[:, None]


def _partitions(rows: np.ndarray, count: int | None) -> tuple[np.ndarray, Any]:
    """Partitions [n, P], finest first, and the one of `count` clusters."""
    options: dict[str, Any] = {"req_clust": count, "distance": "cosine", "verbose": False}
    if len(rows) > _ALL_PAIRS:
        units = directions(rows)
        # Rows that are equal to an earlier one find that one first, so the own position is wherever it is.
        nearest = most_similar(units, units, 2)[0]
        own = nearest[:, 0] == np.arange(len(rows))
        options["initial_rank"] = np.where(own, nearest[:, 1], nearest[:, 0]).astype(np.int32)
    partitions, _, required = _finch()(np.asarray(rows), **options)[:3]
    return np.asarray(partitions), required


@cache
def _finch() -> Callable[..., tuple[Any, ...]]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns about optional packages of its own
            from finch import FINCH
    except ImportError:
        raise ConfigError(
            "strategy.clusterer=finch needs the package finch-clust, which is not meant for commercial use: "
            "`pip install finch-clust`, or set strategy.clusterer=kmeans"
        ) from None
    log.warning(
        "FINCH clusters by the package finch-clust. Its authors say that code and algorithm are not meant for "
        "commercial use, though the wheel of 0.2.3 carries the MIT licence; strategy.clusterer=kmeans has no such limit"
    )
    found: Callable[..., tuple[Any, ...]] = FINCH
    return found
