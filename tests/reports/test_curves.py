"""Curves read from run folders, and the errors that name a folder or file."""

import logging
from pathlib import Path

import numpy as np
import pytest

from openal_ray.errors import RunError
from openal_ray.reports.curves import SUPERVISED, load, read_table
from tests.reports.run_folders import MakeRun


def test_a_run_is_read_with_all_its_columns(make_run: MakeRun) -> None:
    folder = make_run("badge", seed=3, labelled=(10, 30), accuracy=(0.25, 0.5), dataset="mnist", seconds=2)

    (curve,) = load([folder])

    assert (curve.folder, curve.strategy, curve.seed, curve.dataset) == (folder, "badge", 3, "mnist")
    np.testing.assert_array_equal(curve.labelled, [10, 30])
    np.testing.assert_array_equal(curve.accuracy, [0.25, 0.5])
    np.testing.assert_array_equal(curve.columns["auroc"], [np.nan, 0.75])  # an empty field in round 0
    assert list(curve.columns)[:3] == ["round", "labelled", "accuracy"]
    assert curve.seconds("train") == 40
    assert curve.seconds("read", "select") == 2 + 1
    assert curve.seconds("packing") == 0


def test_a_run_without_a_strategy_is_the_supervised_reference(make_run: MakeRun) -> None:
    (curve,) = load([make_run(None, labelled=[50], accuracy=[0.9])])
    assert curve.strategy == SUPERVISED


def test_a_parent_folder_stands_for_its_runs_and_no_run_counts_twice(make_run: MakeRun) -> None:
    first, second = make_run("random", seed=0), make_run("random", seed=1)
    (first.parent / "plots").mkdir()
    (first.parent / "notes.txt").write_text("mine")

    curves = load([second, first.parent, first.parent / ".." / "runs"])

    assert [curve.folder.name for curve in curves] == ["random-1", "random-0"]


def test_unfinished_runs_in_a_parent_are_left_out_with_a_warning(
    make_run: MakeRun, caplog: pytest.LogCaptureFixture
) -> None:
    done, fresh = make_run("badge"), make_run("random")
    (fresh / "metrics.csv").write_text("round,labelled,accuracy\n")
    with caplog.at_level(logging.WARNING):
        assert [curve.folder for curve in load([done.parent])] == [done]
    assert caplog.messages == [f"{fresh}: left out, it has no finished round yet"]

    (done / "metrics.csv").unlink()
    with pytest.raises(RunError, match="none of its 2 runs has a finished round; `openal-ray resume RUN` goes on"):
        load([done.parent])


def test_a_named_run_without_a_finished_round_is_refused(make_run: MakeRun) -> None:
    folder = make_run("badge")
    (folder / "metrics.csv").unlink()
    with pytest.raises(RunError, match=rf"{folder}: no round is finished yet; `openal-ray resume {folder}` goes on"):
        load([folder])


def test_folders_that_are_no_runs(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"absent: not a run \(there is no such folder\); name a folder that"):
        load([tmp_path / "absent"])
    with pytest.raises(RunError, match=r"not a run \(has no config.yaml, nor has any folder directly in it\)"):
        load([tmp_path])
    with pytest.raises(RunError, match="no run folder was named: give at least one"):
        load([])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metrics.csv", "round,labelled\n0,5\n", "expected the columns round, labelled and accuracy, got none called"),
        ("metrics.csv", "round,labelled,accuracy\n0,5,good\n", "line 2: accuracy must be a number, got 'good'"),
        ("metrics.csv", "round,labelled,accuracy\n0,5,.5\n1,,.6\n", "line 3: labelled must be a number, got ''"),
        ("metrics.csv", "round,labelled,accuracy\n0,5,.5\n1,6\n", "line 3: accuracy must be a number, got None"),
        ("metrics.csv", "round,labelled,accuracy\n0,5,.5\n1,4,.6\n", "its rounds are out of order; `openal-ray resume"),
        ("metrics.csv", "round,labelled,accuracy\n1,5,.5\n1,6,.6\n", "its rounds are out of order"),
        ("metrics.csv", 'round,labelled,accuracy\n0,5,"', "not a CSV file"),
        ("config.yaml", "seed: [", "not a YAML file"),
        (
            "config.yaml",
            "data: {name: digits}\nstrategy: null\n",
            r"expected the keys seed, data.name and strategy.name",
        ),
        ("config.yaml", "seed: 0\ndata: digits\nstrategy: null\n", r"expected the keys seed, data.name and"),
    ],
)
def test_damaged_files_are_named(make_run: MakeRun, name: str, text: str, message: str) -> None:
    folder = make_run("badge")
    (folder / name).write_text(text)
    with pytest.raises(RunError, match=message) as caught:
        load([folder])
    assert str(folder / name) in str(caught.value)


def test_a_table_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    assert read_table(tmp_path / "none.csv") == []


def test_values_between_rounds_lie_on_straight_lines_and_the_last_of_equal_counts_counts(make_run: MakeRun) -> None:
    (curve,) = load([make_run("badge", labelled=(100, 200, 200, 400), accuracy=(0.1, 0.3, 0.5, 0.9))])
    np.testing.assert_allclose(curve.at("accuracy", np.array([100, 150, 200, 300])), [0.1, 0.3, 0.5, 0.7])


def test_a_curve_runs_over_annotated_images_and_is_nan_where_it_was_not_measured(make_run: MakeRun) -> None:
    columns = {"annotated": (100, 200, 200), "purity": ("", 0.5, 0.7)}
    (curve,) = load([make_run("lfosa", labelled=(100, 140, 150), columns=columns)])
    np.testing.assert_array_equal(curve.annotated, [100, 200, 200])
    # The last round with 200 annotated images counts; .5 goes to .8 in 100 images.
    np.testing.assert_allclose(curve.at("accuracy", np.array([50, 150, 200])), [np.nan, 0.65, 0.8])
    np.testing.assert_allclose(curve.at("purity", np.array([100, 200])), [np.nan, 0.7])
    np.testing.assert_allclose(curve.at("absent", np.array([100])), [np.nan])


def test_annotated_images_never_fall(make_run: MakeRun) -> None:
    with pytest.raises(RunError, match="its rounds are out of order"):
        load([make_run("lfosa", columns={"annotated": (300, 200, 400)})])
