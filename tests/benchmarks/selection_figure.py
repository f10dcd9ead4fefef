"""The figure of the selection benchmark: CPU-seconds against the pool's size and against the number of picks."""

from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np

from tests.benchmarks import selection_data as data
from tests.benchmarks.selection_forms import APPROXIMATE, EXPLICIT, FORMS, forms
from tests.benchmarks.selection_measure import Arrays, interleaved, warm_up

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

SIZES, BUDGETS = (5_000, 10_000, 20_000, 50_000, 100_000, 200_000), (10, 100, 1000, 3000, 10_000)
N, K, COVERED, CLASSES, D = 50_000, 1000, 1000, 10, 128
REPEATS, PAIRS = 3, 2_000_000
LEFT_OUT = ("ours, exact, 4 shards", *EXPLICIT, *APPROXIMATE)


def draw(file: Path, quick: bool) -> None:
    """Measures and writes the figure; peers are extrapolated from a few picks (dashed), ours are run whole."""
    sizes, budgets = (SIZES[:3], BUDGETS[:3]) if quick else (SIZES, BUDGETS)
    features = data.rectified(max(sizes) + COVERED, D)
    left = data.residuals(features, CLASSES)
    figure, panels = pyplot.subplots(2, 2, figsize=(11, 7), constrained_layout=True)
    for kind, every in FORMS.items():
        for name in forms(kind, *LEFT_OUT):
            warm_up(every[name].run, _arrays(kind, features, left, 5000))
    for row, kind in zip(panels, FORMS, strict=True):
        pools = {n: _arrays(kind, features, left, n) for n in sizes}
        _panel(row[0], kind, {n: (pools[n], K) for n in sizes}, f"images in the pool ({K} picks)")
        pool = _arrays(kind, features, left, min(N, max(sizes)))
        _panel(row[1], kind, {k: (pool, k) for k in budgets}, f"picks (pool of {len(pool[0]):,})")
        row[0].set_ylabel(f"{'k-center' if kind == 'k_center' else 'BADGE'}: CPU seconds, one thread")
    for panel in panels[:, 0]:
        panel.set_ylim(top=8 * panel.get_ylim()[1])
        panel.legend(loc="upper left")
    figure.suptitle(
        f"Drawn features, D = {D}, {CLASSES} classes, {COVERED} labelled; dashed: extrapolated from a few picks"
    )
    figure.savefig(file, dpi=110)


def _arrays(kind: str, features: np.ndarray, left: np.ndarray, n: int) -> Arrays:
    points = features[COVERED : COVERED + n]
    return (points, features[:COVERED]) if kind == "k_center" else (left[COVERED : COVERED + n], points)


def _panel(panel: pyplot.Axes, kind: str, cases: dict[int, tuple[Arrays, int]], label: str) -> None:
    lines: dict[str, list[float]] = {}
    for arrays, k in cases.values():
        few = PAIRS // len(arrays[0])  # small pools: a pick is too quick to make a slope of twenty
        named = {
            name: replace(form, few=max(few, form.few) * bool(form.few))
            for name, form in forms(kind, *LEFT_OUT).items()
        }
        runs = {name: (lambda form=form, a=arrays, k=k: form.seconds(a, k)) for name, form in named.items()}
        for name, seconds in interleaved(runs, REPEATS).items():
            lines.setdefault(name, []).append(seconds)
    for name, values in lines.items():
        ours = name.startswith("ours")
        panel.loglog(list(cases), values, "o-" if ours else "o--", label=name, linewidth=2.5 if ours else 1.2)
    panel.set_xlabel(label)
    panel.grid(True, which="major", alpha=0.3)
