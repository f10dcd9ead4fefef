"""Strategies compared on one data set, as plain data; `tables` writes it down and `findings` puts it into words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from openal_ray.metrics import aubc, labels_saved
from openal_ray.reports.curves import PHASES, SUPERVISED, Curve
from openal_ray.reports.groups import Estimate, Group, group

REFERENCE = "random"
"""The strategy against which saved labels are counted."""

SHOWN_COUNTS = 4
"""Label counts that get a column of their own; the last one that all strategies share is always among them."""


@dataclass(frozen=True, eq=False)
class Row:
    """One strategy; accuracies and areas are shares in 0 … 1, times are seconds a run, labels are annotated images.

    accuracy      at each of the comparison's label counts
    aubc          area under the budget curve, over the label counts that all strategies of the data set share
    last          accuracy in the last round of each run, with `last_labelled` labels (a mean over seeds)
    reference     random in the same setting; None for random itself and where there is none
    labels_saved  labels fewer than the reference needs for its last accuracy, between mean curves;
                  nan if never reached or without a reference
    saved_share   the same as a share of the reference's labels
    """

    group: Group
    accuracy: tuple[Estimate, ...]
    aubc: Estimate
    last: Estimate
    last_labelled: float
    reference: Group | None
    labels_saved: float
    saved_share: float
    seconds: Estimate
    query_seconds: Estimate


@dataclass(frozen=True, eq=False)
class Comparison:
    """The strategies of one data set, best area first; `supervised` holds the runs that trained on all labels."""

    dataset: str
    counts: tuple[float, ...]
    rows: tuple[Row, ...]
    supervised: tuple[Row, ...]

    @property
    def groups(self) -> list[Group]:
        """All that was compared, in the order of the rows, supervised last."""
        return [row.group for row in (*self.rows, *self.supervised)]


def rejects(comparison: Comparison) -> bool:
    """Whether some run rejected images, so that what was annotated is more than what is labelled."""
    return any(bool((curve.annotated > curve.labelled).any()) for group in comparison.groups for curve in group.curves)


def compare(curves: Sequence[Curve]) -> list[Comparison]:
    """One comparison for each data set, in the order of `curves`; raises RunError as `group` does."""
    groups = group(curves)
    return [
        _compare_on(dataset, [each for each in groups if each.dataset == dataset])
        for dataset in dict.fromkeys(each.dataset for each in groups)
    ]


def _compare_on(dataset: str, groups: Sequence[Group]) -> Comparison:
    rivals = [each for each in groups if each.name != SUPERVISED]
    shared = shared_counts(rivals)
    places = np.linspace(0, len(shared) - 1, SHOWN_COUNTS).round().astype(int)
    shown = np.unique(shared[places]) if len(shared) else shared
    rows = [_row(each, shared, shown, _reference(each, groups)) for each in rivals]
    nothing = np.empty(0)
    return Comparison(
        dataset=dataset,
        counts=tuple(shown.tolist()),
        rows=tuple(sorted(rows, key=lambda row: math.inf if math.isnan(row.aubc.mean) else -row.aubc.mean)),
        supervised=tuple(_row(each, nothing, nothing, None) for each in groups if each.name == SUPERVISED),
    )


def shared_counts(groups: Sequence[Group]) -> np.ndarray:
    """Label counts that some strategy measured and all of them cover, ascending; may be empty."""
    counts = [each.counts for each in groups]
    if not counts or not all(len(each) for each in counts):
        return np.empty(0)
    measured = np.unique(np.concatenate(counts))
    first, last = max(each[0] for each in counts), min(each[-1] for each in counts)
    return measured[(measured >= first) & (measured <= last)]


def _reference(group: Group, groups: Sequence[Group]) -> Group | None:
    same_setting = (each for each in groups if each.name == REFERENCE and each.setting == group.setting)
    return None if group.name == REFERENCE else next(same_setting, None)


def _row(group: Group, shared: np.ndarray, shown: np.ndarray, reference: Group | None) -> Row:
    areas = [aubc(shared, curve.at("accuracy", shared)) for curve in group.curves] if len(shared) else [math.nan]
    saved, share = _saved(group, reference)
    return Row(
        group=group,
        accuracy=tuple(Estimate.of(column) for column in group.at("accuracy", shown).T),
        aubc=Estimate.of(areas),
        last=Estimate.of(curve.accuracy[-1] for curve in group.curves),
        last_labelled=Estimate.of(curve.annotated[-1] for curve in group.curves).mean,
        reference=reference,
        labels_saved=saved,
        saved_share=share,
        seconds=Estimate.of(curve.seconds(*PHASES) for curve in group.curves),
        query_seconds=Estimate.of(curve.seconds("read", "select") for curve in group.curves),
    )


def _saved(group: Group, reference: Group | None) -> tuple[float, float]:
    if reference is None or not len(group.counts) or not len(reference.counts):
        return math.nan, math.nan
    counts, mean, _ = group.mean_curve("accuracy")
    reference_counts, reference_mean, _ = reference.mean_curve("accuracy")
    saved = labels_saved(counts, mean, reference_counts, reference_mean)
    return saved, saved / float(reference_counts[-1])
