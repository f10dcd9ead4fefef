"""Who is told what an experiment does while it runs: a progress bar, a tracker, a test."""

from pathlib import Path
from typing import Any, Protocol

from openal_ray.config import Config
from openal_ray.training.job import Epoch


class Listener(Protocol):
    """Is told what goes on; a progress bar, a tracker, a test."""

    def begin(self, configuration: Config, folder: Path, rounds: int, done: int) -> None:
        """A run begins, or goes on: it will have so many rounds, of which so many are done."""
        ...

    def phase(self, name: str, round: int, total: int) -> None:
        """A step begins: `total` images to read, or epochs to train."""
        ...

    def advance(self, count: int) -> None:
        """So many more of the step's total are done."""
        ...

    def epoch(self, epoch: Epoch) -> None: ...

    def round_done(self, row: dict[str, Any]) -> None:
        """A round is complete; `row` is its line of metrics.csv."""
        ...


class Silent:
    """A listener that says nothing."""

    def begin(self, configuration: Config, folder: Path, rounds: int, done: int) -> None: ...

    def phase(self, name: str, round: int, total: int) -> None: ...

    def advance(self, count: int) -> None: ...

    def epoch(self, epoch: Epoch) -> None: ...

    def round_done(self, row: dict[str, Any]) -> None: ...
