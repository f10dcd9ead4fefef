"""Tests of data/image_folders.py: own folders, ImageNet and Tiny ImageNet as they lie on disk."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from openal_ray.data.catalogue import load
from openal_ray.data.dataset import Dataset
from openal_ray.data.image_folders import class_names
from openal_ray.errors import BadImages, ConfigError, DataError


def picture(path: Path, value: int = 0) -> None:
    """A small picture that is all of one grey, so that it can be told from the others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (10, 8), (value, value, value)).save(path)


def values(dataset: Dataset, split: str) -> list[int]:
    images = dataset.train if split == "train" else dataset.test
    found: list[int] = images.load(np.arange(len(images)))[:, 0, 0, 0].tolist()
    return found


def ids(dataset: Dataset) -> list[str]:
    return dataset.train.ids(np.arange(len(dataset.train)))


def two_classes(root: Path) -> None:
    picture(root / "train/dog/b.png", 10)
    picture(root / "train/dog/a.PNG", 20)
    picture(root / "train/cat/deep/c.bmp", 30)
    picture(root / "test/dog/d.png", 40)


def test_train_and_test_folders(tmp_path: Path) -> None:
    two_classes(tmp_path)
    (tmp_path / "train/dog/notes.txt").write_text("no picture")
    (tmp_path / "train/dog/._b.png").write_bytes(b"left by macOS")
    (tmp_path / "train/.cache").mkdir()
    dataset = load(f"folder:{tmp_path}", root=Path("unused"), image_size=8)
    assert dataset.name == f"folder:{tmp_path}"
    assert dataset.classes == ("cat", "dog")
    assert ids(dataset) == ["train/cat/deep/c.bmp", "train/dog/a.PNG", "train/dog/b.png"]
    assert dataset.labels.tolist() == [0, 1, 1]
    assert values(dataset, "train") == [30, 20, 10]
    assert values(dataset, "test") == [40]
    assert dataset.test_labels.tolist() == [1]
    assert dataset.train.shape == (8, 8, 3)
    assert dataset.validation.tolist() == []
    assert dataset.mean == (0.485, 0.456, 0.406)


def test_val_is_the_test_where_there_is_no_other(tmp_path: Path) -> None:
    two_classes(tmp_path)
    (tmp_path / "test").rename(tmp_path / "val")
    dataset = load(f"folder:{tmp_path}", root=tmp_path, image_size=8)
    assert values(dataset, "test") == [40]
    assert len(dataset.train) == 3


def test_beside_a_test_folder_val_is_the_validation(tmp_path: Path) -> None:
    two_classes(tmp_path)
    picture(tmp_path / "val/cat/e.png", 50)
    dataset = load(f"folder:{tmp_path}", root=tmp_path, image_size=8)
    assert dataset.validation.tolist() == [3]
    assert values(dataset, "train") == [30, 20, 10, 50]
    assert dataset.labels.tolist() == [0, 1, 1, 0]
    assert values(dataset, "test") == [40]


def test_grey_pictures_are_normalised_by_a_half(tmp_path: Path) -> None:
    two_classes(tmp_path)
    dataset = load(f"folder:{tmp_path}", root=tmp_path, image_size=8, channels=1)
    assert dataset.train.shape == (8, 8, 1)
    assert (dataset.mean, dataset.std) == ((0.5,), (0.5,))


def many(root: Path) -> None:
    for number in range(10):
        picture(root / f"train/{number}.png", number)  # a class may have this name
    for number in range(5):
        picture(root / f"car/{number}.png", 100 + number)


def test_without_splits_a_fixed_share_of_each_class_is_the_test(tmp_path: Path) -> None:
    many(tmp_path)
    dataset = load(f"folder:{tmp_path}", root=tmp_path, image_size=8)
    assert dataset.classes == ("car", "train")
    assert np.bincount(dataset.test_labels).tolist() == [1, 2]
    assert np.bincount(dataset.labels).tolist() == [4, 8]
    both = values(dataset, "train") + values(dataset, "test")
    assert sorted(both) == [*range(10), *range(100, 105)]
    again = load(f"folder:{tmp_path}", root=tmp_path, image_size=8)
    assert ids(again) == ids(dataset)
    half = load(f"folder:{tmp_path}", root=tmp_path, image_size=8, params={"test_share": 0.4})
    assert np.bincount(half.test_labels).tolist() == [2, 4]


def test_a_share_that_is_none(tmp_path: Path) -> None:
    many(tmp_path)
    for share in (0.0, 1, -0.5):
        with pytest.raises(ConfigError, match=f"data.params.test_share must be between 0 and 1, got {share}"):
            load(f"folder:{tmp_path}", root=tmp_path, params={"test_share": share})


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"folder:{tmp_path}/nowhere: there is no folder {tmp_path}/nowhere"):
        load(f"folder:{tmp_path}/nowhere", root=tmp_path)
    with pytest.raises(DataError, match=f"{tmp_path}: no class folder"):
        load(f"folder:{tmp_path}", root=tmp_path)
    with pytest.raises(DataError, match="folder:s3://b/set: a folder must be local; list remote files in a manifest"):
        load("folder:s3://b/set", root=tmp_path)


def test_train_without_test(tmp_path: Path) -> None:
    picture(tmp_path / "train/cat/1.png")
    with pytest.raises(DataError, match=f"{tmp_path} has a folder train but neither test nor val: add one"):
        load(f"folder:{tmp_path}", root=tmp_path)


def test_a_class_that_train_lacks(tmp_path: Path) -> None:
    two_classes(tmp_path)
    picture(tmp_path / "test/horse/1.png")
    with pytest.raises(DataError, match="classes of the test or validation split that train lacks: horse"):
        load(f"folder:{tmp_path}", root=tmp_path)


def test_a_class_without_pictures(tmp_path: Path) -> None:
    two_classes(tmp_path)
    (tmp_path / "train/empty").mkdir()
    with pytest.raises(DataError, match=r"class folder\(s\) without a picture: empty. A picture's name ends in .jpg"):
        load(f"folder:{tmp_path}", root=tmp_path)


def test_imagenet(tmp_path: Path) -> None:
    root = tmp_path / "imagenet1k"
    picture(root / "train/n02/n02_1.JPEG", 10)
    picture(root / "train/n01/n01_1.JPEG", 20)
    picture(root / "val/n02/ILSVRC2012_val_1.JPEG", 30)
    dataset = load("ImageNet1K", root=tmp_path)
    assert dataset.classes == ("n01", "n02")
    assert dataset.labels.tolist() == [0, 1]
    assert values(dataset, "train") == [20, 10]
    assert dataset.test_labels.tolist() == [1]
    assert dataset.train.shape == (224, 224, 3)
    (root / "LOC_synset_mapping.txt").write_text("n01 tench, Tinca tinca\nn02 goldfish, Carassius auratus\n")
    assert load("imagenet", root=tmp_path).classes == ("tench", "goldfish")


def test_imagenet_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"(?s)looked for\n  {tmp_path}/imagenet/train\n.*Register at image-net.org"):
        load("imagenet", root=tmp_path)


def tiny(root: Path) -> Path:
    folder = root / "tiny-imagenet-200"
    for number, wnid in enumerate(("n09", "n05")):
        picture(folder / f"train/{wnid}/images/{wnid}_0.JPEG", 10 * (number + 1))
        (folder / f"train/{wnid}/{wnid}_boxes.txt").write_text("n09_0.JPEG\t0\t0\t62\t62\n")
    picture(folder / "val/images/val_0.JPEG", 30)
    picture(folder / "val/images/val_1.JPEG", 40)
    annotations = "val_0.JPEG\tn09\t0\t32\t44\t62\nval_1.JPEG\tn05\t52\t55\t57\t59\n"
    (folder / "val/val_annotations.txt").write_text(annotations)
    (folder / "wnids.txt").write_text("n09\nn05\n")
    (folder / "words.txt").write_text("n05\tsalamander, European fire salamander\nn07\tother\nn09\tbullfrog\n")
    return folder


def test_tiny_imagenet_as_distributed(tmp_path: Path) -> None:
    tiny(tmp_path)
    dataset = load("Tiny_ImageNet_200", root=tmp_path, image_size=8)
    assert dataset.classes == ("salamander", "bullfrog")  # by id: n05, n09
    assert values(dataset, "train") == [20, 10]
    assert dataset.labels.tolist() == [0, 1]
    assert values(dataset, "test") == [40, 30]
    assert dataset.test_labels.tolist() == [0, 1]
    assert ids(dataset)[0] == "train/n05/images/n05_0.JPEG"
    assert load("tiny_imagenet", root=tmp_path).train.shape == (64, 64, 3)


def test_tiny_imagenet_with_val_moved_into_class_folders(tmp_path: Path) -> None:
    folder = tiny(tmp_path)
    (folder / "val/val_annotations.txt").unlink()
    for name, wnid in (("val_0", "n09"), ("val_1", "n05")):
        (folder / "val" / wnid).mkdir()
        (folder / f"val/images/{name}.JPEG").rename(folder / f"val/{wnid}/{name}.JPEG")
    (folder / "val/images").rmdir()
    dataset = load("tiny_imagenet", root=tmp_path, image_size=8)
    assert values(dataset, "test") == [40, 30]
    assert dataset.test_labels.tolist() == [0, 1]


def test_tiny_imagenet_in_part(tmp_path: Path) -> None:
    folder = tiny(tmp_path)
    (folder / "wnids.txt").write_text("n09\nn05\nn77\n")
    with pytest.raises(DataError, match=rf"not found, looked for\n  {folder}/train/n77\n"):
        load("tiny_imagenet", root=tmp_path)
    (folder / "words.txt").unlink()
    with pytest.raises(DataError, match=rf"(?s)looked for\n.*{folder}/words.txt\n.*Unpack tiny-imagenet-200.zip"):
        load("tiny_imagenet", root=tmp_path)


def test_tiny_imagenet_with_damaged_annotations(tmp_path: Path) -> None:
    folder = tiny(tmp_path)
    (folder / "val/val_annotations.txt").write_text("val_0.JPEG\tn09\t0\nval_1.JPEG n05\n")
    with pytest.raises(DataError, match="val_annotations.txt, line 2: expected a file name, a tab and a WordNet id"):
        load("tiny_imagenet", root=tmp_path)


def test_a_truncated_picture_is_found_when_it_is_loaded(tmp_path: Path) -> None:
    path = tiny(tmp_path) / "train/n05/images/n05_0.JPEG"
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:-200])
    dataset = load("tiny_imagenet", root=tmp_path)
    with pytest.raises(BadImages, match=f"{path} cannot be decoded") as caught:
        dataset.train.load(np.arange(2))
    assert caught.value.indices == [0]


def test_class_names_are_distinct(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("n1\tcrane\nn2\tcrane, derrick\nn3\tbird\n")
    assert class_names(["n1", "n2", "n3", "n4"], tmp_path) == ["crane (n1)", "crane (n2)", "bird", "n4"]
