"""How the selection benchmark measures: CPU-seconds side by side, memory in processes of their own, limits, goals."""

import json
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from rich.console import Console
from rich.table import Table

from openal_ray.selection.halves import BLOCK
from tests.selection import naive

Arrays = tuple[np.ndarray, np.ndarray]
Run = Callable[[Arrays, int], Any]


def seconds_of(run: Callable[[], Any]) -> float:
    """CPU-seconds of one call."""
    begin = time.process_time()
    run()
    return time.process_time() - begin


class Metered(naive.Counting):
    """Halves in this process that know what would have travelled, and, where a form says so, what was picked."""

    picks: Any = None
    cover: Any = None

    def megabytes(self) -> float:
        """All questions and answers, pickled."""
        return sum(len(pickle.dumps((args, answers))) for _, args, answers in self.exchanges) / 1e6

    def count(self, *verbs: str) -> int:
        """Exchanges of these verbs; of all of them if none is named."""
        return sum(1 for verb, *_ in self.exchanges if not verbs or verb in verbs)


def shards(n_shards: int, *arrays: np.ndarray) -> list[tuple[Any, ...]]:
    """The rows and indices of each shard; what a shard holds before it is asked."""
    indices = np.arange(len(arrays[0]))
    if n_shards == 1:
        return [(*arrays, indices)]
    return [tuple(array[indices // BLOCK % n_shards == s] for array in (*arrays, indices)) for s in range(n_shards)]


@dataclass(frozen=True)
class Form:
    """One way to select.

    run  (arrays, picks) to the Metered halves if there are some
    few  picks of which a slope is made where all of them would take too long; 0: all picks are run
    """

    run: Run
    few: int = 0

    def seconds(self, arrays: Arrays, k: int) -> float:
        """CPU-seconds of k picks, extrapolated from 1 and 1 + few picks if there is a slope."""
        if not self.few or self.few >= k:
            return seconds_of(lambda: self.run(arrays, k))
        one, more = (seconds_of(partial(self.run, arrays, n)) for n in (1, 1 + self.few))
        return one + (more - one) / self.few * (k - 1)


@dataclass
class Row:
    """What one form came to; extra is its peak memory above the inputs, in bytes."""

    seconds: float = np.nan
    extra: float = np.nan
    whole_seconds: float = np.nan
    exchanges: int = 0
    megabytes: float = 0.0


def interleaved(forms: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """Median of what each returns, all of them called once in each of `repeats` passes."""
    runs = [{name: measure() for name, measure in forms.items()} for _ in range(repeats)]
    return {name: statistics.median(run[name] for run in runs) for name in forms}


def memory(kind: str, name: str, arrays: Arrays, k: int) -> tuple[float, float]:
    """Peak bytes above the inputs of one form in a process of its own, and the CPU-seconds of that run."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "arrays.npz"
        np.savez(file, *arrays)
        command = [sys.executable, "-m", "tests.benchmarks.selection", "--peak", kind, name, str(k), str(file)]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = json.loads(printed.splitlines()[-1])
    return found["extra"], found["seconds"]


def warm_up(run: Run, arrays: Arrays) -> None:
    """A small run, so that libraries set themselves up."""
    one, other = arrays
    run((one[:2000].copy(), other[:2000].copy()), 20)


def print_peak(run: Run, k: int, file: Path) -> None:
    """What `memory` starts: measures one form on the arrays in the file."""
    with np.load(file) as stored:
        arrays = tuple(stored[name] for name in stored.files)
    warm_up(run, arrays)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = psutil.Process().memory_info().rss
    seconds = seconds_of(lambda: run(arrays, k))
    lines = Path("/proc/self/status").read_text().splitlines()
    highest = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    print(json.dumps({"extra": highest - before, "seconds": seconds}))


@cache
def machine() -> dict[str, float]:
    """Billions of operations a second of each kind of product, and gigabytes a second read; one thread."""
    single, large = torch.randn(1024, 512), torch.randn(50_000_000)
    double, half, bits = single.double(), single.bfloat16(), torch.randint(-127, 128, (1024, 512), dtype=torch.int8)
    operations = 2 * 1024 * 1024 * 512 / 1e9
    forms: dict[str, tuple[float, Callable[[], Any]]] = {
        "float64 product": (operations, lambda: double @ double.t()),
        "float32 product": (operations, lambda: single @ single.t()),
        "bfloat16 product": (operations, lambda: half @ half.t()),
        "int8 product": (operations, lambda: torch._int_mm(bits, bits.t())),
        "read": (large.nbytes / 1e9, large.sum),
    }
    return {name: work / min(seconds_of(run) for _ in range(15)) for name, (work, run) in forms.items()}


def _percent(share: float) -> str:
    return "–" if np.isnan(share) else f"{100 * share:.3g} %"


class Board:
    """Tables of forms, and in the end the goals."""

    def __init__(self) -> None:
        self.console = Console(width=140)
        self.goals = Table("goal", "what", "goal is", "reached", "met", title="Goals", title_justify="left")

    def limits(self) -> None:
        """The measured limits of this machine."""
        for name, speed in machine().items():
            unit = "GB/s" if name == "read" else "G operations/s"
            self.console.print(f"{name}: {speed:.0f} {unit}")

    def show(self, title: str, rows: Mapping[str, Row], operations: float, read: float) -> None:
        """One table; the first row is ours.

        operations, read   multiplications and additions, and bytes, of the plain form, which touches every pair
        """
        table = Table("form", "CPU s", "× ours", "extra MB", "exchanges", "MB moved", "of GEMM", "of read", title=title)
        table.title_justify = "left"
        ours = next(iter(rows.values())).seconds
        for name, row in rows.items():
            whole = "" if np.isnan(row.whole_seconds) else f" (whole run {row.whole_seconds:.1f})"
            table.add_row(
                name, f"{row.seconds:.3f}{whole}", f"{row.seconds / ours:.1f}",
                "–" if np.isnan(row.extra) else f"{row.extra / 1e6:.0f}",
                str(row.exchanges or "–"), f"{row.megabytes:.1f}" if row.exchanges else "–",
                _percent(operations / 1e9 / row.seconds / machine()["bfloat16 product"]),
                _percent(read / 1e9 / row.seconds / machine()["read"]),
            )  # fmt: skip
        self.console.print(table)

    def at_least(self, goal: str, what: str, reached: float, wanted: float, unit: str = "×") -> None:
        """A goal that more is better for."""
        self._goal(goal, what, f"≥ {wanted:g} {unit}", f"{reached:.4g} {unit}", reached >= wanted)

    def at_most(self, goal: str, what: str, reached: float, wanted: float, unit: str = "×") -> None:
        """A goal that less is better for."""
        self._goal(goal, what, f"≤ {wanted:g} {unit}", f"{reached:.4g} {unit}", reached <= wanted)

    def _goal(self, goal: str, what: str, wanted: str, reached: str, met: bool) -> None:
        self.goals.add_row(goal, what, wanted, reached, "yes" if met else "NO")
        print(f"[{goal}] {what}: {reached} ({wanted})", file=sys.stderr, flush=True)
