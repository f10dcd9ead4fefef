"""One experiment, round by round: start reading here.

A round is: query, annotate, train, evaluate. Each step appends to the record and the next step is read from it, so a
run that was killed anywhere goes on as if nothing had happened.
"""

import logging
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from openal_ray import metrics, seeds, start_set
from openal_ray.config import Config
from openal_ray.data.dataset import Dataset
from openal_ray.errors import ConfigError, DataError
from openal_ray.models import backbones, signals
from openal_ray.models.learners import Classifier
from openal_ray.models.monte_carlo import Sampling
from openal_ray.pool import AllBut, AnswersPending, DatasetOracle, Listed
from openal_ray.record import State
from openal_ray.run_folder import RunFolder, Weights
from openal_ray.strategies import catalogue
from openal_ray.strategies.strategy import Query, Strategy, query
from openal_ray.training.loop import Epoch, Job, check_plan
from openal_ray.workers import Workers

log = logging.getLogger(__name__)
TEST = "test"


class Listener(Protocol):
    """Is told what goes on; a progress bar, a tracker, a test."""

    def begin(self, configuration: Config, folder: Path, rounds: int, done: int) -> None:
        """A run begins, or goes on: it will have so many rounds, of which so many are done."""
        ...

    def phase(self, name: str, round: int, total: int) -> None:
        """A step begins: `total` images to read, or epochs to train."""
        ...

    def advance(self, count: int) -> None:
        """So many more of the step's total are done."""
        ...

    def epoch(self, epoch: Epoch) -> None: ...

    def round_done(self, row: dict[str, Any]) -> None:
        """A round is complete; `row` is its line of metrics.csv."""
        ...


class Silent:
    """A listener that says nothing."""

    def begin(self, configuration: Config, folder: Path, rounds: int, done: int) -> None: ...

    def phase(self, name: str, round: int, total: int) -> None: ...

    def advance(self, count: int) -> None: ...

    def epoch(self, epoch: Epoch) -> None: ...

    def round_done(self, row: dict[str, Any]) -> None: ...


def check(config: Config, dataset: Dataset, begun: bool = False) -> Strategy | None:
    """Everything that can be refused before any work: strategy, model, training plan, start set.

    begun    the start set is behind us: labels that came since are no reason to refuse it
    raises  ConfigError
    """
    backbones.check_name(config.model.name)
    check_plan(config.train, dataset.train.shape)
    if (config.train.weights == "best" or config.train.patience) and not (
        config.data.validation or len(dataset.validation)
    ):
        key = "train.weights=best" if config.train.weights == "best" else "train.patience"
        raise ConfigError(f"{key} needs a validation split: set data.validation, for example to 0.1")
    if config.strategy is None:
        return None
    strategy = catalogue.build(config.strategy.name, config.strategy.parameters)
    signals.check_names(strategy.needs + strategy.needs_labelled)
    _check_network(config, dataset, (*strategy.needs, *strategy.needs_labelled), strategy.passes)
    if config.budget.n_end > len(dataset.train):
        log.warning("budget.n_end=%d is more than the %d images there are: the run ends when all of them are labelled",
                    config.budget.n_end, len(dataset.train))  # fmt: skip
    if not begun:
        start_set.check(config.budget, len(dataset.classes), dataset.labels)
    if config.budget.start == "none" and strategy.needs_start:
        raise ConfigError(
            f"budget.start=none: {config.strategy.name} needs a start set to train on; "
            "choose stratified or random, or a strategy that needs none, such as random"
        )
    return strategy


def _check_network(config: Config, dataset: Dataset, needs: tuple[str, ...], passes: int) -> None:
    """One image through a fresh network; raises ConfigError if it cannot take it, or lacks a signal or dropout."""
    learner = Classifier(len(dataset.classes), config.model.name, params=config.model.params)
    height, width, channels = dataset.train.shape
    image = torch.zeros(1, channels, height, width)
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        network = learner.build(dataset.train.shape).eval()
        try:
            logits = signals.read(network, image, (*needs, "logits"), Sampling(min(passes, 1)))["logits"]
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise ConfigError(
                f"model.name: {config.model.name} cannot take images of {height}×{width}×{channels}: {error} "
                "Set data.image_size, or choose another network."
            ) from error
    if logits.shape != (1, len(dataset.classes)):
        raise ConfigError(
            f"model.name: {config.model.name} must give {len(dataset.classes)} numbers an image, one a class, "
            f"got an output of shape {list(logits.shape)}"
        )


class Experiment:
    """One strategy on one data set with one seed, in one run folder."""

    def __init__(
        self, config: Config, dataset: Dataset, workers: Workers, folder: RunFolder, listener: Listener | None = None
    ) -> None:
        self.config, self.dataset, self.workers, self.folder = config, dataset, workers, folder
        self.listener = listener or Silent()
        self.strategy = check(config, dataset, begun=bool(self.state.asked))
        self.oracle = DatasetOracle(dataset.labels)
        folder.record.begin(dataset.name, len(dataset.train), dataset.classes, self._draw_validation)
        self.pool = self.state.pool()
        self._network_of = -1  # the round whose network the shards hold
        self._weights: Weights | None = None
        self._seconds: dict[str, float] = {}

    @property
    def state(self) -> State:
        return self.folder.record.state

    @property
    def rounds(self) -> int:
        """How many rounds the run will have, round 0 included, once the start set is known."""
        if self.strategy is None:
            return 1
        return len(self.state.answered) + -(-self._left_to_buy() // self.config.budget.n_query)

    def run(self) -> None:
        """Goes on from wherever the record ends until the budget is spent.

        raises  AnswersPending  when people have to label the query first; everything is saved
        """
        if self.state.round < 0:
            self.ask_start_set()
        self.listener.begin(self.config, self.folder.path, self.rounds, len(self.state.evaluated))
        if self.strategy and self.config.strategy:
            log.info("picks of %s: %s", self.config.strategy.name, self.strategy.guarantee)
        while not self.state.ending:
            if self.state.pending:
                self.annotate()
            elif not self.state.trained:
                self.train_and_evaluate()
            elif self._next_budget():
                self.ask()
            else:
                break
        if not self.state.ending:
            self.folder.record.append({"kind": "finished"})
        self.folder.write_tables(self.dataset.classes)  # a full disk may have kept an earlier attempt from it

    def ask_start_set(self) -> None:
        """Round 0's query: the start set, or all images if there is no strategy."""
        rng = seeds.rng(self.config.seed, 0, "start set")
        bad = self._undecodable(self.state.validation)
        while True:
            pool = self.pool.hold_out([index for index in bad if index not in self.pool.held_out])
            if self.strategy is None:
                chosen = self.oracle.answerable(pool.unlabelled)
            else:
                chosen = start_set.choose(self.config.budget, pool, self.oracle, len(self.dataset.classes), rng)
            found = self._undecodable(chosen)
            if not found:
                break
            bad |= found
        self._commit(Query(chosen, np.full(len(chosen), np.nan), bad), 0)

    def ask(self) -> None:
        """The strategy's query of the next round, chosen with the last round's network."""
        assert self.strategy is not None  # without one, round 0 is the last
        round = self.state.round + 1
        self._put_network(round - 1)
        self.listener.phase("query", round, self.pool.unlabelled.count if self.strategy.needs else 0)
        begin = time.perf_counter()
        found = query(
            self.strategy, self.workers.shards, self.pool, len(self.dataset.classes), self._next_budget(),
            lambda purpose: seeds.rng(self.config.seed, round, purpose),
            self.config.budget.n_subset, self.listener.advance,
        )  # fmt: skip
        self._seconds = {
            "read_seconds": found.read_seconds,
            "select_seconds": time.perf_counter() - begin - found.read_seconds,
        }
        self._commit(found, round)

    def annotate(self) -> None:
        """Asks the oracle for the pending query; raises AnswersPending if people have still to label it."""
        pending = self.state.pending
        assert pending is not None
        try:
            answers = self.oracle.answer(np.array(pending["indices"], dtype=np.int64))
        except AnswersPending as waiting:
            self.folder.write_tables(self.dataset.classes)
            raise AnswersPending(waiting.indices, str(self.folder.path)) from None
        self.folder.record.append({"kind": "answered", "round": pending["round"], "answers": answers})
        self._answered()

    def train_and_evaluate(self) -> None:
        """Fits the classifier on the labelled images and measures it on the test images."""
        round = self.state.round
        begin = time.perf_counter()
        history = self._train(round)
        trained = time.perf_counter()
        measured = self._evaluate(round)
        seconds = {
            "train_seconds": trained - begin, "read_seconds": 0.0, "select_seconds": 0.0,
            **self.state.asked[round].get("seconds", {}),
            "evaluate_seconds": time.perf_counter() - trained,
        }  # fmt: skip
        row = {
            "round": round, "labelled": len(self.pool.labelled), **measured.scalars(),
            **{name: _milliseconds(value) for name, value in seconds.items()},
        }  # fmt: skip
        self.folder.record.append(
            {
                "kind": "evaluated",
                "round": round,
                "row": row,
                "per_class": measured.per_class_rows(),
                "epochs": [asdict(epoch) for epoch in history],
            }
        )
        if self.config.checkpoints == "last":
            self.folder.drop_weights_before(round)
        self.folder.write_tables(self.dataset.classes)
        self.listener.round_done(row)

    def _commit(self, found: Query, round: int) -> None:
        """Appends the query, with its answers if they are at hand: both in one write."""
        ids = self.dataset.train.ids(found.indices)
        asked = {
            "kind": "asked", "round": round, "indices": found.indices, "ids": ids, "scores": found.scores,
            "seconds": self._seconds, "skipped": found.bad,
        }  # fmt: skip
        if self.strategy and round:
            asked["guarantee"] = self.strategy.guarantee
        lines = [asked]
        try:
            lines.append({"kind": "answered", "round": round, "answers": self.oracle.answer(found.indices)})
        except AnswersPending:
            pass
        self.folder.record.append(*lines)
        for reason in found.bad.values():
            log.warning("image left out: %s", reason)
        self._answered()

    def _answered(self) -> None:
        self.pool = self.state.pool()

    def _next_budget(self) -> int:
        """Images to ask next: n_query, cut to reach n_end exactly, and to what is unlabelled."""
        if self.strategy is None:
            return 0
        return min(self.config.budget.n_query, self._left_to_buy())

    def _left_to_buy(self) -> int:
        bought = len(self.pool.labelled) + len(self.pool.rejected)
        return max(0, min(self.config.budget.n_end - bought, self.pool.unlabelled.count))

    def _train(self, round: int) -> tuple[Epoch, ...]:
        job = self._job(round)
        self.listener.phase("train", round, self.config.train.epochs)
        trained = self.workers.fit(job, self.listener.epoch)
        self.folder.save_weights(round, trained.weights)
        self._hold(round, trained.weights)
        return trained.history

    def _job(self, round: int) -> Job:
        """Round `round`'s training, complete: the same on every machine, before and after a crash."""
        config, data = self.config, self.dataset
        start = self._weights_of(round - 1) if config.train.continue_ and round > 0 else None
        validation = np.setdiff1d(self.state.validation, self.state.skipped)
        return Job(
            name=f"round {round}", learner=self._learner(), indices=self.pool.labelled, targets=self.pool.classes,
            plan=config.train, mean=data.mean, std=data.std,
            init_seed=seeds.derive(config.seed, 0, "weights"), order_seed=seeds.derive(config.seed, round, "order"),
            validation=(validation, data.labels[validation]), start=start,
        )  # fmt: skip

    def _learner(self) -> Classifier:
        model, train, n_classes = self.config.model, self.config.train, len(self.dataset.classes)
        weights: tuple[float, ...] = ()
        if train.class_weights == "balanced" and len(self.pool.classes):
            sizes = np.bincount(self.pool.classes, minlength=n_classes)
            weights = tuple(np.where(sizes, len(self.pool.classes) / (n_classes * np.maximum(sizes, 1)), 1.0).tolist())
        return Classifier(
            n_classes, model.name, model.pretrained, model.checkpoint, model.params, train.label_smoothing, weights
        )

    def _evaluate(self, round: int) -> metrics.Metrics:
        shards, labels = self.workers.shards, self.dataset.test_labels
        self.listener.phase("evaluate", round, len(labels))
        report = shards.read(TEST, TEST, AllBut(len(labels), np.empty(0, np.int64)), ("probs",), self.listener.advance)
        for reason in report.bad.values():
            log.warning("test image skipped: %s", reason)
        reading = shards.gather(TEST)
        shards.forget(TEST)
        if not len(reading.indices):
            raise DataError("no test image can be decoded, so nothing can be measured")
        return metrics.classification(reading.signals["probs"], labels[reading.indices])

    def _put_network(self, round: int) -> None:
        """Has the shards hold round `round`'s network."""
        if self._network_of != round:
            self._hold(round, self._weights_of(round))

    def _hold(self, round: int, weights: Weights) -> None:
        # What matters to training alone is left out: so the learner is the same in every round.
        self.workers.shards.load(replace(self._learner(), class_weights=(), checkpoint=None), weights)
        self._network_of, self._weights = round, weights

    def _weights_of(self, round: int) -> Weights:
        """A round's weights: at hand, from its checkpoint, or, for the last round, trained again to the same."""
        if self._network_of == round and self._weights is not None:
            return self._weights
        stored = self.folder.load_weights(round)
        if stored is not None:
            return stored
        if round != self.state.round:
            raise DataError(f"{self.folder.path}/checkpoints: the weights of round {round} are missing")
        log.warning("the weights of round %d are missing and are trained again", round)
        return self.workers.fit(self._job(round), self.listener.epoch).weights

    def _draw_validation(self) -> np.ndarray:
        """The validation split: what the data set marks, or a share drawn once from the labelled train images."""
        marked, share = self.dataset.validation, self.config.data.validation
        if len(marked) or not share:
            return marked
        known = self.oracle.answerable(AllBut(len(self.dataset.train), np.empty(0, np.int64)))
        count = max(1, round(share * len(known)))
        return np.sort(seeds.rng(self.config.seed, 0, "validation").choice(known, size=count, replace=False))

    def _undecodable(self, indices: np.ndarray) -> dict[int, str]:
        """Those of the indices whose image cannot be decoded, and why; raises BadImages unless they may be skipped."""
        return self.workers.shards.read("check", "train", Listed(indices), ()).bad


def _milliseconds(seconds: float) -> float:
    return round(seconds, 3)
