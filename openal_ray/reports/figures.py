"""The figures of a report: accuracy against labels, where the seconds went, and what one run asked."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from openal_ray.reports.comparison import REFERENCE, Comparison, rejects
from openal_ray.reports.curves import PHASES, SUPERVISED
from openal_ray.reports.drawing import INK, MARKERS, MUTED, SERIES, canvas, count_axis, spread, style
from openal_ray.reports.groups import Group
from openal_ray.reports.wording import count, percent, seconds, short

WIDTH = 8.0
"""Inches; at the page's 100 pixels an inch this is its column."""

Look = Mapping[str, Mapping[str, Any]]
"""How each strategy is drawn, by label: colour, marker and line as matplotlib's keywords."""

MANY_CLASSES = 40
"""Beyond so many classes their names no longer fit and only the shape of the histogram is shown."""


@style()
def accuracy_curves(comparisons: Sequence[Comparison]) -> Figure:
    """Mean test accuracy against annotated images with a band of ± 1 sd over seeds, one panel for each data set."""
    heights = [max(4.2, 1.2 + 0.26 * len(comparison.groups)) for comparison in comparisons]
    figure = canvas(WIDTH, sum(heights))
    panels = figure.subplots(len(comparisons), 1, squeeze=False, height_ratios=heights)[:, 0]
    look = looks([each for comparison in comparisons for each in comparison.groups])
    for axes, comparison, height in zip(panels, comparisons, heights, strict=True):
        _accuracy_panel(axes, comparison, look, height)
    return figure


@style()
def phase_seconds(comparisons: Sequence[Comparison]) -> Figure:
    """Mean seconds a run by phase, one stacked bar for each strategy."""
    groups = [each for comparison in comparisons for each in comparison.groups]
    figure = canvas(WIDTH, 1.4 + 0.42 * len(groups))
    axes = figure.subplots()
    places = np.arange(len(groups))
    left = np.zeros(len(groups))
    for phase, colour in zip(PHASES, SERIES, strict=False):
        spent = np.array([each.spent(phase).mean for each in groups])
        axes.barh(places, spent, left=left, height=0.62, color=colour, label=phase)
        left += spent
    for place, total in zip(places, left, strict=True):
        axes.annotate(seconds(total), (total, place), (5, 0), textcoords="offset points", va="center", color=INK)
    several = len(comparisons) > 1
    axes.set_yticks(places, [short(f"{each.label} ({each.dataset})" if several else each.label) for each in groups])
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.invert_yaxis()
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("seconds a run")
    axes.margins(x=0.1)
    axes.xaxis.grid(True)
    count_axis(axes, "x")
    figure.legend(loc="outside upper left", ncols=len(PHASES), handlelength=1, columnspacing=1.6)
    return figure


@style()
def query_counts(asked: Mapping[int, int]) -> Figure:
    """Images asked in each round of one run; round 0 is the start set."""
    figure = canvas(WIDTH, 2.4)
    axes = figure.subplots()
    rounds, counts = list(asked), list(asked.values())
    bars = axes.bar(rounds, counts, width=0.7, color=[MUTED if round == 0 else SERIES[0] for round in rounds])
    if len(rounds) <= 20:
        axes.bar_label(bars, labels=[count(each) for each in counts], color=INK, padding=2, fontsize=9)
    axes.set_xlabel("round (0 is the start set)")
    axes.set_ylabel("images asked")
    axes.margins(y=0.15)
    count_axis(axes, "x")
    count_axis(axes, "y")
    return figure


@style()
def queried_classes(labelled: Mapping[str, tuple[int, int]]) -> Figure:
    """How many images of each class one run labelled: (in the start set, by its queries)."""
    names = [short(name, 20) for name in labelled]
    first, later = np.array(list(labelled.values())).T
    if len(names) > MANY_CLASSES:
        order = np.argsort(-(first + later), kind="stable")
        first, later = first[order], later[order]
    figure = canvas(WIDTH, 3.2)
    axes = figure.subplots()
    places = np.arange(len(names))
    axes.bar(places, first, width=0.75, color=MUTED, label="start set")
    axes.bar(places, later, width=0.75, bottom=first, color=SERIES[0], label="queries")
    if len(names) > MANY_CLASSES:
        axes.set_xlabel(f"{len(names)} classes, most labelled first")
    else:
        crowded = sum(map(len, names)) > 60
        axes.set_xticks(places, names, rotation=45 if crowded else 0, ha="right" if crowded else "center")
        axes.tick_params(axis="x", length=0, labelcolor=INK)
    axes.set_ylabel("labelled images")
    axes.yaxis.grid(True)
    count_axis(axes, "y")
    figure.legend(loc="outside upper left", ncols=2, handlelength=1, columnspacing=1.6)
    return figure


def describe(comparison: Comparison) -> str:
    """What the accuracy panel shows, for those who cannot see it."""
    parts = []
    for row in comparison.rows:
        counts, mean, _ = row.group.mean_curve("accuracy")
        if len(counts):
            parts.append(
                f"{row.group.label} goes from {100 * mean[0]:.1f} % at {count(counts[0])} labels "
                f"to {100 * mean[-1]:.1f} % at {count(counts[-1])}"
            )
    parts += [f"{row.group.label} has {percent(row.last)} %" for row in comparison.supervised]
    return f"Test accuracy against labelled images on {comparison.dataset}: {'; '.join(parts)}."


def _accuracy_panel(axes: Axes, comparison: Comparison, all_looks: Look, height: float) -> None:
    labels: list[tuple[float, float, str, str]] = []
    for row in comparison.rows:
        look = all_looks[row.group.label]
        counts, mean, sd = row.group.mean_curve("accuracy")
        if len(counts) == 0:
            continue
        axes.plot(counts, 100 * mean, linewidth=2, markersize=5, **look)
        if len(row.group.seeds) > 1:
            band = {"color": look["color"], "alpha": 0.15, "linewidth": 0}
            axes.fill_between(counts, 100 * (mean - sd), 100 * (mean + sd), **band)
        labels.append((counts[-1], 100 * mean[-1], look["color"], row.group.label))
    for row in comparison.supervised:
        name = f"{row.group.label}, {count(row.last_labelled)} labels"
        axes.axhline(100 * row.last.mean, color=MUTED, linewidth=1.2, linestyle=(0, (1, 2)))
        labels.append((axes.get_xlim()[1], 100 * row.last.mean, MUTED, name))
    axes.set_title(comparison.dataset)
    axes.set_xlabel("annotated images (labelled and rejected)" if rejects(comparison) else "labelled images")
    axes.set_ylabel("test accuracy (%)")
    axes.yaxis.grid(True)
    count_axis(axes, "x")
    label_directly(axes, labels, gap=0.22 / (height - 1))


def looks(groups: Sequence[Group]) -> dict[str, Any]:
    """Colour, marker and line by label, the same in every panel; random is grey and dashed."""
    found: dict[str, Any] = {}
    names = sorted({each.label for each in groups if each.name not in (REFERENCE, SUPERVISED)})
    for place, name in enumerate(names):
        found[name] = {"color": SERIES[place % len(SERIES)], "marker": MARKERS[place % len(MARKERS)]}
    return found | {
        each.label: {"color": MUTED, "marker": ".", "linestyle": (0, (4, 2))}
        for each in groups
        if each.name == REFERENCE
    }


def label_directly(axes: Axes, labels: Sequence[tuple[float, float, str, str]], gap: float) -> None:
    """Writes each name right of the panel at the height where its line (x, y, colour, name) ends."""
    if not labels:
        axes.text(0.5, 0.5, "no label count that all seeds share", transform=axes.transAxes, ha="center", color=MUTED)
        return
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom, top)  # from here on the labels' heights hold
    heights = spread((np.array([y for _, y, _, _ in labels]) - bottom) / (top - bottom), gap)
    for (x, y, colour, name), height in zip(labels, heights, strict=True):
        axes.annotate(
            short(name), (x, y), (1.05, height), textcoords="axes fraction", va="center", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "shrinkA": 1, "shrinkB": 4, "relpos": (0, 0.5)},
        )  # fmt: skip
