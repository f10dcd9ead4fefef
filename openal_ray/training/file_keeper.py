"""Checkpoints inside a training that has no Ray Train to keep them: a file, from which the same job goes on."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

from openal_ray.errors import RunError
from openal_ray.training.job import Epoch, Job
from openal_ray.training.loop import State

STORED = "training"  # the folder, inside a run's, of what trainings leave on their way
SAVE_SECONDS = 30.0  # between checkpoints inside a training; whoever is stopped loses at most this much


class FileKeeper:
    """Keeps the progress of one job in a file named after it, and tells a listener.

    folder  where the file goes; made when it is needed
    """

    def __init__(self, folder: Path, job: Job, listener: Callable[[Epoch], None]) -> None:
        self.file, self.listener = folder / f"{job.digest[:32]}.pt", listener
        self.saved = time.monotonic()

    def resume(self) -> State | None:
        """The state last saved; None if there is none, or if it cannot be read."""
        if not self.file.exists():
            return None
        try:
            state: State = torch.load(self.file, map_location="cpu", weights_only=True)
        except Exception:  # torch has no one type for a damaged file, and training anew is the same result
            return None
        return state

    def epoch_done(self, epoch: Epoch, state: Callable[[], State]) -> None:
        self.listener(epoch)
        if epoch.epoch + 1 == epoch.epochs or time.monotonic() - self.saved < SAVE_SECONDS:
            return
        incomplete = self.file.with_suffix(".incomplete")
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            torch.save(state(), incomplete)
            incomplete.replace(self.file)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
            with suppress(OSError):
                incomplete.unlink()
            raise RunError(
                f"{self.file.parent}: a checkpoint cannot be written ({error}); make room and resume"
            ) from None
        self.saved = time.monotonic()

    def forget(self) -> None:
        """Removes the file, once the training is over."""
        self.file.unlink(missing_ok=True)
        if self.file.parent.is_dir() and not any(self.file.parent.iterdir()):
            self.file.parent.rmdir()
