"""Tests of k-center and BADGE as strategies: what they promise, their approximations, few exchanges over a subset."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from openal_ray import seeds
from openal_ray.errors import ConfigError
from openal_ray.pool import Listed
from openal_ray.selection import k_center, k_center_balanced, kmeans_pp
from openal_ray.selection.halves import BLOCK
from openal_ray.shard import ReadOrder
from openal_ray.strategies import catalogue
from openal_ray.strategies.diversity import residual
from openal_ray.testing.pools import Case, digits
from openal_ray.workers import LocalShards
from tests.selection import naive
from tests.strategies.read_all import signals


@pytest.fixture(scope="module")
def case() -> Case:
    return digits(copies=3)  # 5391 images: 6 blocks


def watched(shards: LocalShards, monkeypatch: pytest.MonkeyPatch) -> list[naive.Counting]:
    """The halves that will be opened on these shards, with all their exchanges."""
    opened: list[naive.Counting] = []
    real_open = shards.open

    def open_and_watch(*arguments: Any) -> naive.Counting:
        opened.append(naive.Counting(real_open(*arguments)._halves))
        return opened[-1]

    monkeypatch.setattr(shards, "open", open_and_watch)
    return opened


@pytest.mark.parametrize("name", ["k_center", "badge"])
def test_a_subset_of_candidates_takes_few_exchanges_too(name: str, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    subset = case.pool.unlabelled.draw(2000, seeds.rng(7, 3, "subset"))
    shards = case.shards(3)
    opened = watched(shards, monkeypatch)
    found = case.ask(name, 500, shards, subset=2000).indices
    (halves,) = opened
    assert sum(halves.ask("size")) == 2000
    assert len(halves.answers("candidates") or halves.answers("propose")) <= 5
    candidates = np.sort(subset)
    shards.read(ReadOrder("all", "train", Listed(range(case.pool.size)), ("features", "probs")))
    signals = shards.gather("all").signals
    features, left = signals["features"], residual(signals)
    if name == "k_center":
        expected = k_center(features[candidates], features[np.sort(case.pool.labelled)], 500)
        assert candidates[expected].tolist() == found.tolist()
    else:  # its draws depend on where blocks begin, its first pick does not
        first = kmeans_pp(left[candidates], features[candidates], 1, np.random.default_rng(0))
        assert candidates[first].tolist() == found[:1].tolist()
        assert len(np.unique(found)) == 500 and np.isin(found, candidates).all()


@pytest.mark.parametrize(("name", "parameters"), [("k_center", {"parts": 4}), ("badge", {"rounds": 3})])
def test_approximations_ask_the_same_of_any_number_of_shards(name: str, parameters: dict[str, int], case: Case) -> None:
    strategy = catalogue.build(name, parameters)
    queries = [case.ask(strategy, 60, case.shards(count)).indices for count in (1, 2, 3)]
    assert len(np.unique(queries[0])) == 60 and not np.isin(queries[0], case.pool.taken).any()
    assert queries[1].tolist() == queries[0].tolist() == queries[2].tolist()
    assert queries[0].tolist() != case.ask(name, 60).indices.tolist()


def test_two_levels_pick_what_their_naive_form_picks(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="openal_ray")
    shards = case.shards(2)
    found = case.ask(catalogue.build("k_center", {"parts": 4}), 30, shards).indices
    everything = np.arange(case.pool.size)
    shards.read(ReadOrder("all", "train", Listed(everything), ("features",)))
    features = shards.gather("all").signals["features"]
    candidates = np.setdiff1d(everything, case.pool.taken)
    covered = features[np.sort(case.pool.labelled)]
    expected = candidates[naive.two_level(features[candidates], candidates, covered, 30, 4)]
    assert found.tolist() == expected.tolist()
    radius = naive.radius(np.concatenate([features, covered]), [*expected, *case.pool.labelled])
    assert f"covering radius {radius:.6g}; no choice of 30 has one below" in caplog.text


def test_a_strategy_that_does_not_say_what_lies_together_is_refused_in_words(case: Case) -> None:
    assert case.pool.size > 5 * BLOCK
    silent = replace(catalogue.build("k_center", {"parts": 4}), parts=0)
    with pytest.raises(ValueError, match=r"each part must lie in one shard, .* says in Strategy\(parts=…\)"):
        case.ask(silent, 30, case.shards(3))


def test_what_is_exact_is_said() -> None:
    assert all(entry.facts()["guarantee"] == "exact" for entry in catalogue.ENTRIES)
    parts, rounds = catalogue.build("k_center", {"parts": 64}), catalogue.build("badge", {"rounds": 5})
    assert parts.guarantee == "4-approximation of the covering radius (parts=64)"
    assert rounds.guarantee == "k-means|| with 5 rounds, not the D² law"


@pytest.mark.parametrize("value", [-1, 2.5, "four"])
@pytest.mark.parametrize(("name", "parameter"), [("k_center", "parts"), ("badge", "rounds")])
def test_parameters_that_mean_nothing_are_refused(name: str, parameter: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"strategy: {name}: {parameter} must be a whole number of at least 0, got"):
        catalogue.build(name, {parameter: value})


def test_k_center_balanced_is_its_algorithm_on_all_signals_in_one_place(case: Case) -> None:
    strategy = catalogue.build("k_center_balanced")
    indices, read, labelled = signals(case, strategy)
    counts = np.bincount(case.pool.classes, minlength=10)
    expected = k_center_balanced(read["features"], read["probs"], labelled["features"], counts, 40)
    assert case.ask(strategy, 40, case.shards(3)).indices.tolist() == indices[expected].tolist()
    assert case.ask("k_center_balanced", 40).indices.tolist() != case.ask("k_center", 40).indices.tolist()
