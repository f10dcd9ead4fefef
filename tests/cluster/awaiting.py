"""Images that make a read wait for its shards, so that tests need not hope for timing."""

import os
import time
from pathlib import Path

import numpy as np

from openal_ray.data.images import ArrayImages
from openal_ray.selection.halves import BLOCK

WAIT_SECONDS = 90


class Awaiting(ArrayImages):
    """Images whose later blocks are decoded once `crowd` processes have come to read them.

    folder  where each process leaves a file named after itself, and where a file `crowd` says how many
    """

    def __init__(self, pixels: np.ndarray, folder: Path) -> None:
        super().__init__(pixels)
        self.folder = folder

    def load(self, indices: np.ndarray) -> np.ndarray:
        if len(indices):
            (self.folder / f"{os.getpid()}.pid").touch()
            end = time.monotonic() + WAIT_SECONDS
            while indices[0] >= BLOCK and len(list(self.folder.glob("*.pid"))) < int(
                (self.folder / "crowd").read_text()
            ):
                assert time.monotonic() < end, "nobody came to help"
                time.sleep(0.02)
        return super().load(indices)


def meet(images: Awaiting, crowd: int) -> None:
    """From now on so many processes must have come."""
    for file in images.folder.glob("*.pid"):
        file.unlink()
    (images.folder / "crowd").write_text(str(crowd))
