"""What was asked of a source of data, with its defaults filled in, and how a source answers in that form."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openal_ray.data.dataset import Dataset
from openal_ray.data.images import ArrayImages, FileImages, Images, WrappedImages
from openal_ray.errors import ConfigError, DataError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def default_statistics(channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation for pictures of which nothing is known: ImageNet's, or 0.5 for grey ones."""
    return (IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else ((0.5,), (0.5,))


@dataclass(frozen=True)
class Request:
    """One call of `catalogue.load`, as the loaders see it.

    name       of the data set that results
    target     what followed `folder:` or `manifest:`, else ""
    origin     how to get the files, for error messages
    root       the folder that holds data sets
    download   whether missing files may be fetched
    size       height and width of the pictures
    channels   1 or 3
    convert    whether pictures of another mode are converted or bad
    mean, std  per channel, in units of a picture scaled to 0..1
    """

    name: str
    target: str
    origin: str
    root: Path
    download: bool
    size: int
    channels: int
    convert: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def arrays(self, pictures: np.ndarray) -> Images:
        """uint8 [N, height, width, channels] as asked; pictures of another shape are converted when loaded."""
        shape = (self.size, self.size, self.channels)
        if pictures.shape[1:] == shape:
            return ArrayImages(pictures)
        if pictures.shape[3] != self.channels and not self.convert:
            found = f"data set {self.name} has {pictures.shape[3]} channel(s)"
            raise ConfigError(f"data.channels is {self.channels} but {found}: set data.convert=true to convert")
        return WrappedImages(pictures, *shape)

    def files(self, root: str, paths: Sequence[str], ids: Sequence[str]) -> FileImages:
        """Files under the folder `root`, decoded as asked."""
        return FileImages(paths, ids, self.size, self.size, self.channels, self.convert, root)

    def dataset(
        self,
        classes: Sequence[str],
        train: tuple[Images, np.ndarray],
        test: tuple[Images, np.ndarray],
        validation: np.ndarray | None = None,
    ) -> Dataset:
        """The answer; `train` and `test` are pairs of pictures and labels."""
        none = np.empty(0, np.int64)
        indices = none if validation is None else validation
        return Dataset(self.name, tuple(classes), *train, *test, self.mean, self.std, indices)

    def obtain(self, absent: Callable[[], list[Path]], fetch: Callable[[], object]) -> None:
        """Has the files that `absent` lists fetched; raises DataError if some are still absent afterwards."""
        reason = ""
        if self.download and absent():
            try:
                fetch()
            except (OSError, RuntimeError) as error:
                reason = str(error)
        looked_for = absent()
        if looked_for:
            raise self.missing(looked_for, reason)

    def missing(self, looked_for: Sequence[Path], reason: str = "") -> DataError:
        """The error for files that are nowhere; `reason` is why fetching them failed."""
        shown = "\n  ".join(str(path) for path in looked_for[:8])
        more = f"\n  … and {len(looked_for) - 8} more" if len(looked_for) > 8 else ""
        why = f"\nThe download failed: {reason}" if reason else ""
        return DataError(f"data set {self.name}: not found, looked for\n  {shown}{more}{why}\n{self.origin}")
