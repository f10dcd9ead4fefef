"""Tests of data/torchvision_sets.py on small files of the published formats, with checksums of their own."""

import hashlib
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat
from torchvision import datasets

from openal_ray.data.catalogue import load
from openal_ray.data.dataset import Dataset
from openal_ray.errors import DataError

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (12, 32, 32, 3), np.uint8)
LABELS = [3, 1, 0, 1, 2, 3, 0, 2, 3, 0, 1, 2]


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def write_pickle(path: Path, content: object) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content))
    return md5(path)


def batch(positions: range, key: str) -> dict[str, object]:
    """A file of CIFAR's: one row a picture, its channels one after the other."""
    rows = PICTURES[list(positions)].transpose(0, 3, 1, 2).reshape(len(positions), -1)
    return {"data": rows, key: [LABELS[position] for position in positions]}


def write_cifar10(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = root / "cifar-10-batches-py"
    names = [f"data_batch_{number}" for number in range(1, 6)]
    lists = [
        [name, write_pickle(folder / name, batch(range(2 * n, 2 * n + 2), "labels"))] for n, name in enumerate(names)
    ]
    monkeypatch.setattr(datasets.CIFAR10, "train_list", lists)
    test = write_pickle(folder / "test_batch", batch(range(10, 12), "labels"))
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", test]])
    meta = write_pickle(folder / "batches.meta", {"label_names": ["plane", "car", "bird", "cat"]})
    monkeypatch.setattr(datasets.CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": meta})
    return folder


def write_cifar100(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = root / "cifar-100-python"
    train = write_pickle(folder / "train", batch(range(10), "fine_labels"))
    test = write_pickle(folder / "test", batch(range(10, 12), "fine_labels"))
    meta = write_pickle(folder / "meta", {"fine_label_names": ["apple", "bear", "bed", "bee"]})
    monkeypatch.setattr(datasets.CIFAR100, "train_list", [["train", train]])
    monkeypatch.setattr(datasets.CIFAR100, "test_list", [["test", test]])
    monkeypatch.setattr(datasets.CIFAR100, "meta", {"filename": "meta", "key": "fine_label_names", "md5": meta})
    return folder


def write_svhn(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """SVHN's arrays end with the picture, and its zeros are called 10."""
    root.mkdir(parents=True, exist_ok=True)
    splits = {}
    for split, positions in (("train", slice(0, 10)), ("test", slice(10, 12))):
        name = f"{split}_32x32.mat"
        labels = np.array([[label or 10] for label in LABELS[positions]], np.uint8)
        savemat(root / name, {"X": PICTURES[positions].transpose(1, 2, 3, 0), "y": labels})
        splits[split] = [f"http://127.0.0.1:9/{name}", name, md5(root / name)]
    monkeypatch.setattr(datasets.SVHN, "split_list", splits)
    return root


WRITERS = {"cifar10": write_cifar10, "cifar100": write_cifar100, "svhn": write_svhn}
FOLDERS = {"cifar10": "CIFAR10", "cifar100": "CIFAR100", "svhn": "SVHN"}


def check(dataset: Dataset) -> None:
    assert np.array_equal(dataset.train.load(np.arange(10)), PICTURES[:10])
    assert np.array_equal(dataset.test.load(np.arange(2)), PICTURES[10:])
    assert dataset.labels.tolist() == LABELS[:10]
    assert dataset.test_labels.tolist() == LABELS[10:]


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("own_folder", [True, False])
def test_pictures_and_labels(name: str, own_folder: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    WRITERS[name](tmp_path / FOLDERS[name] if own_folder else tmp_path, monkeypatch)
    check(load(name, root=tmp_path, download=False))


def test_class_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for write in WRITERS.values():
        write(tmp_path, monkeypatch)
    assert load("CIFAR10", root=tmp_path, download=False).classes == ("plane", "car", "bird", "cat")
    assert load("CIFAR100", root=tmp_path, download=False).classes == ("apple", "bear", "bed", "bee")
    assert load("SVHN", root=tmp_path, download=False).classes == tuple("0123456789")


@pytest.mark.parametrize("name", WRITERS)
def test_a_damaged_file_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = WRITERS[name](tmp_path, monkeypatch)
    path = sorted(folder.iterdir())[-1]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"^{path}: cut off or damaged \(not the published checksum\). Delete"):
        load(name, root=tmp_path, download=False)


@pytest.mark.parametrize("name", WRITERS)
def test_absent_files_are_listed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = WRITERS[name](tmp_path, monkeypatch)
    path = sorted(folder.iterdir())[-1]
    path.unlink()
    with pytest.raises(DataError, match=rf"(?s)^data set {name}: not found, looked for\n  {path}\n.*copy the files"):
        load(name, root=tmp_path, download=False)


def archive_of(folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, folder.name)
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5(path))


def test_an_archive_that_is_there_is_unpacked_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_cifar10(tmp_path / "made", monkeypatch)
    archive_of(folder, tmp_path / "root" / "cifar-10-python.tar.gz", monkeypatch)
    check(load("cifar10", root=tmp_path / "root", download=False))


def test_a_truncated_archive_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_cifar10(tmp_path / "made", monkeypatch)
    path = tmp_path / "root" / "CIFAR10" / "cifar-10-python.tar.gz"
    archive_of(folder, path, monkeypatch)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=f"{path}: cut off or damaged"):
        load("cifar10", root=tmp_path / "root")


def test_download(tmp_path: Path, served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_cifar10(tmp_path / "made", monkeypatch)
    archive_of(folder, served[0] / "c.tar.gz", monkeypatch)
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{served[1]}c.tar.gz")
    check(load("cifar10", root=tmp_path / "root"))
    assert (tmp_path / "root/CIFAR10/cifar-10-batches-py/test_batch").is_file()


@pytest.mark.parametrize("name", ["cifar10", "svhn"])
def test_a_download_that_fails_says_why(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = "http://127.0.0.1:9/"  # where nobody listens
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{nobody}cifar-10-python.tar.gz")
    splits = {split: [f"{nobody}{split}.mat", f"{split}.mat", "0" * 32] for split in ("train", "test")}
    monkeypatch.setattr(datasets.SVHN, "split_list", splits)
    with pytest.raises(DataError, match=r"(?s)not found, looked for.*The download failed: .*refused"):
        load(name, root=tmp_path)


def test_the_long_tailed_form_keeps_ids_and_the_test_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar10(tmp_path, monkeypatch)
    # Ten labels: 3 1 0 1 2 3 0 2 3 0. The largest class has 3; "step" with factor 3 leaves classes 2 and 3 one image.
    params = {"imbalance": "step", "factor": 3, "seed": 1}
    dataset = load("CIFAR10-LT", root=tmp_path, download=False, params=params)
    assert np.bincount(dataset.labels).tolist() == [3, 2, 1, 1]
    ids = [int(name) for name in dataset.train.ids(np.arange(7))]
    assert ids == sorted(ids)
    assert np.array_equal(dataset.train.load(np.arange(7)), PICTURES[ids])
    assert dataset.labels.tolist() == [LABELS[position] for position in ids]
    assert dataset.test_labels.tolist() == LABELS[10:]
