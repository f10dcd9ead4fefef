"""Density strategies: the algorithms on the features of the round, or of a frozen encoder that is read once."""

import numpy as np
import pytest

from openal_ray import seeds, selection
from openal_ray.errors import ConfigError
from openal_ray.pool import AllBut, Pool
from openal_ray.selection import scores
from openal_ray.shard import ReadOrder
from openal_ray.strategies import catalogue
from openal_ray.strategies.features import NAME
from openal_ray.testing.pools import ROUND, SEED, case
from tests.strategies.read_all import signals


def rng() -> np.random.Generator:
    return seeds.rng(SEED, ROUND, "pick")


def unit(rows: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)


def expected(name: str, rows: np.ndarray, known: np.ndarray, probs: np.ndarray, k: int) -> np.ndarray:
    if name == "k_means":
        return selection.k_means(rows, k, rng())
    if name == "max_herding":
        return selection.max_herding(unit(rows), unit(known), k)
    if name == "prob_cover":
        return selection.prob_cover(unit(rows), unit(known), k, 0.3)
    return selection.cluster_margin(scores.margin(probs), rows, k, rng())


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("k_means", {}), ("max_herding", {}), ("prob_cover", {"radius": 0.3}), ("cluster_margin", {})],
)
def test_the_query_is_the_algorithm_on_all_features_in_one_place(name: str, parameters: dict) -> None:
    strategy = catalogue.build(name, parameters)
    pool = Pool(case().pool.size, case().pool.labelled, case().pool.classes, held_out=np.arange(1024, 1797))
    indices, read, labelled = signals(case(), catalogue.build("badge"), pool)
    picks = expected(name, read["features"], labelled["features"], read["probs"], 12)
    found = case().ask(strategy, 12, case().shards(2), pool=pool).indices
    if name in ("k_means", "cluster_margin"):  # their streams are by blocks, which positions shift
        assert len(set(found.tolist()) & set(indices[picks].tolist())) >= (4 if name == "k_means" else 3)
    else:
        assert len(set(found.tolist()) ^ set(indices[picks].tolist())) <= 2  # float32 norms may swap a tie


def test_typiclust_asks_in_every_cluster_without_a_label() -> None:
    strategy = catalogue.build("typiclust")
    pool = Pool(case().pool.size)
    found = case().ask(strategy, 10, pool=pool).indices
    indices, read, _ = signals(case(), catalogue.build("badge"), pool)
    rows = unit(read["features"].astype(np.float64))
    at = np.searchsorted(indices, found)
    # Typical images: their 20th neighbour is nearer than that of most images.
    distances = np.sort(np.linalg.norm(rows[at][:, None] - rows[None, ::5], axis=2), axis=1)[:, 20]
    others = np.sort(np.linalg.norm(rows[::17][:, None] - rows[None, ::5], axis=2), axis=1)[:, 20]
    assert np.median(distances) < np.median(others)
    # And far from each other: ten clusters, not one.
    between = np.linalg.norm(rows[at][:, None] - rows[at][None], axis=2)[np.triu_indices(10, 1)]
    assert np.median(between) > 2 * np.median(distances)


@pytest.mark.parametrize("name", ["k_center", "k_means", "typiclust", "prob_cover", "max_herding"])
def test_a_frozen_encoder_is_read_once_and_needs_no_label(name: str) -> None:
    parameters = {"encoder": "tf_efficientnet_lite0", "encoder_weights": "packaged"}
    strategy = catalogue.build(name, parameters)
    assert strategy.needs == () and strategy.needs_pool == (f"{NAME}.features",) and not strategy.needs_start
    count = 60
    held_out = np.arange(count, case().pool.size)
    shards = case().shards(2)
    empty = Pool(case().pool.size, held_out=held_out)
    read: list[ReadOrder] = []
    real = shards.shards[0].read
    shards.shards[0].read = lambda order, block: (read.append(order), real(order, block))[1]
    first = case().ask(strategy, 5, shards, empty).indices
    later = empty.annotate(first, case().labels[first])
    second = case().ask(strategy, 5, shards, later).indices
    assert len(set(first.tolist()) | set(second.tolist())) == 10
    assert shards.gather("pool").signals[f"{NAME}.features"].shape == (count, 1280)
    assert [order.members for order in read] == [AllBut(case().pool.size, held_out)]


def test_an_encoder_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown model 'resnet19'"):
        catalogue.build("typiclust", {"encoder": "resnet19"})
