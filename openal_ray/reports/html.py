"""The report: one HTML file that needs nothing beside it, from one run folder or many."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from openal_ray.reports import drawing, figures
from openal_ray.reports.comparison import Comparison, compare
from openal_ray.reports.curves import PHASES, Curve, load
from openal_ray.reports.findings import cautions, headline
from openal_ray.reports.groups import Estimate, Group
from openal_ray.reports.run_page import RunPage, TextTable, run_page
from openal_ray.reports.sections import inline, open_set_section, statistics_section
from openal_ray.reports.tables import cells, header, write_csv
from openal_ray.reports.wording import count, percent, seconds
from openal_ray.storage.files import filled
from openal_ray.storage.url import Place

TEMPLATES = Path(__file__).parent / "templates"


def write_report(folders: Iterable[Place], path: Place) -> Place:
    """Writes the report of these runs, with its figures as PNG and its tables as CSV beside it.

    Always comparison.csv and curves.png; with two strategies of two seeds the files of `sections.statistics_section`,
    with open-set runs open_set.csv and open_set.png.

    folders  run folders, or folders of run folders
    path     the HTML file, or a folder that exists, in which it is called report.html
    returns  the HTML file's path
    raises   RunError for folders that are no runs or have no finished round
    """
    curves = load(folders)
    comparisons = compare(curves)
    target = path / "report.html" if path.is_dir() else path
    with filled(target.parent) as folder:
        _write(curves, comparisons, folder / target.name)
    return target


def _write(curves: Sequence[Curve], comparisons: Sequence[Comparison], target: Path) -> None:
    curve_figure = figures.accuracy_curves(comparisons)
    drawing.png(curve_figure, target.with_name("curves.png"))
    write_csv(comparisons, target.with_name("comparison.csv"))
    description = " ".join(figures.describe(comparison) for comparison in comparisons)
    statistics = statistics_section(comparisons, target.parent)
    open_set = open_set_section(comparisons, target.parent)
    page = _template().render(
        title=_title(curves),
        comparisons=[_section(comparison) for comparison in comparisons],
        curves=inline(curve_figure, "curves", description),
        open_set=open_set,
        statistics=statistics,
        phases=_phases(comparisons),
        phase_numbers=_phase_numbers(comparisons),
        files=["comparison.csv", "curves.png", *_files(statistics, open_set)],
        runs=[_run(run_page(curve), alone=len(curves) == 1) for curve in curves],
    )
    target.write_text(page, encoding="utf-8")


def _template() -> Template:
    settings: Any = {"autoescape": True, "undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    return Environment(loader=FileSystemLoader(TEMPLATES), **settings).get_template("report.html.j2")


def _title(curves: Sequence[Curve]) -> str:
    datasets = list(dict.fromkeys(curve.dataset for curve in curves))
    if len(curves) == 1:
        return f"{curves[0].strategy} on {datasets[0]}, seed {curves[0].seed}"
    return f"Strategies compared on {', '.join(datasets)}"


def _section(comparison: Comparison) -> dict[str, Any]:
    """What the template shows of one data set."""
    return {
        "dataset": comparison.dataset,
        "headline": headline(comparison),
        "cautions": cautions(comparison),
        "header": header(comparison),
        "rows": cells(comparison),
        "tiles": _tiles(comparison),
        "curves": _curves_as_numbers(comparison),
    }


def _tiles(comparison: Comparison) -> list[tuple[str, str]]:
    """The few numbers worth large type, of the best strategy: name, accuracy, area, labels saved."""
    if not comparison.rows:
        return []
    fields = dict(zip(header(comparison), (cell.text for cell in cells(comparison)[0]), strict=True))
    best = comparison.rows[0]
    several = len(comparison.rows) > 1
    tiles = [("best strategy" if several else "strategy", fields["strategy"])]
    tiles.append((f"accuracy with {count(best.last_labelled)} labels", f"{percent(best.last)} %"))
    tiles.append(("mean accuracy (AUBC)", f"{fields['AUBC']} %"))
    if best.reference is not None:
        tiles.append(("labels saved", fields["labels saved"]))
    elif not several:
        tiles.append(("seconds", fields["seconds"]))
    return tiles


def _curves_as_numbers(comparison: Comparison) -> TextTable:
    """The accuracy panel as a table, for those who cannot see it: a row for each label count."""
    columns = []
    for row in comparison.rows:
        counts = row.group.counts
        estimates = (Estimate.of(column) for column in row.group.at("accuracy", counts).T)
        columns.append(dict(zip(counts.tolist(), map(percent, estimates), strict=True)))
    rows = [[count(n), *(column.get(n, "–") for column in columns)] for n in sorted(set().union(*columns))]
    return TextTable(["labels", *(row.group.label for row in comparison.rows)], rows)


def _phases(comparisons: Sequence[Comparison]) -> Markup | None:
    """The figure of seconds by phase; None where no run recorded any."""
    groups = [each for comparison in comparisons for each in comparison.groups]
    spent = {each.label: [each.spent(phase).mean for phase in PHASES] for each in groups}
    if not any(map(any, spent.values())):
        return None
    parts = [
        f"{label}: " + ", ".join(f"{phase} {seconds(value)}" for phase, value in zip(PHASES, values, strict=True))
        for label, values in spent.items()
    ]
    return inline(figures.phase_seconds(comparisons), "phases", f"Seconds a run by phase. {'; '.join(parts)}.")


def _phase_numbers(comparisons: Sequence[Comparison]) -> TextTable:
    """The figure of seconds by phase as a table."""
    rows = [
        [f"{group.label} ({comparison.dataset})", *(_spell(group, phase) for phase in PHASES)]
        for comparison in comparisons
        for group in comparison.groups
    ]
    return TextTable(["strategy", *PHASES], rows)


def _spell(group: Group, phase: str) -> str:
    spent = group.spent(phase)
    return seconds(spent.mean) + ("" if math.isnan(spent.sd) else f" ± {seconds(spent.sd)}")


def _files(statistics: dict[str, Any] | None, open_set: dict[str, Any] | None) -> list[str]:
    """What lies beside the page, besides what always does."""
    return [*(statistics["files"] if statistics else []), *(["open_set.csv", "open_set.png"] if open_set else [])]


def _run(page: RunPage, alone: bool) -> dict[str, Any]:
    """What the template shows of one run; with figures where it is the only one, since each takes time to draw."""
    asked = classes = None
    if alone and page.asked:
        told = ", ".join(f"{count(images)} in round {round}" for round, images in page.asked.items())
        asked = inline(figures.query_counts(page.asked), "asked", f"Images asked: {told}.")
    if alone and page.labelled_classes:
        told = ", ".join(f"{name} {start + later}" for name, (start, later) in page.labelled_classes.items())
        drawn = figures.queried_classes(page.labelled_classes)
        classes = inline(drawn, "classes", f"Labelled images of each class: {told}.")
    return {"page": page, "asked": asked, "classes": classes, "open": alone}
