"""One experiment, round by round: start reading here.

A round is: query, annotate, train, evaluate. Each step appends to the record and the next step is read from it, so a
run that was killed anywhere goes on as if nothing had happened.
"""

import logging
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np

from openal_ray import metrics, open_set_metrics, seeds, start_set
from openal_ray.checks import check
from openal_ray.config import Config, Train
from openal_ray.data.dataset import Dataset
from openal_ray.errors import ConfigError, DataError, UserError
from openal_ray.hyperparameters import Hyperparameters
from openal_ray.listener import Listener, Silent
from openal_ray.models.learners import Classifier, Learner
from openal_ray.networks import Networks
from openal_ray.pool import OUT_OF_DISTRIBUTION, UNLABELLED, AllBut, AnswersPending, DatasetOracle, Listed, Pool
from openal_ray.record import State
from openal_ray.run_folder import RunFolder
from openal_ray.shard import ReadOrder
from openal_ray.strategies.query import Query, images_to_read, query
from openal_ray.strategies.strategy import Helpers, Round
from openal_ray.training.job import Job
from openal_ray.workers import Workers

log = logging.getLogger(__name__)
TEST = "test"


class Experiment:
    """One strategy on one data set with one seed, in one run folder."""

    def __init__(
        self, config: Config, dataset: Dataset, workers: Workers, folder: RunFolder, listener: Listener | None = None
    ) -> None:
        self.config, self.dataset, self.workers, self.folder = config, dataset, workers, folder
        self.listener = listener or Silent()
        self.strategy = check(config, dataset, begun=bool(self.state.asked))
        self.oracle = DatasetOracle(dataset.labels)
        folder.record.begin(dataset.name, len(dataset.train), dataset.classes, self._draw_validation, dataset.outside)
        self.pool = self._replayed()
        self.networks = Networks(workers, folder, dataset.train.shape, self.listener)
        self.hyperparameters = Hyperparameters(config, workers, folder, self.listener)
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
        if self.strategy and self.config.budget.n_end > len(self.dataset.train):
            log.warning("budget.n_end=%d is more than the %d images there are: the run ends when all are labelled",
                        self.config.budget.n_end, len(self.dataset.train))  # fmt: skip
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
                chosen = start_set.choose(
                    self.config.budget, pool, self.oracle, len(self.dataset.classes), rng, self._noise_ratio
                )
            found = self._undecodable(chosen)
            if not found:
                break
            bad |= found
        self._commit(Query(chosen, np.full(len(chosen), np.nan), bad), 0)

    def ask(self) -> None:
        """The strategy's query of the next round, chosen with the last round's network."""
        assert self.strategy is not None  # without one, round 0 is the last
        round = self.state.round + 1
        self._hold_networks(round - 1)
        self.listener.phase("query", round, images_to_read(self.strategy, self.pool))
        begin = time.perf_counter()
        with _own_code(self.config):
            found = query(
                self.strategy, self.workers.shards, self.pool, len(self.dataset.classes), self._next_budget(),
                lambda purpose: seeds.rng(self.config.seed, round, purpose),
                self.config.budget.n_subset, self.listener.advance, self.state.history(),
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
        helpers = self._helpers(round)
        ready = self.hyperparameters.choose(round, lambda plan: self._job(round, plan))
        history = self.networks.train(round, self._job(round), helpers, ready)
        self._hold_networks(round)
        trained = time.perf_counter()
        measured = self._evaluate(round)
        seconds = {
            "train_seconds": trained - begin, "read_seconds": 0.0, "select_seconds": 0.0,
            **self.state.asked[round].get("seconds", {}),
            "evaluate_seconds": time.perf_counter() - trained,
        }  # fmt: skip
        row = {
            "round": round, "labelled": len(self.pool.labelled), **measured.scalars(),
            **self.hyperparameters.row(round, history), **self._open_set_row(round),
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
        self.folder.drop_trials()
        if self.config.checkpoints == "last":
            self.networks.drop_before(round, helpers)
        self.folder.write_tables(self.dataset.classes)
        self.listener.round_done(row)

    def _commit(self, found: Query, round: int) -> None:
        """Appends the query, with its answers if they are at hand: both in one write."""
        ids = self.dataset.train.ids(found.indices)
        asked = {
            "kind": "asked", "round": round, "indices": found.indices, "ids": ids, "scores": found.scores,
            "seconds": self._seconds, "skipped": found.bad,
        }  # fmt: skip
        if found.notes:
            asked["notes"] = dict(found.notes)
        if found.purity and (detection := open_set_metrics.detection_of(*found.purity, self.dataset.labels)):
            asked["detection"] = asdict(detection)
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
        self.pool = self._replayed()

    def _replayed(self) -> Pool:
        open_set = self.config.open_set
        return self.state.pool(return_rejected=open_set is not None and open_set.return_rejected)

    @property
    def _noise_ratio(self) -> float | None:
        return self.config.open_set.noise_ratio if self.config.open_set else None

    def _open_set_row(self, round: int) -> dict[str, Any]:
        """The columns of metrics.csv about images of no known class; none where there cannot be any."""
        if self.config.open_set is None and not (self.dataset.labels == OUT_OF_DISTRIBUTION).any():
            return {}
        labels = self.dataset.labels[AllBut(self.pool.size, np.sort(self.pool.held_out)).between(0, self.pool.size)]
        n_id = None if (labels == UNLABELLED).any() else int((labels >= 0).sum())
        rounds = [open_set_metrics.Answered(past.indices, past.answers) for past in self.state.history()]
        found = open_set_metrics.selection(rounds, len(self.dataset.classes), n_id)[-1]
        return found.row() | {
            f"detector_{name}": value for name, value in self.state.asked[round].get("detection", {}).items()
        }

    def _next_budget(self) -> int:
        """Images to ask next: n_query, cut to reach n_end exactly, and to what is unlabelled."""
        if self.strategy is None:
            return 0
        return min(self.config.budget.n_query, self._left_to_buy())

    def _left_to_buy(self) -> int:
        return max(0, min(self.config.budget.n_end - self.state.bought, self.pool.unlabelled.count))

    def _job(self, round: int, plan: Train | None = None) -> Job:
        """Round `round`'s training, complete: the same on every machine, before and after a crash.

        plan  another one than the round's own, for a trial
        """
        config, data = self.config, self.dataset
        plan = plan or self.hyperparameters.plan(round)
        start = self.networks.classifier_of(round - 1) if config.train.continue_ and round > 0 else None
        return Job(
            name=f"round {round}", learner=self._learner(plan), indices=self.pool.labelled, targets=self.pool.classes,
            plan=plan, mean=data.mean, std=data.std,
            init_seed=seeds.derive(config.seed, 0, "weights"), order_seed=seeds.derive(config.seed, round, "order"),
            validation=self._validation(), start=start,
        )  # fmt: skip

    def _helpers(self, round: int) -> Helpers:
        """The networks beside round `round`'s classifier, if the strategy needs some and another query follows."""
        if self.strategy is None or not self._next_budget():
            return {}
        config, data = self.config, self.dataset
        helpers = self.strategy.prepare(
            Round(
                round, self.pool, len(data.classes), self._classifier(config.train), config.train, data.mean, data.std,
                config.seed, self._validation(), data.classes, config.clip,
            )
        )  # fmt: skip
        return helpers

    def _validation(self) -> tuple[np.ndarray, np.ndarray]:
        """Indices and classes of the images held out for validation."""
        indices = np.setdiff1d(self.state.validation, self.state.skipped)
        return indices, self.dataset.labels[indices]

    def _learner(self, plan: Train) -> Learner:
        classifier = self._classifier(plan)
        return self.strategy.classifier(classifier) if self.strategy else classifier

    def _classifier(self, plan: Train) -> Classifier:
        model, n_classes = self.config.model, len(self.dataset.classes)
        weights: tuple[float, ...] = ()
        if plan.class_weights == "balanced" and len(self.pool.classes):
            sizes = np.bincount(self.pool.classes, minlength=n_classes)
            weights = tuple(np.where(sizes, len(self.pool.classes) / (n_classes * np.maximum(sizes, 1)), 1.0).tolist())
        return Classifier(
            n_classes, model.name, model.pretrained, model.checkpoint, model.params, plan.label_smoothing, weights
        )

    def _evaluate(self, round: int) -> metrics.Metrics:
        shards, labels = self.workers.shards, self.dataset.test_labels
        self.listener.phase("evaluate", round, len(labels))
        everything = AllBut(len(labels), np.empty(0, np.int64))
        report = shards.read(ReadOrder(TEST, TEST, everything, ("probs",)), self.listener.advance)
        for reason in report.bad.values():
            log.warning("test image skipped: %s", reason)
        reading = shards.gather(TEST)
        shards.forget(TEST)
        if not len(reading.indices):
            raise DataError("no test image can be decoded, so nothing can be measured")
        return metrics.classification(reading.signals["probs"], labels[reading.indices])

    def _hold_networks(self, round: int) -> None:
        """Has the shards hold round `round`'s networks."""
        self.networks.hold(round, self._learner(self.config.train), lambda: self._job(round), self._helpers(round))

    def _draw_validation(self) -> np.ndarray:
        """The validation split: what the data set marks, or a share drawn once from the labelled train images."""
        marked, share = self.dataset.validation, self.config.data.validation
        if len(marked) or not share:
            return marked
        known = self.oracle.in_distribution(AllBut(len(self.dataset.train), np.empty(0, np.int64)))
        count = max(1, round(share * len(known)))
        return np.sort(seeds.rng(self.config.seed, 0, "validation").choice(known, size=count, replace=False))

    def _undecodable(self, indices: np.ndarray) -> dict[int, str]:
        """Those of the indices whose image cannot be decoded, and why; raises BadImages unless they may be skipped."""
        bad = self.workers.shards.read(ReadOrder("check", "train", Listed(indices))).bad
        self.workers.shards.forget("check")  # or a lost shard's blocks would be decoded again
        return bad


def _milliseconds(seconds: float) -> float:
    return round(seconds, 3)


@contextmanager
def _own_code(config: Config) -> Iterator[None]:
    """An error in a strategy of the user's own is told as theirs, with the place in their file."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if config.strategy is None or ":" not in config.strategy.name:
            raise
        file = config.strategy.name.rpartition(":")[0]
        places = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.endswith(file)]
        where = f", line {places[-1].lineno}: {places[-1].line}" if places else ""
        raise ConfigError(
            f"strategy {config.strategy.name} failed with {type(error).__name__}: {error}{where}. "
            "openal_ray.testing.check_strategy tries it on small pools."
        ) from error
