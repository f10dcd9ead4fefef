"""Tests of data/from_torch.py: data sets of the user's own program."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset
from torchvision import datasets, transforms

from openal_ray.data.from_torch import from_torch
from openal_ray.errors import DataError

PICTURES = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 3), np.uint8)
LABELS = [2, 0, 1, 0, 2, 1]


def tensors(count: int) -> TensorDataset:
    return TensorDataset(torch.from_numpy(PICTURES[:count]).permute(0, 3, 1, 2) / 255, torch.tensor(LABELS[:count]))


def test_items_of_picture_and_label() -> None:
    dataset = from_torch(tensors(6), tensors(2), name="mine")
    assert dataset.name == "mine"
    assert dataset.classes == ("0", "1", "2")
    assert dataset.labels.tolist() == LABELS
    assert dataset.test_labels.tolist() == [2, 0]
    assert np.array_equal(dataset.train.load(np.arange(6)), PICTURES)
    assert dataset.train.ids(np.array([3])) == ["3"]
    assert dataset.mean == (0.485, 0.456, 0.406)


class Listed:
    """A data set whose labels can be had without decoding a picture."""

    def __init__(self, key: str, labels: Any, items: list[Any]) -> None:
        setattr(self, key, labels)
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int, /) -> Any:
        return self.items[index]


@pytest.mark.parametrize("key", ["targets", "labels"])
@pytest.mark.parametrize("form", [list, np.array, torch.tensor])
def test_labels_in_an_attribute(key: str, form: Any) -> None:
    grey = [Image.fromarray(picture[:, :, 0]) for picture in PICTURES]
    source = Listed(key, form(LABELS), list(grey))
    dataset = from_torch(source, source, classes=["x", "y", "z"], mean=[0.1], std=[0.2])
    assert dataset.labels.tolist() == LABELS
    assert dataset.classes == ("x", "y", "z")
    assert dataset.train.shape == (4, 5, 1)
    assert (dataset.mean, dataset.std) == ((0.1,), (0.2,))
    assert np.array_equal(dataset.train.load(np.arange(6)), PICTURES[:, :, :, :1])


def test_a_torchvision_data_set_with_a_transform() -> None:
    fake = datasets.FakeData(5, (3, 6, 6), num_classes=3, transform=transforms.ToTensor())
    dataset = from_torch(fake, fake, classes=["a", "b", "c"])
    assert dataset.train.shape == (6, 6, 3)
    assert dataset.labels.tolist() == [int(fake[index][1]) for index in range(5)]
    expected = np.stack([np.asarray(transforms.ToPILImage()(fake[index][0])) for index in range(5)])
    assert np.array_equal(dataset.train.load(np.arange(5)), expected)


def test_another_size_and_mode() -> None:
    dataset = from_torch(tensors(6), tensors(2), image_size=8, channels=1)
    assert dataset.train.shape == (8, 8, 1)
    assert (dataset.mean, dataset.std) == ((0.5,), (0.5,))
    assert dataset.train.load(np.arange(6)).shape == (6, 8, 8, 1)


def test_unlabelled_training_images() -> None:
    source = Listed("targets", [0, -1], [PICTURES[0], PICTURES[1]])
    test = Listed("targets", [0], [PICTURES[2]])
    assert from_torch(source, test).labels.tolist() == [0, -2]


def test_what_cannot_be_used() -> None:
    pictures = list(PICTURES)
    with pytest.raises(DataError, match="data set custom: it has no train image"):
        from_torch([], tensors(2))
    with pytest.raises(DataError, match="data set custom: the first train picture has values outside 0..1"):
        from_torch([(PICTURES[0] - 3.0, 1)], tensors(2))
    with pytest.raises(DataError, match=r"the train labels must be integers in `targets`.*got \[None, None, None\]"):
        from_torch(pictures, tensors(2))
    with pytest.raises(DataError, match=r"the test labels must be integers .*got \['cat', 'dog'\]"):
        from_torch(tensors(6), Listed("targets", ["cat", "dog"], pictures[:2]))
    with pytest.raises(DataError, match="there are 6 images but 2 labels"):
        from_torch(Listed("targets", [0, 1], pictures), tensors(2))
