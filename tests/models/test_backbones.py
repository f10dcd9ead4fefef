"""Networks by name: shapes, small images, other channels, files of the user's, and what is refused."""

from pathlib import Path

import huggingface_hub.constants
import pytest
import timm
import torch
from torch import nn

from openal_ray.errors import ConfigError
from openal_ray.models import backbones
from openal_ray.models.encoders import Encoder
from openal_ray.models.learners import Classifier

USER_FILE = """
from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import nn


@dataclass
class Size:
    hidden: int


def mlp(n_classes, shape, hidden=7):
    height, width, channels = shape
    size = Size(hidden)
    return nn.Sequential(nn.Flatten(), nn.Linear(height * width * channels, size.hidden), nn.Linear(hidden, n_classes))


def needs_more(n_classes, shape, depth):
    return nn.Identity()


def old_style(classes):
    return nn.Identity()


def not_a_network(n_classes, shape):
    return [n_classes, shape]


def broken(n_classes, shape):
    return len(n_classes)
"""


@pytest.fixture
def user_file(tmp_path: Path) -> Path:
    (tmp_path / "nets.py").write_text(USER_FILE)
    return tmp_path / "nets.py"


def test_a_resnet_keeps_the_resolution_of_small_images() -> None:
    network = backbones.create("resnet18", 4, (32, 32, 3)).eval()
    first = network.conv1
    assert (first.kernel_size, first.stride, first.padding, first.bias) == ((3, 3), (1, 1), (1, 1), None)
    assert isinstance(network.maxpool, nn.Identity)
    pixels = torch.randn(2, 3, 32, 32)
    assert network.forward_features(pixels).shape == (2, 512, 4, 4)  # 32 halved three times; timm's own would give 1
    assert network(pixels).shape == (2, 4)


def test_a_preactivation_resnet_keeps_the_resolution_too() -> None:
    network = backbones.create("resnetv2_18", 4, (32, 32, 1)).eval()
    assert network.forward_features(torch.randn(2, 1, 32, 32)).shape == (2, 512, 4, 4)


def test_a_resnet_for_large_images_is_timms_own() -> None:
    ours, timms = backbones.create("resnet18", 4, (224, 224, 3)), timm.create_model("resnet18", num_classes=4)
    assert str(ours) == str(timms)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "test_vit"])
def test_a_vision_transformer_is_built_for_the_images_size(name: str, channels: int) -> None:
    network = backbones.create(name, 4, (32, 48, channels)).eval()
    assert network.pos_embed.shape[1] == 1 + 2 * 3  # the class token, and 16 x 16 patches
    assert network(torch.randn(2, channels, 32, 48)).shape == (2, 4)


@pytest.mark.parametrize("name", ["small_cnn", "resnet18", "convnext_atto", "tf_efficientnet_lite0"])
def test_grey_images(name: str) -> None:
    network = backbones.create(name, 3, (32, 32, 1)).eval()
    assert next(module for module in network.modules() if isinstance(module, nn.Conv2d)).in_channels == 1
    assert network(torch.randn(2, 1, 32, 32)).shape == (2, 3)


def test_parameters_reach_the_network() -> None:
    assert backbones.create("small_cnn", 3, (8, 8, 1), params={"hidden": 5}).fc.in_features == 5
    assert backbones.create("resnet18", 3, (32, 32, 3), params={"drop_rate": 0.25}).drop_rate == 0.25


def test_published_weights_keep_the_published_stem(tmp_path: Path) -> None:
    """timm reads a file in the place of its download, so that this needs no network."""
    torch.manual_seed(0)
    published = timm.create_model("resnet18", num_classes=1000)
    torch.save(published.state_dict(), tmp_path / "resnet18.pt")
    overlay = {"pretrained_cfg_overlay": {"file": str(tmp_path / "resnet18.pt")}}
    network = backbones.create("resnet18", 4, (32, 32, 3), pretrained=True, params=overlay)
    assert torch.equal(network.conv1.weight, published.conv1.weight)
    assert torch.equal(network.layer4[1].conv2.weight, published.layer4[1].conv2.weight)
    assert network.fc.weight.shape == (4, 512)


def test_a_reader_has_the_published_shape_and_fetches_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its weights come from who has them, so a shard needs no connection; the stem is not that of small images."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    network = (
        Classifier(4, "resnet18", pretrained=True, params={"cache_dir": str(tmp_path)}).reader().build((32, 32, 3))
    )
    assert network.conv1.weight.shape == (64, 3, 7, 7)
    encoder = Encoder("resnet18", "pretrained", (0.5,), (0.5,), size=32).reader().build((32, 32, 1))
    published = timm.create_model("resnet18").state_dict()
    assert {name: tensor.shape for name, tensor in encoder.network.state_dict().items()} == {
        name: tensor.shape for name, tensor in published.items()
    }
    gone = str(tmp_path / "gone.pt")  # a file that this node does not see
    from_file = Encoder("resnet18", gone, (0.5,), (0.5,), size=32).reader().build((32, 32, 1))
    assert from_file.network.conv1.weight.shape == (64, 3, 3, 3)


def test_without_a_connection_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="published weights of resnet18.*model.checkpoint=FILE"):
        backbones.create("resnet18", 4, (32, 32, 3), pretrained=True, params={"cache_dir": str(tmp_path)})


def test_a_function_of_the_users(user_file: Path) -> None:
    network = backbones.create(f"{user_file}:mlp", 4, (2, 3, 1), params={"hidden": 9})
    assert [tuple(parameter.shape) for parameter in network.parameters()] == [(9, 6), (9,), (4, 9), (4,)]
    backbones.check_name(f"{user_file}:mlp")


@pytest.mark.parametrize(
    ("function", "params", "message"),
    [
        ("mpl", {}, "model.name: .*nets.py: unknown function 'mpl'. Did you mean 'mlp'?.* needs_more, not_a_network"),
        ("mlp", {"hiden": 3}, "model.params: .*unknown parameter 'hiden'. Did you mean 'hidden'"),
        ("needs_more", {}, "is called with n_classes, shape by name: missing a required argument: 'depth'"),
        ("old_style", {}, "model.name: .*old_style is called with n_classes, shape by name: .*'classes'"),
        ("not_a_network", {}, "must return a torch.nn.Module, got list"),
        ("mlp", {"n_classes": 3}, "model.params: n_classes follows from the data"),
    ],
)
def test_a_wrong_function_of_the_users(user_file: Path, function: str, params: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        backbones.create(f"{user_file}:{function}", 4, (2, 3, 1), params=params)


def test_an_error_inside_the_users_function_stays_itself(user_file: Path) -> None:
    with pytest.raises(TypeError, match=r"object of type 'int' has no len\(\)"):
        backbones.create(f"{user_file}:broken", 4, (2, 3, 1))


def test_a_wrong_file_of_the_users(tmp_path: Path) -> None:
    (tmp_path / "nets.txt").write_text("x = 1")
    with pytest.raises(ConfigError, match="model.name: .*nets.txt is not a Python file; write path.py:function"):
        backbones.check_name(f"{tmp_path}/nets.txt:net")
    with pytest.raises(ConfigError, match="strategy.name: .* but there is no such file"):
        backbones.user_function(f"{tmp_path}/none.py:net", "strategy.name")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnt18", "model.name: unknown model 'resnt18'. Did you mean 'resnet18'.* small_cnn"),
        ("convnxt_tiny", "Did you mean 'convnext_tiny'"),
        ("smallcnn", "Did you mean 'small_cnn'"),
        ("xyzzy", "unknown model 'xyzzy'. Valid: path.py:function, resnet18, small_cnn, vit_tiny_patch16_224"),
        ("resnet18.a1_in2k", "unknown model 'resnet18.a1_in2k'. Did you mean 'resnet18.a._in1k'"),
    ],
)
def test_an_unknown_name_is_refused_with_near_ones(name: str, message: str) -> None:
    for refuse in (lambda: backbones.check_name(name), lambda: backbones.create(name, 4, (32, 32, 3))):
        with pytest.raises(ConfigError, match=message):
            refuse()


def test_known_names_pass() -> None:
    for name in ("small_cnn", "resnet18", "resnet18.a1_in1k", "vit_base_patch16_224_in21k"):
        backbones.check_name(name)


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("small_cnn", {"hiden": 3}, "model.params: small_cnn: unknown parameter 'hiden'. Did you mean 'hidden'"),
        (
            "resnet18",
            {"drop_rat": 0.1},
            "model.params: resnet18: unknown parameter 'drop_rat'. Did you mean 'drop_rate'",
        ),
        ("resnet18", {"num_classes": 3, "in_chans": 3}, "model.params: in_chans, num_classes follows from the data"),
        ("resnet18", {"layers": 3}, "model.params: resnet18 cannot be built with {'layers': 3}: .*not iterable"),
    ],
)
def test_an_unknown_parameter_is_refused(name: str, params: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        backbones.create(name, 4, (32, 32, 3), params=params)
