"""Open-set runs: how pure the queries were, what they found, and what the rejected images cost."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from openal_ray.metrics import aubc
from openal_ray.reports.comparison import Comparison, rejects
from openal_ray.reports.groups import Estimate, Group

PURITY, PURITY_TOTAL, DETECTOR, WASTED = "purity", "purity_total", "detector_auroc", "wasted"

RECALL = "recall_id"
"""Of the pool's in-distribution images; the column `recall` is the classifier's mean recall on test images."""


@dataclass(frozen=True, eq=False)
class Panel:
    """One measure of an open-set comparison: its curves over annotated images, as shares in 0 … 1.

    curves  by strategy label: counts [L], mean over seeds [L], sample standard deviation [L] (nan with one seed)
    """

    title: str
    curves: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]


@dataclass(frozen=True, eq=False)
class OpenSetRow:
    """One strategy after the last count of annotated images that all its seeds cover; shares in 0 … 1.

    found          labelled, hence in-distribution, images
    wasted         share of what all answers so far cost, the start set's included, that out-of-distribution images took
    area           of the accuracy over annotated images that all strategies of the data set cover
    area_labelled  the same over the labelled images of each seed's own curve: it forgives impure queries
    """

    group: Group
    annotated: float
    found: Estimate
    purity_total: Estimate
    recall: Estimate
    wasted: Estimate
    detector: Estimate
    accuracy: Estimate
    area: Estimate
    area_labelled: Estimate


@dataclass(frozen=True, eq=False)
class OpenSet:
    """The open-set part of one data set's comparison, strategies in its order."""

    dataset: str
    panels: tuple[Panel, ...]
    rows: tuple[OpenSetRow, ...]


def open_set(comparison: Comparison) -> OpenSet | None:
    """The open-set part; None where no run measured the purity of a query or rejected an image."""
    groups = [row.group for row in comparison.rows if len(row.group.counts)]
    if not rejects(comparison) and not any(_measured(group, PURITY) for group in groups):
        return None
    areas = {row.group.label: row.aubc for row in comparison.rows}
    return OpenSet(
        dataset=comparison.dataset,
        panels=tuple(panel for panel in _panels(groups) if panel.curves),
        rows=tuple(_row(group, areas[group.label]) for group in groups),
    )


def _measured(group: Group, column: str) -> bool:
    return any(not np.isnan(curve.columns.get(column, np.nan)).all() for curve in group.curves)


def _panels(groups: Sequence[Group]) -> Iterator[Panel]:
    measures = {
        "purity of the round's query": PURITY,
        "recall of the pool": RECALL,
        "test accuracy": "accuracy",
        "wasted answers": WASTED,
        "detector AUROC": DETECTOR,
    }
    for title, column in measures.items():
        curves = {group.label: _curve(group, column) for group in groups}
        yield Panel(title, {label: curve for label, curve in curves.items() if not np.isnan(curve[1]).all()})


def _curve(group: Group, column: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts, mean and sample standard deviation over seeds; nan wherever a seed has no number.

    The start set is no query, so it has no purity.
    """
    counts = group.counts
    values = group.at(column, counts)
    if column == PURITY:
        values[:, counts <= max(curve.annotated[0] for curve in group.curves)] = np.nan
    sd = values.std(axis=0, ddof=1) if len(values) > 1 else np.full(values.shape[1], np.nan)
    return counts, values.mean(axis=0), sd


def _row(group: Group, area: Estimate) -> OpenSetRow:
    last = group.counts[-1:]

    def final(column: str) -> Estimate:
        return Estimate.of(group.at(column, last)[:, 0])

    return OpenSetRow(
        group=group,
        annotated=float(last[0]),
        found=final("labelled"),
        purity_total=final(PURITY_TOTAL),
        recall=final(RECALL),
        wasted=final(WASTED),
        detector=final(DETECTOR),
        accuracy=final("accuracy"),
        area=area,
        area_labelled=Estimate.of(aubc(curve.labelled, curve.accuracy) for curve in group.curves),
    )
