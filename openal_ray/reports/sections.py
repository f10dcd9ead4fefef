"""The parts of the report on chance and on open sets: figures and tables for the page, PNG and CSV files beside it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from openal_ray.reports import drawing, significance_figures
from openal_ray.reports.comparison import REFERENCE, Comparison
from openal_ray.reports.figures import looks
from openal_ray.reports.open_set import OpenSet, open_set
from openal_ray.reports.open_set_figures import open_set_panels
from openal_ray.reports.open_set_tables import open_set_table, write_open_set
from openal_ray.reports.significance import Significance, significance
from openal_ray.reports.significance_tables import pair_table, saved_table, strategy_table, verdict, write_csvs
from openal_ray.reports.wording import count


def inline(figure: Figure, name: str, description: str) -> Markup:
    """The figure as markup; matplotlib has escaped the names in it."""
    return Markup(drawing.svg(figure, name, description))


def statistics_section(comparisons: Sequence[Comparison], folder: Path) -> dict[str, Any] | None:
    """What the template shows of chance; None where there are not two strategies with two seeds.

    Figures that need a test are left out where there are too few seeds for one.
    """
    found = significance(comparisons)
    if found is None:
        return None
    write_csvs(found, folder)
    drawn = {name: figure for name, figure in _figures(found, comparisons).items() if figure is not None}
    for name, figure in drawn.items():
        drawing.png(figure, folder / f"{name}.png")
    told = _descriptions(found)
    return {
        "verdict": verdict(found),
        "strategies": strategy_table(found),
        "saved": saved_table(found),
        "pairs": pair_table(found),
        "target": "random's last accuracy" if REFERENCE in found.strategies else "the lowest last accuracy",
        **{name: inline(drawn[name], name, told[name]) if name in drawn else None for name in told},
        "files": ["pairwise.csv", "penalty.csv", "ranks.csv", "labels_saved.csv", *(f"{name}.png" for name in drawn)],
    }


def open_set_section(comparisons: Sequence[Comparison], folder: Path) -> dict[str, Any] | None:
    """What the template shows of open-set runs; None where there are none."""
    parts = [part for comparison in comparisons if (part := open_set(comparison))]
    if not parts:
        return None
    write_open_set(parts, folder / "open_set.csv")
    figure = open_set_panels(parts, looks([row.group for part in parts for row in part.rows]))
    drawing.png(figure, folder / "open_set.png")
    description = " ".join(_describe(part) for part in parts)
    return {"panels": inline(figure, "open-set", description), "parts": list(map(_captioned, parts))}


def _figures(found: Significance, comparisons: Sequence[Comparison]) -> dict[str, Figure | None]:
    groups = [row.group for comparison in comparisons for row in comparison.rows]
    by_label = looks(groups)
    by_strategy = {group.strategy: by_label[group.label] for group in reversed(groups)}
    return {
        "penalty": significance_figures.penalty_matrix(found) if found.tested else None,
        "ranks": significance_figures.rank_diagram(found, found.ranking) if found.ranking else None,
        "profile": significance_figures.profile(found, by_strategy) if len(found.ratios) else None,
    }


def _descriptions(found: Significance) -> dict[str, str]:
    """What the figures show, for those who cannot see them."""
    k = len(found.strategies)
    beaten = [
        f"{found.strategies[row]} beats {found.strategies[column]} in {found.penalty[row, column]:.2g}"
        for row in range(k)
        for column in range(k)
        if found.penalty[row, column]
    ]
    ranks = found.ranking.mean_ranks if found.ranking else np.empty(0)
    ranked = ", ".join(f"{found.strategies[place]} {ranks[place]:.2f}" for place in np.argsort(ranks))
    quickest = (found.ratios == 1).mean(axis=0) if len(found.ratios) else np.empty(0)
    told = ", ".join(f"{name} {100 * share:.0f} %" for name, share in zip(found.strategies, quickest, strict=False))
    return {
        "penalty": f"Pairwise penalties: {'; '.join(beaten) or 'no strategy beats another'}.",
        "ranks": f"Mean ranks: {ranked}.",
        "profile": f"Share of problems on which each strategy needs the fewest labels: {told}.",
    }


def _captioned(part: OpenSet) -> dict[str, Any]:
    table = open_set_table(part)
    caption = f"{part.dataset}: shares in %, mean ± standard deviation over seeds"
    return {"header": table.header, "rows": table.rows, "caption": caption}


def _describe(part: OpenSet) -> str:
    ends = []
    for panel in part.panels:
        last = [(name, mean[~np.isnan(mean)][-1]) for name, (_, mean, _) in panel.curves.items()]
        ends.append(f"{panel.title}: " + ", ".join(f"{name} {100 * value:.1f} %" for name, value in last))
    counts = [count(row.annotated) for row in part.rows]
    return f"Open set on {part.dataset}, at the end ({counts[0]} annotated images). {'; '.join(ends)}."
