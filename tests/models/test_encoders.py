"""Frozen encoders: the packaged network sees the pictures as it was trained to, whatever our normalisation."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_images
from torch.nn import functional

from openal_ray.errors import ConfigError
from openal_ray.models import encoders, signals
from openal_ray.models.encoders import Encoder
from openal_ray.models.pixels import Normalise

NAME = "tf_efficientnet_lite0"


def test_the_features_are_those_of_the_plain_network_on_the_plain_picture() -> None:
    picture = torch.from_numpy(load_sample_images().images[0][:224, :224].copy()).permute(2, 0, 1)[None]
    mean, std = (0.2, 0.3, 0.4), (0.1, 0.2, 0.3)
    made = Encoder(NAME, "packaged", mean, std, size=224).build((224, 224, 3)).eval()
    with torch.inference_mode():
        ours = signals.read(made, Normalise(mean, std)(picture), ["features"])["features"]
        theirs = made.network.forward_head(made.network.forward_features(picture / 127.5 - 1), pre_logits=True)
    np.testing.assert_allclose(ours, theirs, rtol=1e-2, atol=1e-2)
    assert ours.shape == (1, 1280)


def test_small_grey_pictures_grow_to_what_the_network_expects() -> None:
    made = Encoder(NAME, "packaged", (0.5,), (0.5,), size=64).build((8, 8, 1)).eval()
    grey = torch.rand(2, 1, 8, 8)
    with torch.inference_mode():
        ours = made.forward_features(grey)
        large = functional.interpolate(grey * 0.5 + 0.5, (64, 64), mode="bicubic", antialias=True).clamp(0, 1)
        theirs = made.network.forward_features((large.expand(-1, 3, -1, -1) - 0.5) / 0.5)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("small_cnn", "packaged", "strategy.encoder: 'small_cnn' is no network of timm's"),
        ("resnet19", "packaged", "unknown model 'resnet19'"),
        (
            "resnet18",
            "nowhere.pt",
            "strategy.encoder_weights: must be pretrained, packaged or a file, got 'nowhere.pt'",
        ),
    ],
)
def test_what_does_not_exist_is_refused_before_anything_is_built(name: str, weights: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        encoders.check(name, weights)
