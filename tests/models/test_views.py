"""Views against torchvision and Python's colorsys, one picture at a time, and against crops worked out by hand."""

import colorsys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as reference

from openal_ray import config
from openal_ray.models import views

PICTURES = torch.rand(6, 3, 7, 5, generator=torch.Generator().manual_seed(0))
PICTURES[0] = PICTURES[0, :1]  # grey, where no hue is defined
PICTURES[1, :, :3] = 0  # partly black
FACTORS = torch.tensor([0.6, 0.7, 0.9, 1.0, 1.2, 1.4])
TURNS = torch.tensor([-0.1, -0.07, 0.0, 0.03, 0.08, 0.1])


def column(values: torch.Tensor) -> torch.Tensor:
    return values.reshape(-1, 1, 1, 1)


@pytest.mark.parametrize(
    ("ours", "theirs", "values"),
    [
        (views.brightened, reference.adjust_brightness, FACTORS),
        (views.contrasted, reference.adjust_contrast, FACTORS),
        (views.saturated, reference.adjust_saturation, FACTORS),
        (views.turned, reference.adjust_hue, TURNS),
    ],
)
def test_a_colour_change_is_torchvisions_of_each_picture(
    ours: Callable, theirs: Callable, values: torch.Tensor
) -> None:
    expected = torch.stack([theirs(one, float(value)) for one, value in zip(PICTURES, values, strict=True)])
    torch.testing.assert_close(
        ours(PICTURES, column(values)), expected, rtol=0, atol=2e-3
    )  # its luminance has 4 digits


def test_hue_and_luminance_are_those_of_colorsys() -> None:
    found = views.turned(PICTURES, column(TURNS))
    for picture, turn, made in zip(PICTURES, TURNS.tolist(), found, strict=True):
        for pixel, ours in zip(picture.flatten(1).T.tolist(), made.flatten(1).T.tolist(), strict=True):
            hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
            assert ours == pytest.approx(colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value), abs=1e-5)
    red = torch.tensor([1.0, 0, 0]).reshape(1, 3, 1, 1)
    assert views.luminance(red).item() == pytest.approx(0.299)


def test_a_crop_of_whole_pixels_is_that_part_stretched() -> None:
    picture = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    whole = views.cropped(picture, torch.ones(1, 2), torch.full((1, 2), 0.5))
    torch.testing.assert_close(whole, picture)
    # Columns 2 … 5 and rows 4 … 7, resized to twice their size; the rim looks at neighbours that a resize has not.
    part = views.cropped(picture, torch.tensor([[0.5, 0.5]]), torch.tensor([[0.5, 0.75]]))
    expected = torch.nn.functional.interpolate(picture[:, :, 4:, 2:6], (8, 8), mode="bilinear", align_corners=False)
    torch.testing.assert_close(part[:, :, 1:, 1:-1], expected[:, :, 1:, 1:-1])


@pytest.mark.parametrize(("height", "width"), [(16, 16), (10, 40)])
def test_crops_lie_inside_and_have_the_sizes_and_ratios_asked(height: int, width: int) -> None:
    torch.manual_seed(0)
    size, centre = views.draw_crops(torch.zeros(4000, 1, height, width), 0.08)
    assert (centre - size / 2).min() >= -1e-6 and (centre + size / 2).max() <= 1 + 1e-6
    areas, ratios = size.prod(1), size[:, 0] * width / (size[:, 1] * height)
    assert areas.min() >= 0.08 - 1e-6
    assert ratios.min() >= 0.75 - 1e-4 and ratios.max() <= 4 / 3 + 1e-4
    assert areas.min() < 0.1 and ratios.min() < 0.78 and ratios.max() > 1.3
    if height == width:
        assert areas.max() > 0.9
        theirs = [_torchvisions_area(height, width) for _ in range(1500)]
        assert areas.mean().item() == pytest.approx(np.mean(theirs), abs=0.02)


def test_without_a_fitting_crop_the_largest_is_taken() -> None:
    assert torch.equal(views.draw_crops(torch.zeros(3, 1, 9, 9), 1.0)[0], torch.ones(3, 2))
    wide = views.draw_crops(torch.zeros(3, 1, 10, 40), 0.9)[0]
    torch.testing.assert_close(wide, torch.tensor([[1 / 3, 1.0]]).expand(3, 2))


def _torchvisions_area(height: int, width: int) -> float:
    made = v2.RandomResizedCrop(8, scale=(0.08, 1)).make_params([torch.zeros(3, height * 8, width * 8)])
    return made["height"] * made["width"] / (height * width * 64)


@pytest.mark.parametrize("channels", [1, 3])
def test_views_stay_in_range_differ_and_come_again_from_the_seed(channels: int) -> None:
    same = torch.rand(1, channels, 12, 12, generator=torch.Generator().manual_seed(2)).repeat(40, 1, 1, 1)
    before, settings = same.clone(), config.Views()
    torch.manual_seed(5)
    made = views.changed(views.flipped(same, settings.flip), settings)
    assert made.shape == same.shape and made.dtype == torch.float32
    assert 0 <= made.min() and made.max() <= 1 and torch.equal(same, before)
    assert len(torch.unique(made.flatten(1), dim=0)) == 40
    torch.manual_seed(5)
    assert torch.equal(views.changed(views.flipped(same, settings.flip), settings), made)
    torch.manual_seed(6)
    assert not torch.equal(views.changed(views.flipped(same, settings.flip), settings), made)


def test_a_generator_gives_all_pictures_the_same_draws_whatever_the_batch() -> None:
    pictures = torch.rand(6, 3, 12, 12, generator=torch.Generator().manual_seed(2))
    settings, state = config.Views(), torch.get_rng_state()
    for seed in range(8):  # both flips, and jitter on and off

        def made(some: torch.Tensor, seed: int = seed) -> torch.Tensor:
            generator = torch.Generator().manual_seed(seed)
            return views.changed(views.flipped(some, settings.flip, generator), settings, generator)

        torch.testing.assert_close(made(pictures), torch.cat([made(one[None]) for one in pictures]))
    assert torch.equal(torch.get_rng_state(), state)
    sizes, _ = views.draw_crops(pictures, 0.54, 0.54, torch.Generator().manual_seed(0))
    assert sizes.shape == (1, 2) and sizes.prod().item() == pytest.approx(0.54)


def test_shares_are_shares_and_can_be_switched_off() -> None:
    torch.manual_seed(0)
    pictures = torch.rand(2000, 3, 4, 4)
    nothing = config.Views(flip=0, jitter=0, grey=0, smallest_crop=1)
    only_grey = views.changed(pictures, nothing.model_copy(update={"grey": 0.2}))
    grey = (only_grey.amax(1) - only_grey.amin(1)).amax((1, 2)) < 1e-6
    assert grey.float().mean().item() == pytest.approx(0.2, abs=0.04)
    mirrored = (views.flipped(pictures, 0.5) != pictures).flatten(1).any(1)
    assert mirrored.float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert torch.equal(views.flipped(pictures, 1), pictures.flip(3)) and torch.equal(
        views.flipped(pictures, 0), pictures
    )
