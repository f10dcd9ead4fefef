"""What Monte Carlo dropout and several signals at once cost, against one plain read of the pool.

    python -m tests.benchmarks.monte_carlo       (about 4 minutes on two quiet cores; --quick: 1 minute)

CPU-seconds of this process with one thread; forms run interleaved, and the median of the repeats is shown. Dropout
stands before the last linear layer alone, as `drop_rate` puts it. OpenAL's way is one loop over a DataLoader for each
pass, the whole network in training mode, with the probabilities of all passes kept.
"""

import argparse
import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from rich.table import Table
from torch.utils.data import DataLoader

from openal_ray import config
from openal_ray.data.images import ArrayImages
from openal_ray.models.learners import Classifier
from openal_ray.models.monte_carlo import Sampling, _FixedDropout
from openal_ray.pool import AllBut
from openal_ray.selection import scores
from openal_ray.shard import ReadOrder, Settings
from openal_ray.workers import LocalShards
from tests.benchmarks.engine import MEAN, STD, Pictures, _one_thread, console, fashion_mnist, interleaved

PASSES, SEED = 25, 5
SIGNALS = ("mc_mean", "mc_entropy", "mc_std", "mc_votes")
NETWORKS = {"resnet18": (64, 32, 3), "small_cnn": (8192, 28, 1)}  # images, pixels a side, channels
SEVERAL = {
    "plain signals": ("probs", "features", "stages"),
    "plain and Monte Carlo": ("probs", "features", "mc_mean", "mc_std"),
}


class Case:
    """A network with dropout before its last layer, and pictures in one shard."""

    def __init__(self, name: str, count: int, size: int, channels: int) -> None:
        pictures = np.repeat(fashion_mnist(count)[0], channels, axis=3)
        edge = (size - 28) // 2
        self.pictures = np.pad(pictures, ((0, 0), (edge, edge), (edge, edge), (0, 0)))
        learner = Classifier(10, name, params={"drop_rate": 0.5})
        torch.manual_seed(0)
        self.network = learner.build(self.pictures.shape[1:]).eval().requires_grad_(False)
        self.mean, self.std = MEAN * channels, STD * channels
        read = config.Read(batch_size=64 if name == "resnet18" else 256)
        self.shards = LocalShards({"train": ArrayImages(self.pictures)}, Settings(read, self.mean, self.std))
        self.shards.load(learner, self.network.state_dict())

    def reading(self, needs: Sequence[str]) -> Callable[[], Mapping[str, np.ndarray]]:
        """One read of `needs` by the shard."""
        everything = AllBut(len(self.pictures), np.empty(0, np.int64))
        order = ReadOrder("all", "train", everything, tuple(needs), Sampling(PASSES, SEED))

        def run() -> Mapping[str, np.ndarray]:
            self.shards.forget("all")  # or what was read already would not be read again
            self.shards.read(order)
            return self.shards.gather("all").signals

        return run

    def openal(self, passes: int) -> Callable[[], torch.Tensor]:
        """OpenAL's passes; on a copy, as training mode moves BatchNorm's statistics."""
        network = copy.deepcopy(self.network)
        loader = DataLoader(Pictures(self.pictures), batch_size=64)

        def run() -> torch.Tensor:
            network.train(passes > 1)
            with torch.no_grad():
                return torch.stack(
                    [torch.cat([network(batch).softmax(1) for batch in loader]) for _ in range(passes)], dim=1
                )

        return run

    def whole_passes(self) -> np.ndarray:
        """[n, T, C] from the whole network T times, with the masks of the seed."""
        inputs = torch.stack([Pictures(self.pictures)[index] for index in range(len(self.pictures))])
        found = []
        for number in range(PASSES):
            parts = []
            for batch in inputs.split(256):
                with torch.inference_mode(), _FixedDropout(SEED, number):
                    parts.append(self.network(batch).softmax(1))
            found.append(torch.cat(parts))
        return torch.stack(found, dim=1).numpy()


def largest_difference(read: Mapping[str, np.ndarray], mc_probs: np.ndarray) -> float:
    """Of BALD, mean deviation, variation ratio and entropy, between the read and the definitions over all passes."""
    pairs = (
        (scores.entropy(read["mc_mean"]) - read["mc_entropy"], scores.bald(mc_probs)),
        (read["mc_std"].mean(axis=1), scores.mean_std(mc_probs)),
        (1 - read["mc_votes"].max(axis=1), scores.variation_ratio(mc_probs)),
        (scores.entropy(read["mc_mean"]), scores.entropy(mc_probs.mean(axis=1))),
    )
    return max(float(np.abs(ours - theirs).max()) for ours, theirs in pairs)


def monte_carlo(cases: dict[str, Case], repeats: int) -> None:
    """T passes against one."""
    table = Table("network", "form", "CPU s", "× plain read", title=f"{PASSES} passes of dropout before the last layer")
    for name, case in cases.items():
        forms = {
            "shard, one plain read (probs)": case.reading(("probs",)),
            f"shard, {PASSES} passes ({', '.join(SIGNALS)})": case.reading(SIGNALS),
            "OpenAL's loop, one plain pass": case.openal(1),
            f"OpenAL's loop, {PASSES} passes in training mode": case.openal(PASSES),
        }
        seconds = interleaved(forms, repeats)
        first = seconds[next(iter(forms))]
        for form in forms:
            table.add_row(f"{name}, {len(case.pictures)}", form, f"{seconds[form]:.3f}", f"{seconds[form] / first:.2f}")
        difference = largest_difference(case.reading(SIGNALS)(), case.whole_passes())
        table.add_row("", "scores against whole passes, the same masks: largest difference", f"{difference:.1e}", "")
        table.add_section()
    console.print(table)


def _one_by_one(runs: Sequence[Callable[[], object]]) -> None:
    for run in runs:
        run()


def several(cases: dict[str, Case], repeats: int) -> None:
    """One read of several needs against one read of each."""
    table = Table("network", "needs", "one read, CPU s", "one each, CPU s", "ratio", title="One read for several needs")
    for name, case in cases.items():
        for needs in SEVERAL.values():
            together, apart = case.reading(needs), [case.reading((need,)) for need in needs]
            forms: dict[str, Callable[[], object]] = {"together": together, "apart": partial(_one_by_one, apart)}
            seconds = interleaved(forms, repeats)
            ratio = seconds["together"] / seconds["apart"]
            table.add_row(
                name, ", ".join(needs), f"{seconds['together']:.3f}", f"{seconds['apart']:.3f}", f"{ratio:.2f}"
            )
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a quarter of the images")
    parser.add_argument("--only", choices=("monte_carlo", "several"))
    options = parser.parse_args()
    with _one_thread():
        cases = {
            name: Case(name, count // 4 if options.quick else count, size, channels)
            for name, (count, size, channels) in NETWORKS.items()
        }
        for part in (monte_carlo, several):
            if options.only in (None, part.__name__):
                part(cases, 3)


if __name__ == "__main__":
    main()
