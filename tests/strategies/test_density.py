"""Density strategies: the algorithms on the features of the round, or of a frozen encoder that is read once."""

import numpy as np
import pytest

from openal_ray import seeds, selection
from openal_ray.errors import ConfigError
from openal_ray.pool import AllBut, Pool
from openal_ray.selection import scores
from openal_ray.selection.distances import unit_rows
from openal_ray.shard import ReadOrder
from openal_ray.strategies import catalogue
from openal_ray.strategies.features import NAME
from openal_ray.strategies.query import query
from openal_ray.testing.pools import N_CLASSES, ROUND, SEED, case
from tests.strategies.read_all import signals


def rng() -> np.random.Generator:
    return seeds.rng(SEED, ROUND, "pick")


def expected(name: str, rows: np.ndarray, probs: np.ndarray, k: int) -> np.ndarray:
    if name == "k_means":
        return selection.k_means(rows, k, rng())
    if name == "max_herding":
        return selection.max_herding(unit_rows(rows), None, k)
    if name == "prob_cover":
        return selection.prob_cover(unit_rows(rows), None, k, 0.3)
    if name == "typiclust":
        return selection.typiclust(unit_rows(rows), None, k, rng())
    return selection.cluster_margin(scores.margin(probs), rows, k, rng())


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("k_means", {}), ("max_herding", {}), ("prob_cover", {"radius": 0.3}), ("typiclust", {}), ("cluster_margin", {})],
)
def test_the_query_is_the_algorithm_on_all_features_in_one_place(name: str, parameters: dict) -> None:
    pool = Pool(case().pool.size)  # nothing is labelled, so places in the arrays are dataset indices
    _, read, _ = signals(case(), catalogue.build("badge"), pool)
    found = case().ask(catalogue.build(name, parameters), 12, case().shards(2), pool=pool).indices
    assert found.tolist() == expected(name, read["features"], read["probs"], 12).tolist()


def test_labelled_images_count_as_covered() -> None:
    indices, read, labelled = signals(case(), catalogue.build("k_center"))
    rows, known = unit_rows(read["features"]), unit_rows(labelled["features"])
    found = case().ask("max_herding", 12, case().shards(2)).indices
    assert found.tolist() == indices[selection.max_herding(rows, known, 12)].tolist()


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
    purposes = lambda purpose: seeds.rng(SEED, ROUND + 1, purpose)  # noqa: E731
    second = query(strategy, shards, later, N_CLASSES, 5, purposes).indices
    assert len(set(first.tolist()) | set(second.tolist())) == 10
    assert shards.gather("pool").signals[f"{NAME}.features"].shape == (count, 1280)
    assert [order.members for order in read] == [AllBut(case().pool.size, held_out)]


def test_an_encoder_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown model 'resnet19'"):
        catalogue.build("typiclust", {"encoder": "resnet19"})
