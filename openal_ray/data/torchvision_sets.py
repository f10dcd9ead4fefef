"""CIFAR-10, CIFAR-100 and SVHN, read and, where files are absent, downloaded by torchvision."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from openal_ray.data.dataset import Dataset
from openal_ray.data.images import Images
from openal_ray.data.long_tail import long_tail
from openal_ray.data.request import Request
from openal_ray.errors import DataError


def cifar10(request: Request) -> Dataset:
    """32 x 32 colour pictures of 10 kinds of things, 50,000 and 10,000."""
    return _cifar(request, "CIFAR10")


def cifar100(request: Request) -> Dataset:
    """CIFAR-10's sister with 100 classes."""
    return _cifar(request, "CIFAR100")


def cifar10_lt(request: Request, *, imbalance: str = "exp", factor: float = 100.0, seed: int = 0) -> Dataset:
    """CIFAR-10 with classes of very different sizes to train on; the test images stay balanced."""
    return long_tail(cifar10(request), imbalance, factor, seed)


def cifar100_lt(request: Request, *, imbalance: str = "exp", factor: float = 100.0, seed: int = 0) -> Dataset:
    """CIFAR-100 with classes of very different sizes to train on; the test images stay balanced."""
    return long_tail(cifar100(request), imbalance, factor, seed)


def svhn(request: Request) -> Dataset:
    """House numbers, 32 x 32 colour, 73,257 and 26,032; the extra images are left out."""
    from torchvision.datasets import SVHN

    md5s = {name: md5 for _, name, md5 in (SVHN.split_list["train"], SVHN.split_list["test"])}
    folder = _folder(request, "SVHN", md5s)
    _obtain(request, folder, md5s, lambda: [SVHN(folder, split, download=True) for split in ("train", "test")])

    def split(name: str) -> tuple[Images, np.ndarray]:
        source = SVHN(folder, name)
        return request.arrays(np.ascontiguousarray(source.data.transpose(0, 2, 3, 1))), source.labels

    return request.dataset(tuple("0123456789"), split("train"), split("test"))


def _cifar(request: Request, class_name: str) -> Dataset:
    from torchvision import datasets
    from torchvision.datasets.utils import extract_archive

    cifar: Any = getattr(datasets, class_name)
    listed = [*cifar.train_list, *cifar.test_list, (cifar.meta["filename"], cifar.meta["md5"])]
    md5s = {f"{cifar.base_folder}/{name}": md5 for name, md5 in listed}
    folder = _folder(request, class_name, [*md5s, cifar.filename])
    archive = folder / cifar.filename
    if archive.is_file() and _absent(folder, md5s):
        _refuse_damaged(folder, {cifar.filename: cifar.tgz_md5})
        extract_archive(archive, folder)
    _obtain(request, folder, md5s, lambda: cifar(folder, download=True))

    def split(train: bool) -> tuple[Images, np.ndarray]:
        source = cifar(folder, train)
        return request.arrays(source.data), np.array(source.targets)

    return request.dataset(cifar(folder, train=False).classes, split(train=True), split(train=False))


def _folder(request: Request, class_name: str, files: Iterable[str]) -> Path:
    """Where the files lie: in a folder of their own, as downloads do, or right under the root."""
    own = request.root / class_name
    return next((folder for folder in (own, request.root) if any((folder / name).is_file() for name in files)), own)


def _obtain(request: Request, folder: Path, md5s: Mapping[str, str], fetch: Callable[[], object]) -> None:
    request.obtain(lambda: _absent(folder, md5s), fetch)
    _refuse_damaged(folder, md5s)


def _absent(folder: Path, files: Iterable[str]) -> list[Path]:
    return [folder / name for name in files if not (folder / name).is_file()]


def _refuse_damaged(folder: Path, md5s: Mapping[str, str]) -> None:
    """Also what makes it safe to open CIFAR's pickles: only the published bytes get that far."""
    from torchvision.datasets.utils import check_integrity

    damaged = [folder / name for name, md5 in md5s.items() if not check_integrity(folder / name, md5)]
    if damaged:
        shown = ", ".join(map(str, damaged))
        raise DataError(f"{shown}: cut off or damaged (not the published checksum). Delete and get it again.")
