"""Proposals: laws, the best of all, and that order, batches and interruptions change nothing."""

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import pytest
from scipy import stats

from openal_ray import runs
from openal_ray.config import Tune
from openal_ray.errors import RunError
from openal_ray.tuning.search import Search
from openal_ray.tuning.space import Space, Values, space_of

GRID = {"train.epochs": {"choice": [2, 3, 5]}, "train.batch_size": {"choice": [1, 4]}}
LINE = {"train.optimizer.lr": {"loguniform": [1e-4, 1]}, "train.epochs": {"int": [1, 9]}}


def settings(space: dict[str, Any] | None = None, **tune: Any) -> tuple[Space, Tune]:
    configuration = runs.as_config({"tune": {"space": space or {}, **tune}})
    assert configuration.tune is not None
    return space_of(configuration), configuration.tune


def height(values: Values) -> float:
    """A hill over LINE, highest at lr = 0.01 and 4 epochs."""
    return -((math.log10(values["train.optimizer.lr"]) + 2) ** 2) - abs(values["train.epochs"] - 4) / 8


def carried_out(search: Search, score: Callable[[Values], float], backwards: bool = False) -> list[Values]:
    while batch := search.propose():
        for number, values in reversed(batch.items()) if backwards else batch.items():
            search.tell(number, score(values))
    return [search.values[number] for number in sorted(search.values)]


def test_torchals_draws_follow_the_stated_laws() -> None:
    drawn = carried_out(Search(*settings(preset="torchal", trials=2000, at_once=100), seed=1), lambda values: 0.0)
    for key, low, high in (("train.optimizer.lr", -5, -2), ("train.optimizer.params.weight_decay", -8, -3)):
        logs = [math.log10(values[key]) for values in drawn]
        assert stats.kstest(logs, "uniform", (low, high - low)).pvalue > 1e-3
    for key, options in (("train.batch_size", 7), ("train.optimizer", 2)):
        counts = np.unique([json.dumps(values[key]) for values in drawn], return_counts=True)[1]
        assert len(counts) == options and stats.chisquare(counts).pvalue > 1e-3
    lr, decay = (stats.rankdata([values[key] for values in drawn]) for key in
                 ("train.optimizer.lr", "train.optimizer.params.weight_decay"))  # fmt: skip
    assert stats.pearsonr(lr, decay).pvalue > 1e-3  # independent of each other


def test_fifty_trials_are_the_same_in_any_batches() -> None:
    drawn = [
        carried_out(Search(*settings(preset="torchal", at_once=at_once), seed=5), lambda values: 0.0)
        for at_once in (1, 7, 50)
    ]
    assert len(drawn[0]) == 50 and drawn[0] == drawn[1] == drawn[2]
    other = carried_out(Search(*settings(preset="torchal"), seed=6), lambda values: 0.0)
    assert other != drawn[0]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_best_is_that_of_a_whole_grid(sampler: str) -> None:
    def score(values: Values) -> float:
        return {(2, 1): 0.1, (3, 1): 0.7, (5, 1): 0.2, (2, 4): 0.3, (3, 4): 0.4, (5, 4): 0.6}[tuple(values.values())]

    search = Search(*settings(GRID, sampler=sampler, trials=40), seed=0)
    assert len({tuple(values.values()) for values in carried_out(search, score)}) == 6  # all were met
    best = search.best()
    assert best is not None and search.values[best] == {"train.epochs": 3, "train.batch_size": 1}
    assert best == min(number for number, found in search.scores.items() if found == 0.7)  # the first of equals


def test_tpe_is_optunas_asked_and_told_batch_by_batch() -> None:
    ours = carried_out(Search(*settings(LINE, trials=15, at_once=4), seed=9), height)
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=9, n_startup_trials=5, constant_liar=True)
    )
    laws = {
        "train.optimizer.lr": optuna.distributions.FloatDistribution(1e-4, 1, log=True),
        "train.epochs": optuna.distributions.IntDistribution(1, 9),
    }
    theirs = []
    for size in (4, 4, 4, 3):
        batch = [study.ask(laws) for _ in range(size)]
        theirs += [trial.params for trial in batch]
        for trial in batch:
            study.tell(trial, height(trial.params))
    assert ours == theirs


def test_tpe_learns() -> None:
    ours = carried_out(Search(*settings(LINE, trials=60), seed=2), height)
    late, early = np.mean([height(values) for values in ours[40:]]), np.mean([height(values) for values in ours[:20]])
    assert late > early + 0.5


def test_the_order_in_which_trials_end_changes_nothing() -> None:
    searches = [Search(*settings(LINE, trials=24, at_once=5), seed=3) for _ in range(2)]
    assert carried_out(searches[0], height) == carried_out(searches[1], height, backwards=True)
    assert searches[0].best() == searches[1].best()


@pytest.mark.parametrize("stop", [1, 4, 6, 11, 12])
def test_a_search_goes_on_from_any_trials_that_are_known(stop: int) -> None:
    whole = Search(*settings(LINE, trials=12, at_once=4), seed=4)
    expected = carried_out(whole, height)
    begun = stop // 4 * 4
    # Of the batch that was stopped, the last trials were known first.
    known = [*range(begun), *range(begun + 4 - stop % 4, begun + 4)] if stop % 4 else range(stop)
    lines = json.loads(json.dumps([[number, expected[number], whole.scores[number]] for number in known]))
    again = Search(
        *settings(LINE, trials=12, at_once=4), seed=4, known={n: (values, score) for n, values, score in lines}
    )
    trained: list[Values] = []

    def train(values: Values) -> float:
        trained.append(values)
        return height(values)

    assert carried_out(again, train) == expected
    assert trained == [values for number, values in enumerate(expected) if number not in known]
    assert again.best() == whole.best()


def test_the_first_trial_begins_with_the_values_given() -> None:
    first = {"train.optimizer.lr": 0.3, "train.epochs": 7}
    ours = carried_out(Search(*settings(LINE), seed=1, first=first), height)
    assert ours[0] == first and first not in ours[1:]
    options = carried_out(Search(*settings(GRID), seed=1, first={"train.epochs": 5, "train.batch_size": 4}), len)
    assert options[0] == {"train.epochs": 5, "train.batch_size": 4}


def test_trials_that_fail_are_the_worst_and_never_the_best() -> None:
    search = Search(*settings(LINE, trials=8), seed=0)
    carried_out(search, lambda values: math.nan if values["train.epochs"] > 4 else -1e300)
    best = search.best()
    assert best is not None and search.values[best]["train.epochs"] <= 4
    failing = Search(*settings(LINE, trials=8), seed=0)
    carried_out(failing, lambda values: -math.inf)
    assert len(failing.scores) == 8 and failing.best() is None


def test_another_optuna_is_told_of() -> None:
    known = {0: ({"train.optimizer.lr": 0.5, "train.epochs": 1}, 0.0)}
    with pytest.raises(RunError, match="trial 0: Optuna .* proposes .*, and the record says .*environment.json"):
        Search(*settings(LINE), seed=0, known=known).propose()
