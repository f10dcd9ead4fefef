"""Two sets of pictures as one: those of another data set follow, brought to the same shape."""

from typing import Any

import numpy as np

from openal_ray.data.images import Images, WrappedImages, checked_indices
from openal_ray.data.picture import BadPicture
from openal_ray.errors import BadImages


class Joined:
    """The pictures of `first`, under their own indices and ids, then those of `second`, whose ids begin with `prefix`.

    second  of another shape: each picture is cropped and resized like a file's, and its channels converted
    """

    def __init__(self, first: Images, second: Images, prefix: str) -> None:
        self._first, self._prefix = first, prefix
        self._second = second if second.shape == first.shape else WrappedImages(_OneByOne(second), *first.shape)
        self._ids = second

    @property
    def shape(self) -> tuple[int, int, int]:
        return self._first.shape

    def __len__(self) -> int:
        return len(self._first) + len(self._second)

    def load(self, indices: np.ndarray) -> np.ndarray:
        indices = checked_indices(indices, len(self))
        later = indices >= len(self._first)
        pictures = np.empty((len(indices), *self.shape), np.uint8)
        bad: dict[int, str] = {}
        for source, start, mine in ((self._first, 0, ~later), (self._second, len(self._first), later)):
            if not mine.any():
                continue
            try:
                pictures[mine] = source.load(indices[mine] - start)
            except BadImages as error:
                bad |= {index + start: reason for index, reason in zip(error.indices, error.reasons, strict=True)}
        if bad:
            raise BadImages(list(bad), list(bad.values()))
        return pictures

    def ids(self, indices: np.ndarray) -> list[str]:
        indices = checked_indices(indices, len(self))
        later = indices >= len(self._first)
        names = np.empty(len(indices), dtype=object)
        names[~later] = self._first.ids(indices[~later])
        names[later] = [self._prefix + name for name in self._ids.ids(indices[later] - len(self._first))]
        return names.tolist()


class _OneByOne:
    """Pictures as a map-style data set."""

    def __init__(self, images: Images) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Any:
        try:
            return self._images.load(np.array([index]))[0]
        except BadImages as bad:
            raise BadPicture(bad.reasons[0]) from bad
