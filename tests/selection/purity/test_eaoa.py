"""Tests of eaoa.py and reverse_neighbours.py: against the whole pool at once, shards, shortages, adaptive factor."""

import numpy as np
import pytest

from openal_ray.selection.halves import BLOCK, LocalHalves, Picks
from openal_ray.selection.purity.eaoa import EaoaHalf, next_factor, pick_eaoa
from openal_ray.selection.purity.energies import aleatoric
from openal_ray.selection.purity.reverse_neighbours import (
    ReverseNeighboursHalf,
    count_reverse_neighbours,
    neighbour_energy,
)
from tests.selection.purity import naive


def pool(n: int, seed: int = 0, n_labelled: int = 90) -> dict[str, np.ndarray]:
    """Three known classes and unknown images whose detector logits and features lie elsewhere."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 3, (4, 8))
    truth, classes = rng.integers(0, 4, n), rng.integers(0, 4, n_labelled)
    return {
        "logits": rng.normal(0, 2, (n, 3)) + 4 * np.eye(4)[truth][:, :3],
        "detector": rng.normal(0, 2, (n, 4)) + 6 * np.eye(4)[truth],
        "features": centres[truth] + rng.normal(size=(n, 8)),
        "labelled": centres[classes] + rng.normal(size=(n_labelled, 8)),
        "classes": classes,
        "truth": truth,
    }


def pick(data: dict[str, np.ndarray], k: int, factor: float = 2.0, n_shards: int = 1, **other: int) -> Picks:
    indices = np.arange(len(data["logits"]))
    shards = [indices[indices // BLOCK % n_shards == shard] for shard in range(n_shards)]
    halves = [EaoaHalf(*(data[name][own] for name in ("logits", "detector", "features")), own) for own in shards]
    n_classes = data["logits"].shape[1]
    rng = np.random.default_rng(7)
    return pick_eaoa(LocalHalves(halves), k, data["labelled"], data["classes"], n_classes, factor, rng, **other)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rejected", [True, False])
def test_the_query_is_that_of_the_whole_pool_at_once(seed: int, rejected: bool) -> None:
    data = pool(900, seed)
    if not rejected:
        data |= {"classes": data["classes"] % 3}
    found = pick(data, 60, 2.0, neighbours=40)
    counts = naive.reverse_counts(data["features"], data["labelled"], data["classes"], 4, 40)
    purity = naive.eaoa_purity(data["detector"], counts, np.bincount(data["classes"], minlength=4))
    ambiguity = naive.upper_posterior(aleatoric(data["logits"]))
    expected = set()
    for label in range(3):
        mine = np.flatnonzero(data["logits"].argmax(axis=1) == label)
        purest = mine[np.argsort(-purity[mine], kind="stable")[:40]]
        expected |= set(purest[np.argsort(-ambiguity[purest], kind="stable")[:20]].tolist())
    assert set(found.indices.tolist()) == expected
    assert np.allclose(1 / (1 + np.exp(-found.scores)), ambiguity[found.indices], atol=1e-6)


@pytest.mark.parametrize("n_shards", [2, 5])
def test_shards_change_nothing(n_shards: int) -> None:
    data = {name: one.astype(np.float32) if one.dtype == float else one for name, one in pool(6000).items()}
    one, other = (pick(data, 100, n_shards=n) for n in (1, n_shards))
    assert one.indices.tolist() == other.indices.tolist()
    assert one.scores.tolist() == other.scores.tolist()


def test_pure_images_are_found() -> None:
    data = pool(1500)
    assert (data["truth"][pick(data, 150, 1.0).indices] < 3).mean() > 0.95 > (data["truth"] < 3).mean()


@pytest.mark.parametrize("k", [1, 7, 20, 24])
def test_a_shortage_is_filled_and_nothing_is_picked_twice(k: int) -> None:
    data = pool(24)
    data["logits"][:, 1:] -= 50  # all but nothing is predicted of two classes
    found = pick(data, k)
    assert len(set(found.indices.tolist())) == k
    assert np.isfinite(found.scores).all()


def test_one_class_with_one_label() -> None:
    data = pool(30, n_labelled=1)
    data |= {"logits": data["logits"][:, :1], "detector": data["detector"][:, 2:], "classes": np.zeros(1, int)}
    assert len(set(pick(data, 10).indices.tolist())) == 10
    data |= {"labelled": np.empty((0, 8)), "classes": np.empty(0, int)}
    assert len(set(pick(data, 30).indices.tolist())) == 30


def test_reverse_neighbours_are_counted_by_class() -> None:
    rng = np.random.default_rng(1)
    features, labelled, classes = rng.normal(size=(5000, 6)), rng.normal(size=(600, 6)), rng.integers(0, 4, 600)
    features[4000:4100] = features[:100]  # equal rows: the lower index is nearer
    expected = naive.reverse_counts(features, labelled, classes, 4, 25)
    indices = np.arange(5000)
    for n_shards in (1, 2, 5):
        shards = [indices[indices // BLOCK % n_shards == shard] for shard in range(n_shards)]
        halves = [ReverseNeighboursHalf(features[own], own, 4) for own in shards]
        count_reverse_neighbours(LocalHalves(halves), labelled, classes, 25)
        found = np.empty((5000, 4))
        for own, half in zip(shards, halves, strict=True):
            found[own] = half.counts
        assert np.array_equal(found, expected)


def test_fewer_rows_than_neighbours() -> None:
    halves = [ReverseNeighboursHalf(np.eye(3)[own], own, 2) for own in (np.array([0, 1]), np.array([2]))]
    count_reverse_neighbours(LocalHalves(halves), np.eye(3)[:2], np.array([0, 1]), 250)
    assert [half.counts.tolist() for half in halves] == [[[1, 1], [1, 1]], [[1, 1]]]


def test_neighbour_energy_by_hand() -> None:
    # Sizes 30 and 10 have mean 20: counts 6 and 2 become 4 and 4; 8 rejected weigh .4: 2 becomes 5.
    found = neighbour_energy(np.array([[6, 2, 2]]), np.array([30, 10, 8]))
    assert found[0] == pytest.approx(-np.log(2 * np.exp(4)) + np.log1p(np.exp(5)))
    assert neighbour_energy(np.array([[6, 2, 0]]), np.array([30, 10, 0]))[0] == pytest.approx(-np.log(2 * np.exp(4)))
    assert neighbour_energy(np.array([[0, 900, 900]]), np.array([0, 10, 1])) == pytest.approx(-450 + 4500)


def test_factor_follows_the_purity() -> None:
    trace, factor = [], 5.0
    for purity in (0.9, 0.9, 0.4, 0.62):
        factor = next_factor(factor, purity)
        trace.append(factor)
    assert trace == [6, 7, 6, 6]
    assert next_factor(1.0, 0.1) == 1.0
    assert next_factor(3.0, float("nan")) == 3.0


def test_shards_without_rows_change_nothing() -> None:
    data = pool(500)  # one block, so four of five shards are empty
    assert pick(data, 40, n_shards=5).indices.tolist() == pick(data, 40).indices.tolist()
