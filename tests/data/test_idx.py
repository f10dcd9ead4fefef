"""Tests of data/idx.py: idx files plain and gzipped, in torchvision's and Debian's places, damaged and downloaded."""

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
from torchvision import datasets

from openal_ray.data import idx
from openal_ray.data.catalogue import load
from openal_ray.errors import DataError

RNG = np.random.default_rng(0)
ARRAYS = {
    "train-images-idx3-ubyte": RNG.integers(0, 256, (6, 28, 28), np.uint8),
    "train-labels-idx1-ubyte": np.array([3, 1, 4, 1, 5, 9], np.uint8),
    "t10k-images-idx3-ubyte": RNG.integers(0, 256, (2, 28, 28), np.uint8),
    "t10k-labels-idx1-ubyte": np.array([2, 6], np.uint8),
}


def encoded(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}i", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write(folder: Path, zipped: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in ARRAYS.items():
        content = encoded(array)
        (folder / (f"{name}.gz" if zipped else name)).write_bytes(gzip.compress(content) if zipped else content)


@pytest.mark.parametrize(
    ("name", "place"),
    [("mnist", "MNIST/raw"), ("MNIST", "MNIST"), ("fashion_mnist", "FashionMNIST/raw"), ("Fashion-MNIST", "debian")],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_all_places_and_both_forms(
    name: str, place: str, zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idx, "DEBIAN_FASHION", tmp_path / "debian")
    write(tmp_path / place, zipped)
    dataset = load(name, root=tmp_path, download=False)
    assert np.array_equal(dataset.train.load(np.arange(6))[:, :, :, 0], ARRAYS["train-images-idx3-ubyte"])
    assert np.array_equal(dataset.test.load(np.arange(2))[:, :, :, 0], ARRAYS["t10k-images-idx3-ubyte"])
    assert dataset.labels.tolist() == [3, 1, 4, 1, 5, 9]
    assert dataset.test_labels.tolist() == [2, 6]
    assert len(dataset.classes) == 10


def test_the_reading_agrees_with_torchvisions(tmp_path: Path) -> None:
    write(tmp_path / "FashionMNIST/raw")
    theirs = datasets.FashionMNIST(tmp_path, train=True)
    ours = load("fashion_mnist", root=tmp_path, download=False)
    assert np.array_equal(ours.train.load(np.arange(6))[:, :, :, 0], theirs.data.numpy())
    assert ours.labels.tolist() == theirs.targets.tolist()
    assert list(ours.classes) == theirs.classes


def test_absent_files_are_listed_with_the_way_to_get_them(tmp_path: Path) -> None:
    write(tmp_path / "MNIST/raw")
    (tmp_path / "MNIST/raw/t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError) as caught:
        load("mnist", root=tmp_path, download=False)
    message = str(caught.value)
    assert message.startswith("data set mnist: not found, looked for")
    assert f"{tmp_path}/MNIST/raw/t10k-labels-idx1-ubyte[.gz]" in message
    assert "train-images" not in message
    assert "torchvision downloads it where the network allows; elsewhere copy the files" in message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (encoded(ARRAYS["train-images-idx3-ubyte"])[:-1], r"its header says \[6, 28, 28\], it holds 4703 bytes"),
        (encoded(ARRAYS["train-labels-idx1-ubyte"]), "is not an idx file of bytes with 3 dimension"),
        (b"<html>no such page</html>", "is not an idx file of bytes with 3 dimension"),
        (b"\0\0", "is not an idx file of bytes with 3 dimension"),
        (b"", "is not an idx file of bytes with 3 dimension"),
    ],
)
def test_a_damaged_file_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    write(tmp_path / "MNIST/raw")
    path = tmp_path / "MNIST/raw/train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{path} .*{message}"):
        load("mnist", root=tmp_path, download=False)


@pytest.mark.parametrize("damage", ["cut off", "no gzip", "a bit flipped"])
def test_a_damaged_archive_is_named(damage: str, tmp_path: Path) -> None:
    write(tmp_path / "MNIST/raw", zipped=True)
    path = tmp_path / "MNIST/raw/train-images-idx3-ubyte.gz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = {"cut off": bytes(content[:-200]), "no gzip": b"<html>", "a bit flipped": bytes(content)}
    path.write_bytes(damaged[damage])
    with pytest.raises(DataError, match=f"{path} cannot be read: .*Delete it and get it again"):
        load("mnist", root=tmp_path, download=False)


def test_download(tmp_path: Path, served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, address = served
    write(folder, zipped=True)
    names = [f"{name}.gz" for name in ARRAYS]
    md5s = [hashlib.md5((folder / name).read_bytes()).hexdigest() for name in names]
    monkeypatch.setattr(datasets.MNIST, "mirrors", [address])
    monkeypatch.setattr(datasets.MNIST, "resources", list(zip(names, md5s, strict=True)))
    assert load("mnist", root=tmp_path).labels.tolist() == [3, 1, 4, 1, 5, 9]
    assert (tmp_path / "MNIST/raw/train-images-idx3-ubyte").is_file()


def test_a_download_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])  # where nobody listens
    with pytest.raises(DataError, match=r"(?s)looked for.*train-images.*The download failed: .*refused"):
        load("mnist", root=tmp_path)
