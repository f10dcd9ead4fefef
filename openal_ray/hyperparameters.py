"""With which values of `train` each round trains: searched on its labelled images, another run's, or the file's own.

The choice is a line `tuned` of the record, and every trial a line `tried`, so that a run which is stopped in the middle
of a search goes on with it. Networks beside the classifier are trained as `train` says.
"""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from openal_ray import run_folder, seeds
from openal_ray.config import Config, Train, Tune
from openal_ray.config_file import flat
from openal_ray.errors import ConfigError, RunError, TrainingError
from openal_ray.listener import Listener
from openal_ray.record import Record, State
from openal_ray.run_folder import RunFolder
from openal_ray.training.job import Epoch, Job, Trained, kept_epoch
from openal_ray.tuning.space import NOT_SEARCHED, due, space_of, with_values
from openal_ray.workers import Workers

log = logging.getLogger(__name__)
MUST_AGREE = ("data", "open_set", "model", "budget", "train")
"""Parts of a configuration in which a run must agree with the one whose choices it takes."""
FREE = ("data.root", "data.download", "data.cache_gb", *(f"train.{key}" for key in NOT_SEARCHED if key != "continue"))
"""Keys among them that do not matter."""

JobOf = Callable[[Train], Job]
"""A round's training with another plan."""


class Hyperparameters:
    """A run's choices, round by round."""

    def __init__(self, config: Config, workers: Workers, folder: RunFolder, listener: Listener) -> None:
        self._config, self._workers, self._folder, self._listener = config, workers, folder, listener
        path = config.tune and config.tune.reuse_from
        self._reused = Record(path / "rounds.jsonl", read_only=True).state if path else None

    @property
    def _state(self) -> State:
        return self._folder.record.state

    def plan(self, round: int) -> Train:
        """What round `round` trains with, once it has been chosen."""
        line = self._state.tuned_by(round)
        return with_values(self._config.train, line["values"]) if line else self._config.train

    def choose(self, round: int, job_of: JobOf) -> Trained | None:
        """Chooses round `round`'s values, where it needs a choice of its own, and records it.

        job_of   makes the round's training
        returns  what the chosen training came to, if a search has just done it
        """
        tune = self._config.tune
        if tune is None:
            return None
        if round not in self._state.tuned:
            labelled = len(job_of(self._config.train).indices)
            if self._reused is not None:
                self._take(round, self._reused)
            elif due(labelled, self._labelled_before(round), tune.growth):
                self._search(round, tune, labelled, job_of)
        line = self._state.tuned.get(round, {})
        return self._folder.load_trial(round, line["trial"]) if line.get("trial") is not None else None

    def row(self, round: int, history: Sequence[Epoch]) -> dict[str, Any]:
        """Columns of metrics.csv: trials trained, accuracy on validation, and those values that are numbers."""
        line = self._state.tuned_by(round)
        if line is None:
            return {}
        kept = history[kept_epoch(self.plan(round), history)]
        numbers = {key: value for key, value in line["values"].items() if isinstance(value, int | float)}
        tried = len(self._state.tried.get(round, {}))
        return {"trials": tried, "validation_accuracy": kept.validation_accuracy, **numbers}

    def _labelled_before(self, round: int) -> int | None:
        line = self._state.tuned_by(round - 1)
        return line["labelled"] if line else None

    def _take(self, round: int, chosen: State) -> None:
        assert self._config.tune is not None
        path, line = self._config.tune.reuse_from, chosen.tuned_by(round)
        if round not in chosen.evaluated:
            raise RunError(
                f"tune.reuse_from: {path} ended before round {round}; take a run with as many rounds, or search here"
            )
        if line is not None:
            told = {"values": line["values"], "from": f"{path}, round {line['round']}"}
            self._folder.record.append({"kind": "tuned", "round": round, "trial": None, **told})

    def _search(self, round: int, tune: Tune, labelled: int, job_of: JobOf) -> None:
        before = self._state.tuned_by(round - 1)
        trials = RoundTrials(self._config, self._folder, self._listener, round, job_of,
                             before["values"] if before and tune.warm_start else None)  # fmt: skip
        log.info("round %d: searching values of %s, %d trials", round, ", ".join(space_of(self._config)), tune.trials)
        self._listener.phase("tune", round, tune.trials)
        self._listener.advance(len(self._state.tried.get(round, {})))
        self._workers.search(trials)
        best = trials.best()
        line = self._state.tried[round][best]
        chosen = {"trial": best, "values": line["values"], "labelled": labelled}
        self._folder.record.append({"kind": "tuned", "round": round, **chosen})
        log.info("round %d trains with %s, the best of %d trials", round, _told(line["values"]), tune.trials)


def _told(values: dict[str, Any]) -> str:
    """What a whole section is set to before what is set in it, as overrides would have to be written."""
    names = {key: value["name"] if isinstance(value, dict) and value.get("name") else value
             for key, value in sorted(values.items(), key=lambda entry: entry[0].count("."))}  # fmt: skip
    return ", ".join(f"{key}={value}" for key, value in names.items())


class RoundTrials:
    """One round's search as the workers see it: jobs to train, whose results go to the record.

    first  values that the first trial has
    """

    def __init__(
        self, config: Config, folder: RunFolder, listener: Listener, round: int, job_of: JobOf,
        first: dict[str, Any] | None,
    ) -> None:  # fmt: skip
        from openal_ray.tuning.search import Search  # Optuna: a fifth of a second that most commands do not need

        assert config.tune is not None
        self._plan, self._objective, self._folder, self._listener = (
            config.train,
            config.tune.objective,
            folder,
            listener,
        )
        self._round, self._job_of = round, job_of
        tried = folder.record.state.tried.get(round, {})
        known = {number: (line["values"], self._score(line)) for number, line in tried.items()}
        seed = seeds.derive(config.seed, round, "tune")
        self._search = Search(space_of(config), config.tune, seed, first, known)

    def propose(self) -> dict[int, Job]:
        return {number: self._job(number, values) for number, values in self._search.propose().items()}

    def tell(self, number: int, outcome: Trained | TrainingError) -> None:
        line: dict[str, Any] = {"kind": "tried", "round": self._round, "trial": number}
        line |= {"values": self._search.values[number], **self._came_to(number, outcome)}
        self._search.tell(number, self._score(line))
        if isinstance(outcome, Trained) and self._search.best() == number:
            self._folder.save_trial(self._round, number, outcome)  # before its line: after a crash it may be needed
        self._folder.record.append(line)
        self._listener.advance(1)

    def best(self) -> int:
        """The trial to train with; raises TrainingError if every one of them has failed."""
        best = self._search.best()
        if best is None:
            raise TrainingError(
                f"round {self._round}: no trial of the search came to a finite loss. A new run with lower values of "
                "train.optimizer.lr in tune.space may do better; resuming this one would end here again."
            )
        return best

    def _job(self, number: int, values: dict[str, Any]) -> Job:
        job = self._job_of(with_values(self._plan, values))
        return replace(job, name=f"{job.name}, trial {number}")

    def _came_to(self, number: int, outcome: Trained | TrainingError) -> dict[str, Any]:
        """What the weights that the training keeps come to on the validation split."""
        if isinstance(outcome, TrainingError):
            log.warning("%s", outcome)
            return {"validation_accuracy": None, "validation_loss": None, "epochs": None, "seconds": None}
        history = outcome.history
        kept = history[kept_epoch(with_values(self._plan, self._search.values[number]), history)]
        return {
            "validation_accuracy": kept.validation_accuracy, "validation_loss": kept.validation_loss,
            "epochs": len(history), "seconds": round(sum(epoch.seconds for epoch in history), 3),
        }  # fmt: skip

    def _score(self, line: dict[str, Any]) -> float:
        """Higher is better; -inf for a trial that failed."""
        value = line[f"validation_{self._objective}"]
        if value is None or not math.isfinite(value):
            return -math.inf
        return value if self._objective == "accuracy" else -value


def check_reuse(config: Config) -> None:
    """Looks at the run whose choices are to be taken; raises ConfigError or RunError if they would not fit."""
    assert config.tune is not None and config.tune.reuse_from is not None
    path = config.tune.reuse_from
    other = run_folder.read_config(path)
    state = Record(path / "rounds.jsonl", read_only=True).state
    if not state.tuned:
        raise ConfigError(f"tune.reuse_from: {path} has chosen no hyper-parameters: it is a run without `tune`")
    if not state.ending:
        raise ConfigError(f"tune.reuse_from: {path} is not finished; `openal-ray resume {path}` first")
    mine, theirs = (
        flat(one.model_dump(mode="json", by_alias=True, include=set(MUST_AGREE))) for one in (config, other)
    )
    for key in [key for key in [*mine, *(theirs.keys() - mine.keys())] if key not in FREE]:
        if mine.get(key) != theirs.get(key):
            raise ConfigError(
                f"tune.reuse_from: {key} is {mine.get(key)!r} here and was {theirs.get(key)!r} in {path}, so its "
                "choices were made for another training; set it alike, or search here"
            )
    if config.strategy != other.strategy:
        log.warning("tune.reuse_from: %s asked with another strategy, so its choices were made for other labels", path)
