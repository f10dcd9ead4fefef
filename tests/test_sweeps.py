"""One run of a sweep, without Ray: begun, gone on with, left alone; and what is refused before any work."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from openal_ray import run_folder, runs, sweeps
from openal_ray.cluster.reservation import adapted
from openal_ray.config import Config
from openal_ray.data.images import Subset
from openal_ray.errors import ConfigError, RunError
from openal_ray.progress import SweepLines
from openal_ray.run_folder import RunFolder
from openal_ray.storage.url import place
from openal_ray.sweep_file import Sweep
from tests.disk import full_beyond
from tests.experiments import SMALL

QUICK = SMALL | {"budget": {"n_start": 20, "n_query": 15, "n_end": 35}, "train": {"epochs": 1, "steps_per_epoch": 10}}


class Killed(BaseException):
    """As good as SIGKILL for what a run leaves behind: no handler of errors catches it."""


def carried_out(configuration: Config, **options: Any) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    data = runs.closed_dataset(configuration, configuration.data.name)
    sweeps.carry_out(configuration, data, told.append, **options)
    return told


def quick(folder: Path, **keys: Any) -> Config:
    return adapted(runs.as_config(QUICK | {"out": folder} | keys))


def test_a_run_tells_of_each_round_and_is_left_alone_once_finished(tmp_path: Path) -> None:
    configuration = quick(tmp_path / "run")
    told = carried_out(configuration)
    assert [(row["round"], row["labelled"], row["rounds"]) for row in told] == [(0, 20, 2), (1, 35, 2)]
    record = (tmp_path / "run" / "rounds.jsonl").read_bytes()
    assert carried_out(configuration) == []
    assert [row["accuracy"] for row in carried_out(configuration, again=True)] == [row["accuracy"] for row in told]
    assert (tmp_path / "run" / "rounds.jsonl").read_bytes() == record


def test_a_run_that_was_cut_off_goes_on_to_the_same_selections(tmp_path: Path) -> None:
    carried_out(quick(tmp_path / "whole"))
    cut = quick(tmp_path / "cut")

    def kill(row: dict[str, Any]) -> None:
        raise Killed

    with pytest.raises(Killed):
        sweeps.carry_out(cut, runs.closed_dataset(cut, "digits"), kill)
    assert len(run_folder.rows(tmp_path / "cut")) == 1
    assert [row["round"] for row in carried_out(cut)] == [1]
    selections = [(tmp_path / name / "selections.csv").read_bytes() for name in ("whole", "cut")]
    assert selections[0] == selections[1]


def test_where_a_run_works_may_change_between_its_beginning_and_its_end(tmp_path: Path) -> None:
    carried_out(quick(tmp_path / "run", shards=2))
    changed = quick(tmp_path / "run", shards=5)
    sweeps._check_same(changed)
    assert carried_out(changed) == []
    assert "shards=5" in sweeps._where(changed) and "cluster.address=null" in sweeps._where(changed)


def test_other_keys_may_not(tmp_path: Path) -> None:
    plan = Sweep(base=QUICK, grid={"strategy": ["random"]}, out=tmp_path)
    carried_out(adapted(plan.runs()[0]))
    changed = plan.model_copy(update={"base": QUICK | {"train": {"epochs": 2, "steps_per_epoch": 10}}})
    with pytest.raises(ConfigError, match=r"train.epochs: .*random-0 was begun with 1, and the sweep now says 2"):
        sweeps.sweep(changed, SweepLines(Console(quiet=True)))


def test_a_finished_sweep_needs_no_cluster(tmp_path: Path) -> None:
    plan = Sweep(base=QUICK, grid={"strategy": ["random"], "seed": [0]}, out=tmp_path)
    carried_out(adapted(plan.runs()[0]))
    done = sweeps.sweep(plan, SweepLines(Console(quiet=True)))
    assert done == sweeps.Swept([tmp_path / "random-0"], {}, [], [])


def test_a_wrong_run_is_refused_by_name_before_any_work(tmp_path: Path) -> None:
    plan = Sweep(
        base=QUICK, grid={"strategy": ["random", "margin"], "budget.start": ["stratified", "none"]}, out=tmp_path
    )
    with pytest.raises(ConfigError, match="start=none-margin-0: budget.start=none: margin needs a start set"):
        sweeps.sweep(plan, SweepLines(Console(quiet=True)))
    assert not list(tmp_path.iterdir())


def test_two_drivers_on_one_sweep_are_one_too_many(tmp_path: Path) -> None:
    plan = Sweep(base=QUICK, grid={"strategy": ["random"]}, out=tmp_path)
    with sweeps._held(plan), pytest.raises(RunError, match="another openal-ray process works in this folder"):
        sweeps.sweep(plan, SweepLines(Console(quiet=True)))


def test_a_folder_that_cannot_be_a_sweeps_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    plan = Sweep(base=QUICK, grid={"strategy": ["random"]}, out=tmp_path / "file")
    with (
        pytest.raises(RunError, match=r"file cannot be the output folder \(File exists\); choose another"),
        sweeps._held(plan),
    ):
        pass
    (tmp_path / "sweep").mkdir()
    plan = Sweep(base=QUICK, grid={"strategy": ["random"]}, out=tmp_path / "sweep")
    with full_beyond(100), pytest.raises(RunError, match=r"sweep.yaml: cannot be written \(File too large\)"):
        with sweeps._held(plan):
            pass


def test_a_folder_that_stays_occupied_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "ORPHAN_SECONDS", 0.2)
    configuration = quick(tmp_path / "run")
    folder = RunFolder.create(configuration)
    try:
        with pytest.raises(RunError, match="has worked in this folder for 0.2 s"):
            carried_out(configuration)
    finally:
        folder.close()


def test_strategies_of_one_seed_share_start_set_first_weights_and_validation(tmp_path: Path) -> None:
    keys = {"data": {"validation": 0.1}, "checkpoints": "all", "cluster": {"use": "local"}}
    plan = Sweep(base=QUICK | keys, grid={"strategy": ["random", "margin"], "seed": [0, 1]}, out=tmp_path)
    for one in plan.runs():
        carried_out(adapted(one))

    def beginning(run: str) -> tuple[Any, Any, dict[str, torch.Tensor]]:
        lines = [json.loads(line) for line in (tmp_path / run / "rounds.jsonl").read_text().splitlines()]
        begun, asked = lines[0], next(line for line in lines if line["kind"] == "asked")
        weights = torch.load(tmp_path / run / "checkpoints" / "round-000.pt", weights_only=True)
        return begun["validation"], asked["indices"], weights

    for seed in (0, 1):
        (split, start, weights), (other_split, other_start, other) = (
            beginning(f"{s}-{seed}") for s in ("random", "margin")
        )
        assert split and split == other_split and start == other_start
        # Trained on the same images in the same order: equal at the end only if they were equal at first.
        assert weights.keys() == other.keys() and all(torch.equal(weights[key], other[key]) for key in weights)
    assert beginning("random-0")[0] != beginning("random-1")[0] and beginning("random-0")[1] != beginning("random-1")[1]


def test_runs_of_a_sweep_read_a_frozen_encoder_once(tmp_path: Path) -> None:
    data = runs.load_dataset(quick(tmp_path / "none"))
    few = replace(data, train=Subset(data.train, np.arange(60)), labels=data.labels[:60])
    shared = {"encoder": "tf_efficientnet_lite0", "encoder_weights": "packaged"}
    written = []
    for seed, name in enumerate(["typiclust", "max_herding"]):
        one = quick(tmp_path / name, strategy={"name": name, **shared}, seed=seed)
        sweeps.carry_out(sweeps._sharing(one, tmp_path), few, lambda row: None)
        written.append({file.name: file.stat().st_mtime_ns for file in (tmp_path / sweeps.SIGNALS).iterdir()})
    assert len(written[0]) == 1 and written[0] == written[1]


def test_a_place_for_signals_of_the_users_own_stays(tmp_path: Path) -> None:
    own = quick(tmp_path / "run", read={"cache": str(tmp_path / "own")})
    assert sweeps._sharing(own, tmp_path) == own
    assert sweeps._sharing(quick(tmp_path / "run"), place("s3://bucket/sweep")).read.cache is None
