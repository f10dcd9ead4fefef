"""Selection against what others do: k-center, BADGE, uncertainty scores; seconds, memory, exchanges, bytes, goals.

    python -m tests.benchmarks.selection            (about 10 minutes on one core; --quick: 1 minute, smaller)

Seconds are CPU-seconds of one process with one thread. Forms that are compared run interleaved; the median of the
repeats is shown, and how many times longer than ours it is. Peers are their algorithms, written anew
(`selection_peers`); what would take hours is run for a few picks, and its slope shown with an x. Memory is the peak
above the inputs, in a process of its own.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse  # noqa: E402
import pickle  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from functools import cache  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
import psutil  # noqa: E402
import torch  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from openal_ray.selection import scores, top_k  # noqa: E402
from openal_ray.selection.halves import BLOCK, LocalHalves, Picks  # noqa: E402
from openal_ray.selection.k_center import KCenterHalf, pick_k_center  # noqa: E402
from openal_ray.selection.kmeans_pp import KMeansPPHalf, pick_kmeans_pp  # noqa: E402
from tests.benchmarks import selection_data as data  # noqa: E402
from tests.benchmarks import selection_peers as peers  # noqa: E402
from tests.selection import naive  # noqa: E402
from tests.selection.test_k_center import check_random_case  # noqa: E402

console = Console(width=120)
goals = Table("goal", "what", "wanted", "measured", title="Goals")
LABELLED = 1000
Forms = dict[str, Callable[[], Any]]


def seconds_of(run: Callable[[], Any]) -> float:
    """CPU-seconds of one call."""
    begin = time.process_time()
    run()
    return time.process_time() - begin


def interleaved(forms: Forms, repeats: int) -> dict[str, float]:
    """Median CPU-seconds of each form, all of them run once in each of `repeats` passes."""
    runs = [{name: seconds_of(run) for name, run in forms.items()} for _ in range(repeats)]
    return {name: statistics.median(run[name] for run in runs) for name in forms}


class Metered(naive.Counting):
    """Halves in this process that know what would have travelled."""

    def summary(self, verb: str) -> str:
        """Exchanges of one verb, and the megabytes of all questions and answers."""
        size = sum(len(pickle.dumps((args, answers))) for _, args, answers in self.exchanges)
        return f"{self.n_exchanges(verb)} exchanges, {size / 1e6:.1f} MB"

    def n_exchanges(self, verb: str) -> int:
        """How often one verb was asked."""
        return len(self.questions(verb))


Parts = list[tuple[np.ndarray, ...]]


def shards(n_shards: int, *arrays: np.ndarray) -> Parts:
    """The rows and indices of each shard; what a shard holds before it is asked."""
    indices = np.arange(len(arrays[0]))
    if n_shards == 1:
        return [(*arrays, indices)]
    return [tuple(array[indices // BLOCK % n_shards == s] for array in (*arrays, indices)) for s in range(n_shards)]


def our_k_center(parts: Parts, covered: np.ndarray, k: int) -> tuple[Picks, Metered]:
    halves = Metered([KCenterHalf(*part) for part in parts])
    return pick_k_center(halves, k, covered), halves


def our_badge(parts: Parts, k: int) -> tuple[Picks, Metered]:
    halves = Metered([KMeansPPHalf(*part) for part in parts])
    return pick_kmeans_pp(halves, k, np.random.default_rng(3)), halves


@cache
def machine() -> dict[str, float]:
    """Billions of operations a second of each kind of product, and gigabytes a second read."""
    single, large = torch.randn(1024, 512), torch.randn(50_000_000)
    double, half, bits = single.double(), single.bfloat16(), torch.randint(-127, 128, (1024, 512), dtype=torch.int8)
    operations = 2 * 1024 * 1024 * 512 / 1e9
    forms: dict[str, tuple[float, Callable[[], Any]]] = {
        "float64 product": (operations, lambda: double @ double.t()),
        "float32 product": (operations, lambda: single @ single.t()),
        "bfloat16 product": (operations, lambda: half @ half.t()),
        "int8 product": (operations, lambda: torch._int_mm(bits, bits.t())),
        "read (GB)": (large.nbytes / 1e9, large.sum),
    }
    return {name: work / min(seconds_of(run) for _ in range(9)) for name, (work, run) in forms.items()}


def show(title: str, seconds: dict[str, float], notes: dict[str, str]) -> None:
    """One table of a comparison; the first form is ours."""
    table = Table("form", "CPU s", "× ours", "", title=title, title_justify="left")
    ours = next(iter(seconds.values()))
    for name, value in seconds.items():
        table.add_row(name, f"{value:.3f}", f"{value / ours:.1f}", notes.get(name, ""))
    console.print(table)


def k_center_case(name: str, features: np.ndarray, k: int, repeats: int) -> dict[str, float]:
    """Ours against the two peer forms; prints the table, returns the seconds."""
    covered, points = features[:LABELLED], features[LABELLED:]
    ours = {"ours, 1 shard": shards(1, points), "ours, 4 shards": shards(4, points)}
    forms: Forms = {
        **{form: lambda parts=parts: our_k_center(parts, covered, k) for form, parts in ours.items()},
        "one pick at a time, float32": lambda: peers.k_center_per_pick(points, covered, k),
        "running minimum, scikit-learn": lambda: peers.k_center_running_minimum(points, covered, k),
    }
    notes = {}
    for form, parts in ours.items():
        picks, halves = our_k_center(parts, covered, k)
        notes[form] = halves.summary("candidates")
    plain = peers.k_center_per_pick(points, covered, k)
    same = next((i for i, (one, other) in enumerate(zip(picks.indices, plain, strict=True)) if one != other), k)
    notes["one pick at a time, float32"] = (
        f"the same picks until number {same} (rounding)" if same < k else "same picks"
    )
    seconds = interleaved(forms, repeats)
    title = f"k-center: {name}, {points.shape[0]} × {points.shape[1]}, {LABELLED} labelled, {k} picks"
    show(title, seconds, notes)
    return seconds


def k_center(quick: bool) -> None:
    """G1 to G5: seconds against the peers, exactness, exchanges, the limits of the processor."""
    n, repeats = (10_000, 1) if quick else (50_000, 5)
    real = data.digits(n + LABELLED)[0]
    for name, features in (("drawn features", data.rectified(n + LABELLED, 512)), ("digits network", real)):
        seconds = list(k_center_case(name, features, 1000, repeats).values())
        goals.add_row("G1", f"k-center, {name}: running minimum ÷ ours", "≥ 60", f"{seconds[3] / seconds[0]:.0f}")
        goals.add_row("", "    one pick at a time ÷ ours", "≥ 25", f"{seconds[2] / seconds[0]:.0f}")
        operations = 2 * n * LABELLED * 512 / 1e9
        product = operations / machine()["bfloat16 product"]
        goals.add_row("G5", f"k-center, {name} ÷ one bfloat16 product", "≤ 2.5", f"{seconds[0] / product:.2f}")
        _, halves = our_k_center(shards(1, features[LABELLED:]), features[:LABELLED], 1000)
        goals.add_row("G4", f"exchanges for 1000 picks, {name}", "≤ 5", str(halves.n_exchanges("candidates")))
    small = data.rectified(10_000 + LABELLED, 64)
    for k, wanted in ((100, "≥ 1"), (1000, "≥ 5")):
        seconds = list(k_center_case("drawn features", small, k, repeats).values())
        goals.add_row("G2", f"10k × 64, {k} picks: running minimum ÷ ours", wanted, f"{seconds[3] / seconds[0]:.1f}")
        goals.add_row("", "    one pick at a time ÷ ours", "≥ 1", f"{seconds[2] / seconds[0]:.1f}")
    first_product(real)
    for seed in range(100 if quick else 1000):
        check_random_case(seed)
    goals.add_row("G3", "random cases equal to naive float64", "≥ 1000, 0 differ", f"{seed + 1}, 0 differ")


def first_product(features: np.ndarray) -> None:
    """The bounds of all rows to all labelled, which is most of the work, against the processor's peak."""
    from openal_ray.selection.bounds import upper_bounds
    from openal_ray.selection.digits import encode

    rows, centres = [encode(features[LABELLED:])], [encode(features[:LABELLED])]
    operations = 2 * len(rows[0]) * len(centres[0]) * features.shape[1] / 1e9
    speed = operations / min(seconds_of(lambda: upper_bounds(rows, centres)) for _ in range(5))
    for kind in ("bfloat16 product", "int8 product"):
        share = 100 * speed / machine()[kind]
        goals.add_row("G5", f"first product ÷ peak of the {kind}", "≥ 70 %", f"{share:.0f} %")


def badge(quick: bool) -> None:
    """G4, G6 and G8: seconds against the peers, exchanges, the same picks for any number of shards."""
    n, repeats = (10_000, 1) if quick else (50_000, 5)
    features = data.rectified(n, 512)
    cases = [(f"{c} classes", data.residuals(features, c), features, wanted) for c, wanted in BADGE_GOALS.items()]
    right, left = data.digits(n)
    cases.append(("digits network, 10 classes", left, right, "≥ 60"))
    for name, left, right, wanted in cases:
        ours = {"ours, 1 shard": shards(1, left, right), "ours, 4 shards": shards(4, left, right)}
        forms = {
            **{form: lambda parts=parts: our_badge(parts, 1000) for form, parts in ours.items()},
            "one pick at a time": lambda left=left, right=right: _few(peers.badge_factored, left, right),
            "one pick at a time, as published": lambda left=left, right=right: _few(
                peers.badge_as_published, left, right
            ),
        }
        seconds = interleaved(forms, repeats)
        for form in list(forms)[2:]:
            seconds[form] *= 1000 / FEW
        _, halves = our_badge(shards(1, left, right), 1000)
        notes = {"ours, 1 shard": halves.summary("propose")} | dict.fromkeys(list(forms)[2:], f"x, {FEW} picks run")
        if left.nbytes * right.shape[1] < 2e9:
            seconds["materialised gradients"], notes["materialised gradients"] = explicit(left, right), "x, 6 picks run"
            ratio = seconds["materialised gradients"] / seconds["ours, 1 shard"]
            goals.add_row("G6", f"BADGE, {name}: materialised ÷ ours", "≥ 1000", f"{ratio:.0f}")
        show(f"BADGE: {name}, {n} × {right.shape[1]}, 1000 picks", seconds, notes)
        for form in list(forms)[2:]:
            ratio = seconds[form] / seconds["ours, 1 shard"]
            goals.add_row("G6", f"BADGE, {name}: {form} ÷ ours", wanted, f"{ratio:.0f}")
        goals.add_row("G4", f"exchanges for 1000 draws, {name}", "≤ 5", str(halves.n_exchanges("propose")))
    _, halves = our_badge(shards(1, left, right), 5000)
    goals.add_row("G4", "exchanges for 5000 draws, digits network", "≤ 10", str(halves.n_exchanges("propose")))
    picks = [our_badge(shards(n_shards, left, right), 300)[0].indices.tolist() for n_shards in (1, 2, 5, 16)]
    same = all(other == picks[0] for other in picks)
    goals.add_row("G8", "a seed's picks for 1, 2, 5, 16 shards", "the same", "the same" if same else "differ")


FEW = 50
BADGE_GOALS = {10: "≥ 60", 100: "≥ 40", 1000: "≥ 30"}


def _few(peer: Callable[..., Any], left: np.ndarray, right: np.ndarray) -> Any:
    return peer(left, right, FEW, np.random.default_rng(3))


def explicit(left: np.ndarray, right: np.ndarray) -> float:
    """Seconds of 1000 picks from materialised gradients: what one pick takes, and all that comes before."""
    one, six = (seconds_of(lambda k=k: peers.badge_explicit(left, right, k, np.random.default_rng(3))) for k in (1, 6))
    return one + 999 * (six - one) / 5


def large_pool(quick: bool) -> None:
    """G10: many picks from a large pool."""
    n, k = (100_000, 1000) if quick else (1_000_000, 10_000)
    features = data.rectified(n + LABELLED, 64)
    halves: list[Metered] = []
    seconds = seconds_of(lambda: halves.append(our_k_center(shards(1, features[LABELLED:]), features[:LABELLED], k)[1]))
    console.print(f"k-center: {n} × 64, {k} picks: {seconds:.2f} CPU s, {halves[0].summary('candidates')}\n")
    goals.add_row("G10", f"{n} × 64, {k} picks", "≤ 10 s", f"{seconds:.1f} s")
    goals.add_row("", "    exchanges", "≤ 5", str(halves[0].n_exchanges("candidates")))


def uncertainty(quick: bool) -> None:
    """G12: four scores and their best 1000."""
    rng = np.random.default_rng(0)
    for classes in (10, 100) if quick else (10, 100, 1000):
        logits = torch.from_numpy(4 * rng.standard_normal((50_000, classes), dtype=np.float32))

        def ours(logits: torch.Tensor = logits) -> list[np.ndarray]:
            probs = logits.softmax(dim=1).numpy()
            four = (scores.least_confidence, scores.margin, scores.ratio, scores.entropy)
            return [top_k(score(probs), 1000) for score in four]

        forms: Forms = {"ours": ours, "softmax and sort each": lambda logits=logits: peers.sorted_scores(logits, 1000)}
        seconds = interleaved(forms, 3 if quick else 7)
        show(f"four scores and their best 1000: 50000 × {classes}", seconds, {})
        ratio = seconds["softmax and sort each"] / seconds["ours"]
        goals.add_row("G12", f"softmax and full sort each ÷ ours, {classes} classes", "3 to 7", f"{ratio:.1f}")


def memory(quick: bool) -> None:
    """G7 and G9: peak above the inputs."""
    for case, (goal, wanted) in MEMORY_GOALS.items():
        if quick and case == "badge_1000_2048":
            continue
        command = [sys.executable, "-m", "tests.benchmarks.selection", "--peak", case]
        measured = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        goals.add_row(goal, case.replace("_", " ") + ": extra memory", wanted, measured.strip())


MEMORY_GOALS = {
    "k_center_512": ("G9", "≤ 1.2 copies of the features"),
    "badge_10_512": ("G7", "≤ 1.1 · 4 N (C + D) bytes"),
    "badge_1000_512": ("G7", "≤ 1.1 · 4 N (C + D) bytes"),
    "badge_1000_2048": ("G7", "≤ 1.1 · 4 N (C + D) bytes"),
}


def peak(case: str) -> None:
    """Prints the peak memory of one case above its inputs, as a share of the float32 inputs."""
    kind, *sizes = case.rsplit("_", 2) if case.startswith("badge") else case.rsplit("_", 1)
    features = data.rectified(50_000 + (LABELLED if kind == "k_center" else 0), int(sizes[-1]))
    left = data.residuals(features, int(sizes[0])) if kind == "badge" else features[:0]
    inputs = left.nbytes + features.nbytes
    our_k_center(shards(1, features[:2000]), features[:5], 50)  # libraries set themselves up
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = psutil.Process().memory_info().rss
    if kind == "badge":
        half = KMeansPPHalf(left, features, np.arange(len(left)))
        pick_kmeans_pp(LocalHalves([half]), 1000, np.random.default_rng(3))
    else:
        half = KCenterHalf(features[LABELLED:], np.arange(len(features) - LABELLED))
        pick_k_center(LocalHalves([half]), 1000, features[:LABELLED])
    lines = Path("/proc/self/status").read_text().splitlines()
    highest = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    print(f"{(highest - before) / inputs:.2f} ({(highest - before) / 1e6:.0f} of {inputs / 1e6:.0f} MB)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rows and repeats")
    parser.add_argument("--only", choices=[part.__name__ for part in PARTS])
    parser.add_argument("--peak", choices=list(MEMORY_GOALS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peak:
        peak(options.peak)
        return
    for name, speed in machine().items():
        console.print(f"{name}: {speed:.0f} G/s")
    for part in PARTS:
        if options.only in (None, part.__name__):
            part(options.quick)
    console.print(goals)


PARTS = (k_center, badge, large_pool, uncertainty, memory)

if __name__ == "__main__":
    main()
