"""Pictures kept in memory once decoded, up to a bound in bytes."""

import threading

import numpy as np

from openal_ray.data.images import Images, checked_indices, in_memory


def remember(images: Images, max_bytes: int) -> Images:
    """`images`, cached up to `max_bytes` unless they lie in memory already or nothing may be kept."""
    return images if in_memory(images) or max_bytes <= 0 else Cached(images, max_bytes)


class Cached:
    """Another `Images` that remembers the first pictures it was asked for; the rest it loads anew each time.

    Nothing is ever thrown out: training and reading go over the whole pool again and again, and there a
    least-recently-used cache smaller than the pool would never hit. Copies sent to other processes start empty.

    max_bytes  bound on the remembered pictures, in bytes; memory is taken as they arrive
    """

    def __init__(self, images: Images, max_bytes: int) -> None:
        self._images = images
        self._max_bytes = max_bytes
        self._capacity = min(len(images), max(0, max_bytes) // int(np.prod(images.shape)))
        # The operating system hands out the pages of an empty array only when they are written to.
        self._pictures = np.empty((self._capacity, *images.shape), np.uint8)
        self._slots = np.full(len(images), -1, np.int64)  # place in _pictures; -1 = not remembered
        self._used = 0
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type["Cached"], tuple[Images, int]]:
        return Cached, (self._images, self._max_bytes)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self._images.shape

    def __len__(self) -> int:
        return len(self._images)

    def load(self, indices: np.ndarray) -> np.ndarray:
        indices = checked_indices(indices, len(self))
        slots = self._slots[indices]
        missing = np.flatnonzero(slots < 0)
        if not len(missing):
            remembered: np.ndarray = self._pictures[slots]
            return remembered
        pictures = np.empty((len(indices), *self.shape), np.uint8)
        held = np.flatnonzero(slots >= 0)
        pictures[held] = self._pictures[slots[held]]
        wanted, places = np.unique(indices[missing], return_inverse=True)
        loaded = self._images.load(wanted)
        self._remember(wanted, loaded)
        pictures[missing] = loaded[places]
        return pictures

    def ids(self, indices: np.ndarray) -> list[str]:
        return self._images.ids(indices)

    def _remember(self, indices: np.ndarray, pictures: np.ndarray) -> None:
        with self._lock:
            fresh = np.flatnonzero(self._slots[indices] < 0)[: self._capacity - self._used]
            slots = self._used + np.arange(len(fresh))
            self._pictures[slots] = pictures[fresh]
            # Last: a reader without the lock must never see the slot of a picture that is not yet there.
            self._slots[indices[fresh]] = slots
            self._used += len(fresh)
