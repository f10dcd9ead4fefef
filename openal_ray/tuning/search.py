"""One search, on an Optuna study: values are proposed in batches, so that no proposal depends on any machine.

All trials of a batch are proposed before one of them is told, and are told together, in the order of their numbers. So
a search is a function of its seed and of its trials' scores, whoever trains them and in whatever order; one that was
stopped is played again from the scores that are known.
"""

import math
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from openal_ray import config
from openal_ray.errors import RunError
from openal_ray.tuning.space import Choice, Range, Space, Values

optuna.logging.set_verbosity(optuna.logging.WARNING)  # it tells of every trial, on stderr


class Search:
    """The proposals of one search, and the scores of its trials.

    seed    63 bits
    first   values that the first trial has, as far as they lie in the space
    scores  of trials known already, by number; higher is better, -inf for a training that failed
    """

    def __init__(
        self, space: Space, tune: config.Tune, seed: int, first: Values | None = None,
        known: Mapping[int, tuple[Values, float]] | None = None,
    ) -> None:  # fmt: skip
        self._space, self._trials, self._at_once = space, tune.trials, tune.at_once
        self._known = dict(known or {})
        self.scores = {number: score for number, (_, score) in self._known.items()}
        self.values: dict[int, Values] = {}
        self._study = optuna.create_study(direction="maximize", sampler=_sampler(tune, seed % 2**32))
        self._distributions = {key: _distribution(one) for key, one in space.items()}
        if first:
            self._study.enqueue_trial(self._encoded(first))
        self._batch: list[int] = []

    def propose(self) -> dict[int, Values]:
        """The trials of the current batch that have no score, by number; of the next one once all have. None: over."""
        while True:
            missing = {number: self.values[number] for number in self._batch if number not in self.scores}
            if missing or len(self.values) == self._trials:
                return missing
            for number in self._batch:
                self._study.tell(number, self.scores[number])
            self._batch = [self._ask() for _ in range(min(self._at_once, self._trials - len(self.values)))]

    def tell(self, number: int, score: float) -> None:
        """A trial's score; higher is better, and -inf or nan stand for a training that failed."""
        self.scores[number] = -math.inf if math.isnan(score) else score

    def best(self) -> int | None:
        """The trial with the highest score so far, the lowest number of those; None if all have failed."""
        found = [number for number, score in self.scores.items() if score > -math.inf]
        return min(found, key=lambda number: (-self.scores[number], number), default=None)

    def _ask(self) -> int:
        trial = self._study.ask(self._distributions)
        values = {key: self._value(key, trial.params[key]) for key in self._space}
        if trial.number in self._known and self._known[trial.number][0] != values:
            raise RunError(
                f"trial {trial.number}: Optuna {optuna.__version__} proposes {values}, and the record says "
                f"{self._known[trial.number][0]}. Go on with the Optuna that the run began with (environment.json has "
                "its version), or cut rounds.jsonl before this round's first line `tried` to search it anew."
            )
        self.values[trial.number] = values
        return trial.number

    def _value(self, key: str, drawn: Any) -> Any:
        one = self._space[key]
        return one.options[drawn] if isinstance(one, Choice) else drawn

    def _encoded(self, values: Values) -> dict[str, Any]:
        """Values as the study has them; options are known by their positions."""
        found = {}
        for key, value in values.items():
            one = self._space.get(key)
            if isinstance(one, Choice) and value in one.options:
                found[key] = one.options.index(value)
            elif isinstance(one, Range) and one.low <= value <= one.high:
                found[key] = value
        return found


def _sampler(tune: config.Tune, seed: int) -> optuna.samplers.BaseSampler:
    """TPE draws its first third at random, and takes unfinished trials of a batch for poor ones, to spread it out."""
    if tune.sampler == "random":
        return optuna.samplers.RandomSampler(seed)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=max(2, tune.trials // 3), constant_liar=True)


def _distribution(one: Range | Choice) -> BaseDistribution:
    if isinstance(one, Choice):
        return CategoricalDistribution(range(len(one.options)))
    if one.whole:
        return IntDistribution(int(one.low), int(one.high))
    return FloatDistribution(one.low, one.high, log=one.log)
