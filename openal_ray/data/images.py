"""The pictures of one split by index, without labels: in an array, in files, in a torch data set, or a selection."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from openal_ray.data.location import join, read_bytes
from openal_ray.data.picture import BadPicture, as_pillow, decode, to_array
from openal_ray.errors import BadImages, DataError

# Decoding releases the interpreter lock and object stores answer slowly, so a few threads help even on one core.
DECODING_THREADS = 8


class Images(Protocol):
    """The pictures of one split. Picklable; its indices are 0..len-1."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of every picture."""

    def __len__(self) -> int:
        """How many pictures there are."""

    def load(self, indices: np.ndarray) -> np.ndarray:
        """The pictures at `indices` [n], as a new uint8 [n, height, width, channels].

        raises  BadImages, naming every bad index of this request; IndexError for an index that is not there
        """

    def ids(self, indices: np.ndarray) -> list[str]:
        """The sample ids at `indices` [n]: what people know a picture by."""


class ArrayImages:
    """Pictures in memory.

    pictures  uint8 [N, height, width, channels]
    ids       N sample ids; without them, an id is the index
    raises    DataError if the array has another type or number of dimensions
    """

    def __init__(self, pictures: np.ndarray, ids: Sequence[str] | None = None) -> None:
        if pictures.dtype != np.uint8 or pictures.ndim != 4:
            found = f"{pictures.dtype} {list(pictures.shape)}"
            raise DataError(f"pictures must be uint8 [number, height, width, channels], got {found}")
        self._pictures = pictures
        self._ids = _checked_ids(ids, len(pictures))

    @property
    def shape(self) -> tuple[int, int, int]:
        height, width, channels = self._pictures.shape[1:]
        return height, width, channels

    def __len__(self) -> int:
        return len(self._pictures)

    def load(self, indices: np.ndarray) -> np.ndarray:
        pictures: np.ndarray = self._pictures[checked_indices(indices, len(self))]
        return pictures

    def ids(self, indices: np.ndarray) -> list[str]:
        return _ids_at(self._ids, indices, len(self))


class FileImages:
    """Pictures in local or object-store files, decoded when asked for.

    paths    N paths or URLs; relative ones are seen from `root`
    ids      N sample ids; may be the same object as `paths`, which then travels once
    convert  whether a picture of another mode than grey (1 channel) or RGB (3) is converted or bad
    """

    def __init__(
        self,
        paths: Sequence[str],
        ids: Sequence[str],
        height: int,
        width: int,
        channels: int,
        convert: bool = True,
        root: str = "",
    ) -> None:
        self._paths = paths
        self._ids = _checked_ids(ids, len(paths))
        self._shape = _checked_shape(height, width, channels)
        self._convert = convert
        self._root = root

    @property
    def shape(self) -> tuple[int, int, int]:
        return self._shape

    def __len__(self) -> int:
        return len(self._paths)

    def load(self, indices: np.ndarray) -> np.ndarray:
        indices = checked_indices(indices, len(self))
        with ThreadPoolExecutor(min(DECODING_THREADS, max(1, len(indices)))) as pool:
            return _load_each(indices, self._shape, self._load_one, pool.map)

    def ids(self, indices: np.ndarray) -> list[str]:
        return _ids_at(self._ids, indices, len(self))

    def _load_one(self, index: int) -> np.ndarray:
        location = join(self._root, self._paths[index])
        try:
            return decode(read_bytes(location), self._shape, self._convert)
        except BadPicture as bad:
            raise BadPicture(f"{location} {bad}") from bad
        except OSError as error:
            raise BadPicture(f"{location} cannot be read: {error.strerror or error}") from error


class MapStyle(Protocol):
    """What torch calls a map-style data set; an array of pictures is one too."""

    def __len__(self) -> int:
        """How many items there are."""

    def __getitem__(self, index: int, /) -> Any:
        """The item: a picture, or a tuple that begins with one."""


class WrappedImages:
    """The pictures of a map-style data set, whose own transform must not be random.

    dataset  items are a picture, or (picture, …): a Pillow image, a tensor [C, H, W] or an array [H, W, C], uint8 or
             floating 0..1
    convert  whether a picture of another mode than grey (1 channel) or RGB (3) is converted or bad
    ids      N sample ids; without them, an id is the index
    """

    def __init__(
        self,
        dataset: MapStyle,
        height: int,
        width: int,
        channels: int,
        convert: bool = True,
        ids: Sequence[str] | None = None,
    ) -> None:
        self._dataset = dataset
        self._shape = _checked_shape(height, width, channels)
        self._convert = convert
        self._ids = _checked_ids(ids, len(dataset))

    @property
    def shape(self) -> tuple[int, int, int]:
        return self._shape

    def __len__(self) -> int:
        return len(self._dataset)

    def load(self, indices: np.ndarray) -> np.ndarray:
        # One after the other: nobody promised that the data set may be read by several threads.
        return _load_each(checked_indices(indices, len(self)), self._shape, self._load_one, map)

    def ids(self, indices: np.ndarray) -> list[str]:
        return _ids_at(self._ids, indices, len(self))

    def _load_one(self, index: int) -> np.ndarray:
        try:
            return to_array(as_pillow(picture_of(self._dataset[index])), self._shape, self._convert)
        except (BadPicture, OSError, SyntaxError, ValueError, EOFError) as error:
            raise BadPicture(f"{self.ids(np.array([index]))[0]} {error}") from error


class Subset:
    """Some pictures of another `Images`, under its sample ids.

    indices  [n] indices of the parent; the i-th of these gets index i here
    """

    def __init__(self, parent: Images, indices: np.ndarray) -> None:
        self.parent = parent
        self._indices = checked_indices(indices, len(parent))

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.parent.shape

    def __len__(self) -> int:
        return len(self._indices)

    def load(self, indices: np.ndarray) -> np.ndarray:
        indices = checked_indices(indices, len(self))
        try:
            return self.parent.load(self._indices[indices])
        except BadImages as bad:
            reasons = dict(zip(bad.indices, bad.reasons, strict=True))
            here = {int(index): reasons.get(int(self._indices[index])) for index in indices}
            found = {index: reason for index, reason in here.items() if reason is not None}
            raise BadImages(list(found), list(found.values())) from bad

    def ids(self, indices: np.ndarray) -> list[str]:
        return self.parent.ids(self._indices[checked_indices(indices, len(self))])


def in_memory(images: Images) -> bool:
    """Whether loading costs no decoding: an array, or a part of one."""
    return in_memory(images.parent) if isinstance(images, Subset) else isinstance(images, ArrayImages)


def picture_of(item: Any) -> Any:
    """The picture of a data set's item, which may be a tuple (picture, label, …)."""
    return item[0] if isinstance(item, tuple | list) else item


def checked_indices(indices: np.ndarray, count: int) -> np.ndarray:
    """`indices` as int64 [n]; raises IndexError if one is outside 0..count-1 (numpy would let -1 mean the last)."""
    array = np.asarray(indices)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise IndexError(f"indices must be integers [n], got {array.dtype} {list(array.shape)}")
    if array.size and (array.min() < 0 or array.max() >= count):
        raise IndexError(f"indices must be in 0..{count - 1}, got {array.min()}..{array.max()}")
    return array.astype(np.int64)


def _load_each(
    indices: np.ndarray,
    shape: tuple[int, int, int],
    load_one: Callable[[int], np.ndarray],
    run: Callable[[Callable[[int], str | None], Iterable[int]], Iterable[str | None]],
) -> np.ndarray:
    """All pictures one by one through `run` (a kind of map); raises BadImages after having tried each."""
    pictures = np.empty((len(indices), *shape), np.uint8)

    def fill(position: int) -> str | None:
        try:
            pictures[position] = load_one(int(indices[position]))
        except BadPicture as bad:
            return str(bad)
        return None

    reasons = run(fill, range(len(indices)))
    bad = {int(index): reason for index, reason in zip(indices, reasons, strict=True) if reason is not None}
    if bad:
        raise BadImages(list(bad), list(bad.values()))
    return pictures


def _checked_ids(ids: Sequence[str] | None, count: int) -> Sequence[str] | None:
    if ids is not None and len(ids) != count:
        raise DataError(f"there are {count} pictures but {len(ids)} sample ids")
    return ids


def _ids_at(ids: Sequence[str] | None, indices: np.ndarray, count: int) -> list[str]:
    return [str(index) if ids is None else ids[index] for index in checked_indices(indices, count).tolist()]


def _checked_shape(height: int, width: int, channels: int) -> tuple[int, int, int]:
    if height < 1 or width < 1 or channels not in (1, 3):
        raise DataError(f"pictures must have a size >= 1 and 1 or 3 channels, got {height} x {width} x {channels}")
    return height, width, channels
