"""Each round's search: the best of all trainings, no training twice whatever happens, and other runs' choices."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from openal_ray import runs, workers
from openal_ray.config import Config
from openal_ray.errors import ConfigError, RunError, TrainingError
from openal_ray.experiment import Experiment
from openal_ray.hyperparameters import Hyperparameters
from openal_ray.listener import Silent
from openal_ray.record import Record
from openal_ray.run_folder import RunFolder
from openal_ray.training.job import Job, Trained
from openal_ray.training.loop import NoKeeper, train
from openal_ray.training.team import Team
from tests.experiments import experiment, small

RATES = [1e-4, 3e-3, 1e-2]
TRIALS = ("data.validation=0.2", "tune.trials=4", "tune.at_once=2", "train.epochs=1")
Attempts = list[str]


def tuned(folder: Path, *overrides: str) -> Config:
    """Two rounds, 20 and 35 labels, unless told otherwise; four trials each."""
    return small(folder, *TRIALS, "budget.n_end=35", *overrides)


def finish(configuration: Config) -> Experiment:
    running = experiment(configuration)
    try:
        running.run()
    finally:
        running.folder.close()
    return running


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> Attempts:
    """The names of the trials trained so far."""
    seen: Attempts = []
    attempt = workers.attempt

    def counting(job: Job, *others: Any) -> Any:
        seen.append(job.name)
        return attempt(job, *others)

    monkeypatch.setattr(workers, "attempt", counting)
    return seen


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "source"
    finish(tuned(folder))
    return folder


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / name).open(newline="") as file:
        return list(csv.DictReader(file))


def told(folder: Path) -> list[dict[str, Any]]:
    """The record without its seconds."""
    lines = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("seconds", None)
        line["row"] = {key: value for key, value in line.get("row", {}).items() if not key.endswith("_seconds")}
        if line["kind"] == "evaluated":
            line["epochs"] = [{**epoch, "seconds": 0} for epoch in line["epochs"]]
    return lines


def weights(folder: Path, round: int) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / f"round-{round:03d}.pt", weights_only=True)


def test_a_round_trains_with_the_best_of_all_values_on_validation(tmp_path: Path) -> None:
    space = f"tune.space={{train.optimizer.lr: {{choice: {RATES}}}, train.label_smoothing: {{choice: [0, 0.3]}}}}"
    configuration = tuned(tmp_path / "run", "budget.n_end=20", "tune.trials=16", "tune.sampler=random", space)
    run = finish(configuration)
    found: dict[tuple[float, float], tuple[float, Trained]] = {}
    for lr in RATES:
        for smoothing in (0, 0.3):
            plain = runs.as_config(
                {**configuration.model_dump(by_alias=True), "tune": None},
                [f"train.optimizer.lr={lr}", f"train.label_smoothing={smoothing}"],
            )
            plain_run = Experiment(plain, run.dataset, run.workers, run.folder)
            job = Experiment._job(plain_run, 0, plain.train)
            images, classes = job.validation
            assert len(images) and not set(images) & set(job.indices)
            trained = train(job, run.dataset.train, Team(), NoKeeper())
            found[lr, smoothing] = _accuracy(trained, job, run.dataset.train, classes), trained
    top = max(accuracy for accuracy, _ in found.values())
    line = run.state.tuned[0]["values"]
    chosen = line["train.optimizer.lr"], line["train.label_smoothing"]
    assert len(run.state.tried[0]) == 16 and found[chosen][0] == top
    assert len({json.dumps(each["values"]) for each in run.state.tried[0].values()}) == 6  # all were tried
    assert len({accuracy for accuracy, _ in found.values()}) > 2
    ours = weights(tmp_path / "run", 0)
    assert all(torch.equal(ours[name], tensor) for name, tensor in found[chosen][1].weights.items())
    row = run.state.evaluated[0]["row"]
    assert row["validation_accuracy"] == pytest.approx(top, abs=1e-6)


def _accuracy(trained: Trained, job: Job, images: Any, classes: np.ndarray) -> float:
    """Share of the validation images that the network gets right, in plain PyTorch."""
    network = job.learner.build(images.shape)
    network.load_state_dict(trained.weights)
    pixels = torch.from_numpy(images.load(job.validation[0])).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(each).reshape(1, -1, 1, 1) for each in (job.mean, job.std))
    with torch.inference_mode():
        answers = network.eval()((pixels - mean) / std).argmax(1).numpy()
    return float((answers == classes).mean())


@pytest.mark.parametrize("last", [1, 6])
def test_a_run_stopped_in_a_search_goes_on_and_trains_nothing_twice(
    last: int, source: Path, tmp_path: Path, attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = workers.attempt

    def stopping(job: Job, *others: Any) -> Any:
        if len(attempts) == last:
            raise KeyboardInterrupt
        return counting(job, *others)

    monkeypatch.setattr(workers, "attempt", stopping)
    with pytest.raises(KeyboardInterrupt):
        finish(tuned(tmp_path / "run"))
    monkeypatch.setattr(workers, "attempt", counting)
    finish(tuned(tmp_path / "run"))
    assert attempts == [f"round {round}, trial {trial}" for round in (0, 1) for trial in range(4)]
    assert told(tmp_path / "run") == told(source)
    ours, theirs = weights(tmp_path / "run", 1), weights(source, 1)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("lost", [False, True])
def test_a_run_stopped_after_a_search_does_not_search_again(lost: bool, tmp_path: Path, attempts: Attempts) -> None:
    configuration = tuned(tmp_path / "run", "budget.n_end=20")

    class Stopping(Experiment):
        def _evaluate(self, round: int) -> Any:
            raise KeyboardInterrupt

    dataset = runs.load_dataset(configuration)
    whole = finish(tuned(tmp_path / "whole", "budget.n_end=20"))
    folder = RunFolder.create(configuration)
    with pytest.raises(KeyboardInterrupt):
        Stopping(configuration, dataset, whole.workers, folder).run()
    folder.close()
    assert len(list((tmp_path / "run" / "checkpoints").glob("trial-*"))) == 1
    if lost:
        for file in (tmp_path / "run" / "checkpoints").iterdir():
            file.unlink()
    attempts.clear()
    finish(configuration)
    assert attempts == []
    assert told(tmp_path / "run") == told(tmp_path / "whole")
    assert [file.name for file in (tmp_path / "run" / "checkpoints").iterdir()] == ["round-000.pt"]


def test_a_search_begins_with_the_last_choice_unless_told_otherwise(tmp_path: Path) -> None:
    warm = finish(tuned(tmp_path / "warm")).state
    assert warm.tried[1][0]["values"] == warm.tuned[0]["values"]
    cold = finish(tuned(tmp_path / "cold", "tune.warm_start=false")).state
    assert cold.tuned[0] == warm.tuned[0]
    assert cold.tried[1][0]["values"] not in [line["values"] for line in cold.tried[0].values()]


def test_a_search_waits_for_the_labelled_set_to_grow(tmp_path: Path, attempts: Attempts) -> None:
    run = finish(tuned(tmp_path / "run", "budget.n_end=65", "tune.growth=2"))  # 20, 35, 50, 65 labels
    assert sorted(run.state.tried) == [0, 2]
    assert len(attempts) == 8
    plans = [run.hyperparameters.plan(round) for round in range(4)]
    assert plans[0] == plans[1] and plans[2] == plans[3]
    choices = table(tmp_path / "run", "choices.csv")
    assert [row["from"] for row in choices] == [f"search of round {round}" for round in (0, 0, 2, 2)]
    assert [row["trials"] for row in table(tmp_path / "run", "metrics.csv")] == ["4", "0", "4", "0"]
    trials = table(tmp_path / "run", "trials.csv")
    assert [row["round"] for row in trials if row["chosen"] == "1"] == ["0", "2"]
    best = max((row for row in trials if row["round"] == "2"), key=lambda row: float(row["validation_accuracy"]))
    assert float(choices[3]["train.optimizer.lr"]) == float(best["train.optimizer.lr"])


def test_the_loss_may_decide(tmp_path: Path) -> None:
    run = finish(tuned(tmp_path / "run", "budget.n_end=20", "tune.objective=loss", "tune.trials=8"))
    losses = {number: line["validation_loss"] for number, line in run.state.tried[0].items()}
    assert run.state.tuned[0]["trial"] == min(losses, key=lambda number: losses[number])


def test_trials_that_diverge_are_recorded_and_no_reason_to_end(tmp_path: Path) -> None:
    space = "tune.space={train.optimizer: {choice: [{name: sgd, lr: 1.0e+30}, {name: sgd, lr: 0.01}]}}"
    run = finish(tuned(tmp_path / "run", "budget.n_end=20", "tune.trials=8", "tune.sampler=random", space))
    tried = run.state.tried[0].values()
    failed = [line["validation_loss"] is None for line in tried]
    assert any(failed) and not all(failed)
    assert failed == [line["values"]["train.optimizer"]["lr"] > 1 for line in tried]
    assert run.state.tuned[0]["values"]["train.optimizer"]["lr"] == 0.01
    with pytest.raises(TrainingError, match="no trial of the search came to a finite loss"):
        finish(
            tuned(tmp_path / "none", "tune.space={train.optimizer.lr: {choice: [1.0e+30]}}", "train.optimizer.name=sgd")
        )


def test_another_seed_takes_the_choices_round_by_round(tmp_path: Path, attempts: Attempts) -> None:
    searching = ("budget.n_end=50", "tune.growth=2", "tune.warm_start=false")  # at 20 and at 50 labels
    source = finish(tuned(tmp_path / "source", *searching))
    count = len(attempts)
    taken = finish(tuned(tmp_path / "taken", "budget.n_end=50", "seed=1", f"tune.reuse_from={tmp_path / 'source'}"))
    assert len(attempts) == count
    plans = [[run.hyperparameters.plan(round) for round in range(3)] for run in (source, taken)]
    assert plans[0] == plans[1]
    assert plans[0][0] == plans[0][1] != plans[0][2]
    choices = table(tmp_path / "taken", "choices.csv")
    assert [row["from"] for row in choices] == [f"{tmp_path / 'source'}, round {round}" for round in (0, 0, 2)]
    mine, theirs = (table(tmp_path / name, "metrics.csv") for name in ("taken", "source"))
    assert mine[0]["validation_accuracy"] != theirs[0]["validation_accuracy"]  # measured on its own split


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["model.params={drop_rate: 0.1}"], r"model.params.drop_rate is 0.1 here and was None in .*source"),
        (["train.epochs=2"], "train.epochs is 2 here and was 1"),
        (["data.validation=0.3"], "data.validation is 0.3 here and was 0.2"),
        (["budget.n_query=5"], "budget.n_query is 5 here and was 15 in .*another training; set it alike, or search"),
    ],
)
def test_choices_of_another_training_are_refused(source: Path, overrides: list[str], told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=told):
        experiment(tuned(tmp_path / "run", f"tune.reuse_from={source}", *overrides))


def test_choices_that_are_not_there_are_refused(source: Path, tmp_path: Path) -> None:
    finish(small(tmp_path / "plain", "data.validation=0.2", "train.epochs=1", "budget.n_end=20"))
    for folder, message in (("plain", "has chosen no hyper-parameters"), ("nothing", "not a run folder")):
        with pytest.raises((ConfigError, RunError), match=message):
            experiment(tuned(tmp_path / "run", f"tune.reuse_from={tmp_path / folder}"))
    record = tmp_path / "cut"
    record.mkdir()
    (record / "config.yaml").write_text((source / "config.yaml").read_text())
    lines = (source / "rounds.jsonl").read_text().splitlines(keepends=True)
    (record / "rounds.jsonl").write_text("".join(lines[:-1]))
    with pytest.raises(ConfigError, match="cut is not finished; `openal-ray resume"):
        experiment(tuned(tmp_path / "run", f"tune.reuse_from={record}"))


def test_a_run_with_more_rounds_than_its_source_is_told_so(source: Path, tmp_path: Path) -> None:
    configuration = tuned(tmp_path / "run", f"tune.reuse_from={source}")
    chosen = Hyperparameters(configuration, experiment(configuration).workers, RunFolder(tmp_path / "x"), Silent())
    with pytest.raises(RunError, match="source ended before round 2; take a run with as many rounds"):
        chosen.choose(2, _any_job(configuration))


def _any_job(configuration: Config) -> Callable[[Any], Job]:
    from tests.training.jobs import job

    return lambda plan: job(4)


def test_a_search_needs_a_validation_split(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tune needs a validation split: set data.validation, for example to 0.1"):
        experiment(tuned(tmp_path / "run", "data.validation=0"))


def test_the_record_is_replayed_with_its_trials(source: Path) -> None:
    state = Record(source / "rounds.jsonl", read_only=True).state
    assert [sorted(state.tried[round]) for round in (0, 1)] == [[0, 1, 2, 3]] * 2
    assert state.tuned_by(-1) is None and state.tuned_by(5) == state.tuned[1]
