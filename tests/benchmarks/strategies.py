"""Every closed-set strategy on the handwritten digits, against random: a table, and who falls below it.

    python -m tests.benchmarks.strategies [NAME ...]     (about 10 minutes on one core; --quick: 2 seeds, 7 minutes)

Open-set strategies have a benchmark of their own, since they avoid what is there to be learned in a closed pool.

The protocol is that of configs/quickstart.yaml, 20 to 200 labels, in this process without Ray. Monte Carlo strategies
train with model.params.drop_rate=0.3 and are compared with a random that does so too.
The rule: a strategy is `below random` if its AUBC, paired by seed, falls short of random's by more than two standard
errors of that difference; else it is `ok`. Three seeds make a rough standard error: --seeds 10 tells noise from more.
"""

import argparse
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from openal_ray import config, config_file, runs
from openal_ray.data.dataset import Dataset
from openal_ray.experiment import Experiment
from openal_ray.metrics import aubc
from openal_ray.reports import curves
from openal_ray.reports.comparison import REFERENCE, Row, compare
from openal_ray.reports.groups import Estimate
from openal_ray.run_folder import RunFolder
from openal_ray.strategies import catalogue
from tests.benchmarks.engine import _one_thread

PROTOCOL = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
SHOWN = np.array([100.0, 200.0])  # label counts that have a column
DROP_RATE = 0.3
NOISE = 2.0  # standard errors
FORMS = ("power", "softrank")  # of drawing by margin's score, beside taking the highest
NOTE = (
    "* trained with dropout, as its random. k_center, k_means, typiclust, prob_cover and max_herding look at the "
    "features of this small classifier, trained on these few labels; their papers take self-supervised features "
    "(strategy.encoder=NAME). learning_loss learns from losses of images that the network knows by heart, so its "
    "largest expected losses are much alike: half of a query is of one class. Its paper draws the candidates first "
    "(budget.n_subset); its second loss also costs accuracy where labels are this few."
)
console = Console(width=120)
progress = Console(stderr=True)


@dataclass(frozen=True)
class Setting:
    """A strategy with its parameters, and the dropout of its network."""

    strategy: dict[str, str]
    drop_rate: float = 0.0


def settings(names: Sequence[str]) -> list[Setting]:
    """What to run: the named strategies (all closed-set ones, if none is), margin's draws, random for each network."""
    closed = [entry for entry in catalogue.ENTRIES if entry.family != "open set"]
    entries = [catalogue.find(name) for name in names] or closed
    found = [
        Setting({"name": entry.name}, DROP_RATE if entry.family == "Monte Carlo" else 0.0)
        for entry in entries
        if entry.name != REFERENCE
    ]
    if any(entry.name == "margin" for entry in entries):
        found += [Setting({"name": "margin", "batch": form}) for form in FORMS]
    rates = sorted({0.0, *(setting.drop_rate for setting in found)})
    return [*(Setting({"name": REFERENCE}, rate) for rate in rates), *found]


def measure(chosen: Sequence[Setting], seeds: int, folder: Path) -> list[Row]:
    """Runs each setting with each seed, and compares them."""
    protocol = config_file.read_file(PROTOCOL)
    dataset = runs.load_dataset(runs.as_config(protocol | {"strategy": REFERENCE, "seed": 0}))
    for number, setting in enumerate(chosen):
        progress.print(f"{number + 1} of {len(chosen)}: {setting}", style="dim", highlight=False)
        for seed in range(seeds):
            own = {
                "strategy": setting.strategy, "seed": seed, "out": folder / f"{number}-{seed}", "shards": 1,
                "model": protocol["model"] | {"params": {"drop_rate": setting.drop_rate}}, "cluster": {"use": "local"},
            }  # fmt: skip
            _run(runs.as_config(protocol | own), dataset)
    return list(compare(curves.load([folder]))[0].rows)


def _run(configuration: config.Config, dataset: Dataset) -> None:
    """One experiment, without a report of its own."""
    folder = RunFolder.create(configuration)
    try:
        with runs.workers_for(configuration, dataset, folder.path) as workers:
            Experiment(configuration, dataset, workers, folder).run()
    finally:
        folder.close()


def difference(row: Row) -> Estimate:
    """AUBC minus random's, paired by seed: the mean and its standard error; nan for random itself."""
    if row.reference is None:
        return Estimate(math.nan, math.nan)
    own, random = (
        np.array([aubc(curve.labelled, curve.accuracy) for curve in group.curves])
        for group in (row.group, row.reference)
    )
    found = Estimate.of(own - random)
    return Estimate(found.mean, found.sd / math.sqrt(len(own)))


def print_table(rows: Sequence[Row]) -> None:
    """One line a strategy, best area first; accuracies and areas in percent."""
    columns = ("strategy", *(f"{count:g} labels" for count in SHOWN), "AUBC", "− random's", "s a query", "verdict")
    table = Table(title="digits: accuracy in %, AUBC ± sd over seeds, its difference ± standard error")
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        dropout = row.group.curves[0].config["model"]["params"]["drop_rate"] > 0
        paired = difference(row)
        verdict = "ok" if paired.mean >= -NOISE * paired.sd else "below random"
        against = (f"{100 * paired.mean:+.2f} ± {100 * paired.sd:.2f}", verdict) if row.reference else ("–", "–")
        queries = len(row.group.curves[0].labelled) - 1
        table.add_row(
            row.group.strategy + (" *" if dropout else ""),
            *(f"{100 * value:.1f}" for value in row.group.at("accuracy", SHOWN).mean(axis=0)),
            f"{100 * row.aubc.mean:.2f} ± {100 * row.aubc.sd:.2f}", against[0],
            f"{row.query_seconds.mean / queries:.3f}", against[1],
        )  # fmt: skip
    console.print(table)
    console.print(NOTE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="strategies; all of them if none is named")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="two seeds")
    options = parser.parse_args()
    with _one_thread(), tempfile.TemporaryDirectory() as folder:
        rows = measure(settings(options.names), 2 if options.quick else options.seeds, Path(folder))
    print_table(rows)


if __name__ == "__main__":
    main()
