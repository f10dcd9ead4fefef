"""Combinations of a grid, and the folders that they go to."""

import json
from pathlib import Path
from typing import Any

import pytest

from openal_ray import runs
from openal_ray.errors import ConfigError
from openal_ray.grid import LONGEST, combine

BASE = {"out": "/sweeps/one", "train": {"epochs": 3}}


def names(grid: dict[str, list[Any]]) -> list[str]:
    return [one.folder.name for one in combine(BASE, grid)]


def test_every_combination_once_with_the_last_key_fastest() -> None:
    found = combine(BASE, {"strategy": ["random", "margin"], "train.optimizer.lr": [0.01, 1e-3], "seed": [0, 7]})
    assert [(one.strategy and one.strategy.name, one.train.optimizer.lr, one.seed) for one in found] == [
        ("random", 0.01, 0), ("random", 0.01, 7), ("random", 0.001, 0), ("random", 0.001, 7),
        ("margin", 0.01, 0), ("margin", 0.01, 7), ("margin", 0.001, 0), ("margin", 0.001, 7),
    ]  # fmt: skip
    assert {one.train.epochs for one in found} == {3}
    assert found[1].folder == Path("/sweeps/one/lr=0.01-random-7")


def test_a_strategy_may_be_a_mapping_and_its_keys_may_vary_on_their_own() -> None:
    mapping = {"name": "badge", "candidates": 50}
    assert names({"strategy": ["random", mapping], "seed": [0]}) == ["random-0", "badge-candidates=50-0"]
    assert names({"strategy.candidates": [5, 6], "strategy": ["badge"]}) == ["badge-candidates=5-0",
                                                                             "badge-candidates=6-0"]  # fmt: skip
    assert mapping == {"name": "badge", "candidates": 50}


def test_a_grid_that_grows_finds_its_earlier_runs() -> None:
    small = names({"strategy": ["margin"], "data.name": ["digits"], "seed": [0]})
    grown = names({"strategy": ["margin", "random"], "data.name": ["digits", "cifar10"], "seed": [0, 1, 2]})
    assert small == ["digits-margin-0"]
    assert len(set(grown)) == 12 and set(small) < set(grown)


def test_keys_with_the_same_last_part_are_told_apart() -> None:
    assert names({"read.precision": ["float32"], "train.precision": ["bfloat16"], "strategy": ["random"]}) == [
        "read.precision=float32-train.precision=bfloat16-random-0"
    ]


def test_the_supervised_reference_may_be_one_of_the_strategies() -> None:
    assert names({"strategy": [None, "margin"], "seed": [3]}) == ["supervised-3", "margin-3"]


def test_aliases_of_one_strategy_are_the_same_run() -> None:
    with pytest.raises(ConfigError, match="the same run twice: random-0"):
        combine(BASE, {"strategy": ["random", "RandomSampling"]})
    with pytest.raises(ConfigError, match="train.epoch:.*Did you mean 'epochs'"):
        combine(BASE, {"train.epoch": [1, 2]})


def test_names_too_long_for_a_file_system_stay_distinct() -> None:
    strategies = [{"name": "/somewhere/own.py:make", "words": "w" * 300, "number": n} for n in range(3)]
    found = names({"strategy": strategies})
    assert len(set(found)) == 3 and all(len(name) <= LONGEST for name in found)
    assert found == names({"strategy": strategies})


def test_runs_of_one_command_are_named_as_before() -> None:
    found = runs.expand({"strategy": "random,margin", "seed": [0, 1], "out": "/x"})
    assert [str(one.folder) for one in found] == ["/x/random-0", "/x/random-1", "/x/margin-0", "/x/margin-1"]
    assert runs.expand(json.loads('{"strategy": "margin", "seed": 4}'))[0].folder == Path("runs/digits-margin-4")
