"""Tests of data/images.py: the same contract for pictures in arrays, files, data sets and subsets."""

import pickle
import uuid
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image
from torch import from_numpy
from torch.utils.data import TensorDataset

from openal_ray.data.images import ArrayImages, FileImages, Images, Subset, WrappedImages
from openal_ray.errors import BadImages, DataError

COUNT, SHAPE = 12, (4, 6, 3)
PICTURES = np.random.default_rng(0).integers(0, 256, (COUNT, *SHAPE), np.uint8)
NAMES = [f"p{index}.png" for index in range(COUNT)]


def in_array(_: Path) -> Images:
    return ArrayImages(PICTURES, NAMES)


def in_files(folder: Path) -> Images:
    for name, picture in zip(NAMES, PICTURES, strict=True):
        Image.fromarray(picture).save(folder / name)
    return FileImages(NAMES, NAMES, *SHAPE, root=str(folder))


def in_data_set(_: Path) -> Images:
    return WrappedImages(TensorDataset(from_numpy(PICTURES).permute(0, 3, 1, 2)), *SHAPE, ids=NAMES)


def in_subset(_: Path) -> Images:
    backwards = np.arange(COUNT)[::-1]
    return Subset(ArrayImages(PICTURES[backwards].copy(), NAMES[::-1]), backwards)


@pytest.fixture(params=[in_array, in_files, in_data_set, in_subset])
def images(request: pytest.FixtureRequest, tmp_path: Path) -> Images:
    make: Callable[[Path], Images] = request.param
    return make(tmp_path)


def test_pictures_come_in_the_order_asked(images: Images) -> None:
    assert len(images) == COUNT
    assert images.shape == SHAPE
    for indices in ([3], [7, 0, 3, 3], list(range(COUNT)), []):
        loaded = images.load(np.array(indices, np.int64))
        assert loaded.dtype == np.uint8
        assert np.array_equal(loaded, PICTURES[indices].reshape(len(indices), *SHAPE))
        assert images.ids(np.array(indices, np.int64)) == [f"p{index}.png" for index in indices]


def test_what_is_loaded_is_the_callers_own(images: Images) -> None:
    images.load(np.arange(2))[:] = 0
    assert np.array_equal(images.load(np.arange(2)), PICTURES[:2])


def test_a_copy_for_another_process_is_the_same(images: Images) -> None:
    copy: Images = pickle.loads(pickle.dumps(images))
    assert np.array_equal(copy.load(np.arange(COUNT)), PICTURES)
    assert copy.ids(np.array([5])) == ["p5.png"]


@pytest.mark.parametrize("indices", [[-1], [COUNT], [0, COUNT + 3]])
def test_an_index_that_is_not_there_is_refused(images: Images, indices: list[int]) -> None:
    with pytest.raises(IndexError, match=rf"indices must be in 0\.\.11, got {min(indices)}\.\.{max(indices)}"):
        images.load(np.array(indices))
    with pytest.raises(IndexError):
        images.ids(np.array(indices))


def test_a_mask_is_no_list_of_indices(images: Images) -> None:
    with pytest.raises(IndexError, match=r"indices must be integers \[n\], got bool \[12\]"):
        images.load(np.ones(COUNT, bool))


def test_without_ids_the_index_is_the_id() -> None:
    assert ArrayImages(PICTURES).ids(np.array([4, 2])) == ["4", "2"]
    assert WrappedImages(PICTURES, *SHAPE).ids(np.array([4, 2])) == ["4", "2"]


def test_arrays_of_another_form_are_refused() -> None:
    with pytest.raises(DataError, match=r"uint8 \[number, height, width, channels\], got float64 \[2, 4, 4, 3\]"):
        ArrayImages(np.zeros((2, 4, 4, 3)))
    with pytest.raises(DataError, match=r"got uint8 \[2, 4, 4\]"):
        ArrayImages(np.zeros((2, 4, 4), np.uint8))
    with pytest.raises(DataError, match="there are 12 pictures but 1 sample ids"):
        ArrayImages(PICTURES, ["a"])
    with pytest.raises(DataError, match="1 or 3 channels, got 4 x 4 x 2"):
        WrappedImages(PICTURES, 4, 4, 2)


def test_all_bad_files_of_a_request_are_named_and_no_other(tmp_path: Path) -> None:
    images = in_files(tmp_path)
    (tmp_path / "p2.png").write_bytes(b"no picture")
    (tmp_path / "p5.png").unlink()
    (tmp_path / "p7.png").write_bytes((tmp_path / "p7.png").read_bytes()[:60])
    (tmp_path / "p9.png").unlink()
    with pytest.raises(BadImages) as caught:
        images.load(np.array([7, 0, 5, 5, 2, 3]))
    assert caught.value.indices == [7, 5, 2]
    truncated, absent, strange = caught.value.reasons
    assert truncated.startswith(f"{tmp_path / 'p7.png'} cannot be decoded: ")
    assert absent == f"{tmp_path / 'p5.png'} cannot be read: No such file or directory"
    assert strange.startswith(f"{tmp_path / 'p2.png'} is damaged or not a picture")


def test_a_subset_names_bad_images_by_its_own_indices(tmp_path: Path) -> None:
    images = in_files(tmp_path)
    (tmp_path / "p5.png").unlink()
    subset = Subset(images, np.array([8, 5, 3]))
    assert subset.ids(np.array([1])) == ["p5.png"]
    with pytest.raises(BadImages) as caught:
        subset.load(np.arange(3))
    assert caught.value.indices == [1]
    assert caught.value.reasons[0].startswith(str(tmp_path / "p5.png"))


def test_a_bad_item_of_a_data_set_is_named_by_its_id() -> None:
    items = [np.zeros((4, 4), np.uint8), np.full((4, 4), 9.0), "text"]
    images = WrappedImages(items, 4, 4, 1, ids=["a", "b", "c"])
    with pytest.raises(BadImages) as caught:
        images.load(np.arange(3))
    assert caught.value.indices == [1, 2]
    assert caught.value.reasons[0].startswith("b has values outside 0..1")
    assert caught.value.reasons[1].startswith("c is a str")


class Broken:
    """A data set with a mistake in its own code."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int, /) -> object:
        raise KeyError("typo")


def test_a_mistake_in_a_data_set_is_no_bad_image() -> None:
    with pytest.raises(KeyError, match="typo"):
        WrappedImages(Broken(), 4, 4, 1).load(np.array([0]))


def test_items_may_be_tuples_and_of_another_size() -> None:
    image = Image.fromarray(PICTURES[0])
    images = WrappedImages([(image, 3), (image.resize((12, 8)), 1)], *SHAPE)
    assert images.load(np.arange(2)).shape == (2, *SHAPE)
    assert np.array_equal(images.load(np.array([0]))[0], PICTURES[0])


def test_files_in_an_object_store(tmp_path: Path) -> None:
    in_files(tmp_path)
    root = f"memory://{uuid.uuid4()}"
    for name in NAMES[:2]:
        with fsspec.open(f"{root}/{name}", "wb") as file:
            file.write((tmp_path / name).read_bytes())
    images = FileImages(NAMES[:3], NAMES[:3], *SHAPE, root=root)
    assert np.array_equal(images.load(np.arange(2)), PICTURES[:2])
    with pytest.raises(BadImages, match=f"{root}/p2.png cannot be read"):
        images.load(np.array([2]))


def test_without_convert_files_of_another_mode_are_bad(tmp_path: Path) -> None:
    Image.fromarray(PICTURES[0][:, :, 0]).save(tmp_path / "grey.png")
    strict = FileImages(["grey.png"], ["g"], *SHAPE, convert=False, root=str(tmp_path))
    with pytest.raises(BadImages, match="grey.png has mode L, expected RGB: set data.convert=true"):
        strict.load(np.array([0]))
    lenient = FileImages(["grey.png"], ["g"], *SHAPE, convert=True, root=str(tmp_path))
    assert np.array_equal(lenient.load(np.array([0]))[0], np.repeat(PICTURES[0][:, :, :1], 3, axis=2))


def test_paths_that_are_ids_travel_once() -> None:
    paths = [f"class/{index:09d}.png" for index in range(1000)]
    once = len(pickle.dumps(FileImages(paths, paths, 4, 4, 3)))
    assert once < 1.3 * len(pickle.dumps(paths))
