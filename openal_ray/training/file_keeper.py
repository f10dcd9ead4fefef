"""Checkpoints inside a training that has no Ray Train to keep them: a file, from which the same job goes on."""

import time
from collections.abc import Callable
from pathlib import Path

import torch

from openal_ray.errors import RunError, UserError
from openal_ray.storage import files
from openal_ray.storage.url import Place
from openal_ray.training.job import Epoch, Job
from openal_ray.training.loop import State

STORED = "training"  # the folder, inside a run's, of what trainings leave on their way
SAVE_SECONDS = 30.0  # between checkpoints inside a training; whoever is stopped loses at most this much


class FileKeeper:
    """Keeps the progress of one job in a file named after it, and tells a listener.

    folder  where the file goes; made when it is needed
    """

    def __init__(self, folder: Place, job: Job, listener: Callable[[Epoch], None]) -> None:
        self.file, self.listener = folder / f"{job.digest[:32]}.pt", listener
        self.saved = time.monotonic()

    def resume(self) -> State | None:
        """The state last saved; None if there is none, or if it cannot be read."""
        if not self.file.exists():
            return None
        try:
            with files.opened(self.file) as stream:
                state: State = torch.load(stream, map_location="cpu", weights_only=True)
        except UserError:
            raise
        except Exception:  # torch has no one type for a damaged file, and training anew is the same result
            return None
        return state

    def epoch_done(self, epoch: Epoch, state: Callable[[], State]) -> None:
        self.listener(epoch)
        if epoch.epoch + 1 == epoch.epochs or time.monotonic() - self.saved < SAVE_SECONDS:
            return
        try:
            files.make_folder(self.file.parent)
            with files.complete(self.file) as incomplete:
                torch.save(state(), incomplete)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
            raise RunError(
                f"{self.file.parent}: a checkpoint cannot be written ({error}); make room and resume"
            ) from None
        self.saved = time.monotonic()

    def forget(self) -> None:
        """Removes the file, once the training is over."""
        self.file.unlink(missing_ok=True)
        folder = self.file.parent
        if isinstance(folder, Path) and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
