"""One run as the text that its page shows."""

import pytest
import yaml

from openal_ray.errors import RunError
from openal_ray.reports.curves import Curve, load
from openal_ray.reports.run_page import run_page
from tests.reports.run_folders import MakeRun


@pytest.fixture
def curve(make_run: MakeRun) -> Curve:
    return load([make_run("badge", seed=2, labelled=(4, 6), accuracy=(0.5, 0.75), classes=("cat", "dog"))])[0]


def test_rounds_are_spelt_with_units_and_what_was_asked(curve: Curve) -> None:
    rounds = run_page(curve).rounds
    assert rounds.header == [
        "round", "labelled", "asked", "accuracy %", "loss", "f1 %", "recall %", "precision %", "balanced accuracy %",
        "auroc %", "train s", "read s", "select s", "evaluate s",
    ]  # fmt: skip
    assert rounds.rows == [
        ["0", "4", "4", "50.0", "0.5", "49.0", "49.0", "49.0", "49.0", "–", "10.0", "0.00", "0.00", "0.25"],
        ["1", "6", "2", "75.0", "0.25", "74.0", "74.0", "74.0", "74.0", "87.5", "10.0", "1.00", "0.50", "0.25"],
    ]


def test_open_set_columns_are_counts_and_shares(make_run: MakeRun) -> None:
    columns = {"annotated": (4, 1234), "purity": ("", 0.25), "detector_auroc": ("", 0.975)}
    rounds = run_page(load([make_run("lfosa", labelled=(4, 6), accuracy=(0.5, 0.75), columns=columns)])[0]).rounds
    assert rounds.header[-3:] == ["annotated", "purity %", "detector auroc %"]
    assert [row[-3:] for row in rounds.rows] == [["4", "–", "–"], ["1,234", "25.0", "97.5"]]


def test_hyper_parameters_have_a_table_of_their_own(make_run: MakeRun) -> None:
    columns = {"trials": (4, 0), "validation_accuracy": (0.5, 0.625), "train.optimizer.lr": (0.012345, 0.012345)}
    folder = make_run("badge", labelled=(4, 6), accuracy=(0.5, 0.75), columns=columns)
    (folder / "choices.csv").write_text(
        "round,labelled,trials,from,trial,validation_accuracy,train.optimizer.lr,train.batch_size\n"
        "0,4,4,search of round 0,2,0.5,0.012345,8\n1,6,0,search of round 0,,0.625,0.012345,8\n"
    )
    page = run_page(load([folder])[0])
    assert page.rounds.header[-2:] == ["trials", "validation accuracy %"]
    assert page.rounds.rows[1][-2:] == ["0", "62.5"]
    assert page.choices.header == ["round", "labelled", "trials", "from", "trial", "optimizer.lr", "batch_size"]
    assert page.choices.rows == [
        ["0", "4", "4", "search of round 0", "2", "0.01235", "8"],
        ["1", "6", "0", "search of round 0", "–", "0.01235", "8"],
    ]


def test_classes_are_those_of_the_last_round(curve: Curve) -> None:
    path = curve.folder / "per_class.csv"
    path.write_text(path.read_text() + "1,emu,0,0,0,0\n")
    classes = run_page(curve).classes
    assert classes.header == ["class", "support", "precision %", "recall %", "f1 %"]
    assert classes.rows == [
        ["cat", "10", "75.0", "75.0", "75.0"],
        ["dog", "10", "75.0", "75.0", "75.0"],
        ["emu", "0", "–", "–", "–"],
    ]


def test_configuration_environment_and_title(curve: Curve) -> None:
    page = run_page(curve)
    assert page.title == "badge on digits, seed 2"
    assert yaml.safe_load(page.config) == curve.config
    assert page.environment == [
        ("command", "openal-ray run"),
        ("cpus", "8"),
        ("gpus", "none"),
        ("packages", "torch 2.14.1"),
    ]


def test_classes_of_what_was_asked_are_unknown_without_answers(curve: Curve) -> None:
    page = run_page(curve)
    assert page.asked == {0: 4, 1: 2}
    assert page.labelled_classes is None


def test_classes_of_what_was_asked_are_counted_from_the_answers(make_run: MakeRun) -> None:
    folder = make_run("badge", labelled=(4, 6), accuracy=(0.5, 0.75), classes=("cat", "dog", "emu"), answers=True)
    path = folder / "selections.csv"
    path.write_text(path.read_text() + "1,3,99,image-99,0.1,\n")  # rejected: of none of the classes
    # Six images in turn: cat dog emu cat, then dog emu.
    assert run_page(load([folder])[0]).labelled_classes == {"cat": (2, 0), "dog": (1, 1), "emu": (1, 1)}


def test_absent_files_are_left_out(curve: Curve) -> None:
    for name in ("environment.json", "per_class.csv", "selections.csv"):
        (curve.folder / name).unlink()
    page = run_page(curve)
    assert (page.environment, page.classes.rows, page.asked, page.labelled_classes) == ([], [], {}, None)
    assert "asked" not in page.rounds.header


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_damaged_environment_is_named(curve: Curve, text: str) -> None:
    (curve.folder / "environment.json").write_text(text)
    with pytest.raises(RunError, match=r"environment.json: expected a JSON object .*; delete it to report without it"):
        run_page(curve)


@pytest.mark.parametrize(
    ("name", "text"),
    [("selections.csv", "round\nfirst\n"), ("per_class.csv", "class\ncat\n"), ("per_class.csv", "round,class\n0\n")],
)
def test_damaged_tables_are_named(curve: Curve, name: str, text: str) -> None:
    (curve.folder / name).write_text(text)
    with pytest.raises(RunError, match=r"per_class.csv or choices.csv is damaged .*resume .* writes them anew"):
        run_page(curve)
