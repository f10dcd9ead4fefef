"""Any pair of map-style torch data sets as a `Dataset`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from openal_ray.data.dataset import Dataset
from openal_ray.data.images import MapStyle, WrappedImages, picture_of
from openal_ray.data.picture import BadPicture, as_pillow
from openal_ray.data.request import default_statistics
from openal_ray.errors import DataError
from openal_ray.pool import UNLABELLED


def from_torch(
    train: MapStyle,
    test: MapStyle,
    *,
    name: str = "custom",
    classes: Sequence[str] | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    convert: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Dataset:
    """Two data sets of the own program, such as torchvision's, with transforms that are not random.

    train, test  a train label of -1 means: not labelled yet, as in torchvision's STL-10; both
                 have `targets` or `labels`, or items (picture, label); for the form of a picture see `WrappedImages`
    classes      class names; without them `train.classes`, or "0", "1", …
    image_size   height and width in pixels; without it those of the first picture
    channels     1 or 3; without it those of the first picture
    mean, std    per channel, in units of a picture scaled to 0..1
    raises       DataError
    """
    height, width, found_channels = _first_shape(name, train)
    channels = channels or found_channels
    labels, test_labels = _labels(name, "train", train), _labels(name, "test", test)
    labels = np.where(labels == -1, UNLABELLED, labels)
    if classes is None:
        classes = getattr(train, "classes", None) or [str(label) for label in range(labels.max(initial=-1) + 1)]
    default_mean, default_std = default_statistics(channels)

    def wrapped(source: MapStyle) -> WrappedImages:
        return WrappedImages(source, image_size or height, image_size or width, channels, convert)

    return Dataset(
        name,
        tuple(classes),
        wrapped(train),
        labels,
        wrapped(test),
        test_labels,
        tuple(default_mean if mean is None else mean),
        tuple(default_std if std is None else std),
    )


def _first_shape(name: str, train: MapStyle) -> tuple[int, int, int]:
    if not len(train):
        raise DataError(f"data set {name}: it has no train image")
    try:
        first = as_pillow(picture_of(train[0]))
    except BadPicture as bad:
        raise DataError(f"data set {name}: the first train picture {bad}") from bad
    return first.height, first.width, 1 if first.mode in ("1", "L", "LA") else 3


def _labels(name: str, split: str, source: MapStyle) -> np.ndarray:
    given: Any = getattr(source, "targets", None)
    if given is None:
        given = getattr(source, "labels", None)
    if given is None:  # slow, as it decodes every picture, but there is no other way to the labels
        items = (source[index] for index in range(len(source)))
        given = [item[1] if isinstance(item, tuple | list) and len(item) > 1 else None for item in items]
    labels = np.array([label.item() if hasattr(label, "item") else label for label in given])
    if labels.dtype.kind not in "iu":
        raise DataError(
            f"data set {name}: the {split} labels must be integers in `targets`, in `labels` or second in each item, "
            f"got {labels[:3].tolist()}"
        )
    return labels
