"""Figures of the statistics: who beats whom, how many labels each needs, and which mean ranks differ."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from openal_ray.reports.drawing import INK, MUTED, SERIES, canvas, style
from openal_ray.reports.figures import WIDTH, Look, label_directly
from openal_ray.reports.significance import Significance
from openal_ray.reports.statistics import Ranking, cliques
from openal_ray.reports.wording import short

STRONGEST = 0.6
"""Opacity of a full cell: the number in it can be read on a light and on a dark page."""

FURTHEST = 5.0
"""Where a profile's axis of ratios ends at most."""


@style()
def penalty_matrix(found: Significance) -> Figure:
    """A cell for each pair, row beats column, and the sums: the right one is how often a row beats others, the lower
    one how often a column is beaten.
    """
    k = len(found.strategies)
    figure = canvas(WIDTH, 1.2 + 0.42 * (k + 1.2))
    axes = figure.subplots()
    top = max(1.0, float(found.penalty.max()))
    for row in range(k):
        for column in range(k):
            value = float(found.penalty[row, column])
            colour = to_rgba(SERIES[0], STRONGEST * value / top) if value else to_rgba(MUTED, 0.08)
            axes.fill_between([column + 0.02, column + 0.98], row + 0.03, row + 0.97, color=colour, linewidth=0)
            text = "–" if row == column else _spell(value)
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=INK if value else MUTED)
    for place, (wins, beaten) in enumerate(zip(found.penalty.sum(axis=1), found.penalty.sum(axis=0), strict=True)):
        axes.text(k + 0.6, place + 0.5, _spell(wins), ha="center", va="center", color=INK, fontweight="bold")
        axes.text(place + 0.5, k + 0.6, _spell(beaten), ha="center", va="center", color=INK, fontweight="bold")
    names = [short(name, 20) for name in found.strategies]
    axes.set_xticks(
        np.append(np.arange(k) + 0.5, k + 0.6),
        [*names, "beats"],
        rotation=30 if k > 3 else 0,
        ha="left" if k > 3 else "center",
    )
    axes.set_yticks(np.append(np.arange(k) + 0.5, k + 0.6), [*names, "is beaten"])
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelcolor=INK)
    axes.set(xlim=(0, k + 1.2), ylim=(k + 1.2, 0))
    axes.spines[:].set_visible(False)
    return figure


@style()
def profile(found: Significance, looks: Look) -> Figure:
    """For each strategy the share of problems on which it needs at most τ times the fewest labels, against τ."""
    figure = canvas(WIDTH, max(3.8, 1.2 + 0.26 * len(found.strategies)))
    axes = figure.subplots()
    finite = found.ratios[np.isfinite(found.ratios)]
    end = float(np.clip(finite.max(initial=1.0) * 1.05, 1.1, FURTHEST))
    labels = []
    for name, column in zip(found.strategies, found.ratios.T, strict=True):
        look = looks[name]
        steps = np.append(np.sort(column[column <= end]), end)
        shares = np.append(np.arange(1, len(steps)), len(steps) - 1) / len(column)
        axes.step(
            [1, *steps], 100 * np.array([0, *shares]), where="post", linewidth=2, markersize=5,
            markevery=slice(1, -1, max(1, len(steps) // 8)), **look,
        )  # fmt: skip
        labels.append((end, 100 * shares[-1], look["color"], name))
    axes.set(xlim=(1, end), ylim=(-2, 104))
    axes.set_xlabel("labels needed ÷ fewest labels needed by any strategy")
    axes.set_ylabel("problems (%)")
    axes.yaxis.set_major_formatter(PercentFormatter(symbol=""))
    axes.grid(True)
    label_directly(axes, labels, gap=0.22 / (figure.get_figheight() - 1))
    return figure


@style()
def rank_diagram(found: Significance, ranking: Ranking) -> Figure:
    """Mean ranks on a line, 1 = best on the left; a bar joins those that Nemenyi's test cannot tell apart."""
    k = len(found.strategies)
    bars = cliques(ranking.mean_ranks, ranking.critical_difference)
    first_name = 1.0 + 0.35 * len(bars)
    rows = (k + 1) // 2
    figure = canvas(WIDTH, 1.1 + 0.32 * (first_name + rows))
    axes = figure.subplots()
    axes.hlines(0, 1, k, color=INK, linewidth=1.2)
    for place in range(1, k + 1):
        axes.vlines(place, -0.2, 0, color=INK, linewidth=1.2)
        axes.text(place, -0.35, str(place), ha="center", va="bottom", color=INK)
    _ruler(axes, ranking.critical_difference, k)
    for place, (begin, end) in enumerate(bars):
        height = 0.4 + 0.35 * place
        axes.hlines(height, begin - 0.015 * k, end + 0.015 * k, color=SERIES[0], linewidth=4)
    order = np.argsort(ranking.mean_ranks, kind="stable")
    for place, strategy in enumerate(order):
        on_left = place < rows
        height = first_name + (place if on_left else k - 1 - place)
        edge = 1 - 0.08 * k if on_left else k + 0.08 * k
        mean = ranking.mean_ranks[strategy]
        axes.plot([mean, mean, edge], [0, height, height], color=MUTED, linewidth=1)
        name = f"{short(found.strategies[strategy], 24)}  {mean:.2f}"
        axes.annotate(
            name, (edge, height), (-4 if on_left else 4, 0), textcoords="offset points", color=INK, va="center",
            ha="right" if on_left else "left", annotation_clip=False,
        )  # fmt: skip
    axes.set(xlim=(1 - 0.08 * k, k + 0.08 * k), ylim=(first_name + rows - 0.4, -2.6))
    axes.set_axis_off()
    return figure


def _spell(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _ruler(axes: Axes, length: float, k: int) -> None:
    """The critical difference to scale; one longer than the axis is only told."""
    text = f"critical difference {length:.2f}"
    if length <= k - 1:
        axes.errorbar(1 + length / 2, -1.6, xerr=length / 2, color=INK, capsize=4, linewidth=1.2)
    else:
        text += ", more than any two ranks can differ"
    axes.text(1, -1.9, text, ha="left", va="bottom", color=MUTED)
