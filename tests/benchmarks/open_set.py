"""Open-set strategies on two real data sets: pools in which images of six classes belong to none of the four known.

    python -m tests.benchmarks.open_set [--data digits|fashion_mnist] [--seeds 3] [NAME ...]      (--quick: digits)

Classes 0-3 are known, images of 4-9 are not and make up the rest of the pool; the start set has known images alone.
digits: 20, then 5 × 50 images; Fashion-MNIST (where Debian's package is installed): a pool of 6000, 80, then 5 × 200.
Accuracy is on test images of the known classes.
"""

import argparse
import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from openal_ray import config_file, runs
from openal_ray.data.dataset import Dataset
from openal_ray.data.images import Subset

PROTOCOLS: dict[str, dict[str, Any]] = {
    "digits": {
        "budget": {"n_start": 20, "n_query": 50, "n_end": 270},
        "train": {"epochs": 100, "steps_per_epoch": 1, "optimizer": {"lr": 5e-3}},
    },
    "fashion_mnist": {
        "budget": {"n_start": 80, "n_query": 200, "n_end": 1080},
        "train": {"epochs": 200, "steps_per_epoch": 1, "optimizer": {"lr": 3e-3}, "augment": ["RandomHorizontalFlip"]},
    },
}
POOL = {"digits": None, "fashion_mnist": 6000}
NAMES = [
    "random", "margin", "badge", "lfosa", "eoal", "eaoa", "ccal", "mqnet", "av_based", "av_uncertainty", "max_av",
    "purity_filter", "openset_auto inside=badge", "openset_auto",
]  # fmt: skip
SEEDS = 3


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("names", nargs="*", default=NAMES)
    arguments.add_argument("--quick", action="store_true")
    arguments.add_argument("--data", choices=list(PROTOCOLS))
    arguments.add_argument("--seeds", type=int, default=SEEDS)
    given = arguments.parse_args()
    logging.basicConfig(level=logging.ERROR)
    for data in [given.data] if given.data else ["digits"] if given.quick else PROTOCOLS:
        _measure(data, given.names or NAMES, given.seeds)


def _measure(data: str, names: list[str], seeds: int) -> None:
    table = Table("strategy", "purity % by round", "recall %", "accuracy % start → end", "AUBC", "detector AUROC")
    console = Console(width=120)
    dataset = None
    for name in names:
        rows = []
        for seed in range(seeds):
            with tempfile.TemporaryDirectory() as folder:
                chosen = _config(data, name, seed, Path(folder) / "run")
                dataset = dataset or _dataset(data, chosen)
                rows.append(runs.run(chosen, dataset=dataset).rows)
        table.add_row(name, *_summary(rows))
        console.print(name, *_summary(rows), markup=False)
    table.title = f"{data}: {seeds} seeds, mean"
    console.print(table)


def _config(data: str, name: str, seed: int, out: Path) -> Any:
    first, *parameters = name.split()
    strategy = {"name": first, **config_file.override({}, parameters)}
    return runs.as_config(
        PROTOCOLS[data]
        | {"data": {"name": data}, "open_set": {"known": [0, 1, 2, 3]}, "cluster": {"use": "local"}, "shards": 1}
        | {"strategy": strategy, "seed": seed, "out": str(out)}
    )


def _dataset(data: str, chosen: Any) -> Dataset:
    """The closed data set, cut to the protocol's pool."""
    whole = runs.load_dataset(chosen.model_copy(update={"open_set": None}))
    count = POOL[data]
    if count is None:
        return whole
    kept = np.sort(np.random.default_rng(0).permutation(len(whole.train))[:count])
    return Dataset(
        whole.name, whole.classes, Subset(whole.train, kept), whole.labels[kept], whole.test, whole.test_labels,
        whole.mean, whole.std,
    )  # fmt: skip


def _summary(seeds: list[list[dict[str, Any]]]) -> tuple[str, ...]:
    def mean(column: str, round: int) -> float:
        values = [rows[round].get(column) for rows in seeds]
        return float(np.nanmean([np.nan if value is None else value for value in values]))

    rounds = range(1, len(seeds[0]))
    ends = [rows[-1]["accuracy"] for rows in seeds]
    aubc = np.mean([np.trapezoid([row["accuracy"] for row in rows]) / (len(rows) - 1) for rows in seeds])
    auroc = [rows[-1].get("detector_auroc") for rows in seeds]
    return (
        " ".join(f"{100 * mean('purity', number):.0f}" for number in rounds),
        f"{100 * mean('recall_id', -1):.1f}",
        f"{100 * mean('accuracy', 0):.1f} → {100 * np.mean(ends):.1f} ± {100 * np.std(ends, ddof=1):.1f}",
        f"{100 * aubc:.1f}",
        "–" if None in auroc else f"{np.mean([each for each in auroc if each is not None]):.3f}",
    )


if __name__ == "__main__":
    main()
