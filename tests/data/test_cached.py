"""Tests of data/cached.py: what is remembered, how much, and that it is right from two threads."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from openal_ray.data.cached import Cached, remember
from openal_ray.data.images import ArrayImages, Subset, WrappedImages
from openal_ray.errors import BadImages

PICTURES = np.random.default_rng(0).integers(0, 256, (20, 2, 3, 1), np.uint8)
BYTES = 2 * 3 * 1  # of one picture


def test_only_what_is_decoded_is_worth_remembering() -> None:
    array, few = ArrayImages(PICTURES), np.arange(3)
    for held in (array, Subset(array, few), Subset(Subset(array, few), few)):
        assert remember(held, 10**6) is held
    decoded = WrappedImages(PICTURES, 2, 3, 1)
    for costly in (decoded, Subset(decoded, few)):
        assert isinstance(remember(costly, 10**6), Cached)
        assert remember(costly, 0) is costly


class Counted(ArrayImages):
    """Pictures that note which of them were loaded."""

    def __init__(self, pictures: np.ndarray) -> None:
        super().__init__(pictures)
        self.loaded: list[int] = []

    def load(self, indices: np.ndarray) -> np.ndarray:
        self.loaded += indices.tolist()
        return super().load(indices)


def test_each_picture_is_loaded_once() -> None:
    source = Counted(PICTURES)
    images = Cached(source, max_bytes=20 * BYTES)
    assert np.array_equal(images.load(np.array([4, 9, 4])), PICTURES[[4, 9, 4]])
    assert np.array_equal(images.load(np.array([9, 1, 4, 1])), PICTURES[[9, 1, 4, 1]])
    assert np.array_equal(images.load(np.array([1, 9])), PICTURES[[1, 9]])
    assert source.loaded == [4, 9, 1]


def test_beyond_the_bound_pictures_are_loaded_again() -> None:
    source = Counted(PICTURES)
    images = Cached(source, max_bytes=3 * BYTES + BYTES - 1)  # three, as a part of a picture is none
    for _ in range(2):
        assert np.array_equal(images.load(np.arange(5)), PICTURES[:5])
    assert source.loaded == [0, 1, 2, 3, 4, 3, 4]


@pytest.mark.parametrize("max_bytes", [0, -1, BYTES - 1])
def test_without_room_everything_still_works(max_bytes: int) -> None:
    images = Cached(ArrayImages(PICTURES), max_bytes)
    for _ in range(2):
        assert np.array_equal(images.load(np.arange(20)), PICTURES)


def test_it_looks_like_what_it_wraps() -> None:
    images = Cached(ArrayImages(PICTURES, [f"p{index}" for index in range(20)]), 10**6)
    assert len(images) == 20
    assert images.shape == (2, 3, 1)
    assert images.ids(np.array([7])) == ["p7"]
    assert images.load(np.empty(0, np.int64)).shape == (0, 2, 3, 1)
    with pytest.raises(IndexError):
        images.load(np.array([-1]))


def test_what_is_loaded_is_the_callers_own() -> None:
    images = Cached(ArrayImages(PICTURES), 10**6)
    for _ in range(2):
        images.load(np.arange(3))[:] = 0
    assert np.array_equal(images.load(np.arange(3)), PICTURES[:3])


def test_a_bad_image_is_not_remembered() -> None:
    class OneBad(ArrayImages):
        def load(self, indices: np.ndarray) -> np.ndarray:
            if 2 in indices:
                raise BadImages([2], ["2 is bad"])
            return super().load(indices)

    images = Cached(OneBad(PICTURES), 10**6)
    for _ in range(2):
        with pytest.raises(BadImages, match="2 is bad"):
            images.load(np.arange(4))
    assert np.array_equal(images.load(np.array([1, 3])), PICTURES[[1, 3]])


def test_a_copy_for_another_process_starts_empty() -> None:
    images = Cached(ArrayImages(PICTURES), 10**6)
    before = len(pickle.dumps(images))
    images.load(np.arange(20))
    assert len(pickle.dumps(images)) == before
    assert np.array_equal(pickle.loads(pickle.dumps(images)).load(np.arange(20)), PICTURES)


def test_two_threads_see_the_right_pictures() -> None:
    pictures = np.arange(4000, dtype=np.uint32).view(np.uint8).reshape(4000, 2, 2, 1)  # each one differs
    images = Cached(ArrayImages(pictures), max_bytes=4 * 3000)

    def read(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        batches = [rng.integers(0, 4000, 64) for _ in range(200)]
        return all(np.array_equal(images.load(batch), pictures[batch]) for batch in batches)

    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(read, [0, 1]))
