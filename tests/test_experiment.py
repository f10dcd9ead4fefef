"""The round: what is bought, when it ends, and that a stop at any point changes nothing."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from openal_ray import runs
from openal_ray.checks import check
from openal_ray.data.images import ArrayImages
from openal_ray.errors import BadImages, ConfigError, RunError
from openal_ray.experiment import Experiment
from openal_ray.networks import Networks
from openal_ray.pool import AnswersPending, DatasetOracle
from openal_ray.run_folder import RunFolder
from openal_ray.strategies.catalogue import ENTRIES
from tests.experiments import SMALL, experiment, small


def rows(folder: Path, name: str = "metrics.csv") -> list[dict[str, str]]:
    with (folder / name).open(newline="") as file:
        return list(csv.DictReader(file))


def finish(running: Experiment) -> Path:
    try:
        running.run()
    finally:
        running.folder.close()
    return running.folder.path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finish(experiment(small(tmp_path_factory.mktemp("runs") / "whole")))


def test_the_last_round_is_cut_to_n_end(tmp_path: Path) -> None:
    folder = finish(experiment(small(tmp_path / "run", "strategy=random", "budget.n_end=42", "train.epochs=1")))
    assert [row["labelled"] for row in rows(folder)] == ["20", "35", "42"]


def test_files_have_the_promised_columns(finished: Path) -> None:
    assert list(rows(finished)[0])[:3] == ["round", "labelled", "accuracy"]
    assert list(rows(finished, "selections.csv")[0]) == ["round", "rank", "index", "id", "score"]
    assert len(rows(finished, "per_class.csv")) == 3 * 10
    assert {"config.yaml", "environment.json", "rounds.jsonl", "checkpoints"} <= {p.name for p in finished.iterdir()}


def test_selections_are_distinct_and_add_up(finished: Path) -> None:
    asked = rows(finished, "selections.csv")
    assert [sum(row["round"] == str(number) for row in asked) for number in range(3)] == [20, 15, 15]
    assert len({row["index"] for row in asked}) == 50
    assert [row["rank"] for row in asked if row["round"] == "1"] == [str(rank) for rank in range(1, 16)]


def test_only_the_last_weights_stay_unless_all_are_asked_for(finished: Path, tmp_path: Path) -> None:
    assert [path.name for path in (finished / "checkpoints").iterdir()] == ["round-002.pt"]
    every = finish(experiment(small(tmp_path / "run", "strategy=random", "checkpoints=all", "train.epochs=1")))
    assert sorted(path.name for path in (every / "checkpoints").iterdir()) == [f"round-00{n}.pt" for n in range(3)]


class Stop(Exception):
    """Stands for a crash."""


TWICE = [(Experiment, "ask"), (Networks, "train"), (Experiment, "_evaluate"), (Networks, "hold"), (RunFolder, "_save")]
STEPS = [(Experiment, "ask_start_set", 1), *[(owner, step, when) for owner, step in TWICE for when in (1, 2)]]
HELPED = '''
"""A second classifier, trained beside the first, decides."""
from openal_ray.strategies.strategy import Strategy

def helped():
    def prepare(round):
        return {"twin": round.job("twin", round.classifier, round.pool.labelled, round.pool.classes, epochs=2)}

    return Strategy(needs=("twin.probs", "probs"), score=lambda read: 1 - read["twin.probs"].max(1), prepare=prepare)
'''


@pytest.fixture(scope="module")
def kinds(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, Path]]:
    """Runs that were never disturbed: plain, from the weights of the round before, and with a helper network."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "own.py").write_text(HELPED)
    overrides = {"continued": "train.continue=true", "helped": f"strategy={folder}/own.py:helped"}
    ended = {kind: (each, finish(experiment(small(folder / kind, each)))) for kind, each in overrides.items()}
    return {"finished": ("train.continue=false", finished), **ended}


@pytest.mark.parametrize(("owner", "step", "when"), STEPS)
@pytest.mark.parametrize("kind", ["finished", "continued", "helped"])
def test_a_stop_anywhere_changes_no_selection(
    kind: str,
    owner: type,
    step: str,
    when: int,
    kinds: dict[str, tuple[str, Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    override, finished = kinds[kind]
    configuration = small(tmp_path / "run", override)
    calls, real = [], getattr(owner, step)

    def stop(self, *arguments):
        calls.append(step)
        result = real(self, *arguments)
        if len(calls) == when:
            raise Stop
        return result

    monkeypatch.setattr(owner, step, stop)
    with pytest.raises(Stop):
        finish(experiment(configuration))
    monkeypatch.undo()
    folder = finish(experiment(configuration))
    assert (folder / "selections.csv").read_bytes() == (finished / "selections.csv").read_bytes()
    same = [name for name in rows(finished)[0] if not name.endswith("_seconds")]
    for ours, theirs in zip(rows(folder), rows(finished), strict=True):
        assert {name: ours[name] for name in same} == {name: theirs[name] for name in same}


def test_a_record_cut_in_the_middle_of_any_line_goes_on_to_the_same_end(finished: Path, tmp_path: Path) -> None:
    whole = (finished / "rounds.jsonl").read_bytes()
    for number, share in [(2, 0.5), (4, 0.9), (6, 0.1)]:
        folder = tmp_path / str(number)
        folder.mkdir()
        lines = whole.splitlines(keepends=True)
        kept = b"".join(lines[:number]) + lines[number][: int(len(lines[number]) * share)]
        (folder / "rounds.jsonl").write_bytes(kept)
        (folder / "config.yaml").write_text((finished / "config.yaml").read_text())
        resumed = finish(experiment(small(folder)))
        assert (resumed / "selections.csv").read_bytes() == (finished / "selections.csv").read_bytes()


def test_lost_weights_are_trained_again_to_the_same(finished: Path, tmp_path: Path) -> None:
    configuration = small(tmp_path / "run")
    first = experiment(configuration)
    for _ in range(2):
        first.ask_start_set() if first.state.round < 0 else first.train_and_evaluate()
    first.folder.close()
    for file in (configuration.folder / "checkpoints").iterdir():
        file.unlink()
    folder = finish(experiment(configuration))
    assert (folder / "selections.csv").read_bytes() == (finished / "selections.csv").read_bytes()


def test_a_finished_run_is_left_as_it_is(finished: Path) -> None:
    before = (finished / "rounds.jsonl").read_bytes()
    finish(experiment(small(finished)))
    assert (finished / "rounds.jsonl").read_bytes() == before


def test_the_oracle_answers_only_what_was_asked(tmp_path: Path) -> None:
    class Spy(DatasetOracle):
        seen: list[int] = []

        def answer(self, indices: np.ndarray) -> np.ndarray:
            self.seen += indices.tolist()
            return super().answer(indices)

    running = experiment(small(tmp_path / "run", "train.epochs=1"))
    running.oracle = Spy(running.dataset.labels)
    folder = finish(running)
    assert Spy.seen == [int(row["index"]) for row in rows(folder, "selections.csv")]


def test_without_a_strategy_all_labels_are_used_once(tmp_path: Path) -> None:
    folder = finish(experiment(small(tmp_path / "run", "strategy=null", "train.epochs=1")))
    assert [row["labelled"] for row in rows(folder)] == ["1397"]


@pytest.mark.parametrize(
    ("overrides", "guarantee"),
    [
        (("strategy=margin",), "exact"),
        (("strategy=k_center", "strategy.parts=4"), "4-approximation of the covering radius (parts=4)"),
        (("strategy=badge", "strategy.rounds=2"), "k-means|| with 2 rounds, not the D² law"),
    ],
)
def test_what_is_exact_and_what_is_not_is_logged_and_recorded(
    overrides: tuple[str, ...], guarantee: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="openal_ray")
    run = experiment(small(tmp_path / "run", *overrides, "budget.n_end=35", "train.epochs=1"))
    finish(run)
    assert "guarantee" not in run.state.asked[0]  # the start set is no strategy's
    assert run.state.asked[1]["guarantee"] == guarantee
    assert f"picks of {overrides[0].removeprefix('strategy=')}: {guarantee}" in caplog.text
    assert ("covering radius" in caplog.text) == ("parts" in guarantee)


def test_an_empty_start_set_where_the_strategy_allows_it(tmp_path: Path) -> None:
    folder = finish(experiment(small(tmp_path / "run", "strategy=random", "budget.start=none", "budget.n_end=15")))
    assert [row["labelled"] for row in rows(folder)] == ["0", "15"]
    with pytest.raises(ConfigError, match="margin needs a start set"):
        experiment(small(tmp_path / "other", "budget.start=none"))


def test_start_set_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "start.txt").write_text("\n".join(map(str, range(100, 130))))
    folder = finish(
        experiment(
            small(tmp_path / "run", f"budget.start={tmp_path / 'start.txt'}", "budget.n_end=40", "train.epochs=1")
        )
    )
    assert [int(row["index"]) for row in rows(folder, "selections.csv")][:30] == list(range(100, 130))


def test_a_budget_beyond_the_pool_ends_with_the_pool(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    configuration = small(
        tmp_path / "run", "budget.n_query=2000", "budget.n_end=5000", "train.epochs=1", "strategy=random"
    )
    folder = finish(experiment(configuration))
    assert [row["labelled"] for row in rows(folder)] == ["20", "1397"]
    assert "n_end=5000 is more than the 1397 images" in caplog.text


def test_validation_images_are_never_asked_nor_trained_on(tmp_path: Path) -> None:
    configuration = small(tmp_path / "run", "data.validation=0.2", "train.weights=best", "budget.n_end=35")
    running = experiment(configuration)
    assert len(running.state.validation) == round(0.2 * 1397)
    folder = finish(running)
    asked = {int(row["index"]) for row in rows(folder, "selections.csv")}
    assert not asked & set(running.state.validation.tolist())


def test_continuing_starts_from_the_last_round(tmp_path: Path) -> None:
    afresh = experiment(small(tmp_path / "a", "train.epochs=1", "budget.n_end=35"))
    onwards = experiment(small(tmp_path / "b", "train.epochs=1", "budget.n_end=35", "train.continue=true"))
    for running in (afresh, onwards):
        running.ask_start_set()
        running.train_and_evaluate()
        running.ask()
    assert afresh._job(1).start is None
    stored = torch.load(tmp_path / "b" / "checkpoints" / "round-000.pt", weights_only=True)
    assert all(torch.equal(stored[key], value) for key, value in onwards._job(1).start.items())
    for running in (afresh, onwards):
        running.folder.close()


def test_balanced_class_weights_are_inverse_frequencies(tmp_path: Path) -> None:
    running = experiment(small(tmp_path / "run", "train.class_weights=balanced"))
    running.pool = running.pool.annotate([0, 1, 2, 3], [4, 4, 4, 7])
    weights = running._learner(running.config.train).class_weights
    assert weights[4] == pytest.approx(4 / (10 * 3)) and weights[7] == pytest.approx(4 / 10) and weights[0] == 1
    running.folder.close()


class Holes(ArrayImages):
    """Images of which some cannot be decoded."""

    def __init__(self, pictures: np.ndarray, bad: set[int]) -> None:
        super().__init__(pictures)
        self.bad = bad

    def load(self, indices: np.ndarray) -> np.ndarray:
        found = [int(index) for index in indices if int(index) in self.bad]
        if found:
            raise BadImages(found, [f"image-{index}.png: truncated" for index in found])
        return super().load(indices)


def with_holes(configuration, bad: set[int]):
    dataset = runs.load_dataset(configuration)
    pictures = dataset.train.load(np.arange(len(dataset.train)))
    return replace(dataset, train=Holes(pictures, bad))


def test_bad_images_are_refused_with_their_names_before_training(tmp_path: Path) -> None:
    configuration = small(tmp_path / "run")
    start = [int(row["index"]) for row in rows(finish(experiment(configuration)), "selections.csv")][:20]
    again = small(tmp_path / "again")
    with pytest.raises(BadImages, match=rf"image-{start[3]}.png: truncated"):
        finish(experiment(again, with_holes(again, {start[3]})))
    assert not (tmp_path / "again" / "checkpoints").exists()


def test_bad_images_can_be_skipped(tmp_path: Path) -> None:
    bad = set(range(0, 1397, 3))
    configuration = small(tmp_path / "run", "data.bad_images=skip", "data.validation=0.1", "train.weights=best")
    dataset = with_holes(configuration, bad)
    running = experiment(configuration, dataset)
    running.workers.shards.shards[0].settings = replace(running.workers.shards.shards[0].settings, skip_bad_images=True)
    running.workers.shards.shards[1].settings = running.workers.shards.shards[0].settings
    folder = finish(running)
    asked = {int(row["index"]) for row in rows(folder, "selections.csv")}
    assert len(asked) == 50 and not asked & bad
    lines = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    assert {int(index) for line in lines for index in line.get("skipped", {})} == bad


def test_what_was_decoded_only_to_check_it_is_not_kept(tmp_path: Path) -> None:
    """Or it would be decoded again whenever a shard is lost."""
    running = experiment(small(tmp_path / "run"))
    running.ask_start_set()
    assert len(running.workers.shards.gather("check").indices) == 0


def test_people_are_waited_for_and_their_answers_taken_up(tmp_path: Path) -> None:
    configuration = small(tmp_path / "run", "budget.start=given", "train.epochs=1")
    known = runs.load_dataset(configuration)
    labels = known.labels.copy()
    labels[40:] = -2
    with pytest.raises(AnswersPending, match="10 image"):  # 40 given, so 10 are missing to n_end = 50
        finish(experiment(configuration, replace(known, labels=labels)))
    waiting = [int(row["index"]) for row in rows(tmp_path / "run", "selections.csv") if row["round"] == "1"]
    assert len(waiting) == 10 and min(waiting) >= 40
    labels[waiting[:4]] = known.labels[waiting[:4]]
    with pytest.raises(AnswersPending, match="6 image"):
        finish(experiment(configuration, replace(known, labels=labels)))
    labels[waiting] = known.labels[waiting]
    finish(experiment(configuration, replace(known, labels=labels)))
    assert [row["labelled"] for row in rows(tmp_path / "run")] == ["40", "50"]


def test_a_validation_split_stays_what_it_was_while_people_label(tmp_path: Path) -> None:
    configuration = small(tmp_path / "run", "budget.start=given", "train.epochs=1", "data.validation=0.2")
    known = runs.load_dataset(configuration)
    labels = known.labels.copy()
    labels[60:] = -2
    first = experiment(configuration, replace(known, labels=labels))
    split = first.state.validation.tolist()
    with pytest.raises(AnswersPending):
        finish(first)
    assert len(split) == 12 and max(split) < 60
    again = experiment(configuration, known)
    assert again.state.validation.tolist() == split
    finish(again)


def test_a_strategy_that_reads_nothing_skips_bad_images_too(tmp_path: Path) -> None:
    configuration = small(tmp_path / "run", "data.bad_images=skip", "strategy=random", "train.epochs=1")
    dataset = with_holes(configuration, set(range(0, 1397, 2)))
    running = experiment(configuration, dataset)
    for shard in running.workers.shards.shards:
        shard.settings = replace(shard.settings, skip_bad_images=True)
    asked = [int(row["index"]) for row in rows(finish(running), "selections.csv")]
    assert len(set(asked)) == 50 and all(index % 2 for index in asked)


def test_tables_that_a_full_disk_kept_back_are_written_on_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration = small(tmp_path / "run", "strategy=random", "train.epochs=1")
    real, calls = RunFolder.write_tables, []

    def full(self, classes):
        calls.append(1)
        if len(calls) == 3:
            raise RunError("no room")
        real(self, classes)

    monkeypatch.setattr(RunFolder, "write_tables", full)
    with pytest.raises(RunError, match="no room"):
        finish(experiment(configuration))
    assert len(rows(tmp_path / "run")) == 2
    finish(experiment(configuration))
    assert len(rows(tmp_path / "run")) == 3


@pytest.mark.parametrize("name", [entry.name for entry in ENTRIES if not entry.needs_files])
def test_no_strategy_sees_the_labels_of_images_that_it_did_not_ask(name: str, tmp_path: Path) -> None:
    """Two whole experiments whose data sets differ in every label that was never asked for, and in nothing else."""
    (tmp_path / "start.txt").write_text("\n".join(map(str, range(0, 1000, 50))))
    options = [
        f"strategy={name}", f"budget.start={tmp_path / 'start.txt'}", "train.epochs=1", "model.params.drop_rate=0.2"
    ]  # fmt: skip
    if name == "batch_bald":
        options.append("strategy.configurations=64")  # by default made for batches of ten
    one, two = small(tmp_path / "one", *options), small(tmp_path / "two", *options)
    known = runs.load_dataset(one)
    asked = [int(row["index"]) for row in rows(finish(experiment(one, known)), "selections.csv")]
    scrambled = (known.labels + 3) % 10
    scrambled[asked] = known.labels[asked]
    again = rows(finish(experiment(two, replace(known, labels=scrambled))), "selections.csv")
    assert [int(row["index"]) for row in again] == asked


def test_a_run_depends_on_micro_batches_and_not_on_workers(tmp_path: Path) -> None:
    """In one process too, which works off one part of a batch after the other."""
    asked = {}
    for name, overrides in {"two": ["train.workers=[1,2]"], "one": ["train.micro_batches=2"], "whole": []}.items():
        assert len(runs.run(SMALL | {"out": str(tmp_path / name)}, *overrides).rows) == 3
        asked[name] = (tmp_path / name / "selections.csv").read_text(encoding="utf-8")
    assert asked["two"] == asked["one"] != asked["whole"]
    assert runs.as_config(runs.as_config(SMALL), ["train.workers=2"]).train.micro_batches == 2  # nobody asked for 1
    assert runs.resume(tmp_path / "two", "train.workers=1").rows
    with pytest.raises(ConfigError, match="a resumed run keeps what decides its results"):
        runs.resume(tmp_path / "two", "train.micro_batches=1")
    with pytest.raises(ConfigError, match="3 cannot share 2 micro-batches"):
        runs.resume(tmp_path / "two", "train.workers=3")


def test_another_data_set_is_refused_on_resume(finished: Path) -> None:
    dataset = runs.load_dataset(small(finished))
    renamed = replace(dataset, classes=tuple("abcdefghij"))
    with pytest.raises(RunError, match="classes was"):
        experiment(small(finished), renamed)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("strategy=margn", "Did you mean 'margin'"),
        ("strategy.temperature=1", "unknown parameter of margin 'temperature'"),
        ("model.name=resnet1b", "unknown model 'resnet1b'"),
        ("budget.n_start=5", "less than the 10 classes"),
        ("budget.start=stratifed", "Did you mean 'stratified'"),
        ("budget.start=given", "there is no unlabelled row"),
        ("train.optimizer.name=adamm", "unknown optimiser 'adamm'"),
        ("train.scheduler.name=cosin", "unknown scheduler 'cosin'"),
        ("train.weights=best", "train.weights=best needs a validation split: set data.validation"),
        ("train.patience=3", "train.patience needs a validation split"),
        ("strategy=bald", "set model.params.drop_rate"),
        ("model.name=vit_tiny_patch16_224", "cannot take images of 8×8×1"),
        ("train.augment=[RandomFlip]", "unknown transform 'RandomFlip'"),
    ],
)
def test_bad_input_is_refused_before_any_work(override: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        configuration = small(tmp_path / "run", override)
        check(configuration, runs.load_dataset(configuration))


def test_a_helper_is_trained_once_a_round_kept_for_the_query_and_left_out_at_the_end(
    kinds: dict[str, tuple[str, Path]], tmp_path: Path
) -> None:
    running = experiment(small(tmp_path / "run", kinds["helped"][0]))
    fitted, real = [], running.workers.fit

    def fit(jobs, listener):
        fitted.append(sorted(jobs))
        return real(jobs, listener)

    running.workers.fit = fit
    folder = finish(running)
    assert fitted == [["", "twin"], ["", "twin"], [""]]
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["round-002.pt"]


def test_an_error_in_a_strategy_of_ones_own_is_told_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "faulty.py"
    file.write_text(
        "from openal_ray.strategies.strategy import Strategy\n"
        "def faulty():\n"
        "    return Strategy(needs=('probs',), score=lambda read: read['probs'][:, 99])\n"
    )
    message = r"faulty.py:faulty failed with IndexError: index 99 .*, line 3: return Strategy.*check_strategy"
    with pytest.raises(ConfigError, match=message):
        finish(experiment(small(tmp_path / "run", f"strategy={file}:faulty")))
    assert rows(tmp_path / "run")[0]["round"] == "0"  # what was done is kept
