"""Open-set comparisons: annotated images as the axis, panels and the table, by hand."""

import csv
from pathlib import Path

import numpy as np
import pytest

from openal_ray.reports.comparison import Comparison, compare
from openal_ray.reports.curves import load
from openal_ray.reports.figures import looks
from openal_ray.reports.findings import cautions
from openal_ray.reports.open_set import open_set
from openal_ray.reports.open_set_figures import open_set_panels
from openal_ray.reports.open_set_tables import open_set_table, write_open_set
from tests.reports.run_folders import MakeRun

NOTHING = ""


@pytest.fixture
def comparison(make_run: MakeRun) -> Comparison:
    """Each run pays for 100, 200 and 300 answers; lfosa's are purer, random's classifier is better."""
    paid = {"annotated": (100, 200, 300)}
    runs = [
        make_run(
            "lfosa", seed, labelled=(100, 180, 260), accuracy=(0.5, 0.6, 0.7),
            columns=paid | {
                "purity": (1, 0.8 + gain, 0.8 - gain), "purity_total": (NOTHING, 0.8, 0.8),
                "recall_id": (0.1, 0.18, 0.26), "wasted": (0, 0.1, 40 / 300),
                "detector_auroc": (NOTHING, 0.9, 0.95),
            },
        )
        for seed, gain in ((0, 0.05), (1, -0.05))
    ]  # fmt: skip
    runs.append(
        make_run(
            "random", labelled=(100, 120, 150), accuracy=(0.5, 0.7, 0.8),
            columns=paid | {
                "purity": (NOTHING, 0.2, 0.3), "purity_total": (NOTHING, 0.2, 0.25), "recall_id": (0.1, 0.12, 0.15),
                "wasted": (0, 0.4, 0.5),
            },
        )
    )  # fmt: skip
    return compare(load(runs))[0]


def test_comparisons_are_made_at_equal_counts_of_annotated_images(comparison: Comparison) -> None:
    assert comparison.counts == (100, 200, 300)
    random, lfosa = comparison.rows
    assert random.group.label == "random"  # by labelled images lfosa would have been compared at 100 … 150 only
    assert (random.aubc.mean, lfosa.aubc.mean) == pytest.approx((0.675, 0.6))
    assert random.last_labelled == 300
    assert "the budget pays for every answer" in " ".join(cautions(comparison))


def test_panels_by_hand(comparison: Comparison) -> None:
    found = open_set(comparison)
    assert found is not None
    panels = {panel.title: panel.curves for panel in found.panels}
    assert list(panels) == [
        "purity of the round's query", "recall of the pool", "test accuracy", "wasted answers", "detector AUROC",
    ]  # fmt: skip
    counts, mean, sd = panels["purity of the round's query"]["lfosa"]
    np.testing.assert_array_equal(counts, [100, 200, 300])
    np.testing.assert_allclose(mean, [np.nan, 0.8, 0.8])  # the start set is no query
    np.testing.assert_allclose(sd[1:], [np.sqrt(0.005)] * 2)
    np.testing.assert_allclose(panels["wasted answers"]["random"][1], [0, 0.4, 0.5])
    assert list(panels["detector AUROC"]) == ["lfosa"]
    np.testing.assert_allclose(panels["detector AUROC"]["lfosa"][1], [np.nan, 0.9, 0.95])


def test_rows_by_hand(comparison: Comparison) -> None:
    found = open_set(comparison)
    assert found is not None
    assert open_set_table(found).rows == [
        ["random", "300", "150", "25.0", "15.0", "50.0", "–", "80.0", "67.5", "69.0"],
        [
            "lfosa", "300", "260", "80.0 ± 0.0", "26.0 ± 0.0", "13.3 ± 0.0", "95.0 ± 0.0", "70.0 ± 0.0", "60.0 ± 0.0",
            "60.0 ± 0.0",
        ],
    ]  # fmt: skip
    # By its labels random's area is (.6 · 20 + .75 · 30) / 50 = .69.


def test_the_csv_has_means_and_deviations(comparison: Comparison, tmp_path: Path) -> None:
    found = open_set(comparison)
    assert found is not None
    write_open_set([found], tmp_path / "open_set.csv")
    with (tmp_path / "open_set.csv").open(newline="") as file:
        random, lfosa = csv.DictReader(file)
    assert (random["dataset"], random["strategy"], random["annotated"]) == ("digits", "random", "300.0")
    assert (random["detector_mean"], random["accuracy_sd"]) == ("", "")
    assert float(lfosa["purity_total_mean"]) == pytest.approx(0.8)


def test_three_panels_stand_side_by_side(comparison: Comparison) -> None:
    found = open_set(comparison)
    assert found is not None
    figure = open_set_panels([found], looks(comparison.groups))
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[:3] == ["purity of the round's query (%)", "recall of the pool (%)", "test accuracy (%)"]
    np.testing.assert_allclose(figure.axes[2].lines[0].get_ydata(), [50, 70, 80])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["random", "lfosa"]
    assert not figure.axes[5].axison  # five measures, six places


def test_the_classifiers_recall_is_not_the_pools(make_run: MakeRun) -> None:
    """metrics.csv has a column `recall`, the mean recall on test images, in every run."""
    runs = [make_run("lfosa", columns={"annotated": (100, 250, 400), "purity": (NOTHING, 0.7, 0.7)})]
    found = open_set(compare(load(runs))[0])
    assert found is not None
    assert "recall of the pool" not in [panel.title for panel in found.panels]


def test_runs_in_which_nothing_was_rejected_have_no_such_part(make_run: MakeRun) -> None:
    assert open_set(compare(load([make_run("badge")]))[0]) is None
    same = make_run("badge", folder="b", columns={"annotated": (100, 200, 300)})
    assert open_set(compare(load([same]))[0]) is None
