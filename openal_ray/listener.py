"""Who is told what an experiment does while it runs: a progress bar, a tracker, a test."""

from typing import Any, Protocol

from openal_ray.config import Config
from openal_ray.storage.url import Place
from openal_ray.training.job import Epoch


class Listener(Protocol):
    """Is told what goes on; a progress bar, a tracker, a test."""

    def begin(self, configuration: Config, folder: Place, rounds: int, done: int) -> None:
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

    def begin(self, configuration: Config, folder: Place, rounds: int, done: int) -> None: ...

    def phase(self, name: str, round: int, total: int) -> None: ...

    def advance(self, count: int) -> None: ...

    def epoch(self, epoch: Epoch) -> None: ...

    def round_done(self, row: dict[str, Any]) -> None: ...


class SweepListener(Protocol):
    """Is told what goes on in a sweep, whose runs work at the same time and are known by their folders' names."""

    def begin(self, runs: int, finished: int, at_once: int) -> None:
        """The sweep begins, or goes on: of so many runs so many were finished before."""
        ...

    def round_done(self, run: str, row: dict[str, Any]) -> None:
        """A round of a run is complete; `row` has its round, labelled and accuracy, and the run's number of rounds."""
        ...

    def failed(self, run: str, error: BaseException, again: bool) -> None:
        """A run failed; `again` says whether it will be tried once more."""
        ...

    def ended(self, run: str) -> None:
        """A run came to its end, or waits for people, or was stopped early."""
        ...
