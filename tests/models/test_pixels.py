"""From pixels to the network's input: normalisation, and augmentation by name."""

import pytest
import torch
from torch.nn import functional

from openal_ray.errors import ConfigError
from openal_ray.models.pixels import Normalise, augmentation, check_augmentation

PICTURES = torch.randint(0, 256, (6, 3, 8, 10), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
SHAPE = (8, 10, 3)


def test_normalising_by_hand() -> None:
    pixels = torch.tensor([[[[0, 255]], [[51, 102]]]], dtype=torch.uint8)  # [1, 2, 1, 2]: 51 is 0.2 of 255
    made = Normalise((0.5, 0.2), (0.25, 0.1))(pixels)
    torch.testing.assert_close(made, torch.tensor([[[[-2.0, 2.0]], [[0.0, 2.0]]]]))


def test_no_name_changes_nothing() -> None:
    assert augmentation((), SHAPE)(PICTURES) is PICTURES


def test_transforms_come_one_after_the_other() -> None:
    both = augmentation([{"RandomHorizontalFlip": {"p": 1.0}}, {"RandomVerticalFlip": {"p": 1.0}}], SHAPE)
    assert torch.equal(both(PICTURES), PICTURES.flip(2, 3))


def test_every_picture_of_a_batch_has_its_own_draw() -> None:
    flip = augmentation(["RandomHorizontalFlip"], SHAPE)
    torch.manual_seed(0)
    pictures = PICTURES.repeat(10, 1, 1, 1)
    drawn = [torch.equal(new, old) for new, old in zip(flip(pictures), pictures, strict=True)]
    assert 15 < sum(drawn) < 45  # of 60: half of them are flipped


def test_a_crop_is_a_window_of_the_padded_picture_as_large_as_the_picture() -> None:
    crop = augmentation([{"RandomCrop": {"padding": 4}}], SHAPE)
    torch.manual_seed(0)
    corners = set()
    for new, old in zip(crop(PICTURES), PICTURES, strict=True):
        padded = functional.pad(old, (4, 4, 4, 4))
        windows = {(top, left): padded[:, top : top + 8, left : left + 10] for top in range(9) for left in range(9)}
        found = [corner for corner, window in windows.items() if torch.equal(window, new)]
        assert len(found) == 1
        corners.add(found[0])
    assert len(corners) > 1


def test_an_augmentation_is_checked_on_a_picture_without_a_draw_from_the_global_generator() -> None:
    before = torch.get_rng_state()
    check_augmentation(["RandomHorizontalFlip", {"RandomCrop": {"padding": 2}}, "ColorJitter", "RandAugment"], SHAPE)
    check_augmentation(["RandomResizedCrop", "Resize", "CenterCrop"], SHAPE)  # all have the picture's size by default
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["RandomCropp"], "train.augment: unknown transform 'RandomCropp'. Did you mean 'RandomCrop'?"),
        (["Compose2"], "train.augment: unknown transform 'Compose2'"),
        ([{"RandomCrop": {"paddin": 4}}], "train.augment: RandomCrop: .*unexpected keyword argument 'paddin'"),
        (
            [{"RandomHorizontalFlip": {"p": 2.0}}],
            "train.augment: RandomHorizontalFlip: .*should be a floating point value",
        ),
        ([{"Resize": {"size": [4, 4]}}], r"must stay torch.uint8 \[3, 8, 10\], got torch.uint8 \[3, 4, 4\]"),
        (["ConvertImageDtype"], r"must stay torch.uint8 \[3, 8, 10\], got torch.float32 \[3, 8, 10\]"),
        ([{"MixUp": {"num_classes": 4}}], "train.augment: cannot be applied to one uint8 picture"),
    ],
)
def test_a_wrong_augmentation_is_refused_by_name(names: list, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_augmentation(names, SHAPE)
