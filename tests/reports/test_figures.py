"""What is drawn: the lines, bands, bars and names of each figure."""

import numpy as np
import pytest
from matplotlib.collections import FillBetweenPolyCollection
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text

from openal_ray.reports import drawing, figures
from openal_ray.reports.comparison import Comparison, compare
from openal_ray.reports.curves import load
from tests.reports.run_folders import MakeRun


@pytest.fixture
def comparison(make_run: MakeRun) -> Comparison:
    runs = [
        make_run("random", seed=0, accuracy=(0.4, 0.5, 0.6)),
        make_run("badge", seed=0, accuracy=(0.4, 0.7, 0.8)),
        make_run("badge", seed=1, accuracy=(0.6, 0.9, 1.0)),
        make_run(None, labelled=[1397], accuracy=[0.95]),
    ]
    return compare(load(runs))[0]


def _names(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts if isinstance(text, Annotation)]


def test_curves_show_mean_band_and_names(comparison: Comparison) -> None:
    figure = figures.accuracy_curves([comparison])
    (axes,) = figure.axes
    badge, random, supervised = axes.lines
    np.testing.assert_allclose(badge.get_xydata(), [[100, 50], [200, 80], [300, 90]])
    np.testing.assert_allclose(random.get_ydata(), [40, 50, 60])
    np.testing.assert_allclose(supervised.get_ydata(), [95, 95])
    (band,) = [each for each in axes.collections if isinstance(each, FillBetweenPolyCollection)]
    spread = 100 * np.sqrt(0.02)  # of .4 and .6: each .1 from the mean, over n - 1 = 1
    at_first = band.get_paths()[0].vertices
    heights = at_first[at_first[:, 0] == 100, 1]
    np.testing.assert_allclose([heights.min(), heights.max()], [50 - spread, 50 + spread])
    assert _names(figure) == ["badge", "random", "supervised, 1,397 labels"]
    assert axes.get_title(loc="left") == "digits"


def test_a_strategy_looks_the_same_in_every_panel_and_like_no_other(make_run: MakeRun) -> None:
    strategies = ["random", *(f"strategy-{place}" for place in range(12))]
    runs = [make_run(name, folder=name) for name in strategies]
    runs += [make_run(name, folder=f"other-{name}", dataset="mnist") for name in ("strategy-7", "random")]
    figure = figures.accuracy_curves(compare(load(runs)))

    def looks(place: int) -> dict[str, tuple[object, ...]]:
        axes = figure.axes[place]
        lines = zip(axes.texts, axes.lines, strict=True)
        return {name.get_text(): (line.get_color(), line.get_marker(), line.get_linestyle()) for name, line in lines}

    first, second = looks(0), looks(1)
    assert len(set(first.values())) == 13
    assert second == {name: first[name] for name in ("strategy-7", "random")}


def test_names_beside_many_curves_do_not_overlap(make_run: MakeRun) -> None:
    runs = [make_run(f"s{place}", accuracy=(0.4, 0.5, 0.8)) for place in range(14)]
    figure = figures.accuracy_curves(compare(load(runs)))
    figure.draw_without_rendering()
    boxes = sorted((Text.get_window_extent(name) for name in figure.axes[0].texts), key=lambda box: box.y0)
    assert len(boxes) == 14
    assert all(lower.y1 <= upper.y0 + 1 for lower, upper in zip(boxes, boxes[1:], strict=False))


def test_curves_without_a_common_label_count_say_so(make_run: MakeRun) -> None:
    runs = [make_run("badge", seed=seed, labelled=[100 + seed], accuracy=[0.5]) for seed in (0, 1)]
    (axes,) = figures.accuracy_curves(compare(load(runs))).axes
    assert [text.get_text() for text in axes.texts] == ["no label count that all seeds share"]


def test_very_long_names_are_cut_so_that_the_panel_keeps_its_room(make_run: MakeRun) -> None:
    figure = figures.accuracy_curves(compare(load([make_run("k" * 200, folder="long")])))
    drawing.svg(figure, "x", "d")  # matplotlib warns, hence fails here, if the panel collapses
    assert _names(figure) == ["k" * 35 + "…"]


def test_seconds_are_stacked_by_phase(comparison: Comparison) -> None:
    figure = figures.phase_seconds([comparison])
    (axes,) = figure.axes
    widths = [[bar.get_width() for bar in phase] for phase in axes.containers]
    # Three rounds of badge and random: 10 s of training, .25 of evaluation; reading 1 and selecting .5 in two of them.
    assert widths == [[30, 30, 10], [2, 2, 0], [1, 1, 0], [0.75, 0.75, 0.25]]
    assert [bar.get_x() for bar in axes.containers[2]] == [32, 32, 10]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["badge", "random", "supervised"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["train", "read", "select", "evaluate"]
    assert _names(figure) == ["33.8", "33.8", "10.2"]


def test_seconds_on_several_data_sets_name_them(make_run: MakeRun) -> None:
    runs = [make_run("badge", folder=name, dataset=name) for name in ("digits", "mnist")]
    (axes,) = figures.phase_seconds(compare(load(runs))).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["badge (digits)", "badge (mnist)"]


def test_images_asked_in_each_round() -> None:
    (axes,) = figures.query_counts({0: 1000, 1: 50, 3: 20}).axes
    assert [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in axes.patches] == [
        (0, 1000),
        (1, 50),
        (3, 20),
    ]
    assert [text.get_text() for text in axes.texts] == ["1,000", "50", "20"]


def test_labelled_images_of_each_class() -> None:
    (axes,) = figures.queried_classes({"cat": (5, 10), "dog": (3, 0)}).axes
    start, queries = axes.containers
    assert [bar.get_height() for bar in start] == [5, 3]
    assert [(bar.get_y(), bar.get_height()) for bar in queries] == [(5, 10), (3, 0)]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["cat", "dog"]


def test_many_classes_are_sorted_and_unnamed() -> None:
    (axes,) = figures.queried_classes({f"class {place}": (place, 1) for place in range(100)}).axes
    assert [bar.get_height() for bar in axes.containers[0]] == list(range(99, -1, -1))
    assert axes.get_xlabel() == "100 classes, most labelled first"


def test_the_description_gives_both_ends_of_each_curve(comparison: Comparison) -> None:
    assert figures.describe(comparison) == (
        "Test accuracy against labelled images on digits: badge goes from 50.0 % at 100 labels to 90.0 % at 300; "
        "random goes from 40.0 % at 100 labels to 60.0 % at 300; supervised has 95.0 %."
    )
