"""Open-set runs drawn: purity, recall and accuracy side by side, then what was wasted and how well detectors detect."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from openal_ray.reports.drawing import canvas, count_axis, style
from openal_ray.reports.figures import WIDTH, Look
from openal_ray.reports.open_set import OpenSet
from openal_ray.reports.wording import short

ACROSS = 3
"""Panels side by side."""


@style()
def open_set_panels(parts: Sequence[OpenSet], looks: Look) -> Figure:
    """Every measure against annotated images, mean with a band of ± 1 sd over seeds; rows of panels by data set."""
    rows = [(part, part.panels[start : start + ACROSS]) for part in parts for start in range(0, len(part.panels), 3)]
    names = list(dict.fromkeys(name for part in parts for panel in part.panels for name in panel.curves))
    figure = canvas(WIDTH, 0.3 + 2.5 * len(rows) + 0.25 * -(-len(names) // 4))
    lines = {}
    for row, (part, panels) in zip(figure.subplots(len(rows), ACROSS, squeeze=False), rows, strict=True):
        for axes in row[len(panels) :]:
            axes.set_axis_off()
        for axes, panel in zip(row, panels, strict=False):
            for name, (counts, mean, sd) in panel.curves.items():
                look = looks[name]
                (lines[name],) = axes.plot(counts, 100 * mean, linewidth=1.8, markersize=4, **look)
                band = {"color": look["color"], "alpha": 0.15, "linewidth": 0}
                axes.fill_between(counts, 100 * (mean - sd), 100 * (mean + sd), **band)
            several = f"{part.dataset}: " if len(parts) > 1 else ""
            axes.set_title(f"{several}{panel.title} (%)", fontsize=9.5)
            axes.set_xlabel("annotated images", fontsize=9.5)
            axes.tick_params(labelsize=9)
            axes.yaxis.grid(True)
            count_axis(axes, "x")
            axes.xaxis.get_major_locator().set_params(nbins=4)
    figure.legend(
        list(lines.values()), [short(name, 28) for name in lines], loc="outside upper left",
        ncols=min(4, len(lines)), columnspacing=1.4, fontsize=10,
    )  # fmt: skip
    return figure
