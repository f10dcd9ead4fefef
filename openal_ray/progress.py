"""What a person sees while experiments run: one moving line in a terminal, one line a round elsewhere."""

import math
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from openal_ray.config import Config
from openal_ray.storage.url import Place
from openal_ray.training.job import Epoch

TOLD_EPOCHS = 10  # of a pre-training, where nobody watches
VERBS = {
    "query": "reading the pool",
    "train": "training",
    "evaluate": "evaluating",
    "tune": "searching hyper-parameters",
}


class _Line:
    """Bars that show while the block of a `with` runs."""

    bars: Progress

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()


class ProgressLine(_Line):
    """A listener that draws; a context manager, so that the terminal is left as it was."""

    def __init__(self, console: Console, runs: int) -> None:
        self.console, self.runs, self.run = console, runs, 0
        self.name, self.rounds = "", 0
        columns = [
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        ]
        self.bars = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self.whole: TaskID | None = None
        self.step: TaskID | None = None

    def begin(self, configuration: Config, folder: Place, rounds: int, done: int) -> None:
        self.run += 1
        strategy = configuration.strategy.name if configuration.strategy else "all labels"
        of = f"[{self.run}/{self.runs}] " if self.runs > 1 else ""
        self.name, self.rounds = f"{of}{strategy}, seed {configuration.seed}", rounds
        self._remove(self.whole)
        self.whole = self.bars.add_task(f"{self.name}: rounds", total=rounds, completed=done)

    def phase(self, name: str, round: int, total: int) -> None:
        self._remove(self.step)
        self.step = self.bars.add_task(f"  round {round}: {VERBS.get(name, name)}", total=total or None)

    def advance(self, count: int) -> None:
        if self.step is not None:
            self.bars.advance(self.step, count)

    def epoch(self, epoch: Epoch) -> None:
        if self.step is not None:
            self.bars.update(self.step, completed=epoch.epoch + 1)

    def round_done(self, row: dict[str, Any]) -> None:
        self._remove(self.step)
        self.step = None
        if self.whole is not None:
            self.bars.advance(self.whole)
        self.console.print(
            f"{self.name}: round {row['round']}/{self.rounds - 1}, {_figures(row)}",
            highlight=False, markup=False, emoji=False, soft_wrap=True,
        )  # fmt: skip

    def _remove(self, task: TaskID | None) -> None:
        if task is not None and task in self.bars.task_ids:
            self.bars.remove_task(task)


class EpochLine(_Line):
    """Follows one long training: a moving bar in a terminal, some lines elsewhere; a context manager too."""

    def __init__(self, console: Console, name: str) -> None:
        self.console, self.name = console, name
        columns = [
            TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), MofNCompleteColumn(),
            TimeElapsedColumn(), TimeRemainingColumn(),
        ]  # fmt: skip
        self.bars = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self.task = self.bars.add_task(name, total=None)

    def __call__(self, epoch: Epoch) -> None:
        done = epoch.epoch + 1
        text = f"{self.name}: epoch {done}/{epoch.epochs}, loss {epoch.loss:.3f}"
        self.bars.update(
            self.task, total=epoch.epochs, completed=done, description=f"{self.name}, loss {epoch.loss:.3f}"
        )
        if (
            not self.console.is_terminal
            and done * TOLD_EPOCHS // epoch.epochs > epoch.epoch * TOLD_EPOCHS // epoch.epochs
        ):
            self.console.print(text, highlight=False, markup=False, emoji=False, soft_wrap=True)


class SweepLines:
    """A sweep's listener: a line for each finished round and for each run that ended."""

    def __init__(self, console: Console) -> None:
        self.console, self.runs, self.done = console, 0, 0

    def begin(self, runs: int, finished: int, at_once: int) -> None:
        self.runs, self.done = runs, finished
        before = f", {finished} of them finished before" if finished else ""
        self._print(f"{runs} runs{before}; {min(at_once, runs - finished)} at once")

    def round_done(self, run: str, row: dict[str, Any]) -> None:
        last = f"/{row['rounds'] - 1}" if row.get("rounds") else ""
        self._print(f"{run}: round {row['round']}{last}, {_figures(row)}")

    def failed(self, run: str, error: BaseException, again: bool) -> None:
        then = "trying it again" if again else "given up, the others go on"
        self._print(f"{run}: failed with {type(error).__name__}: {error}; {then}")
        self.done += not again

    def ended(self, run: str) -> None:
        self.done += 1
        self._print(f"{run}: ended, {self.done} of {self.runs} runs")

    def _print(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, emoji=False, soft_wrap=True)


def _figures(row: dict[str, Any]) -> str:
    """What a round came to; with an open set, not every answer that was paid for is a label."""
    told = [f"{row['annotated']} answers"] if "annotated" in row else []
    told += [f"{row['labelled']} labels", f"accuracy {100 * row['accuracy']:.1f} %"]
    if row.get("purity", math.nan) >= 0:
        told.append(f"{row['purity']:.0%} of the query known")
    return ", ".join(told)
