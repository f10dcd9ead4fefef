"""MNIST and Fashion-MNIST: pictures and labels in idx files, plain or gzipped."""

import gzip
import zlib
from pathlib import Path

import numpy as np

from openal_ray.data.dataset import Dataset
from openal_ray.data.images import Images
from openal_ray.data.request import Request
from openal_ray.errors import DataError

# Where Debian's package dataset-fashion-mnist puts them.
DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")

_DIGITS = tuple("0123456789")
_CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_IMAGES, _LABELS = "-images-idx3-ubyte", "-labels-idx1-ubyte"
_FILES = tuple(split + kind for split in ("train", "t10k") for kind in (_IMAGES, _LABELS))
_UNSIGNED_BYTE = 0x08  # the only type that pictures and labels come in


def mnist(request: Request) -> Dataset:
    """Handwritten digits, 28 x 28 grey, 60,000 and 10,000."""
    return _load(request, "MNIST", _DIGITS, [])


def fashion_mnist(request: Request) -> Dataset:
    """Pictures of clothes in the form of MNIST."""
    return _load(request, "FashionMNIST", _CLOTHES, [DEBIAN_FASHION])


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The array in an idx file of bytes; a name ending in .gz is unpacked on the way.

    returns  uint8 array of `dimensions` dimensions
    raises   DataError naming the file if it is damaged or holds something else
    source   the format's description on the MNIST page: two zero bytes, type, number of dimensions, the sizes as
             big-endian int32, the values
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}. Delete it and get it again.") from error
    if len(content) < 4 + 4 * dimensions or content[:4] != bytes((0, 0, _UNSIGNED_BYTE, dimensions)):
        raise DataError(f"{path} is not an idx file of bytes with {dimensions} dimension(s). Get it again.")
    sizes = np.frombuffer(content, ">i4", dimensions, offset=4).tolist()
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions)
    if len(values) != int(np.prod(sizes)):
        raise DataError(f"{path} is cut off or damaged: its header says {sizes}, it holds {len(values)} bytes.")
    return values.reshape(sizes)


def _load(request: Request, class_name: str, classes: tuple[str, ...], more_folders: list[Path]) -> Dataset:
    """`class_name` is torchvision's: its class fetches the files and its folder is where they lie."""
    folders = [request.root / class_name / "raw", request.root / class_name, *more_folders]

    def absent() -> list[Path]:
        found = _find(folders)
        return [folder / f"{name}[.gz]" for name in _FILES if name not in found for folder in folders]

    def fetch() -> None:
        import torchvision

        getattr(torchvision.datasets, class_name)(request.root, download=True)

    request.obtain(absent, fetch)
    found = _find(folders)

    def split(prefix: str) -> tuple[Images, np.ndarray]:
        pictures = read_idx(found[prefix + _IMAGES], dimensions=3)[:, :, :, None]
        return request.arrays(pictures), read_idx(found[prefix + _LABELS], dimensions=1)

    return request.dataset(classes, split("train"), split("t10k"))


def _find(folders: list[Path]) -> dict[str, Path]:
    """File name → where it first lies, plain or gzipped."""
    places = {name: [folder / f"{name}{end}" for folder in folders for end in ("", ".gz")] for name in _FILES}
    found = {name: next(filter(Path.is_file, paths), None) for name, paths in places.items()}
    return {name: path for name, path in found.items() if path is not None}
